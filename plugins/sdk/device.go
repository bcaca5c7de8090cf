package sdk

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/gatehouse/gatehouse/drivers"
)

// maxStack is how much of a stack is logged: the gateway cuts a line of 4 KiB, and
// the innermost calls come first.
const maxStack = 3 << 10

// device is an open device. Its turn lets one call in at a time: the gateway keeps
// to one goroutine, but it may give up a call that goes on here.
type device struct {
	name string
	dev  drivers.Device
	turn chan struct{} // capacity 1: held while a method runs
}

// call runs f with the device in its turn. A device that is not open is lost, and
// so is one whose method panicked.
func (s *server) call(ctx context.Context, id uint64, what string, f func(drivers.Device) error) error {
	s.mu.Lock()
	d := s.devices[id]
	s.mu.Unlock()
	if d == nil {
		return fmt.Errorf("%w: it is not open in plugin %q", drivers.ErrLost, s.plugin.Name)
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return fmt.Errorf("the call before has not come back: %w", ctx.Err())
	}
	return s.guard(what, d.name, func() error { return f(d.dev) })
}

// close closes a device when its turn comes; nil is closed already.
func (s *server) close(d *device) error {
	if d == nil {
		return nil
	}
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	return s.guard("Close", d.name, d.dev.Close)
}

// guard runs code of the author's. A panic becomes an error, and the device is lost.
func (s *server) guard(what, device string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := debug.Stack()
			stack = stack[:min(len(stack), maxStack)]
			s.log.Error("driver panicked", "in", what, "device", device, "panic", fmt.Sprint(p), "stack", string(stack))
			err = fmt.Errorf("%w: the driver panicked in %s: %v", drivers.ErrLost, what, p)
		}
	}()
	return f()
}
