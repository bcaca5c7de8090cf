package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Action is one thing that rules did.
type Action struct {
	At   time.Time
	Text string // without the time: what was published, or became of a message
}

// Replayed is what came of a replay.
type Replayed struct {
	Actions  []Action // in order
	Messages int      // of the recording, but for those that were retained when it began
	From, To time.Time
}

// Replay has the rules of o hear a recording, as [Entries] gives it, in virtual time, and
// returns what they did. What rules have published when it was recorded is left out: these
// do so now, or not. Requests get no reply. Options.Start and Retained are those of the
// recording, of which no more than these and one entry are held.
func Replay(ctx context.Context, o Options, recording iter.Seq2[*Entry, error]) (*Replayed, error) {
	next, stop := iter.Pull2(recording)
	defer stop()
	e, err, there := next()
	switch {
	case err != nil:
		return nil, err
	case !there || e.Recording != Form:
		return nil, errors.New("the recording has no head")
	}
	done := &Replayed{From: e.At, To: e.At}
	o.Start, o.Retained = e.At, nil
	if o.Engine.Zone != nil {
		o.Start = o.Start.In(o.Engine.Zone)
	}
	e, err, there = next()
	for ; there && err == nil && e.Was; e, err, there = next() {
		o.Retained = append(o.Retained, e.Message())
	}
	runErr := Run(ctx, o, func(ctx context.Context, w *World) error {
		done.Actions = w.acted(nil)
		for n := 1; there && err == nil; n++ {
			if err := done.step(ctx, w, e); err != nil {
				return fmt.Errorf("message %d: %w", n, err)
			}
			e, err, there = next()
		}
		return err
	})
	slices.SortStableFunc(done.Actions, func(a, b Action) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Text, b.Text)) })
	return done, runErr
}

// step has the rules hear one entry.
func (r *Replayed) step(ctx context.Context, w *World, e *Entry) error {
	r.To = e.At
	if e.Was {
		return nil
	}
	if e.Topic != "" {
		r.Messages++
	}
	if err := w.Advance(ctx, max(0, e.At.Sub(w.Now()))); err != nil {
		return err
	}
	r.Actions = w.acted(r.Actions)
	if e.Topic == "" || e.Hops > 0 || strings.HasPrefix(e.Origin, "rule/") {
		return nil
	}
	m := e.Message()
	v, err := w.Publish(ctx, m)
	if err != nil {
		return err
	}
	if v.Action == message.Drop || v.Action == message.Reject {
		r.Actions = append(r.Actions, Action{w.Now(), became(v) + ": " + told(&m)})
	}
	r.Actions = w.acted(r.Actions)
	return nil
}

// acted adds what rules have done since it was last asked.
func (w *World) acted(all []Action) []Action {
	for _, m := range w.drain() {
		all = append(all, Action{m.At.Round(0), told(&m)})
	}
	for _, r := range w.web.drain() {
		all = append(all, Action{w.Now(), "request " + r.String()})
	}
	return all
}

// told is a message in a line.
func told(m *message.Message) string {
	text := m.Topic + " " + abridged(string(m.Payload))
	if m.QoS > 0 {
		text += fmt.Sprintf(" qos %d", m.QoS)
	}
	if m.Retain {
		text += " retained"
	}
	return text + " (" + m.Origin + ")"
}

// Difference is an action that only one side took.
type Difference struct {
	Action
	New bool // the new side
}

// Compare returns what only one of two sides did, in the order of time.
func Compare(old, new []Action) []Difference {
	type key struct {
		at   int64
		text string
	}
	balance := make(map[key]int)
	of := func(a *Action) key { return key{a.At.UnixNano(), a.Text} }
	for i := range old {
		balance[of(&old[i])]++
	}
	for i := range new {
		balance[of(&new[i])]--
	}
	var all []Difference
	take := func(actions []Action, sign int) {
		for i := range actions {
			if k := of(&actions[i]); balance[k]*sign > 0 {
				balance[k] -= sign
				all = append(all, Difference{Action: actions[i], New: sign < 0})
			}
		}
	}
	take(old, 1)
	take(new, -1)
	slices.SortStableFunc(all, func(a, b Difference) int { return a.At.Compare(b.At) })
	return all
}
