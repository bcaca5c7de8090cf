package drivers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// maxAsks is how many questions of [Host.Ask] wait for one device.
	maxAsks = 8
	// askEvery is how often at most a device that does not answer is tried because
	// somebody asks: others share its line.
	askEvery = 5 * time.Second
)

// ErrBusy says that too much waits for a device.
var ErrBusy = errors.New("busy")

// ask is a question that somebody waits for.
type ask struct {
	points []string
	gone   <-chan struct{} // closed when nobody waits any more
	done   chan error      // capacity 1
}

// abandoned reports whether nobody waits for the answer any more: the line is for others.
func (a ask) abandoned() bool {
	select {
	case <-a.gone:
		return true
	default:
		return false
	}
}

// Ask reads points of a device now, in the device's turn on its line, and returns them
// as the reading has left them; none are all. Points that the device tells by itself are
// as it told them last. What is read is published as by a poll. An error wraps
// [ErrNoDevice], [ErrBusy] or ctx's, or says that there is no such point, why the device
// is offline, or what became of the question: [ErrLost], a time-out. A device that does
// not answer is tried at once, but every few seconds at most. Any goroutine may call it.
func (h *Host) Ask(ctx context.Context, device string, points []string) ([]PointStatus, error) {
	s, err := h.place(device)
	if err != nil {
		return nil, err
	}
	a := ask{points: points, gone: ctx.Done(), done: make(chan error, 1)}
	if err := h.hand(s, a); err != nil {
		return nil, fmt.Errorf("cannot read device %q: %w", device, err)
	}
	select {
	case err = <-a.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read device %q: %w", device, err)
	}
	var d DeviceStatus
	s.status(&d)
	if len(points) == 0 {
		return d.Points, nil
	}
	return slices.DeleteFunc(d.Points, func(p PointStatus) bool { return !slices.Contains(points, p.Name) }), nil
}

// hand gives a slot a question, unless it has ended: then nobody would answer.
func (h *Host) hand(s *slot, a ask) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.slots[s.name] != s {
		return errClosing
	}
	select {
	case s.asks <- a:
		return nil
	default:
		return fmt.Errorf("%w: %d others wait for it", ErrBusy, maxAsks)
	}
}

// readNow reads what somebody waits for. It returns an error if the device must be opened
// again.
func (x *session) readNow(ctx context.Context, a ask) error {
	if a.abandoned() {
		return nil
	}
	points, err := x.readable(a.points)
	if err != nil || len(points) == 0 {
		a.done <- err
		return nil
	}
	silent, pause, probe := x.silent, x.pause, x.schedule.probe
	if d, ok := x.dev.(Insister); ok && silent && time.Since(x.insisted) >= askEvery {
		x.insisted = time.Now()
		d.Insist()
	}
	readings, err := x.read(ctx, points)
	if ctx.Err() != nil {
		a.done <- errClosing
		return nil
	}
	x.slot.take(ctx, x.entry, readings, origin{})
	if err != nil {
		lost := x.unanswered(ctx, err) // before the answer, so that who asks on sees it
		if silent {                    // who asks does not put off the next try
			x.pause, x.schedule.probe = pause, probe
		}
		a.done <- err
		return lost
	}
	if x.slot.missing(x.entry, points, readings) {
		x.slot.fallen(ctx, x.entry)
	}
	x.answered(ctx)
	a.done <- nil
	return nil
}

// readable are the points of a question that the device is asked for: those that it does
// not tell by itself, which it may have nothing to say about.
func (x *session) readable(names []string) (points []string, err error) {
	switch {
	case x.fed != nil:
		return nil, errors.New("it shows topics to others, and is not read itself")
	case len(x.entry.points) == 0:
		return nil, errors.New("it has no points")
	}
	for _, name := range names {
		if _, known := x.entry.index[name]; !known {
			return nil, fmt.Errorf("there is no point %q", name)
		}
	}
	for i := range x.entry.points {
		p := &x.entry.points[i]
		if p.Every > 0 && (len(names) == 0 || slices.Contains(names, p.Name)) {
			points = append(points, p.Name)
		}
	}
	return points, nil
}

// refuseAsks answers the questions that are left when the device ends.
func (s *slot) refuseAsks() {
	for {
		select {
		case a := <-s.asks:
			a.done <- errClosing
		default:
			return
		}
	}
}
