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

// quick is a device that answers at once, from memory that it uses again.
type quick struct {
	points   []drivers.Point
	readings []drivers.Reading
	turn     int64
	changing bool
}

func (d *quick) Points() []drivers.Point                            { return d.points }
func (d *quick) Write(context.Context, string, drivers.Value) error { return nil }
func (d *quick) Close() error                                       { return nil }

func (d *quick) Read(_ context.Context, points []string) ([]drivers.Reading, error) {
	now := time.Now()
	d.readings = d.readings[:0]
	if d.changing {
		d.turn += 10
	}
	for _, name := range points {
		d.readings = append(d.readings, drivers.Reading{Point: name, Value: drivers.DecimalValue(215+d.turn, -1), At: now})
	}
	return d.readings, nil
}

func pollOf(tb testing.TB, n int, changing, together bool) func() {
	tb.Helper()
	dev := &quick{changing: changing}
	for i := range n {
		dev.points = append(dev.points, drivers.Point{Name: fmt.Sprintf("line%d/temperature%d", i%7, i), Every: time.Second})
	}
	poll, err := drivers.Poller(nullBus{}, dev.points, together, dev)
	if err != nil {
		tb.Fatal(err)
	}
	return func() {
		if err := poll(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	}
}

// A poll costs a few allocations, a point that did not change none.
func TestUnchangedPointsAllocateNothing(t *testing.T) {
	few, many := pollOf(t, 1, false, false), pollOf(t, 2001, false, false)
	few()
	many()
	a, b := testing.AllocsPerRun(100, few), testing.AllocsPerRun(100, many)
	if b > a {
		t.Errorf("a poll of 1 point makes %v allocations, one of 2,001 %v", a, b)
	}
}

func BenchmarkPoll(b *testing.B) {
	const n = 1000
	for _, changing := range []bool{false, true} {
		for _, together := range []bool{false, true} {
			b.Run(fmt.Sprintf("points=%d/changing=%v/together=%v", n, changing, together), func(b *testing.B) {
				poll := pollOf(b, n, changing, together)
				poll()
				b.ReportAllocs()
				for b.Loop() {
					poll()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/tag")
			})
		}
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
