package trial

import (
	"errors"
	"time"
	"unsafe"
)

// A time.Time holds what the wall clock says and what the monotonic clock says, and
// nothing of package time makes one whose two readings went different ways, as those of
// a machine do when its clock is set. So a moment is made in the form that package time
// has had since Go 1.9; checkMoments says so if that should ever change.
type moment struct {
	wall uint64         // the bit below, 33 bits of seconds since 1885, 30 bits of nanoseconds
	ext  int64          // the monotonic reading, in nanoseconds
	loc  *time.Location // nil is UTC
}

const (
	hasMonotonic = 1 << 63
	secondsAt    = 30
	secondsBits  = 33
)

// year1885 is where the seconds of a moment count from, in seconds of Unix.
var year1885 = time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// momentOf is a time with both readings. Wall is between 1885 and 2157, mono above 0.
func momentOf(wall time.Time, mono time.Duration) time.Time {
	wall = wall.Round(0)
	m := moment{
		wall: hasMonotonic | uint64(wall.Unix()-year1885)<<secondsAt | uint64(wall.Nanosecond()),
		ext:  int64(mono),
	}
	if loc := wall.Location(); loc != time.UTC { // Time.In would take the monotonic reading away
		m.loc = loc
	}
	return *(*time.Time)(unsafe.Pointer(&m))
}

// inRange reports whether there is a moment of that time.
func inRange(wall time.Time) bool {
	seconds := wall.Unix() - year1885
	return seconds >= 0 && seconds < 1<<secondsBits
}

// checkMoments returns nil if momentOf makes what it says.
func checkMoments() error {
	if unsafe.Sizeof(moment{}) != unsafe.Sizeof(time.Time{}) {
		return errors.New("a trial cannot make times for this version of Go")
	}
	wall := time.Date(1970, 1, 1, 12, 0, 0, 5, time.UTC)
	a, b := momentOf(wall, time.Hour), momentOf(wall.AddDate(50, 0, 0), 2*time.Hour)
	if !a.Round(0).Equal(wall) || b.Sub(a) != time.Hour || !b.Round(0).Equal(wall.AddDate(50, 0, 0)) {
		return errors.New("a trial cannot make times for this version of Go")
	}
	return nil
}
