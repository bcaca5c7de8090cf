package broker

import "time"

// pace is the token bucket of what one client publishes: it holds what a second
// brings and gives one for each PUBLISH. When it is empty the reader pauses; nothing
// is dropped. It belongs to whoever runs the connection.
type pace struct {
	every time.Duration // between two tokens; 0 is no limit
	next  time.Time     // when the bucket would have been full
	spent bool          // it is empty

	pausing bool        // this pause was counted
	timer   *time.Timer // wakes the connection; nil before the first pause
}

// paceBurst is what the bucket holds, as the time that fills it.
const paceBurst = time.Second

func newPace(rate int) pace {
	if rate <= 0 {
		return pace{}
	}
	return pace{every: max(1, time.Second/time.Duration(rate))}
}

// take takes a token.
func (p *pace) take(now time.Time) {
	if p.every == 0 {
		return
	}
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(p.every)
	p.spent = p.next.Sub(now) > paceBurst-p.every
}

// rest is how long there is nothing to take.
func (p *pace) rest(now time.Time) time.Duration { return p.next.Add(p.every - paceBurst).Sub(now) }

// stop ends the pause that is under way.
func (p *pace) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

// paused reports whether the client has to wait until it may publish again; the
// connection is woken then.
func (c *conn) paused() bool {
	p := &c.pace
	if !p.spent {
		return false
	}
	wait := p.rest(time.Now())
	switch {
	case wait <= 0:
		p.spent, p.pausing = false, false
		return false
	case p.timer == nil:
		p.timer = time.AfterFunc(wait, c.wake)
	default:
		p.timer.Reset(wait)
	}
	if !p.pausing {
		p.pausing = true
		c.srv.stats.paused.Add(1)
	}
	return true
}
