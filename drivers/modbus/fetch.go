package modbus

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// fetch reads at least a span, and says what it read. The error is an Exception, or
// says that there was no valid answer.
func (d *device) fetch(ctx context.Context, s span, attempts int) ([]byte, span, error) {
	confirmed := false
	for {
		from, confirm, err := d.claim(ctx, s)
		if err != nil {
			return nil, s, err
		}
		got, err := d.bus.do(ctx, request{unit: d.spec.unit, fn: s.fn, addr: from.addr, count: from.count},
			timing{timeout: d.spec.timeout, confirm: confirm})
		d.bus.lengths.release(d.spec.unit, s.fn, from.count, time.Now().Add(waryTimeouts*d.spec.timeout))
		var e Exception
		switch {
		case err == nil:
			return got.data, from, nil
		case errors.As(err, &e) && e.unreached():
			return nil, s, fmt.Errorf("%w: %w", errSilent, err)
		case errors.As(err, &e):
			// It may be a stale one, too: nothing shows to which request it belongs.
			if d.bus.rtu && !confirmed && !d.refused.holds(from) {
				confirmed = true
				continue
			}
			if from == s {
				return nil, s, err
			}
			d.refused.add(from, refusalTime)
			confirmed = false
		case ctx.Err() != nil || errors.Is(err, errDead):
			return nil, s, err
		default:
			if attempts--; attempts <= 0 {
				return nil, s, err
			}
		}
	}
}

// claim finds a span that covers s and whose answer no stale answer can be taken
// for. If there is none, confirm is how long to listen for a second answer.
func (d *device) claim(ctx context.Context, s span) (from span, confirm time.Duration, err error) {
	unit, lengths := d.spec.unit, &d.bus.lengths
	for {
		now := time.Now()
		for c := range s.padded {
			if (c == s || !d.refused.bars(c)) && lengths.claim(unit, c.fn, c.addr, c.count, now) {
				return c, 0, nil
			}
		}
		state := d.bus.condition(unit)
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
