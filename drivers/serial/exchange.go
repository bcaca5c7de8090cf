package serial

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// exchange is something that is sent, and the frames that may be the answer.
type exchange struct {
	dev    *device
	began  time.Time // what came before is no answer
	wanted *wanted   // what the answer is like; nil: any frame may be it
	frames chan []byte
	missed []byte // the last frame that was not the answer; guarded by line.mu
}

const (
	// answersAhead is how many frames wait to be looked at.
	answersAhead = 16
	// longestWary bounds how long a late answer is waited for.
	longestWary = 3 * time.Second
	// warySilence ends that: what came late has come.
	warySilence = 50 * time.Millisecond
)

// errNoAnswer says that nothing came that is an answer.
var errNoAnswer = errors.New("no answer")

// offer hands over a frame; false if it is to be taken as said by itself: it is not what
// is wanted, or there are too many. The caller holds line.mu.
func (x *exchange) offer(frame []byte) bool {
	if x.wanted != nil && !x.wanted.is(frame) {
		x.missed = append([]byte(nil), frame...)
		if x.dev.hears {
			return false
		}
		x.dev.meter.Count("strays", 1)
		return true
	}
	select {
	case x.frames <- append([]byte(nil), frame...):
		return true
	default:
		return false
	}
}

// ask sends a request and waits for a frame that is wanted, nil being any, and that
// accept takes, several times if need be. No other request has an answer that is wanted.
func (d *device) ask(ctx context.Context, request []byte, retries int, wanted *wanted, accept func([]byte) bool) error {
	l := d.line
	if err := l.turn.take(ctx, false); err != nil {
		return err
	}
	defer l.turn.give()
	if err := d.ready(ctx, wanted != nil); err != nil {
		return err
	}
	unanswered := 0
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.lastAt = time.Now(); unanswered > 0 {
			l.waryTill = l.lastAt.Add(min(d.talk.timeout, longestWary))
		}
	}()
	for {
		d.meter.Count("requests", 1)
		began := time.Now()
		err := d.try(ctx, request, wanted, accept)
		if err == nil {
			d.meter.Count("answers", 1)
			d.meter.Observe(time.Since(began))
		}
		if !errors.Is(err, errNoAnswer) {
			return err
		}
		unanswered++
		d.meter.Count("timeouts", 1)
		if unanswered > retries || ctx.Err() != nil {
			return err
		}
		d.meter.Count("retries", 1)
	}
}

// try sends once and waits for the answer.
func (d *device) try(ctx context.Context, request []byte, wanted *wanted, accept func([]byte) bool) error {
	l := d.line
	x := &exchange{dev: d, began: time.Now(), wanted: wanted, frames: make(chan []byte, answersAhead)}
	l.mu.Lock()
	if !d.hears {
		d.frames.reset()
		d.first = false
	}
	l.asking = x
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.asking = nil
		l.mu.Unlock()
	}()
	if err := l.send(request); err != nil {
		return err
	}
	timer := time.NewTimer(time.Duration(len(request))*l.port.char + d.talk.timeout)
	defer timer.Stop()
	for {
		select {
		case frame := <-x.frames:
			if accept(frame) {
				return nil
			}
			l.miss(x, frame)
			d.stray(frame)
		case <-timer.C:
			if missed := l.miss(x, nil); missed != nil {
				return fmt.Errorf("%w that is understood within %v, but %q", errNoAnswer, d.talk.timeout, clip(string(missed)))
			}
			return fmt.Errorf("%w within %v", errNoAnswer, d.talk.timeout)
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ended:
			return l.why()
		}
	}
}

// miss notes a frame that is not the answer, nil being none, and returns the last one.
func (l *line) miss(x *exchange, frame []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if frame != nil {
		x.missed = frame
	}
	return x.missed
}

// stray is a frame that came during an exchange and is not its answer.
func (d *device) stray(frame []byte) {
	if d.hears {
		d.hear(heard{dev: d, frame: frame})
		return
	}
	d.meter.Count("strays", 1)
}

// ready waits until the device may be talked to: late answers have come, the pause
// has passed, it is awake.
func (d *device) ready(ctx context.Context, tells bool) error {
	l := d.line
	if err := l.wary(ctx, tells); err != nil {
		return err
	}
	l.mu.Lock()
	pause := time.Until(l.lastAt.Add(d.talk.pause))
	l.mu.Unlock()
	if err := l.wait(ctx, pause); err != nil {
		return err
	}
	if err := d.rouse(ctx); err != nil {
		return err
	}
	if !l.hears() {
		return l.port.ResetInput()
	}
	return nil
}

// wary waits for an answer that was given up: it would be taken for that of the next
// request, unless that tells its own.
func (l *line) wary(ctx context.Context, tells bool) error {
	for !tells {
		l.mu.Lock()
		now := time.Now()
		over := !now.Before(l.waryTill) || l.heardAt.After(l.lastAt) && now.Sub(l.heardAt) >= warySilence
		if over {
			l.waryTill = time.Time{}
		}
		left := min(l.waryTill.Sub(now), warySilence)
		l.mu.Unlock()
		if over {
			return nil
		}
		if err := l.wait(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

// rouse wakes the device up.
func (d *device) rouse(ctx context.Context) error {
	w := d.talk.wake
	if w.none() || w.after > 0 && !d.talkedAt.IsZero() && time.Since(d.talkedAt) < w.after {
		d.talkedAt = time.Now()
		return nil
	}
	if w.brk > 0 {
		if err := d.line.port.Break(w.brk); err != nil {
			return err
		}
	}
	if w.dtr > 0 {
		if err := d.line.port.Pulse(w.dtr, d.port.DTR); err != nil {
			return err
		}
	}
	if len(w.send) > 0 {
		if err := d.line.send(w.send); err != nil {
			return err
		}
	}
	err := d.line.wait(ctx, w.pause)
	d.talkedAt = time.Now()
	return err
}

// hears reports whether a device listens that is not asked.
func (l *line) hears() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, dev := range l.devices {
		if dev.hears {
			return true
		}
	}
	return false
}

// wait waits on the line.
func (l *line) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ended:
		return l.why()
	}
}

// why is why the line has ended.
func (l *line) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}
