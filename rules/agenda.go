package rules

import (
	"strconv"
	"strings"
	"time"
)

const (
	// lookEvery is how often a lane looks at the wall clock, which may be set.
	lookEvery = time.Minute
	// tolerance is how late a rule may run by the wall clock without being late. Later it
	// was not the machine that was busy: it was off, it slept, or its clock was set.
	tolerance = lookEvery + 30*time.Second
	// echo is how far the clock may be set back without a time that has come coming
	// again.
	echo = lookEvery
	// keptInterval is from what interval on it is kept when a rule that goes by the
	// monotonic clock is next due.
	keptInterval = time.Minute
)

// appointment is when one schedule of a rule is next due.
type appointment struct {
	judge    *judge
	schedule Schedule
	due      time.Time
	// late is how long ago one by the monotonic clock was due.
	late time.Duration
	// unset says that due is by a wall clock that was not plausible. Owed is what a former
	// process said, until the wall clock is plausible.
	unset bool
	owed  time.Time
}

// onTheClock reports whether the schedule is one by the wall clock, which may jump: the
// time that is due has no monotonic reading where the clock's has one.
func (a *appointment) onTheClock() bool {
	_, monotonic := a.schedule.(interface{ Monotonic() })
	return !monotonic
}

// key names it among the records of its file.
func (a *appointment) key() string { return a.judge.Name + "\n" + a.schedule.String() }

// record is when it is due, as it is kept; empty if that is not worth it. It is the time of
// the wall clock, 0 if that is not plausible, and, of one by the monotonic clock, that of the
// keeper's timeline.
func (a *appointment) record(now time.Time, by calendar) string {
	switch {
	case a.unset || a.due.IsZero():
		return ""
	case a.onTheClock():
		return milliseconds(a.due)
	case a.schedule.Next(now).Sub(now) < keptInterval || !a.owed.IsZero():
		return ""
	}
	wall := "0"
	if plausible(now) {
		wall = milliseconds(now.Round(0).Add(a.due.Sub(now)))
	}
	if by.line != nil {
		return wall + " " + milliseconds(by.line.Keep(a.due))
	}
	if wall == "0" {
		return ""
	}
	return wall
}

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// recall goes on with a record of a former process, or version. It reports false if that is
// none.
func (a *appointment) recall(record string, now time.Time, by calendar) bool {
	wall, line, _ := strings.Cut(record, " ")
	owed, err := strconv.ParseInt(wall, 10, 64)
	if err != nil {
		return false
	}
	at, err := strconv.ParseInt(line, 10, 64)
	switch steady := err == nil && by.line != nil && !a.onTheClock(); {
	case steady:
		a.dueAt(by.line.Kept(time.UnixMilli(at)), now)
		if owed != 0 && !by.trusts(now) { // how long the gateway was off may be known later
			a.owed = time.UnixMilli(owed)
		}
	case owed != 0:
		a.goOn(time.UnixMilli(owed), now)
	}
	return true
}

// agenda is the appointments of a lane. It belongs to whoever holds the lane.
type agenda struct {
	all  []*appointment
	look time.Time // when something is due, or the wall clock has to be looked at; zero is never
	// last is the latest that the wall clock has said since take last found it set back: a
	// plan that is made meanwhile, for a reload, is not to hide that it was.
	last time.Time
}

// add makes the appointments of a unit, and returns them; kept says what former ones
// were due.
func (g *agenda) add(u *unit, kept map[string]string, now time.Time, by calendar) []*appointment {
	from := len(g.all)
	for _, j := range u.rules {
		for _, s := range j.Schedules {
			a := &appointment{judge: j, schedule: s, due: s.Next(now)}
			if !a.recall(kept[a.key()], now, by) {
				a.unset = a.onTheClock() && !plausible(now)
			}
			if !a.due.IsZero() {
				g.all = append(g.all, a)
			}
		}
	}
	g.plan(now)
	return g.all[from:]
}

// goOn goes on with what a former process, or version, had as its next time.
func (a *appointment) goOn(owed, now time.Time) {
	wall := now.Round(0)
	switch {
	case !plausible(now):
		a.unset, a.owed = a.onTheClock(), owed
	case a.onTheClock():
		if !owed.After(wall) {
			a.due = owed
		}
	default:
		a.dueAt(now.Add(owed.Sub(wall)), now)
	}
}

// dueAt has one by the monotonic clock be due at a time, or now if that is past; but not
// later than one that begins now.
func (a *appointment) dueAt(at, now time.Time) {
	if !at.After(now) {
		a.due, a.late = now, now.Sub(at)
	} else if at.Before(a.due) {
		a.due = at
	}
}

// keepOnly drops the appointments of units that are not in force.
func (g *agenda) keepOnly(in map[*unit]bool, now time.Time) {
	kept := g.all[:0]
	for _, a := range g.all {
		if in[a.judge.unit] {
			kept = append(kept, a)
		}
	}
	clear(g.all[len(kept):])
	g.all = kept
	g.plan(now)
}

// plan says when to look next.
func (g *agenda) plan(now time.Time) {
	wall := now.Round(0)
	if g.look = (time.Time{}); wall.After(g.last) {
		g.last = wall
	}
	for _, a := range g.all {
		look := a.due
		switch {
		case a.unset:
			look = now.Add(lookEvery)
		case !a.onTheClock() && !a.owed.IsZero():
			if soon := now.Add(lookEvery); soon.Before(look) {
				look = soon
			}
		case a.onTheClock(): // the wait is by the monotonic clock
			look = now.Add(min(max(a.due.Sub(wall), 0), lookEvery))
		}
		if g.look.IsZero() || look.Before(g.look) {
			g.look = look
		}
	}
}

// due is one that has come, or gone by.
type due struct {
	*appointment
	late time.Duration
}

// take returns what is due, and makes the next appointments. A schedule is due once,
// however often its time has gone by.
func (g *agenda) take(now time.Time) (all []due) {
	if g.look.IsZero() {
		return nil
	}
	wall := now.Round(0)
	back := wall.Before(g.last.Add(-echo))
	if now.Before(g.look) && !back {
		return nil
	}
	kept := g.all[:0]
	for _, a := range g.all {
		if late, ok := a.take(now, back); ok {
			all = append(all, due{a, late})
		}
		if !a.due.IsZero() {
			kept = append(kept, a)
		}
	}
	clear(g.all[len(kept):])
	g.all = kept
	if back {
		g.last = wall
	}
	g.plan(now)
	return all
}

// take reports whether it is due, and plans the next time.
func (a *appointment) take(now time.Time, back bool) (late time.Duration, due bool) {
	wall := now.Round(0)
	switch {
	case !a.onTheClock():
		if owed := a.owed; !owed.IsZero() && plausible(now) { // the clock is set at last
			a.owed = time.Time{}
			a.goOn(owed, now)
		}
		if a.due.After(now) {
			return 0, false
		}
		a.owed = time.Time{}
		late, a.late = a.late, 0
		if a.due = a.schedule.Next(a.due); !a.due.After(now) {
			a.due = a.schedule.Next(now)
		}
		return late, true
	case a.unset && !plausible(now):
		return 0, false
	case a.unset: // the clock is set at last
		due = !a.owed.IsZero() && !a.owed.After(wall)
		late = wall.Sub(a.owed)
		a.unset, a.owed = false, time.Time{}
		a.due = a.schedule.Next(wall)
		return late, due
	case back:
		a.due = a.schedule.Next(wall)
		return 0, false
	case a.due.After(wall):
		return 0, false
	default:
		late = wall.Sub(a.due)
		a.due = a.schedule.Next(wall)
		return late, true
	}
}
