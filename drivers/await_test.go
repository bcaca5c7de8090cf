package drivers_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// awaiter is a fake whose equipment can be seen to come back.
type awaiter struct {
	*fake
	back   chan struct{}
	panics bool
	whys   []error
}

func (a *awaiter) Await(ctx context.Context, _ drivers.Config, why error) error {
	a.change(func(*fake) { a.whys = append(a.whys, why) })
	if a.panics {
		panic("the fake was told to panic in await")
	}
	select {
	case <-a.back:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestAwait(t *testing.T) {
	absent := errors.New("no such port")
	start := func(t *testing.T, panics bool, f func(a *awaiter, h *house)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			a := &awaiter{fake: &fake{openErr: absent}, back: make(chan struct{}), panics: panics}
			h := startHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"fake": a}}, files("plc.yaml", device("", "a")))
			f(a, h)
			h.end()
		})
	}
	t.Run("a device that comes back is opened at once, and its pauses begin anew", func(t *testing.T) {
		start(t, false, func(a *awaiter, h *house) {
			h.after(10 * time.Minute)
			opens := a.opens
			a.back <- struct{}{} // it is there, but may not be opened yet
			synctest.Wait()
			if a.opens != opens+1 {
				t.Errorf("want one more open at once, got %d", a.opens-opens)
			}
			a.change(func(f *fake) { f.openErr = nil })
			h.after(time.Second)
			if !h.status("plc").Online {
				t.Errorf("want it online a second later, got %+v", h.status("plc"))
			}
			for _, why := range a.whys {
				if !errors.Is(why, absent) {
					t.Errorf("want it told why it was not opened, got %v", why)
				}
			}
		})
	})
	t.Run("a panic in it leaves the pauses as they are", func(t *testing.T) {
		start(t, true, func(a *awaiter, h *house) {
			h.after(5 * time.Minute)
			if a.opens < 12 || a.opens > 20 {
				t.Errorf("want 12 to 20 opens in 5 min, got %d", a.opens)
			}
		})
	})
}
