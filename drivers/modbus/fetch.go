package modbus

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// fetch reads at least a span, and says what it read. The error is an Exception, or
// says that there was no valid answer.
func (d *device) fetch(ctx context.Context, s span, attempts int) (reply, span, error) {
	var in doubt
	for {
		got, from, err := d.once(ctx, s, &in)
		var e Exception
		switch {
		case err == nil:
			return got, from, nil
		case errors.As(err, &e) && e.unreached():
			return reply{}, s, unheard(err)
		case errors.As(err, &e):
			if d.bus.rtu && !d.refused.holds(from) && !in.settled(from, got.odd) {
				err = d.calm(ctx, &in)
			} else if from != s && splits(err) {
				d.refused.add(from, refusalTime)
				in, err = doubt{}, nil
			}
			if err != nil {
				return reply{}, s, err
			}
		case ctx.Err() != nil || errors.Is(err, errDead):
			return reply{}, s, err
		case errors.Is(err, errMisfit) && from != s:
			d.refused.add(from, refusalTime)
		default:
			in.once = false
			if attempts--; attempts <= 0 {
				return reply{}, s, err
			}
			d.retry()
		}
	}
}

// doubt is whether an exception on an RTU line is the answer or a stale one: nothing
// in it shows to which request it belongs.
type doubt struct {
	tries int
	asked span // last
	once  bool // the exception came once for asked
}

// settled reports whether the exception came twice for a span, the second time with
// nothing odd beside it.
func (d *doubt) settled(from span, odd bool) bool {
	again := d.once && d.asked == from && !odd
	d.asked, d.once = from, true
	return again
}

// calm waits until no stale answer is under way, for all that is known.
func (d *device) calm(ctx context.Context, doubt *doubt) error {
	if doubt.tries++; doubt.tries == exceptionTries {
		return fmt.Errorf("%w: only exceptions that may be late ones", errGarbled)
	}
	return pause(ctx, time.Until(d.condition().calm))
}

// once asks one time for at least a span, and says what it asked for. In doubt it asks
// for the same again, and listens for a second answer.
func (d *device) once(ctx context.Context, s span, doubt *doubt) (got reply, from span, err error) {
	from, confirm := doubt.asked, time.Duration(0)
	if !doubt.once || !d.bus.lengths.claim(d.spec.unit, from.fn, from.addr, from.count, time.Now()) {
		if from, confirm, err = d.claim(ctx, s); err != nil {
			return reply{}, s, err
		}
	}
	if doubt.once {
		confirm = d.confirmTime(d.condition())
	}
	t := timing{timeout: d.condition().timeout, configured: d.spec.timeout, confirm: confirm, early: d.early, counters: d.counters}
	d.relent()
	got, err = d.bus.do(ctx, request{unit: d.spec.unit, fn: s.fn, addr: from.addr, count: from.count}, t)
	d.bus.lengths.release(d.spec.unit, s.fn, from.count, time.Now().Add(waryTimeouts*d.spec.timeout))
	return got, from, err
}

func (d *device) condition() condition { return d.bus.condition(d.spec.unit, d.spec.timeout) }

// claim finds a span that covers s and whose answer no stale answer can be taken
// for. If there is none, confirm is how long to listen for a second answer.
func (d *device) claim(ctx context.Context, s span) (from span, confirm time.Duration, err error) {
	unit, lengths := d.spec.unit, &d.bus.lengths
	for {
		now := time.Now()
		for c := range s.padded {
			if (c == s || d.spec.limits.allows(c, s) && !d.refused.bars(c)) && lengths.claim(unit, c.fn, c.addr, c.count, now) {
				return c, 0, nil
			}
		}
		state := d.condition()
		if !d.bus.rtu || !state.troubled {
			if lengths.seize(unit, s.fn, s.addr, s.count) {
				return s, d.confirmTime(state), nil
			}
		}
		if err := pause(ctx, max(lengths.wait(unit, s.fn, s.count, now), time.Millisecond)); err != nil {
			return s, 0, err
		}
	}
}

func (d *device) confirmTime(c condition) time.Duration {
	if !d.bus.rtu {
		return 0
	}
	return min(c.confirm, d.spec.timeout)
}
