package drivers

import (
	"context"
	"errors"
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

// The protocols of wires: how what goes over one becomes frames.
const (
	ProtocolSerial      = "serial" // bytes, of which the driver's file makes frames
	ProtocolModbusTCP   = "modbus-tcp"
	ProtocolModbusRTU   = "modbus-rtu"
	ProtocolModbusASCII = "modbus-ascii"
)

// Wire says what the wire of a device is.
type Wire struct {
	Protocol string // one of those above, or a driver's own word
	// Place is what leads to it, for people: "serial /dev/ttyUSB0 9600 8N1".
	Place string
	Unit  int // of the device, in Modbus; others may be on the wire, too
	// Timeout is how long an answer is waited for; 0 is that nothing is asked.
	Timeout time.Duration
}

// Wired is a Device whose wire can be watched and written on, for people who look for
// what is wrong. Its methods may be called by any goroutine from Open's return to that
// of Close, also while another one runs.
type Wired interface {
	Device
	// Wire says what the wire is; it never changes while the device is open.
	Wire() Wire
	// Tap returns what goes over the wire from now on, that of devices which share it
	// too. The channel is closed by stop, which must be called, and when the wire is
	// gone. It never holds the wire up: what is not taken is lost, and counted.
	Tap() (traffic <-chan Traffic, stop func())
	// Send writes bytes as they are, when it is the device's turn. What comes back is
	// Traffic, and whatever the device makes of it.
	Send(ctx context.Context, b []byte) error
}

// ErrNoDevice says that no device has the name.
var ErrNoDevice = errors.New("there is no device")

// Tapper is a Driver that can have the wire of a device watched while it is not open,
// too: who asks why a device cannot be opened sees what goes over its wire meanwhile.
type Tapper interface {
	Driver
	// TapWire returns what goes over the wire of the device of cfg from now on, as
	// [Wired].Tap does, and what the wire is. Any goroutine may call it.
	TapWire(cfg Config) (w Wire, traffic <-chan Traffic, stop func(), err error)
}

// place is the slot of a device that runs.
func (h *Host) place(device string) (*slot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, known := h.slots[device], h.wanted[device] != nil
	switch {
	case s != nil:
		return s, nil
	case known:
		return nil, fmt.Errorf("device %q is not started", device)
	}
	return nil, fmt.Errorf("%w %q", ErrNoDevice, device)
}

// wired returns the wire of a device that is open.
func (s *slot) wired() (Wired, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dev == nil {
		return nil, fmt.Errorf("device %q is not open: %s", s.name, s.state.reason)
	}
	w, ok := s.dev.(Wired)
	if !ok {
		return nil, fmt.Errorf("device %q has no wire that can be watched", s.name)
	}
	return w, nil
}

// Tap watches the wire of a device, as [Wired] and [Tapper] do, and says what it is. It
// ends with the device's file, at the latest. It is an error that the device has no wire
// to watch, or is not open, unless its driver is a Tapper.
func (h *Host) Tap(device string) (w Wire, traffic <-chan Traffic, stop func(), err error) {
	s, err := h.place(device)
	if err != nil {
		return Wire{}, nil, nil, err
	}
	h.mu.Lock()
	e, serving := s.current, s.serving
	h.mu.Unlock()
	if e != nil && serving != nil {
		if t, ok := e.driver.(Tapper); ok {
			w, traffic, end, err := t.TapWire(e.cfg)
			if err != nil {
				return Wire{}, nil, nil, err
			}
			forget := context.AfterFunc(serving, end)
			return w, traffic, func() { forget(); end() }, nil
		}
	}
	dev, err := s.wired()
	if err != nil {
		return Wire{}, nil, nil, err
	}
	traffic, stop = dev.Tap()
	return dev.Wire(), traffic, stop, nil
}

// Send writes bytes on the wire of a device, as [Wired] does.
func (h *Host) Send(ctx context.Context, device string, b []byte) error {
	s, err := h.place(device)
	if err != nil {
		return err
	}
	w, err := s.wired()
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
