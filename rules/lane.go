package rules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// lane is where the After rules, timers and starts of one language run: one batch,
// timer or start at a time, in a goroutine and on a subscription of its own, so
// that a language which hangs keeps nobody else waiting.
type lane struct {
	engine *Engine
	index  int // in engine.lanes and ruleSet.after
	lang   Language
	name   string        // of the subscription
	kick   chan struct{} // the set changed, or the inbox has something
	work   chan batch    // from the subscription

	// Of whoever holds subscribing.
	subscribing chan struct{}
	filters     []string
	standing    bool
	stood       bool // once

	mu    sync.Mutex
	inbox inbox

	// Of the lane's goroutine alone.
	current *ruleSet // the set that timers and starts were last brought in line with
	timers  timerQueue
	agenda  agenda
	history *history
	groups  []group
	found   []int
	effects []effect
}

// batch is one delivery; the lane answers on done.
type batch struct {
	msgs []message.Message
	done chan error
}

// group is the calls of one program for one batch.
type group struct {
	unit  *unit
	calls []Call
	order []place // of each call
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
	return &lane{
		engine:      e,
		index:       index,
		lang:        lang,
		name:        "rules/" + lang.Name(),
		kick:        make(chan struct{}, 1),
		work:        make(chan batch),
		subscribing: make(chan struct{}, 1),
		history:     newHistory(),
	}
}

// subscribe stands on the bus until ctx ends.
func (l *lane) subscribe(ctx context.Context, bus message.Bus) error {
	select {
	case l.subscribing <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	release := sync.OnceFunc(func() { <-l.subscribing })
	defer func() { // the subscription is gone, or never stood
		release()
		l.subscribing <- struct{}{}
		l.standing = false
		<-l.subscribing
	}()
	return bus.Subscribe(ctx, message.Subscription{
		Name:    l.name,
		Filters: l.filters,
		QoS:     message.ExactlyOnce,
		Ready: func() {
			first := !l.stood
			l.standing, l.stood = true, true
			release()
			if first {
				l.engine.oneReady()
			}
		},
	}, l.handle)
}

// hear makes the subscription stand on filters, now or when it next stands.
func (l *lane) hear(ctx context.Context, bus message.Bus, filters []string) error {
	select {
	case l.subscribing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.subscribing }()
	if l.standing && bus != nil && !slices.Equal(l.filters, filters) {
		if err := bus.Resubscribe(ctx, l.name, filters); err != nil {
			return err
		}
	}
	l.filters = slices.Clone(filters)
	return nil
}

// handle gives a delivery to the lane's goroutine and waits for it.
func (l *lane) handle(ctx context.Context, msgs []message.Message) error {
	b := batch{msgs: msgs, done: make(chan error, 1)}
	select {
	case l.work <- b:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-b.done // the loop answers what it took
}

// loop is the lane's goroutine.
func (l *lane) loop(ctx context.Context) error {
	var due <-chan time.Time
	var dueAt time.Time
	for ctx.Err() == nil {
		l.turn(ctx, nil)
		if next, ok := l.next(); !ok {
			due, dueAt = nil, time.Time{}
		} else if due == nil || !next.Equal(dueAt) {
			due, dueAt = l.engine.clock.After(next.Sub(l.engine.clock.Now())), next
		}
		select {
		case <-ctx.Done():
		case <-l.kick:
		case <-due:
			due = nil
		case b := <-l.work:
			b.done <- l.guardedTurn(ctx, b.msgs)
		}
	}
	return nil
}

// next is when there is something to do by the clock.
func (l *lane) next() (at time.Time, ok bool) {
	at, ok = l.timers.next()
	if look := l.agenda.look; !look.IsZero() && (!ok || look.Before(at)) {
		return look, true
	}
	return at, ok
}

// guardedTurn answers even if something of ours panics.
func (l *lane) guardedTurn(ctx context.Context, msgs []message.Message) error {
	return guarded(ctx, func(ctx context.Context) error {
		l.turn(ctx, msgs)
		return ctx.Err()
	})
}

// turn brings the lane in line with the set in force, and judges the messages, or
// fires what is due if there are none, all with that one set.
func (l *lane) turn(ctx context.Context, msgs []message.Message) {
	s := l.engine.acquire()
	defer l.engine.release(s)
	l.catchUp(ctx, s)
	if len(msgs) > 0 {
		l.judge(ctx, s, msgs)
		return
	}
	l.fire(ctx)
}

// catchUp drops the timers of versions that are gone, starts those that are new,
// and takes what filters left for the lane.
func (l *lane) catchUp(ctx context.Context, s *ruleSet) {
	if s != l.current {
		now := l.engine.clock.Now()
		first := l.current == nil
		l.timers.keepOnly(s)
		l.agenda.keepOnly(s, now)
		l.current = s
		for _, u := range s.units {
			if u.lane == l.index && !u.started {
				u.started = true
				l.runOwn(ctx, u, []Call{{Trigger: OnStart, Now: now}}, []uint8{0})
				l.agenda.add(u, now)
				l.start(ctx, u, first, now)
			}
		}
	}
	l.takeInbox(ctx, s)
}

// start runs the rules of a unit that run when the engine starts, if it does.
func (l *lane) start(ctx context.Context, u *unit, first bool, now time.Time) {
	for _, j := range u.rules {
		if first && j.Start {
			l.runOwn(ctx, u, []Call{{Trigger: OnSchedule, Rule: j.index, Schedule: "start", Now: now}}, []uint8{0})
		}
	}
}

// fire runs the rules and timers that are due, the timers of one program together.
func (l *lane) fire(ctx context.Context) {
	const most = 256
	now := l.engine.clock.Now()
	for _, d := range l.agenda.take(now) {
		call := Call{Trigger: OnSchedule, Rule: d.judge.index, Schedule: d.schedule.String(), Now: now}
		if d.late > tolerance {
			missed := TraceEntry{At: now, Outcome: RanMissed, Trigger: call.Schedule, Why: "it was due " + d.late.Round(time.Second).String() + " ago"}
			l.engine.note(d.judge, missed, &Outcome{})
			continue
		}
		if ctx.Err() != nil {
			return
		}
		l.runOwn(ctx, d.judge.unit, []Call{call}, []uint8{0})
	}
	for ctx.Err() == nil {
		due := l.timers.popDue(now, most)
		if len(due) == 0 {
			return
		}
		calls := make([]Call, len(due))
		hops := make([]uint8, len(due))
		for i, t := range due {
			calls[i] = Call{Trigger: OnTimer, Timer: t.id, Now: now}
			hops[i] = t.hops
		}
		l.runOwn(ctx, due[0].unit, calls, hops)
	}
}

// runOwn runs calls that are about no message.
func (l *lane) runOwn(ctx context.Context, u *unit, calls []Call, hops []uint8) {
	outs := l.engine.runProgram(ctx, u, calls, l.engine.opts.AfterTimeout)
	l.effects = l.effects[:0]
	for i := range outs {
		j := u.judgeOf(&calls[i], &outs[i])
		l.engine.note(j, entry(&calls[i], &outs[i]), &outs[i])
		l.setTimers(u, j, &calls[i], &outs[i], hops[i])
		l.effects = append(l.effects, effect{place: place{rule: i}, judge: j, hops: hops[i], out: &outs[i]})
	}
	l.commit(ctx)
}

// judge gives the messages to the rules that hear them.
func (l *lane) judge(ctx context.Context, s *ruleSet, msgs []message.Message) {
	after := &s.after[l.index]
	l.gather(after, msgs)
	l.effects = l.effects[:0]
	for i := range l.groups {
		g := &l.groups[i]
		if len(g.calls) == 0 {
			continue
		}
		outs := l.engine.runProgram(ctx, g.unit, g.calls, l.engine.opts.AfterTimeout)
		for k := range outs {
			call, out := &g.calls[k], &outs[k]
			j, hops := g.unit.judgeOf(call, out), call.Message.Hops
			l.engine.note(j, entry(call, out), out)
			l.setTimers(g.unit, j, call, out, hops)
			if len(out.Publish) > 0 || len(out.State) > 0 {
				l.effects = append(l.effects, effect{place: g.order[k], judge: j, hops: hops, out: out})
			}
		}
		clear(g.calls)
	}
	slices.SortFunc(l.effects, func(a, b effect) int {
		return cmp.Or(cmp.Compare(a.msg, b.msg), cmp.Compare(a.rule, b.rule))
	})
	l.commit(ctx)
}

// gather makes the calls of a batch, grouped by program.
func (l *lane) gather(after *stage, msgs []message.Message) {
	now := l.engine.clock.Now()
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
		l.found = after.match(l.found[:0], m.Topic, 0)
		prev, at := l.prevOf(after, m), 0
		for _, k := range l.found {
			for k >= after.spans[at].to {
				at++
			}
			j, g := after.judges[k], &l.groups[at]
			call := Call{Trigger: OnMessage, Rule: j.index, Message: m, Now: now}
			if j.Prev {
				call.Prev = prev
			}
			g.calls, g.order = append(g.calls, call), append(g.order, place{msg: i, rule: k})
		}
	}
}

// prevOf is the message before m on its topic, if one of the rules found reads it.
func (l *lane) prevOf(after *stage, m *message.Message) *message.Message {
	for _, k := range l.found {
		if after.judges[k].Prev {
			return l.history.swap(m)
		}
	}
	return nil
}

func (l *lane) setTimers(u *unit, j *judge, call *Call, out *Outcome, hops uint8) {
	for _, c := range out.Timers {
		if !l.timers.set(u, c, call.Now, hops, l.engine.opts.Limits.Timers) {
			err := fmt.Errorf("timer %q is not set: the file has %d already", abridged(c.ID), len(u.timers))
			j.failed(call.Now, err.Error())
			l.engine.complain(j, call.Now, RanFailed, err)
		}
	}
}

// commit publishes and keeps what the effects say.
func (l *lane) commit(ctx context.Context) {
	var records []Record
	var msgs []message.Message
	var owners []*judge
	for _, f := range l.effects {
		records = appendRecords(records, f.judge.unit.file, f.out.State)
		for _, m := range f.out.Publish {
			if f.hops >= message.MaxHops {
				l.engine.looped(f.judge, m.Topic)
				continue
			}
			if err := checkMessage(&m); err != nil {
				l.engine.failedPublish(f.judge, err)
				continue
			}
			m.Origin, m.Hops = f.judge.origin, f.hops+1
			msgs, owners = append(msgs, m), append(owners, f.judge)
		}
	}
	clear(l.effects)
	l.effects = l.effects[:0]
	l.engine.deliver(ctx, records, msgs, owners)
}

// checkMessage refuses what a bus would.
func checkMessage(m *message.Message) error {
	if m.QoS > message.ExactlyOnce {
		return fmt.Errorf("there is no QoS %d", m.QoS)
	}
	return CheckTopic(m.Topic)
}

func appendRecords(to []Record, file string, changes []StateChange) []Record {
	for _, c := range changes {
		to = append(to, Record{Kind: recordState, File: file, Key: c.Key, Value: c.Value})
	}
	return to
}

// looped notes a message that went through too many rules.
func (e *Engine) looped(j *judge, topic string) {
	now := e.clock.Now()
	j.count(func(c *Counters) { c.Looped++ })
	e.complain(j, now, "loop", fmt.Errorf("its message to %q is dropped: it went through %d rules", abridged(topic), message.MaxHops))
}

// deliver commits, past messages that are refused.
func (e *Engine) deliver(ctx context.Context, records []Record, msgs []message.Message, owners []*judge) {
	for len(records) > 0 || len(msgs) > 0 {
		n := e.together(msgs)
		tried := e.commitSome(ctx, records, msgs[:n], owners[:n])
		records, msgs, owners = nil, msgs[tried:], owners[tried:]
	}
}

// together is how many of the messages are published in one batch: a message that a
// filter may refuse goes alone, so that its refusal costs nobody else. A Keeper
// commits all or none.
func (e *Engine) together(msgs []message.Message) int {
	if e.opts.Keeper != nil {
		return len(msgs)
	}
	before := &e.set.Load().before
	for i := range msgs {
		if before.hears(msgs[i].Topic) {
			return max(i, 1)
		}
	}
	return len(msgs)
}

// commitSome commits the messages and counts what became of them. It returns how
// many were tried.
func (e *Engine) commitSome(ctx context.Context, records []Record, msgs []message.Message, owners []*judge) int {
	err := e.commit(ctx, e.currentBus(), records, msgs)
	var refused *message.RefusedError
	switch {
	case err == nil:
		countPublished(owners)
	case e.opts.Keeper == nil && errors.As(err, &refused) && refused.Index >= 0 && refused.Index < refused.Tried && refused.Tried <= len(msgs):
		countPublished(owners[:refused.Index])
		e.failedPublish(owners[refused.Index], refused.Err)
		countPublished(owners[refused.Index+1 : refused.Tried])
		return refused.Tried
	default: // nobody knows what came through
		e.failedCommit(owners, err)
	}
	return len(msgs)
}

// failedCommit notes that messages and records may not have been accepted.
func (e *Engine) failedCommit(owners []*judge, err error) {
	if len(owners) == 0 {
		e.log.Error("state of rules is not kept", "error", err)
	}
	if len(owners) > 1 {
		err = fmt.Errorf("one of those published together was refused: %w", err)
	}
	for _, j := range owners {
		e.failedPublish(j, err)
	}
}

func countPublished(owners []*judge) {
	for _, j := range owners {
		j.count(func(c *Counters) { c.Published++ })
	}
}
