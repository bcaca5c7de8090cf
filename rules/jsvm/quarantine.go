package jsvm

import (
	"slices"
	"time"
)

// When a script is not run for a while. The pause doubles from the first to the
// longest as long as the script ends a worker again within its probation, which is
// as long as the pause before it.
const (
	quarantineDeaths = 3
	quarantineSpan   = time.Minute
	firstQuarantine  = time.Minute
	longQuarantine   = time.Hour
)

// quarantine is how often a script ended its worker of late, and until when it is
// not run therefore.
type quarantine struct {
	deaths []time.Time // within quarantineSpan, since the last pause
	pause  time.Duration
	until  time.Time // the end of the pause
	reason error     // what calls get meanwhile
}

// holds reports whether the script may not be run now.
func (q *quarantine) holds(now time.Time) bool { return now.Before(q.until) }

// strike counts a death. It reports whether a pause begins; then times is how many
// deaths have led to it.
func (q *quarantine) strike(now time.Time) (times int, begins bool) {
	if q.holds(now) {
		return 0, false // it was on its way
	}
	q.deaths = slices.DeleteFunc(q.deaths, func(t time.Time) bool { return now.Sub(t) > quarantineSpan })
	q.deaths = append(q.deaths, now)
	times = len(q.deaths)
	switch {
	case now.Before(q.until.Add(q.pause)):
		q.pause = min(2*q.pause, longQuarantine)
	case times >= quarantineDeaths:
		q.pause = firstQuarantine
	default:
		return times, false
	}
	q.deaths, q.until = nil, now.Add(q.pause)
	return times, true
}
