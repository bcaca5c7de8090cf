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

func (wiredDevice) Wire() drivers.Wire { return drivers.Wire{Protocol: "fake"} }

func (wiredDevice) Tap() (<-chan drivers.Traffic, func()) {
	traffic := make(chan drivers.Traffic, 1)
	traffic <- drivers.Traffic{Data: []byte("x")}
	return traffic, func() {}
}

func (wiredDevice) Send(_ context.Context, b []byte) error { return errors.New("sent " + string(b)) }

// tapper is a driver whose wires are watched while nothing is open.
type tapper struct {
	*fake
	taps drivers.Taps
}

func (p *tapper) TapWire(drivers.Config) (drivers.Wire, <-chan drivers.Traffic, func(), error) {
	traffic, stop := p.taps.Tap()
	return drivers.Wire{Protocol: "tapped"}, traffic, stop, nil
}

func TestWireOfADeviceThatIsNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &tapper{fake: &fake{openErr: errors.New("no answer")}}
		h := startHouse(t, drivers.Options{Drivers: map[string]drivers.Driver{"tapper": f}}, files("p.yaml", "driver: tapper\npoints: {a: {}}\n"))
		w, traffic, stop, err := h.host.Tap("p")
		if err != nil || w.Protocol != "tapped" {
			t.Fatal(w, err)
		}
		f.taps.Tell(time.Now(), true, []byte("x"))
		if got := <-traffic; string(got.Data) != "x" || !got.Sent {
			t.Errorf("want what went over the wire, got %+v", got)
		}
		stop()
		if _, open := <-traffic; open || f.taps.Any() {
			t.Error("want nobody on the wire behind stop")
		}
		_, traffic, stop, err = h.host.Tap("p")
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		h.load(nil)
		h.after(time.Second)
		if _, open := <-traffic; open {
			t.Error("want the traffic ended with the file")
		}
		h.end()
	})
}

func TestWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		o := drivers.Options{Drivers: map[string]drivers.Driver{"fake": f, "wired": wired{f}}}
		h := startHouse(t, o, files("plain.yaml", device("", "a"), "w.yaml", "driver: wired\npoints: {a: {}}\n"))
		w, traffic, stop, err := h.host.Tap("w")
		if err != nil || w.Protocol != "fake" {
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
