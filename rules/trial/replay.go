package trial

import (
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
	At   time.Time // by the virtual clock
	Text string    // without the time: what was published, or became of a message
}

// Replayed is what came of a replay.
type Replayed struct {
	Actions  int
	Messages int // of the recording, but for those that were retained when it began
	From, To time.Time
}

// replay is one on its way.
type replay struct {
	Replayed
	world *World
	did   func(Action) error
}

// Replay has the rules of o hear a recording, as [Entries] gives it, in virtual time, and
// tells did what they do, as they do it: in the order of time, and of their texts at one
// instant. Did's error ends it. What rules have published when it was recorded is left
// out: these do so now, or not. Requests get no reply. Options.Start and Retained are those
// of the recording, of which no more than these and one entry are held.
func Replay(ctx context.Context, o Options, recording iter.Seq2[*Entry, error], did func(Action) error) (*Replayed, error) {
	next, stop := iter.Pull2(recording)
	defer stop()
	e, err, there := next()
	switch {
	case err != nil:
		return nil, err
	case !there || e.Recording != Form:
		return nil, errors.New("the recording has no head")
	}
	r := &replay{Replayed: Replayed{From: e.At, To: e.At}, did: did}
	o.Start, o.Retained = e.At, nil
	if o.Engine.Zone != nil {
		o.Start = o.Start.In(o.Engine.Zone)
	}
	e, err, there = next()
	for ; there && err == nil && e.Was; e, err, there = next() {
		o.Retained = append(o.Retained, e.Message())
	}
	runErr := Run(ctx, o, func(ctx context.Context, w *World) error {
		r.world = w
		if err := r.acted(); err != nil {
			return err
		}
		for n := 1; there && err == nil; n++ {
			if err := r.step(ctx, e); err != nil {
				return fmt.Errorf("message %d: %w", n, err)
			}
			e, err, there = next()
		}
		return err
	})
	return &r.Replayed, runErr
}

// step has the rules hear one entry.
func (r *replay) step(ctx context.Context, e *Entry) error {
	r.To = e.At
	if e.Was {
		return nil
	}
	if e.Topic != "" {
		r.Messages++
	}
	if err := r.world.advance(ctx, max(0, e.At.Sub(r.world.Now())), r.acted); err != nil {
		return err
	}
	if e.Topic == "" || e.Hops > 0 || strings.HasPrefix(e.Origin, "rule/") {
		return nil
	}
	m := e.Message()
	v, err := r.world.Publish(ctx, m)
	if err != nil {
		return err
	}
	if v.Action == message.Drop || v.Action == message.Reject {
		return r.acted(became(v) + ": " + told(&m))
	}
	return r.acted()
}

// acted tells what rules have done since it was last called, and what else became of a
// message.
func (r *replay) acted(texts ...string) error {
	for _, m := range r.world.drain() {
		texts = append(texts, told(&m))
	}
	for _, asked := range r.world.web.drain() {
		texts = append(texts, "request "+asked.String())
	}
	slices.Sort(texts)
	for _, text := range texts {
		r.Actions++
		if err := r.did(Action{r.world.Now(), text}); err != nil {
			return err
		}
	}
	return nil
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
