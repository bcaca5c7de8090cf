package drivers_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// wired is a driver whose devices have a wire.
type wired struct{ *fake }

type wiredDevice struct{ drivers.Device }

func (w wired) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	dev, err := w.fake.Open(ctx, cfg)
	return wiredDevice{dev}, err
}

func (wiredDevice) Tap() (<-chan drivers.Traffic, func()) {
	traffic := make(chan drivers.Traffic, 1)
	traffic <- drivers.Traffic{Data: []byte("x")}
	return traffic, func() {}
}

func (wiredDevice) Send(_ context.Context, b []byte) error { return errors.New("sent " + string(b)) }

func TestWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		o := drivers.Options{Drivers: map[string]drivers.Driver{"fake": f, "wired": wired{f}}}
		h := startHouse(t, o, files("plain.yaml", device("", "a"), "w.yaml", "driver: wired\npoints: {a: {}}\n"))
		traffic, stop, err := h.host.Tap("w")
		if err != nil {
			t.Fatal(err)
		}
		if got := <-traffic; string(got.Data) != "x" {
			t.Errorf("want the device's traffic, got %+v", got)
		}
		stop()
		want := func(device, want string) {
			t.Helper()
			if err := h.host.Send(t.Context(), device, []byte("y")); err == nil || err.Error() != want {
				t.Errorf("%s: want %q, got %v", device, want, err)
			}
		}
		want("w", "sent y")
		want("plain", `device "plain" has no wire that can be watched`)
		want("none", `there is no device "none"`)
		f.change(func(f *fake) { f.readErr, f.openErr = drivers.ErrLost, errors.New("no such port") })
		h.after(5 * time.Second)
		want("w", `device "w" is not open: no such port`)
		h.end()
	})
}
