package disk

import (
	"math"
	"time"
)

// leap is how far the wall clock may be from when the store was last written: a
// gateway that was off for longer, or whose clock says so, does not count the time.
const leap = 366 * 24 * time.Hour

// epoch is what points in time are counted from in one run of a store, so that a
// jump of the wall clock neither makes a message worthless nor immortal. While the
// store is open that is the monotonic clock. Points that earlier runs saved count
// on the wall clock, if it is plausible: not before the store was last written, nor
// long after. If it is not, no time has passed since then.
type epoch struct {
	run   uint32    // openings of the store, from 1
	start time.Time // of this run, with a monotonic reading
	base  time.Time // what start is on the clock of the earlier runs
}

// begin starts the run after last, which was written at wrote.
func begin(last uint32, wrote time.Time, now time.Time) *epoch {
	e := &epoch{run: last + 1, start: now, base: now.Round(0)}
	if away := e.base.Sub(wrote); !wrote.IsZero() && (away < 0 || away > leap) {
		e.base = wrote
	}
	return e
}

// plausible reports whether the wall clock went on from where it was.
func (e *epoch) plausible() bool { return e.base.Equal(e.start) }

// earlier is what a point in time that an earlier run saved is in this one.
func (e *epoch) earlier(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	d := t.Sub(e.base)
	if d == math.MaxInt64 || d == math.MinInt64 { // too far away to matter
		return t
	}
	return e.start.Add(d)
}

// expires is an expiry that was saved in a run, at that much after its start.
func (e *epoch) expires(wall time.Time, run uint32, passed time.Duration) time.Time {
	if run != e.run || passed == math.MaxInt64 || passed == math.MinInt64 {
		return e.earlier(wall)
	}
	return e.start.Add(passed)
}
