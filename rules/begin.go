package rules

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// RetainedBus is a bus that shows what is retained; without it Watch rules and those
// that ask for it hear only what comes.
type RetainedBus interface {
	// Retained returns the retained messages whose topics the filter matches, at most
	// limit of them, in any order.
	Retained(filter string, limit int) []message.Message
	// RetainedBeside is Retained, and says which of the messages wait for the handler of the
	// subscription called name, or were given to it and are not acknowledged yet, while it
	// is kept from being done with any. Of those of a durable one that are not at hand it may
	// not know.
	RetainedBeside(name, filter string, limit int) (messages []message.Message, waits []bool)
}

// mostRetained is how many retained messages a filter brings.
const mostRetained = 10_000

// catchUp brings the lane in line with the set in force, and takes what filters left
// for it.
func (l *lane) catchUp(ctx context.Context, s *ruleSet) {
	if s != l.current {
		l.change(ctx, s)
	}
	l.takeInbox(ctx, s)
}

// change ends the units that are not in force any more, and begins those that are new.
// The lane holds the set, so that programs stay open until they were asked what they
// have to keep.
func (l *lane) change(ctx context.Context, s *ruleSet) {
	now := l.engine.clock.Now()
	was, in := l.current, make(map[*unit]bool, len(s.units))
	for _, u := range s.units {
		in[u] = true
	}
	if was != nil {
		for _, u := range was.units {
			if u.lane == l.index && !in[u] {
				l.retire(u, now)
			}
		}
	}
	l.agenda.keepOnly(in, now)
	s.users.Add(1)
	l.current = s
	if was != nil {
		l.engine.release(was)
	}
	for _, u := range s.units {
		if u.lane != l.index || u.started {
			continue
		}
		u.started = true
		if err := guarded(ctx, func(ctx context.Context) error { l.begin(ctx, u, was == nil, now); return nil }); err != nil {
			l.engine.log.Error("rule file did not begin", "file", u.file, "error", err)
		}
	}
}

// retire keeps what a version leaves to the next.
func (l *lane) retire(u *unit, now time.Time) {
	k := l.keepingOf(u.file, now)
	l.save(u, k, false)
	for _, t := range u.timers {
		l.timers.remove(t)
		if t.name != "" {
			t.unit, t.resumed = nil, true
			k.parked = append(k.parked, t)
		}
	}
	sortTimers(k.parked)
}

// begin brings a version into force: it takes over what is left, is started, hears what
// is retained, and, with the engine, runs what asks for that.
func (l *lane) begin(ctx context.Context, u *unit, first bool, now time.Time) {
	l.out.mark()
	k := l.keepingOf(u.file, now)
	standing := append(l.adoptTimers(u, k, now), l.adoptRequests(u, k)...)
	l.runOwn(ctx, u, []Call{{Trigger: OnStart, Kept: k.memory.Snapshot(), Standing: standing, Timeline: l.engine.calendar.line, Now: now}}, []uint8{0})
	if u.outdated() {
		signal(l.engine.outdated)
	}
	used := make(map[string]bool)
	for _, a := range l.agenda.add(u, k.due, now, l.engine.calendar) {
		used[a.key()] = true
		l.noteDue(a, now)
		l.unset = l.unset || !plausible(now)
	}
	for key := range k.due {
		if !used[key] {
			delete(k.due, key)
			l.out.keep(recordDue, u.file, key, nil)
		}
	}
	l.feed(ctx, u)
	for _, j := range u.rules {
		if first && j.Start {
			l.runOwn(ctx, u, []Call{{Trigger: OnSchedule, Rule: j.index, Schedule: "start", Now: now}}, []uint8{0})
		}
	}
	l.launch(ctx)
}

// adoptTimers has the timers that the program handles stand for it; the others are
// dropped.
func (l *lane) adoptTimers(u *unit, k *keeping, now time.Time) (standing []Standing) {
	dropped := 0
	for _, t := range k.parked {
		if !u.prog.Handles(t.name) {
			l.forgetTimer(u.file, t)
			dropped++
			continue
		}
		if t.owed != 0 {
			l.owe(t, now)
		}
		l.timers.add(u, t)
		standing = append(standing, Standing{ID: t.id, Name: t.name, Data: t.data, Left: t.due.Sub(now)})
	}
	k.parked = nil
	if dropped > 0 {
		l.engine.log.Info("timers of rules that have changed are dropped", "file", u.file, "timers", dropped)
	}
	return standing
}

// owe reckons anew a timer that was recalled before the wall clock was set, now or when
// it is.
func (l *lane) owe(t *timer, now time.Time) {
	trusted := l.engine.calendar.trusts(now)
	if l.unset = l.unset || !trusted; trusted {
		t.resume(t.owed, t.due.Sub(now).Milliseconds(), now)
		t.owed = 0
	}
}

// feed gives a version what is retained: first to the rules that watch, then to those
// that ask for it, by topic. What still waits in the subscription of one of these is left
// out: it comes by itself, after what came before it, and once. Of what is to be kept nobody
// knows all that waits; see fed.
func (l *lane) feed(ctx context.Context, u *unit) {
	bus, ok := l.engine.currentBus().(RetainedBus)
	if !ok {
		return
	}
	for _, stage := range []Stage{Watch, After} {
		var calls []Call
		for _, j := range u.rules {
			if j.Stage == stage && (stage == Watch || j.Retained) {
				found := l.engine.retainedFor(bus, l.beside(j), j)
				calls = append(calls, found...)
				if stage == After && j.ear() == keptEar {
					j.fed = newFed(found, l.engine.clock.Now())
				}
			}
		}
		slices.SortStableFunc(calls, func(a, b Call) int { return cmp.Compare(a.Message.Topic, b.Message.Topic) })
		for part := range slices.Chunk(calls, 256) {
			if stage == Watch {
				l.engine.runProgram(ctx, u, part, l.engine.opts.AfterTimeout)
			} else {
				l.runOwn(ctx, u, part, make([]uint8, len(part)))
			}
		}
	}
}

// prime shows the Watch rules of units that are Early what is retained, before the units
// come into force: Before rules run at once, and do not wait for the lane. It reports false
// if there is no bus that could be asked.
func (e *Engine) prime(ctx context.Context, units []*unit) bool {
	bus, ok := e.currentBus().(RetainedBus)
	if !ok {
		return false
	}
	for _, u := range units {
		for _, j := range u.rules {
			if j.Stage != Watch || !j.Early {
				continue
			}
			for part := range slices.Chunk(e.retainedFor(bus, nil, j), 256) {
				e.runProgram(ctx, u, part, e.opts.AfterTimeout)
			}
		}
	}
	return true
}

// beside is the subscription by which a rule hears what waits there, nil for what a rule
// may be told twice or knows by its order.
func (l *lane) beside(j *judge) *ear {
	if j.Stage == Watch || j.ear() != plainEar {
		return nil
	}
	return l.ears[plainEar]
}

// retainedFor makes the calls of one rule for what is retained, but for what waits in
// the subscription beside, if it is not nil. That is held.
func (e *Engine) retainedFor(bus RetainedBus, beside *ear, j *judge) (calls []Call) {
	now, seen := e.clock.Now(), make(map[string]bool)
	for _, f := range j.Filters {
		var found []message.Message
		var waits []bool
		if beside == nil {
			found = bus.Retained(f, mostRetained)
		} else {
			found, waits = bus.RetainedBeside(beside.name, f, mostRetained)
		}
		for i, m := range found {
			if seen[m.Topic] || waits != nil && waits[i] && !beside.judged(m.Order) {
				continue
			}
			seen[m.Topic] = true
			m.Retain = true
			calls = append(calls, Call{Trigger: OnMessage, Rule: j.index, Message: &m, Now: now})
		}
	}
	return calls
}

// saveAll asks every program what it has to keep.
func (l *lane) saveAll(now time.Time) {
	l.saved, l.ran = now, false
	for _, u := range l.current.units {
		if u.lane == l.index {
			l.save(u, l.keepingOf(u.file, now), false)
		}
	}
}

// leave keeps what there is to keep when the engine ends.
func (l *lane) leave(ctx context.Context) {
	const patience = 5 * time.Second
	if l.current == nil {
		return
	}
	if l.out.on {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		l.takeInbox(bounded, l.current)
		now := l.engine.clock.Now()
		l.saveAll(now)
		if l.out.wait != nil && !l.wasKept(bounded, now) {
			l.out.resend()
		}
		if records := l.out.take(); len(records) > 0 {
			if err := l.engine.opts.Keeper.Commit(bounded, records, nil); err != nil {
				l.notKept(err)
			}
		}
	}
	l.engine.release(l.current)
	l.current = nil
}

// hooked runs the rules that a webhook runs.
func (l *lane) hooked(ctx context.Context, s *ruleSet, name string, m *message.Message) error {
	now := l.engine.clock.Now()
	for _, u := range s.units {
		if u.lane != l.index {
			continue
		}
		for _, j := range u.rules {
			if !slices.Contains(j.Hooks, name) {
				continue
			}
			l.out.mark()
			l.out.urgent = l.out.on // whoever called is told when it is kept
			if !l.runOwn(ctx, u, []Call{{Trigger: OnMessage, Rule: j.index, Message: m, Now: now}}, []uint8{0}) {
				return ctx.Err()
			}
		}
	}
	return nil
}

// ErrNoHook is what [Engine.Hook] returns if no rule has a webhook of that name.
var ErrNoHook = errors.New("no rule has such a webhook")

// Hook runs the rules that have the webhook called name, with a message of the topic
// $hook/NAME, and returns when what they did is committed. The errors are [ErrNoHook]
// and that of ctx.
func (e *Engine) Hook(ctx context.Context, name string, m message.Message) error {
	m.Topic, m.Origin = "$hook/"+name, "hook/"+name
	if m.At.IsZero() {
		m.At = e.clock.Now()
	}
	heard := false
	for i, l := range e.lanes {
		if !e.set.Load().hooks(i, name) {
			continue
		}
		heard = true
		if err := l.do(ctx, batch{hook: name, msgs: []message.Message{m}}); err != nil {
			return err
		}
	}
	if !heard {
		return ErrNoHook
	}
	return nil
}

// hooks reports whether a rule of a language has the webhook.
func (s *ruleSet) hooks(lane int, name string) bool {
	for _, u := range s.units {
		for _, j := range u.rules {
			if u.lane == lane && slices.Contains(j.Hooks, name) {
				return true
			}
		}
	}
	return false
}
