package drivers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

func TestAskReadsNow(t *testing.T) {
	const slow = "driver: fake\nevery: 1h\npoints: {a: {}, b: {}}\n"
	say := func(points []drivers.PointStatus) string {
		var words []string
		for _, p := range points {
			words = append(words, fmt.Sprintf("%s=%s %s %s", p.Name, p.Value, p.Quality, p.Error))
		}
		return strings.TrimSpace(strings.Join(words, ", "))
	}
	asking := func(t *testing.T, h *house, points ...string) string {
		t.Helper()
		got, err := h.host.Ask(t.Context(), "p", points)
		if err != nil {
			return err.Error()
		}
		return say(got)
	}
	t.Run("what was named, or all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			f.set("a", drivers.IntValue(1))
			h := startHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"fake": f}}, files("p.yaml", slow))
			synctest.Wait()
			f.set("a", drivers.IntValue(2))
			f.set("b", drivers.IntValue(3))
			if got := asking(t, h, "a"); got != "a=2 good" {
				t.Errorf("want the value of now, got %q", got)
			}
			if got := asking(t, h); got != "a=2 good , b=3 good" {
				t.Errorf("want all points, got %q", got)
			}
			if got := h.bus.Retained("p/b"); got != "3" {
				t.Errorf("want what was read published, got %q", got)
			}
			if got := asking(t, h, "c"); got != `cannot read device "p": there is no point "c"` {
				t.Error(got)
			}
			if _, err := h.host.Ask(t.Context(), "q", nil); !errors.Is(err, drivers.ErrNoDevice) {
				t.Errorf("want no such device, got %v", err)
			}
		})
	})
	t.Run("what the device tells by itself is as it told it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{silent: map[string]bool{"b": true}}
			f.set("a", drivers.IntValue(1))
			h := startHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"fake": f}},
				files("p.yaml", "driver: fake\npush: true\nevery: 1h\npoints: {a: {}, b: {pushed: true}}\n"))
			f.last().pushed <- drivers.Pushed{Readings: []drivers.Reading{{Point: "b", Value: drivers.IntValue(5), At: time.Now()}}}
			synctest.Wait()
			if got := asking(t, h); got != "a=1 good , b=5 good" {
				t.Errorf("want all points, got %q", got)
			}
			f.change(func(f *fake) { f.readErr, f.reads = errors.New("no answer"), nil })
			_ = asking(t, h, "a")
			if got := asking(t, h, "b"); got != "b=5 stale the device is offline: no answer" {
				t.Errorf("want a value that is not good any more, got %q", got)
			}
			if got := h.bus.Retained("p/status"); got != "offline" {
				t.Errorf("want the device offline, got %q", got)
			}
			if want := []string{"a"}; !slices.Equal(f.reads, want) {
				t.Errorf("want %q asked for, got %q", want, f.reads)
			}
			h.end()
		})
	})
	t.Run("in the order of the device, each once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			h := startHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"fake": f}}, files("p.yaml", slow))
			f.change(func(f *fake) { f.reads = nil })
			_ = asking(t, h, "b", "a", "b")
			if want := []string{"a,b"}; !slices.Equal(f.reads, want) {
				t.Errorf("want %q asked for, got %q", want, f.reads)
			}
			h.end()
		})
	})
	t.Run("not for those who do not wait any more", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			h := startHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"fake": f}}, files("p.yaml", slow))
			f.change(func(f *fake) { f.delay, f.reads = 10*time.Second, nil })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			for range 3 {
				go func() { _, _ = h.host.Ask(ctx, "p", nil) }()
			}
			h.after(time.Minute)
			if len(f.reads) != 1 {
				t.Errorf("want the device asked once, got %q", f.reads)
			}
			h.end()
		})
	})
	t.Run("why it cannot be", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			f.set("a", drivers.IntValue(1))
			h := startHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"fake": f}}, files("p.yaml", slow))
			synctest.Wait()
			f.change(func(f *fake) { f.readErr = errors.New("no answer within 1s") })
			if got := asking(t, h, "a"); got != `cannot read device "p": no answer within 1s` {
				t.Error(got)
			}
			if got := h.bus.Retained("p/status"); got != "offline" {
				t.Errorf("want the device offline, got %q", got)
			}
			f.change(func(f *fake) { f.readErr = nil })
			if got := asking(t, h, "a"); got != "a=1 good" {
				t.Errorf("want a device that is open asked though it is offline, got %q", got)
			}
			f.change(func(f *fake) {
				f.readErr, f.openErr = fmt.Errorf("port gone: %w", drivers.ErrLost), errors.New("not there")
			})
			if got := asking(t, h, "a"); !strings.Contains(got, "port gone") {
				t.Error(got)
			}
			<-time.After(5 * time.Second)
			if got := asking(t, h, "a"); got != `cannot read device "p": it is offline: not there` {
				t.Error(got)
			}
		})
	})
	t.Run("in its turn, or not at all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			f.set("a", drivers.IntValue(1))
			h := startHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"fake": f}}, files("p.yaml", slow))
			synctest.Wait()
			f.change(func(f *fake) { f.delay = 20 * time.Second })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			ended := make(chan error, 20)
			for range cap(ended) {
				go func() {
					_, err := h.host.Ask(ctx, "p", nil)
					ended <- err
				}()
			}
			busy := 0
			for range cap(ended) {
				if err := <-ended; errors.Is(err, drivers.ErrBusy) {
					busy++
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("want none answered in time, got %v", err)
				}
			}
			if busy != cap(ended)-9 { // one is read, eight wait
				t.Errorf("want what waits bounded, got %d refused", busy)
			}
		})
	})
}
