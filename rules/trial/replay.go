package trial

import (
	"cmp"
	"context"
	"fmt"
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

// Replay has the rules of o hear a recording, in virtual time, and returns what they did,
// in order. What rules have published when it was recorded is left out: these do so now,
// or not. Requests get no reply. Options.Start and Retained are those of the recording.
func Replay(ctx context.Context, o Options, recording []Entry) ([]Action, error) {
	var all []Action
	if len(recording) == 0 || recording[0].Recording != Form {
		return nil, fmt.Errorf("the recording has no head")
	}
	o.Start, o.Retained = recording[0].At, nil
	if o.Engine.Zone != nil {
		o.Start = o.Start.In(o.Engine.Zone)
	}
	for i := range recording {
		if e := &recording[i]; e.Was && e.Topic != "" {
			o.Retained = append(o.Retained, e.Message())
		}
	}
	err := Run(ctx, o, func(ctx context.Context, w *World) error {
		all = w.acted(all)
		for i := range recording[1:] {
			e := &recording[i+1]
			if e.Was {
				continue
			}
			if err := w.Advance(ctx, max(0, e.At.Sub(w.Now()))); err != nil {
				return err
			}
			all = w.acted(all)
			if e.Topic == "" || e.Hops > 0 || strings.HasPrefix(e.Origin, "rule/") {
				continue
			}
			m := e.Message()
			v, err := w.Publish(ctx, m)
			if err != nil {
				return fmt.Errorf("message %d: %w", i+1, err)
			}
			if v.Action == message.Drop || v.Action == message.Reject {
				all = append(all, Action{w.Now(), became(v) + ": " + told(&m)})
			}
			all = w.acted(all)
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b Action) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Text, b.Text)) })
	return all, err
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
