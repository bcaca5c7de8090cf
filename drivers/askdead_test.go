package drivers_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// insistent counts how often somebody insists.
type insistent struct {
	*fake
	times *int
}

func (i insistent) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	d, err := i.fake.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return insistentDevice{d.(*fakeDevice), i.times}, nil
}

type insistentDevice struct {
	*fakeDevice
	times *int
}

func (d insistentDevice) Insist() { *d.times++ }

// Who asks for a device that does not answer has it tried at once, but not over and over,
// and does not keep it from being tried in its time.
func TestAskForADeviceThatDoesNotAnswer(t *testing.T) {
	file := files("p.yaml", "driver: fake\nevery: 1s\npoints: {a: {}}\n")
	t.Run("but is open", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, insisted := &fake{readErr: errNoAnswer}, 0
			o := drivers.Options{RetryFirst: 10 * time.Second, RetryMost: 100 * time.Second}
			o.Drivers = map[string]drivers.Driver{"fake": insistent{f, &insisted}}
			h := startHouse(t, o, file)
			synctest.Wait()
			reads := func() (n int) {
				f.change(func(f *fake) { n = len(f.reads) })
				return n
			}
			silent := time.Now()
			for range 6 {
				<-time.After(time.Second)
				if _, err := h.host.Ask(t.Context(), "p", nil); !errors.Is(err, errNoAnswer) {
					t.Errorf("want why, got %v", err)
				}
			}
			if insisted != 2 || reads() != 7 {
				t.Errorf("want the driver told twice in 6 s, got %d; %d reads", insisted, reads())
			}
			<-time.After(time.Until(silent.Add(10 * time.Second)))
			synctest.Wait()
			if reads() != 8 {
				t.Errorf("want it tried after its pause, got %d reads", reads())
			}
			h.end()
		})
	})
	t.Run("and takes long to fail", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{openErr: errors.New("refused"), opening: 10 * time.Second}
			o := one(f)
			o.RetryFirst, o.RetryMost = time.Hour, time.Hour
			h := startHouse(t, o, file)
			<-time.After(time.Minute)
			for range 2 {
				for _, patience := range []time.Duration{20 * time.Second, time.Second} { // the second does not wait for it
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					began := time.Now()
					_, err := h.host.Ask(ctx, "p", nil)
					if took := time.Since(began); err == nil || took != min(patience, 10*time.Second) {
						t.Errorf("want why after one try, got %v after %v", err, took)
					}
					cancel()
					<-time.After(time.Minute)
				}
			}
			f.change(func(f *fake) {
				if f.opens != 5 {
					t.Errorf("want it tried once a question, got %d times", f.opens)
				}
			})
			h.end()
		})
	})
	t.Run("and cannot be opened", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{openErr: errors.New("refused")}
			o := one(f)
			o.RetryFirst, o.RetryMost = time.Minute, time.Hour
			h := startHouse(t, o, file)
			synctest.Wait()
			opens := func() (n int) {
				f.change(func(f *fake) { n = f.opens })
				return n
			}
			for i, want := range []int{1, 2, 2, 3} { // asked after 2, 6, 9 and 12 s
				<-time.After([]time.Duration{2, 4, 3, 3}[i] * time.Second)
				if _, err := h.host.Ask(t.Context(), "p", nil); err == nil || err.Error() != `cannot read device "p": it is offline: refused` {
					t.Errorf("want why, got %v", err)
				}
				if n := opens(); n != want {
					t.Errorf("question %d: want it tried %d times, got %d", i, want, n)
				}
			}
			f.change(func(f *fake) {
				if f.openErr = nil; f.insisted != 2 {
					t.Errorf("want the driver told twice, got %d", f.insisted)
				}
			})
			<-time.After(30 * time.Second)
			if _, err := h.host.Ask(t.Context(), "p", nil); err != nil {
				t.Errorf("want it read as soon as it is back, got %v", err)
			}
			f.change(func(f *fake) { f.openErr, f.readErr = errors.New("refused"), drivers.ErrLost })
			<-time.After(3 * time.Second)
			f.change(func(f *fake) { f.opens = 0 })
			<-time.After(time.Minute)
			synctest.Wait()
			if opens() == 0 {
				t.Error("want the pause as short as it was before the questions")
			}
			h.end()
		})
	})
}
