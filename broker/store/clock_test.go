package store

import (
	"testing"
	"time"
)

// The wall clock is what people set; what counts is the time that passes.
func TestClock(t *testing.T) {
	at := func(year int, rest time.Duration) time.Time {
		return time.Date(year, 11, 26, 0, 0, 0, 0, time.UTC).Add(rest)
	}
	for name, c := range map[string]struct {
		now, wall, counted time.Time
		plausible          bool
		left               time.Duration // of an hour that was kept when the store was last written
	}{
		"it was off for ten minutes":           {at(2026, 10*time.Minute), at(2026, 0), at(2026, 0), true, 50 * time.Minute},
		"its own time is another one":          {at(2026, 10*time.Minute), at(2026, 0), at(1970, 0), true, 50 * time.Minute},
		"it wakes in 1970":                     {at(1970, 0), at(2026, 0), at(2026, 0), false, time.Hour},
		"it was in 1970, and knows the time":   {at(2026, 0), at(1970, 0), at(1970, 0), false, time.Hour},
		"it wakes an hour before it went down": {at(2026, -time.Hour), at(2026, 0), at(2026, 0), false, time.Hour},
		"it wakes in 50 years":                 {at(2076, 0), at(2026, 0), at(2026, 0), false, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			clock := Resume(c.now, c.wall, c.counted)
			if clock.Plausible() != c.plausible {
				t.Errorf("it is plausible: %t", clock.Plausible())
			}
			due := clock.Kept(c.counted.Add(time.Hour))
			if left := due.Sub(c.now); left != c.left {
				t.Errorf("%v are left", left)
			}
			if again := clock.Kept(clock.Keep(due)); !again.Equal(due) {
				t.Errorf("%v becomes %v", due, again)
			}
			if _, known := clock.Owed(c.now); known != c.plausible {
				t.Errorf("what is owed is known: %t", known)
			}
		})
	}
}

// A clock that starts in 1970 and is set later tells how long the gateway was off.
func TestClockIsSet(t *testing.T) {
	wrote, woke := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC), time.Unix(0, 0)
	clock := Resume(woke, wrote, wrote)
	for wall, off := range map[time.Time]time.Duration{
		woke.Add(time.Minute): -1,
		wrote.Add(time.Hour):  59 * time.Minute,
		wrote.Add(50 * leap):  -1,
	} {
		if away, known := clock.owed(wall, time.Minute); known != (off >= 0) || known && away != off {
			t.Errorf("when it says %v: it was off for %v, %t", wall, away, known)
		}
	}
	if got := (Clock{}).Kept((Clock{}).Keep(wrote)); !got.Equal(wrote) {
		t.Errorf("without a store that lasts: %v", got)
	}
	if got := clock.Keep(time.Time{}); !got.IsZero() {
		t.Errorf("never becomes %v", got)
	}
}
