package rules

import "time"

// Clock is what everything in rules tells time by. Now carries a monotonic
// reading where there is one, so that a jump of the wall clock neither fires a
// timer nor holds it back.
type Clock interface {
	// Now is the time.
	Now() time.Time
	// After delivers the time once, d from now, on a channel that nobody needs
	// to drain.
	After(d time.Duration) <-chan time.Time
}

// machineClock is the clock of the machine.
type machineClock struct{}

func (machineClock) Now() time.Time                         { return time.Now() }
func (machineClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
