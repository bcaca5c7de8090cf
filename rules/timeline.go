package rules

import "time"

// Timeline is a time in which points in time are kept, that no jump of the wall clock
// changes.
type Timeline interface {
	// Keep is a point in time, with a monotonic reading, as it is kept; Kept is the other
	// way round.
	Keep(t time.Time) time.Time
	Kept(t time.Time) time.Time
	// Owed is the time that the gateway was off and that Kept does not count, as the wall
	// clock was not plausible: known once it is set, 0 if there is none.
	Owed(now time.Time) (away time.Duration, known bool)
}

// SteadyKeeper is a [Keeper] that has a timeline, once Load has returned. Timers of any
// other go by the wall clock over a restart.
type SteadyKeeper interface {
	Keeper
	Timeline() Timeline
}

// calendar judges what the wall clock says.
type calendar struct {
	line Timeline // nil if there is none
}

// calendarOf is that of a keeper, which may be nil.
func calendarOf(k Keeper) calendar {
	if s, ok := k.(SteadyKeeper); ok {
		return calendar{s.Timeline()}
	}
	return calendar{}
}

// trusts reports whether the wall clock can tell how long the gateway was off.
func (c calendar) trusts(now time.Time) bool {
	known := true
	if c.line != nil {
		_, known = c.line.Owed(now)
	}
	return known && plausible(now)
}

// plausible reports whether a wall clock may say that: one that nobody has set begins in
// 1970.
func plausible(wall time.Time) bool { return wall.Year() >= 2000 }
