package gateway

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store/mem"
	"github.com/gatehouse/gatehouse/drivers"
)

// tags is a driver whose devices have many points, and answer at once.
type tags struct {
	points   int
	changing bool
	read     *atomic.Uint64
}

func (d tags) Check(cfg drivers.Config) ([]drivers.Point, error) {
	var file struct {
		drivers.Common `yaml:",inline"`
	}
	if err := cfg.Decode(&file); err != nil {
		return nil, err
	}
	points := make([]drivers.Point, d.points)
	for i := range points {
		points[i] = drivers.PointCommon{}.Polled(fmt.Sprintf("line%d/temperature%d", i%7, i), file.Common)
	}
	return points, nil
}

func (d tags) Open(_ context.Context, cfg drivers.Config) (drivers.Device, error) {
	points, err := d.Check(cfg)
	return &tagDevice{tags: d, points: points}, err
}

type tagDevice struct {
	tags
	points   []drivers.Point
	readings []drivers.Reading
	turn     int64
}

func (d *tagDevice) Points() []drivers.Point                            { return d.points }
func (d *tagDevice) Write(context.Context, string, drivers.Value) error { return nil }
func (d *tagDevice) Close() error                                       { return nil }

func (d *tagDevice) Read(_ context.Context, points []string) ([]drivers.Reading, error) {
	now := time.Now()
	d.readings = d.readings[:0]
	if d.changing {
		d.turn++
	}
	for _, name := range points {
		d.readings = append(d.readings, drivers.Reading{Point: name, Value: drivers.DecimalValue(2150+d.turn, -1), At: now})
	}
	d.read.Add(uint64(len(points)))
	return d.readings, nil
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTags polls ten devices of a thousand points through the host into the
// broker, with a subscriber of all: CPU a tag is what counts, and tags a second, which
// the machine's other load cuts.
func BenchmarkTags(b *testing.B) {
	for _, changing := range []bool{false, true} {
		for _, together := range []bool{false, true} {
			b.Run(fmt.Sprintf("changing=%v/together=%v", changing, together), func(b *testing.B) {
				var read, heard atomic.Uint64
				srv, err := broker.New(broker.Options{Store: mem.New()})
				if err != nil {
					b.Fatal(err)
				}
				host, err := drivers.NewHost(drivers.Options{Drivers: map[string]drivers.Driver{"tags": tags{points: 1000, changing: changing, read: &read}}})
				if err != nil {
					b.Fatal(err)
				}
				files := fstest.MapFS{}
				for i := range 10 {
					files[fmt.Sprintf("plc%d.yaml", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "driver: tags\nevery: 100ms\ntogether: %v\n", together)}
				}
				if err := host.Load(b.Context(), files); err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(b.Context())
				ended := make(chan error, 3)
				go func() { ended <- srv.Run(ctx) }()
				go func() { ended <- host.Run(ctx, srv) }()
				go func() {
					ended <- srv.Subscribe(ctx, message.Subscription{Name: "bench", Filters: []string{"#"}}, func(_ context.Context, batch []message.Message) error {
						for i := range batch {
							if !strings.Contains(batch[i].Topic, "status") {
								heard.Add(1)
							}
						}
						return nil
					})
				}()
				<-host.Ready()
				for read.Load() < 10_000 {
					<-time.After(time.Millisecond)
				}
				b.ReportAllocs()
				began, spent := time.Now(), cpu(b)
				from, before := read.Load(), heard.Load()
				for b.Loop() {
					for want := read.Load() + 1000; read.Load() < want; {
						<-time.After(time.Millisecond)
					}
				}
				n := float64(read.Load() - from)
				b.ReportMetric(float64(cpu(b)-spent)/n, "cpu-ns/tag")
				b.ReportMetric(n/time.Since(began).Seconds(), "tags/s")
				b.ReportMetric(float64(heard.Load()-before)/n, "heard/tag")
				cancel()
				for range 3 {
					if err := <-ended; err != nil {
						b.Error(err)
					}
				}
			})
		}
	}
}
