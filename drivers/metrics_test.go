package drivers_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
)

func TestLatency(t *testing.T) {
	t.Run("quantiles are at most a quarter too long", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		for _, most := range []time.Duration{time.Microsecond, 5 * time.Microsecond, time.Millisecond, time.Second, time.Minute} {
			var l drivers.Latency
			var all []time.Duration
			for range 1000 {
				d := time.Duration(random.Int64N(int64(most)) + 1)
				all = append(all, d)
				l.Observe(d)
			}
			slices.Sort(all)
			for _, q := range []float64{0.5, 0.95, 0.99, 1} {
				want := all[int(q*1000)-1]
				if got := l.Quantile(q); got < want || got > want+want/4+time.Microsecond {
					t.Errorf("up to %v, %v of all: want %v, got %v", most, q, want, got)
				}
			}
			if l.Count != 1000 || l.Most != all[999] || l.Within(most) != 1000 || l.Within(0) > 1000 {
				t.Errorf("up to %v: %d, %v, %d within", most, l.Count, l.Most, l.Within(most))
			}
		}
	})
	t.Run("takes any duration", func(t *testing.T) {
		var l drivers.Latency
		for _, d := range []time.Duration{-time.Second, 0, 1<<63 - 1} {
			l.Observe(d)
		}
		if l.Count != 3 || l.Within(1<<63-1) != 3 || l.Quantile(1) <= time.Minute {
			t.Errorf("%d, %d, %v", l.Count, l.Within(1<<63-1), l.Quantile(1))
		}
		var none drivers.Latency
		if none.Quantile(0.5) != 0 {
			t.Error("nothing took some time")
		}
	})
	t.Run("adds up", func(t *testing.T) {
		var a, b drivers.Latency
		a.Observe(time.Millisecond)
		b.Observe(time.Second)
		a.Add(&b)
		if a.Count != 2 || a.Sum != 1001*time.Millisecond || a.Most != time.Second || a.Within(10*time.Millisecond) != 1 {
			t.Errorf("%+v", a)
		}
	})
}

func TestMetrics(t *testing.T) {
	t.Run("of a driver are shown, and add up over openings", func(t *testing.T) {
		f := &fake{meters: true, delay: 20 * time.Millisecond}
		inHouse(t, one(f), files("d.yaml", device("", "a")), func(h *house) {
			h.after(2500 * time.Millisecond)
			if d := h.status("d"); d.Reads.Count != 3 || d.Reads.Most != 20*time.Millisecond {
				t.Errorf("want three reads of 20 ms, got %d of %v", d.Reads.Count, d.Reads.Most)
			}
			f.change(func(f *fake) { f.readErr = fmt.Errorf("gone: %w", drivers.ErrLost) })
			h.after(600 * time.Millisecond)
			d := h.status("d")
			if d.Online || len(d.Metrics.Gauges) != 0 {
				t.Errorf("want it closed, without gauges, got %+v", d.Metrics)
			}
			f.change(func(f *fake) { f.readErr = nil })
			h.after(1200 * time.Millisecond)
			d = h.status("d")
			polls := d.Counters.Reads
			want := drivers.Metrics{
				Counters: map[string]uint64{"polls": polls, "timeouts": 1}, Gauges: map[string]float64{"load_percent": 12.5},
				Exchanges: d.Reads,
			}
			if diff := cmp.Diff(want, d.Metrics); diff != "" || polls < 5 || d.Counters.Opens != 2 {
				t.Errorf("(-want +got):\n%s%+v", diff, d.Counters)
			}
		})
	})
	t.Run("that panic harm nobody", func(t *testing.T) {
		f := &fake{meters: true, panics: "metrics"}
		inHouse(t, one(f), files("d.yaml", device("", "a")), func(h *house) {
			if d := h.status("d"); !d.Online || len(d.Metrics.Counters) != 0 {
				t.Errorf("want it online without metrics, got %+v", d)
			}
			if !strings.Contains(h.log.String(), "metrics") {
				t.Error("want the panic in the log")
			}
		})
	})
}
