package drivers

import (
	"context"
	"fmt"
	"time"
)

// Traffic is bytes that went over a device's wire, as they were read or written at once.
type Traffic struct {
	At   time.Time
	Sent bool // by the gateway
	Data []byte
	Lost int // pieces that were lost before this one, because the watcher was slow
}

// Wired is a Device whose wire can be watched and written on, for people who look for
// what is wrong. Its methods may be called by any goroutine from Open's return to that
// of Close, also while another one runs.
type Wired interface {
	Device
	// Tap returns what goes over the wire from now on, that of devices which share it
	// too. The channel is closed by stop, which must be called, and when the wire is
	// gone. It never holds the wire up: what is not taken is lost, and counted.
	Tap() (traffic <-chan Traffic, stop func())
	// Send writes bytes as they are, when it is the device's turn. What comes back is
	// Traffic, and whatever the device makes of it.
	Send(ctx context.Context, b []byte) error
}

// wired returns the wire of a device that is open.
func (h *Host) wired(device string) (Wired, error) {
	h.mu.Lock()
	s, known := h.slots[device], h.wanted[device] != nil
	h.mu.Unlock()
	if s == nil && !known {
		return nil, fmt.Errorf("there is no device %q", device)
	}
	if s == nil {
		return nil, fmt.Errorf("device %q is not started", device)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dev == nil {
		return nil, fmt.Errorf("device %q is not open: %s", device, s.state.reason)
	}
	w, ok := s.dev.(Wired)
	if !ok {
		return nil, fmt.Errorf("device %q has no wire that can be watched", device)
	}
	return w, nil
}

// Tap watches the wire of a device, as [Wired] does. It is an error that the device is
// not open or has no wire to watch.
func (h *Host) Tap(device string) (traffic <-chan Traffic, stop func(), err error) {
	w, err := h.wired(device)
	if err != nil {
		return nil, nil, err
	}
	traffic, stop = w.Tap()
	return traffic, stop, nil
}

// Send writes bytes on the wire of a device, as [Wired] does.
func (h *Host) Send(ctx context.Context, device string, b []byte) error {
	w, err := h.wired(device)
	if err != nil {
		return err
	}
	return w.Send(ctx, b)
}

// hold notes the device that is open; nil is none.
func (s *slot) hold(dev Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dev = dev
}
