package serial_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

func TestConsole(t *testing.T) {
	w := newWire(t)
	asked := answer(t, w, '\n', func(s string) string { return map[string]string{"T?\n": "t=1\n", "\x00?\n": "\xff\n"}[s] })
	dev := open(t, w, "format: keyvalue\npoints: {t: {request: \"T?\\n\"}}\n").(drivers.Wired)
	traffic, stop := dev.Tap()
	defer stop()
	heard := func() (all string) {
		for len(all) < 24 {
			select {
			case one, ok := <-traffic:
				if !ok {
					return all + "(end)"
				}
				all += fmt.Sprintf("%v %q ", one.Sent, one.Data)
			case <-time.After(300 * time.Millisecond):
				return all
			}
		}
		return all
	}
	wantRead(t, dev, "t=1", "t")
	if got := heard(); got != `true "T?\n" false "t=1\n" ` {
		t.Errorf("want a request and its answer, got %s", got)
	}
	if err := dev.Send(t.Context(), []byte("\x00?\n")); err != nil {
		t.Fatal(err)
	}
	if got := heard(); got != `true "\x00?\n" false "\xff\n" ` {
		t.Errorf("want what was sent and its answer, got %s", got)
	}
	wantRead(t, dev, "t=1", "t")
	for range 300 { // nobody looks
		wantRead(t, dev, "t=1", "t")
	}
	lost := 0
	for len(traffic) > 0 {
		lost += (<-traffic).Lost
	}
	wantRead(t, dev, "t=1", "t")
	if lost += (<-traffic).Lost; lost == 0 || len(asked()) < 300 {
		t.Errorf("want the line to go on and the loss told, got %d lost of %d requests", lost, len(asked()))
	}
	_ = w.far.Close() // an unplug
	for range traffic {
	}
	stop()
	if traffic, stop := dev.Tap(); traffic != nil {
		if _, open := <-traffic; open {
			t.Error("want no traffic on a port that is gone")
		}
		stop()
	}
}
