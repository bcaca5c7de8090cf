package modbus

import (
	"context"
	"time"
)

// ask does a request that nobody planned, a person's or a foreign client's. On a line
// nothing sees to it that its answer has a length of its own: so it waits until no stale
// answer is under way, for all that is known, and sees to it that no block of a device
// has its length while an answer to it may come. With confirm it is as careful as a
// device: if something else had that length it listens for a second answer, or after
// trouble waits until none can come.
func (b *bus) ask(ctx context.Context, r request, t timing) (got reply, err error) {
	if !b.rtu {
		return b.do(ctx, r, t)
	}
	if r.gives() {
		alone, err := b.borrow(ctx, r, t)
		if err != nil {
			return reply{}, err
		}
		if alone {
			t.confirm = 0
		}
		defer func() {
			b.lengths.release(r.unit, r.fn, r.count, time.Now().Add(waryTimeouts*t.timeout))
		}()
	}
	t.calm = true
	err = patiently(ctx, func() (err error) {
		got, err = b.do(ctx, r, t)
		return err
	})
	return got, err
}

// borrow takes the slot of a request. Alone is that no other block had it.
func (b *bus) borrow(ctx context.Context, r request, t timing) (alone bool, err error) {
	for {
		now := time.Now()
		if b.lengths.claim(r.unit, r.fn, r.addr, r.count, now) {
			return true, nil
		}
		careful := t.confirm > 0 && b.condition(r.unit, t.timeout).troubled
		if !careful && b.lengths.seize(r.unit, r.fn, r.addr, r.count) {
			return false, nil
		}
		wait := pinnedWait
		if careful {
			wait = max(time.Millisecond, b.lengths.wait(r.unit, r.fn, r.count, now))
		}
		if err := pause(ctx, wait); err != nil {
			return false, err
		}
	}
}
