package rules

import "time"

const (
	// lookEvery is how often a lane looks at the wall clock, which may be set.
	lookEvery = time.Minute
	// tolerance is how late a rule may run by the wall clock. Later it was not the
	// machine that was busy: it slept, or its clock was set, and the time has gone by.
	tolerance = lookEvery + 30*time.Second
	// echo is how far the clock may be set back without a time that has come coming
	// again.
	echo = lookEvery
)

// appointment is when one schedule of a rule is next due.
type appointment struct {
	judge    *judge
	schedule Schedule
	due      time.Time
}

// onTheClock reports whether the schedule is one by the wall clock, which may jump: the
// time that is due has no monotonic reading where the clock's has one.
func (a *appointment) onTheClock() bool {
	_, monotonic := a.schedule.(interface{ Monotonic() })
	return !monotonic
}

// agenda is the appointments of a lane. It belongs to the lane's goroutine.
type agenda struct {
	all  []*appointment
	look time.Time // when something is due, or the wall clock has to be looked at; zero is never
	// last is the latest that the wall clock has said since take last found it set back: a
	// plan that is made meanwhile, for a reload, is not to hide that it was.
	last time.Time
}

// add makes the appointments of a unit.
func (g *agenda) add(u *unit, now time.Time) {
	for _, j := range u.rules {
		for _, s := range j.Schedules {
			if due := s.Next(now); !due.IsZero() {
				g.all = append(g.all, &appointment{judge: j, schedule: s, due: due})
			}
		}
	}
	g.plan(now)
}

// keepOnly drops the appointments of units that are not in force.
func (g *agenda) keepOnly(s *ruleSet, now time.Time) {
	in := make(map[*unit]bool, len(s.units))
	for _, u := range s.units {
		in[u] = true
	}
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
		if a.onTheClock() { // the wait is by the monotonic clock
			look = now.Add(min(max(a.due.Sub(wall), 0), lookEvery))
		}
		if g.look.IsZero() || look.Before(g.look) {
			g.look = look
		}
	}
}

// due is one that has come, or gone by.
type due struct {
	judge    *judge
	schedule Schedule
	late     time.Duration
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
		switch {
		case a.onTheClock() && back:
			a.due = a.schedule.Next(wall)
		case a.onTheClock() && !a.due.After(wall):
			all = append(all, due{a.judge, a.schedule, wall.Sub(a.due)})
			a.due = a.schedule.Next(wall)
		case !a.onTheClock() && !a.due.After(now):
			all = append(all, due{judge: a.judge, schedule: a.schedule})
			if a.due = a.schedule.Next(a.due); !a.due.After(now) {
				a.due = a.schedule.Next(now)
			}
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
