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

// CameBefore reports whether a message that came at a was there before one that came at b.
// Where one of the two has no monotonic reading, as what was kept over a restart, nobody
// knows, and it is false: wall clocks are set.
func CameBefore(a, b time.Time) bool {
	return monotonic(a) && monotonic(b) && a.Before(b)
}

// PassedOver reports whether an unordered message of a topic is to be passed over, that came
// at m: see Call.Unordered. What is known of the topic came at known, and latest is when
// the latest came that was heard, which may be another: messages of two publishers may be
// routed in the other order than they came in.
func PassedOver(m, known, latest time.Time) bool {
	return CameBefore(m, latest) || CameBefore(known, latest) && m.Equal(latest)
}

func monotonic(t time.Time) bool { return t != t.Round(0) }
