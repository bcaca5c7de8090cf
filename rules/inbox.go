package rules

import (
	"context"
	"time"
)

// inboxTimers is how many timer changes filters may leave for a lane that is busy.
const inboxTimers = 10_000

// inbox is what Before rules leave for their lane: they run in the goroutine of a
// connection, which neither owns timers nor waits for a Keeper. State is kept by
// key, so a State's own bounds bound it.
type inbox struct {
	timers []leftTimer
	state  map[leftKey]bool
	saves  map[*unit]bool // of which Outcome.Save has come
}

type leftTimer struct {
	unit   *unit
	change TimerChange
	now    time.Time
	hops   uint8
}

// leftKey is a key whose value is to be kept. What is kept is the value when it is,
// so that it never overtakes a later one.
type leftKey struct {
	file  string
	state *State
	key   string
}

// hand leaves what a filter's call did, besides judging, for the lane.
func (l *lane) hand(u *unit, call *Call, out *Outcome) {
	keep := l.engine.opts.Keeper != nil && (len(out.State) > 0 || out.Save)
	if len(out.Timers) == 0 && !keep {
		return
	}
	l.mu.Lock()
	for _, c := range out.Timers {
		if len(l.inbox.timers) < inboxTimers {
			l.inbox.timers = append(l.inbox.timers, leftTimer{unit: u, change: c, now: call.Now, hops: call.Message.Hops})
		}
	}
	if keep {
		if l.inbox.state == nil {
			l.inbox.state, l.inbox.saves = make(map[leftKey]bool), make(map[*unit]bool)
		}
		if out.Save {
			l.inbox.saves[u] = true
		}
		for _, c := range out.State {
			l.inbox.state[leftKey{u.file, u.state, c.Key}] = true
		}
	}
	l.mu.Unlock()
	signal(l.kick)
}

// takeInbox does what filters left.
func (l *lane) takeInbox(ctx context.Context, s *ruleSet) {
	l.mu.Lock()
	in := l.inbox
	l.inbox = inbox{}
	l.mu.Unlock()
	for _, t := range in.timers {
		if !s.holds(t.unit) {
			continue
		}
		call := Call{Trigger: OnTimer, Now: t.now}
		l.take(t.unit.own, &call, &Outcome{Timers: []TimerChange{t.change}}, t.hops)
	}
	for k := range in.state {
		l.out.keep(recordState, k.file, k.key, k.state.Value(k.key))
	}
	for u := range in.saves {
		if s.holds(u) {
			l.save(u, l.keepingOf(u.file, l.engine.clock.Now()), true)
		}
	}
	l.out.mark() // it is nobody's to take back
	if l.out.urgent {
		l.commit(ctx)
	}
}

// holds reports whether the unit is of the set.
func (s *ruleSet) holds(u *unit) bool {
	for _, v := range s.units {
		if v == u {
			return true
		}
	}
	return false
}
