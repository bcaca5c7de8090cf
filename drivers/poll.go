package drivers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// backoff gives pauses that double.
type backoff struct {
	first, most time.Duration
	last        time.Duration // 0 at the start
}

func (b *backoff) reset() { b.last = 0 }

// next returns the next pause, shortened by up to a quarter at random, so that
// devices that went together do not come back together.
func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.first), b.most)
	return b.last - time.Duration(rand.Int64N(int64(b.last/4)+1))
}

// schedule says when which points are read. Points of one interval are read
// together, and intervals start together, so that those of 1 s and 5 s meet.
type schedule struct {
	groups []group
	probe  time.Time // when a silent device is asked again; zero while it answers
	buf    []string
}

type group struct {
	every time.Duration
	next  time.Time
	names []string
}

func newSchedule(points []Point, now time.Time) *schedule {
	s := &schedule{}
	for _, p := range points {
		if p.Every <= 0 {
			continue
		}
		i := slices.IndexFunc(s.groups, func(g group) bool { return g.every == p.Every })
		if i < 0 {
			i = len(s.groups)
			s.groups = append(s.groups, group{every: p.Every, next: now})
		}
		s.groups[i].names = append(s.groups[i].names, p.Name)
	}
	return s
}

func (s *schedule) empty() bool { return len(s.groups) == 0 }

// next is when points are due; false is never.
func (s *schedule) next() (at time.Time, ok bool) {
	if !s.probe.IsZero() {
		return s.probe, true
	}
	for _, g := range s.groups {
		if !ok || g.next.Before(at) {
			at, ok = g.next, true
		}
	}
	return at, ok
}

// due returns the points that are due now and sets when they are due again: what
// was missed is not made up for. A device that was silent is asked for all its
// points, which is one probe: the first question without an answer ends it. The
// slice is good until the next call.
func (s *schedule) due(now time.Time) []string {
	if !s.probe.IsZero() {
		s.restart(now)
	}
	s.buf = s.buf[:0]
	for i := range s.groups {
		g := &s.groups[i]
		if g.next.After(now) {
			continue
		}
		g.next = g.next.Add((now.Sub(g.next)/g.every + 1) * g.every)
		s.buf = append(s.buf, g.names...)
	}
	return s.buf
}

// silence sets when to ask a device that did not answer.
func (s *schedule) silence(at time.Time) { s.probe = at }

// restart makes all points due now.
func (s *schedule) restart(now time.Time) {
	s.probe = time.Time{}
	for i := range s.groups {
		s.groups[i].next = now
	}
}

// poll reads what is due.
func (x *session) poll(ctx context.Context) error {
	due := x.schedule.due(time.Now())
	if len(due) == 0 {
		return nil
	}
	readings, err := x.read(ctx, due)
	if ctx.Err() != nil {
		return nil
	}
	x.slot.take(ctx, x.entry, readings, origin{})
	if err != nil {
		return x.unanswered(ctx, err)
	}
	if x.slot.missing(x.entry, due, readings) {
		x.slot.fallen(ctx, x.entry)
	}
	x.answered(ctx)
	return nil
}

func (x *session) read(ctx context.Context, points []string) ([]Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, x.slot.host.opts.CallTimeout)
	defer cancel()
	began := time.Now()
	readings, err := x.readDevice(ctx, points)
	x.slot.countRead(time.Since(began), err)
	return readings, err
}

// readDevice makes an error of a panic.
func (x *session) readDevice(ctx context.Context, points []string) (readings []Reading, err error) {
	defer func() {
		if p := recover(); p != nil {
			readings, err = nil, x.slot.panicked(p)
		}
	}()
	return x.dev.Read(ctx, points)
}

// unanswered is what follows a call that the device did not answer, unless that was
// because ctx has ended. It returns the error if the device must be opened again.
func (x *session) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, ErrLost) || errors.Is(err, ErrConfig) {
		return err
	}
	x.silent = true
	x.slot.down(ctx, x.entry, err)
	x.schedule.silence(time.Now().Add(x.pause.next()))
	return nil
}

// answered is what follows a call that the device answered.
func (x *session) answered(ctx context.Context) {
	x.slot.up(ctx, x.entry)
	if !x.silent {
		return
	}
	x.silent = false
	x.pause.reset()
	if !x.schedule.probe.IsZero() { // it was a write that it answered
		x.schedule.restart(time.Now())
	}
}

// hear takes what a device said by itself.
func (x *session) hear(ctx context.Context, p Pushed, ok bool) error {
	if !ok {
		return fmt.Errorf("the device ended: %w", ErrLost)
	}
	x.slot.take(ctx, x.entry, p.Readings, origin{})
	switch {
	case p.Err == nil:
		if x.schedule.empty() {
			x.slot.up(ctx, x.entry)
		}
	case errors.Is(p.Err, ErrLost) || errors.Is(p.Err, ErrConfig):
		return p.Err
	default:
		x.slot.malformed(p.Err)
		if n, due := x.slot.reports.due("malformed"); due {
			x.slot.log.Warn("device said what is not understood", "error", p.Err, "count", n)
		}
	}
	return nil
}
