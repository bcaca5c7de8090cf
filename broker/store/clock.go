package store

import (
	"math"
	"time"
)

// leap is how far the wall clock may be ahead of when the store was last written: a
// gateway that was off for longer, or whose clock says so, does not count the time.
const leap = 366 * 24 * time.Hour

// Clock is the time that a store counts, in which points in time are kept. While the
// store is open it goes on with the monotonic clock, whatever the wall clock says
// meanwhile. Over a restart it goes on by what the wall clock says more than when the
// store was last written, if that is plausible: not less, and not a year. If it is not,
// no time has passed. So a jump of the wall clock neither makes anything worthless nor
// immortal, though it takes the store's time and the wall's apart. The zero value is the
// wall clock as it is.
type Clock struct {
	// Start is when the store was opened, with a monotonic reading.
	Start time.Time
	// Base is what Start is in the store's time.
	Base time.Time
	// Wrote is what the wall clock said when the store was last written, if it was not
	// plausible at Start; else zero.
	Wrote time.Time
}

// Resume is the clock of a store that is opened now, and was last written when the wall
// clock said wall, and its own one counted; zero times if it is new.
func Resume(now, wall, counted time.Time) Clock {
	c := Clock{Start: now, Base: now.Round(0)}
	if wall.IsZero() {
		return c
	}
	away := now.Round(0).Sub(wall)
	if away < 0 || away > leap {
		away, c.Wrote = 0, wall
	}
	base := counted.Round(0).Add(away)
	if apart := base.Sub(c.Base).Abs(); apart > time.Millisecond { // less is no jump
		c.Base = base
	}
	return c
}

// Plausible reports whether the wall clock had gone on, when the store was opened, from
// where it was when it was last written.
func (c Clock) Plausible() bool { return c.Wrote.IsZero() }

// Keep is a point in time as it is kept; the zero time stays what it is.
func (c Clock) Keep(t time.Time) time.Time {
	if t.IsZero() || c.Start.IsZero() {
		return t
	}
	return shifted(t, c.Start, c.Base)
}

// Kept is a point in time that was kept, with a monotonic reading.
func (c Clock) Kept(t time.Time) time.Time {
	if t.IsZero() || c.Start.IsZero() {
		return t
	}
	return shifted(t, c.Base, c.Start)
}

// shifted is as far from to as t is from from; t if that is too far away to matter.
func shifted(t, from, to time.Time) time.Time {
	d := t.Sub(from)
	if d == math.MaxInt64 || d == math.MinInt64 {
		return t
	}
	return to.Add(d)
}

// Owed is the time before Start that does not count since the wall clock was not
// plausible: known when that has been set.
func (c Clock) Owed(now time.Time) (away time.Duration, known bool) {
	return c.owed(now.Round(0), now.Sub(c.Start))
}

// owed is it when the wall clock says wall, that long after Start by the monotonic clock.
func (c Clock) owed(wall time.Time, ran time.Duration) (away time.Duration, known bool) {
	if c.Plausible() {
		return 0, true
	}
	away = wall.Sub(c.Wrote) - ran
	return away, away >= 0 && away <= leap
}
