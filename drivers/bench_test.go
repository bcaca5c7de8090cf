package drivers_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
)

// nullBus takes everything and keeps nothing.
type nullBus struct{}

func (nullBus) Publish(context.Context, ...message.Message) error { return nil }

func (nullBus) Subscribe(context.Context, message.Subscription, message.Handler) error { return nil }

func (nullBus) Resubscribe(context.Context, string, []string) error { return nil }

// polled returns a device of n points and a poll's worth of readings.
func polled(tb testing.TB, n int) (take func(context.Context, []drivers.Reading), readings []drivers.Reading) {
	tb.Helper()
	var points []drivers.Point
	for i := range n {
		name := fmt.Sprintf("point%d", i)
		points = append(points, drivers.Point{Name: name, Every: time.Second, Deadband: 0.5})
		readings = append(readings, drivers.Reading{Point: name, Value: drivers.DecimalValue(215, -1), At: time.Now()})
	}
	take, err := drivers.Taker(nullBus{}, points)
	if err != nil {
		tb.Fatal(err)
	}
	return take, readings
}

func TestUnchangedReadingsAllocateNothing(t *testing.T) {
	take, readings := polled(t, 100)
	take(t.Context(), readings)
	if n := testing.AllocsPerRun(100, func() { take(t.Context(), readings) }); n > 0 {
		t.Errorf("want no allocations for 100 unchanged points, got %v", n)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, changed := range []bool{false, true} {
		b.Run(fmt.Sprintf("points=100/changed=%v", changed), func(b *testing.B) {
			take, readings := polled(b, 100)
			take(b.Context(), readings)
			b.ReportAllocs()
			n := int64(0)
			for b.Loop() {
				if changed {
					n += 10
					for i := range readings {
						readings[i].Value = drivers.DecimalValue(215+n, -1)
					}
				}
				take(b.Context(), readings)
			}
		})
	}
}

func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{`{"a":1,"b":{"c":[2]}}`, `{"a":1`, `[]`, `{"a":1} 2`, `{"a":1,"a":2}`, ``, `{"\ud800":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		points, err := drivers.ParseObject(payload)
		if (err == nil) != (len(points) > 0) && err == nil {
			t.Errorf("%q has neither points nor an error", payload)
		}
	})
}
