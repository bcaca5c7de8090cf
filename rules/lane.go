package rules

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// lane is where the After rules, timers and starts of one language run: one batch,
// timer or start at a time, in goroutines and on subscriptions of its own, so
// that a language which hangs keeps nobody else waiting.
type lane struct {
	engine  *Engine
	index   int // in engine.lanes
	lang    Language
	name    string        // of the subscriptions
	kick    chan struct{} // the set changed, or the inbox has something
	work    chan batch    // from webhooks
	replies chan flown    // of requests
	ears    [ears]*ear
	begun   chan struct{} // closed when the lane can hear
	held    chan struct{} // full while somebody is at what follows

	mu    sync.Mutex
	inbox inbox

	// Of whoever has filled held alone: the lane's goroutine, or that of a subscription.
	dueAt      time.Time // until when the lane's goroutine waits; zero is for ever
	current    *ruleSet  // the set that all this was last brought in line with; it is held
	files      map[string]*keeping
	timers     timerQueue
	agenda     agenda
	unset      bool // the wall clock was not plausible when timers were recalled, or kept
	saved      time.Time
	ran        bool // something has since then
	out        outbox
	complained time.Time // that out could not be kept
	flights    flights
	refused    []refusedRequest
	saves      []*unit // of which Outcome.Save has come since the last commit
	groups     []group
	found      []int
	effects    []effect
	msgs       []message.Message // of effects, and whose they are
	owners     []*judge
}

// batch is one delivery; the lane answers on done.
type batch struct {
	ctx  context.Context // of the delivery, which a commit acknowledges
	ear  int             // which heard it
	hook string
	msgs []message.Message
	done chan error
}

// group is the calls of one program for one batch.
type group struct {
	unit  *unit
	calls []Call
	order []place   // of each call
	outs  []Outcome // of those that were made, until what they did is committed
}

// place is where a call's publishes belong: messages in their order, and the rules
// that hear one in theirs.
type place struct{ msg, rule int }

// effect is what one call did that is still to be committed.
type effect struct {
	place
	judge *judge
	hops  uint8
	out   *Outcome
}

func newLane(e *Engine, index int, lang Language) *lane {
	l := &lane{
		engine:  e,
		index:   index,
		lang:    lang,
		name:    "rules/" + lang.Name(),
		kick:    make(chan struct{}, 1),
		work:    make(chan batch),
		replies: make(chan flown),
		begun:   make(chan struct{}),
		held:    make(chan struct{}, 1),
		files:   make(map[string]*keeping),
	}
	l.out.on, l.flights.slots = e.opts.Keeper != nil, make(chan struct{}, requestsAtOnce)
	l.flights.landed = make(chan struct{}, 1)
	for i := range l.ears {
		l.ears[i] = newEar(l, i)
	}
	return l
}

// do gives a batch to the lane's goroutine and waits for it.
func (l *lane) do(ctx context.Context, b batch) error {
	b.ctx, b.done = ctx, make(chan error, 1)
	select {
	case l.work <- b:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-b.done // the loop answers what it took
}

// hear judges a batch in the goroutine of its subscription: one that had to be woken for
// each would cost more than most rules. It runs under own, that of the engine.
func (l *lane) hear(own context.Context, b batch) error {
	select {
	case <-l.begun:
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	return l.hold(b.ctx, func() error {
		if err := own.Err(); err != nil {
			return err
		}
		err := guarded(own, func(ctx context.Context) error { return l.turn(ctx, b) })
		l.ears[b.ear].done(b.msgs)
		if next, ok := l.next(); ok && (l.dueAt.IsZero() || next.Before(l.dueAt)) || len(l.refused) > 0 {
			signal(l.kick)
		}
		return err
	})
}

// hold calls f when nobody else is at the lane's state, unless ctx ends before.
func (l *lane) hold(ctx context.Context, f func() error) error {
	select {
	case l.held <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.held }()
	return f()
}

// loop is the lane's goroutine. It begins when the lane can hear.
func (l *lane) loop(ctx context.Context) error {
	for _, e := range l.ears {
		select {
		case <-e.stood:
		case <-ctx.Done():
			return nil
		}
	}
	select {
	case <-l.begun:
	default:
		close(l.begun)
	}
	var due <-chan time.Time
	for {
		err := l.hold(ctx, func() error {
			_ = l.turn(ctx, batch{}) // what ctx says
			if next, ok := l.next(); !ok {
				due, l.dueAt = nil, time.Time{}
			} else if due == nil || !next.Equal(l.dueAt) {
				due, l.dueAt = l.engine.clock.After(next.Sub(l.engine.clock.Now())), next
			}
			return ctx.Err()
		})
		if err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-l.kick:
		case <-due:
			due = nil
		case r := <-l.replies:
			_ = l.hold(ctx, func() error { l.reply(ctx, r); return nil })
		case b := <-l.work:
			b.done <- l.hold(ctx, func() error { // it is answered even if something of ours panics
				return guarded(ctx, func(ctx context.Context) error { return l.turn(ctx, b) })
			})
		}
	}
}

// next is when there is something to do by the clock.
func (l *lane) next() (at time.Time, ok bool) {
	at, ok = l.timers.next()
	sooner := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if look := l.agenda.look; !look.IsZero() {
		sooner(look)
	}
	if flush, waits := l.out.due(); waits {
		sooner(flush)
	}
	if l.ran && l.out.on {
		sooner(l.saved.Add(saveEvery))
	}
	if l.unset {
		sooner(l.engine.clock.Now().Add(lookEvery))
	}
	return at, ok
}

// turn brings the lane in line with the set in force, and judges the messages, or
// does what is due if there are none, all with that one set. Its error says that the
// context ended first: a batch that waits is to come again.
func (l *lane) turn(ctx context.Context, b batch) error {
	s := l.engine.acquire()
	defer l.engine.release(s)
	l.catchUp(ctx, s)
	switch {
	case b.hook != "":
		return l.hooked(ctx, s, b.hook, &b.msgs[0])
	case len(b.msgs) > 0:
		return l.judge(ctx, s, &b)
	default:
		l.tellRefused(ctx, s)
		l.fire(ctx)
		return ctx.Err()
	}
}

// fire runs the rules and timers that are due, the timers of one program together, and
// keeps what waits for it.
func (l *lane) fire(ctx context.Context) {
	const most = 256
	now := l.engine.clock.Now()
	set := l.lookAtClock(now)
	for _, d := range l.agenda.take(now) {
		if ctx.Err() != nil {
			return
		}
		l.out.mark()
		l.noteDue(d.appointment, now)
		l.ranAt(ctx, d, now)
	}
	for _, a := range l.agenda.all {
		if set {
			l.noteDue(a, now)
		}
	}
	for ctx.Err() == nil {
		due := l.timers.popDue(now, most)
		if len(due) == 0 {
			break
		}
		l.fireTimers(ctx, due, now)
	}
	if ctx.Err() != nil {
		return
	}
	if l.ran && l.out.on && !now.Before(l.saved.Add(saveEvery)) {
		l.saveAll(now)
	}
	l.settle(ctx, now)
}

// lookAtClock reckons anew what timers hang on a wall clock that has been set since, and
// reports whether it was.
func (l *lane) lookAtClock(now time.Time) (set bool) {
	if !l.unset || !l.engine.calendar.trusts(now) {
		return false
	}
	l.unset = false
	l.timers.resettle(now)
	l.out.mark()
	for _, u := range l.current.units {
		if u.lane != l.index {
			continue // its timers are another lane's
		}
		for _, t := range u.timers {
			l.keepAgain(u, t, now)
		}
	}
	return true
}

// ranAt runs a rule that is due, unless that is too long ago.
func (l *lane) ranAt(ctx context.Context, d due, now time.Time) {
	call := Call{Trigger: OnSchedule, Rule: d.judge.index, Schedule: d.schedule.String(), Now: now}
	if d.late > tolerance {
		if call.Late = d.madeGood(now); call.Late == 0 {
			missed := TraceEntry{At: now, Outcome: RanMissed, Trigger: call.Schedule, Why: "it was due " + d.late.Round(time.Second).String() + " ago"}
			l.engine.note(d.judge, missed, &Outcome{})
			return
		}
	}
	if ctx.Err() == nil {
		l.runOwn(ctx, d.judge.unit, []Call{call}, []uint8{0})
	}
}

// madeGood is how late the rule is to run that was due so long ago, or since then once
// more: 0 if it is not to.
func (d *due) madeGood(now time.Time) time.Duration {
	const standard = time.Hour
	grace := d.judge.Grace
	switch {
	case grace == 0:
		grace = standard
	case grace < 0:
		return 0
	}
	if d.late <= grace {
		return d.late
	}
	wall := now.Round(0)
	if again := d.schedule.Next(wall.Add(-grace)); d.onTheClock() && !again.IsZero() && !again.After(wall) {
		return max(wall.Sub(again), 1)
	}
	return 0
}

func (l *lane) fireTimers(ctx context.Context, due []*timer, now time.Time) {
	u := due[0].unit
	calls := make([]Call, len(due))
	hops := make([]uint8, len(due))
	l.out.mark()
	for i, t := range due {
		calls[i] = Call{Trigger: OnTimer, Timer: t.id, Name: t.name, Data: t.data, Late: t.late(now), Now: now}
		hops[i] = t.hops
		if t.name == "" {
			continue
		}
		if again := u.timers[t.id]; again != nil {
			l.keepAgain(u, again, now)
		} else {
			l.out.keep(recordTimer, u.file, t.id, nil)
		}
		l.out.urgent = l.out.on
	}
	l.runOwn(ctx, u, calls, hops)
}

// runOwn runs calls that are about no message. It reports whether what they did is out.
func (l *lane) runOwn(ctx context.Context, u *unit, calls []Call, hops []uint8) bool {
	l.ran = true
	for i := range calls {
		calls[i].Explain = u.judgeOf(&calls[i], nil).wantsFacts(calls[i].Now, l.engine.opts.Limits.Explained)
		calls[i].Promised = l.out.urgent // what triggers it is kept with what it does
	}
	outs := l.engine.runProgram(ctx, u, calls, l.engine.opts.AfterTimeout)
	l.effects = l.effects[:0]
	for i := range outs {
		j := u.judgeOf(&calls[i], &outs[i])
		l.engine.note(j, entry(j, &calls[i], &outs[i]), &outs[i])
		l.take(j, &calls[i], &outs[i], hops[i])
		l.effects = append(l.effects, effect{place: place{rule: i}, judge: j, hops: hops[i], out: &outs[i]})
	}
	done := l.commit(ctx)
	u.torn = u.torn || !done
	u.reuse(outs)
	l.launch(ctx)
	return done
}

// judge gives the messages of a batch to the rules that hear them. It is committed
// alone: what else is does not acknowledge it.
func (l *lane) judge(own context.Context, s *ruleSet, b *batch) error {
	ctx, after := b.ctx, s.stage(l.index, b.ear)
	l.ran = true
	l.out.mark()
	l.gather(after, b.ear, b.msgs)
	l.effects = l.effects[:0]
	for i := range l.groups {
		g := &l.groups[i]
		if len(g.calls) == 0 {
			continue
		}
		g.outs = l.engine.runProgram(ctx, g.unit, g.calls, l.engine.opts.AfterTimeout)
		for k := range g.outs {
			call, out := &g.calls[k], &g.outs[k]
			if g.unit.rules[call.Rule].Stage == Watch {
				continue
			}
			j, hops := g.unit.judgeOf(call, out), call.Message.Hops
			l.engine.note(j, entry(j, call, out), out)
			if !out.acts() {
				continue
			}
			l.take(j, call, out, hops)
			l.effects = append(l.effects, effect{place: g.order[k], judge: j, hops: hops, out: out})
		}
		clear(g.calls)
	}
	slices.SortFunc(l.effects, func(a, b effect) int {
		return cmp.Or(cmp.Compare(a.msg, b.msg), cmp.Compare(a.rule, b.rule))
	})
	// What else waits need not be kept now for messages that came to nothing, as most do
	// that are only watched.
	l.out.urgent = l.out.urgent || b.ear == keptEar && l.out.on && len(l.effects) > 0
	done := l.commit(ctx)
	l.reuse()
	l.launch(own) // a request outlives the delivery
	if done {
		return nil
	}
	for i := range l.groups {
		g := &l.groups[i]
		g.unit.torn = g.unit.torn || len(g.calls) > 0
	}
	return ctx.Err()
}

// reuse gives the outcomes of a batch back, once nobody needs them.
func (l *lane) reuse() {
	for i := range l.groups {
		if g := &l.groups[i]; g.outs != nil {
			g.unit.reuse(g.outs)
			g.outs = nil
		}
	}
}

// acts reports whether there is anything to be done about an outcome.
func (o *Outcome) acts() bool {
	return len(o.Publish)+len(o.State)+len(o.Timers)+len(o.Requests) > 0 || o.Save
}

// gather makes the calls of a batch, grouped by program.
func (l *lane) gather(after *stage, ear int, msgs []message.Message) {
	now, past := l.engine.clock.Now(), l.ears[ear].history
	for len(l.groups) < len(after.spans) {
		l.groups = append(l.groups, group{})
	}
	l.groups = l.groups[:len(after.spans)]
	for i := range l.groups {
		g := &l.groups[i]
		g.unit, g.calls, g.order = after.spans[i].unit, g.calls[:0], g.order[:0]
	}
	for i := range msgs {
		m := &msgs[i]
		l.found = after.concern(l.found[:0], m, now, l.engine.opts.Limits.Explained)
		prev, at := l.prevOf(after, past, m), 0
		for _, k := range l.found {
			for k >= after.spans[at].to {
				at++
			}
			j, g := after.judges[k], &l.groups[at]
			if m.Hops >= deep && j.round(&j.deep, mostDeep, now) {
				l.engine.suspend(j, m.Topic, now)
			}
			if j.suspended(now) || j.fed != nil && j.heardAgain(m, now) {
				continue
			}
			call := Call{Trigger: OnMessage, Rule: j.index, Message: m, Explain: j.wantsFacts(now, l.engine.opts.Limits.Explained), Now: now}
			call.Promised = ear == keptEar && m.QoS > message.AtMostOnce && j.Stage == After
			if j.Prev {
				call.Prev = prev
			}
			g.calls, g.order = append(g.calls, call), append(g.order, place{msg: i, rule: k})
		}
	}
}

// prevOf is the message before m on its topic, if one of the rules found reads it.
func (l *lane) prevOf(after *stage, past *history, m *message.Message) *message.Message {
	for _, k := range l.found {
		if after.judges[k].Prev {
			return past.swap(m)
		}
	}
	return nil
}

// take does, or notes to be kept, what an outcome says beside publishing.
func (l *lane) take(j *judge, call *Call, out *Outcome, hops uint8) {
	u := j.unit
	for i := range out.Timers {
		if err := l.setTimer(u, &out.Timers[i], call.Now, hops); err != nil {
			j.failed(call.Now, err.Error())
			l.engine.complain(j, call.Now, RanFailed, err)
		}
	}
	for _, c := range out.State {
		l.out.keep(recordState, u.file, c.Key, c.Value)
	}
	if out.Save && !slices.Contains(l.saves, u) {
		l.saves = append(l.saves, u)
	}
	for i := range out.Requests {
		l.request(j, &out.Requests[i], hops, call.Now)
	}
	if l.out.on && len(l.out.pending)+len(l.saves) > 0 && !l.out.urgent {
		l.out.urgent = slices.ContainsFunc(out.Publish, func(m message.Message) bool { return m.QoS > 0 })
	}
}

func (l *lane) setTimer(u *unit, c *TimerChange, now time.Time, hops uint8) error {
	old := u.timers[c.ID]
	if c.After <= 0 {
		if old != nil {
			l.timers.remove(old)
			l.forgetTimer(u.file, old)
		}
		return nil
	}
	if limit := l.engine.opts.Limits.Timers; old == nil && len(u.timers) >= limit {
		return fmt.Errorf("timer %q is not set: the file has %d already", abridged(c.ID), len(u.timers))
	}
	t := l.timers.set(u, *c, now, hops)
	if old != nil && c.Name == "" {
		l.forgetTimer(u.file, old)
	}
	return l.keepTimer(u, t, now)
}

// keepTimer keeps a timer that has a name.
func (l *lane) keepTimer(u *unit, t *timer, now time.Time) error {
	if t.name == "" || !l.out.on {
		return nil
	}
	value, err := t.record(now, l.engine.calendar)
	if err != nil {
		return fmt.Errorf("it is set, but does not outlive the gateway: %w", err)
	}
	l.out.keep(recordTimer, u.file, t.id, value)
	l.out.urgent = true
	l.unset = l.unset || !plausible(now) // when it is due is to be kept again
	return nil
}

// keepAgain keeps a timer whose time has changed.
func (l *lane) keepAgain(u *unit, t *timer, now time.Time) {
	if err := l.keepTimer(u, t, now); err != nil {
		l.engine.complain(u.own, now, RanFailed, err)
	}
}

func (l *lane) forgetTimer(file string, t *timer) {
	if t.name != "" {
		l.out.keep(recordTimer, file, t.id, nil)
		l.out.urgent = l.out.on
	}
}

// noteDue keeps when a rule is next due.
func (l *lane) noteDue(a *appointment, now time.Time) {
	record := a.record(now, l.engine.calendar)
	if record == "" || !l.out.on {
		return
	}
	file := a.judge.unit.file
	if k := l.keepingOf(file, now); k.due[a.key()] != record {
		k.due[a.key()] = record
		l.out.keep(recordDue, file, a.key(), []byte(record))
		l.out.urgent = true
	}
}
