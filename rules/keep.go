package rules

import (
	"context"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Record is one piece of what rules keep. Kind, File and Key together name it.
type Record struct {
	// Kind says what the record is: "state" is one key of a file's [State].
	Kind string
	// File is the rule file that it belongs to.
	File string
	// Key names it within the file.
	Key string
	// Value is JSON; nil removes the record.
	Value []byte
}

// recordState is the Kind of the keys of a State.
const recordState = "state"

// Keeper is where rules keep what must outlive the process. Its methods are called
// by several goroutines.
type Keeper interface {
	// Load returns what is kept. It is called once, by the first Load of the
	// engine.
	Load(ctx context.Context) ([]Record, error)
	// Commit keeps the records and publishes the messages, all or none: the new
	// state and what was published because of it are one change.
	Commit(ctx context.Context, records []Record, msgs []message.Message) error
}

// commit is the one way of records and messages out of the engine. Without a
// Keeper records stay in memory only, where they already are.
func (e *Engine) commit(ctx context.Context, bus message.Bus, records []Record, msgs []message.Message) error {
	if len(records) == 0 && len(msgs) == 0 {
		return nil
	}
	if e.opts.Keeper != nil {
		return e.opts.Keeper.Commit(ctx, records, msgs)
	}
	if len(msgs) == 0 {
		return nil
	}
	return bus.Publish(ctx, msgs...)
}

// recall fills the states from what the Keeper holds, once.
func (e *Engine) recall(ctx context.Context) error {
	if e.states != nil {
		return nil
	}
	if e.opts.Keeper == nil {
		e.states = make(map[string]*State)
		return nil
	}
	records, err := e.opts.Keeper.Load(ctx)
	if err != nil {
		return err
	}
	values := make(map[string]map[string][]byte)
	for _, r := range records {
		if r.Kind != recordState || r.Value == nil {
			continue
		}
		if values[r.File] == nil {
			values[r.File] = make(map[string][]byte)
		}
		values[r.File][r.Key] = r.Value
	}
	e.states = make(map[string]*State, len(values))
	for file, v := range values {
		e.states[file] = NewState(v)
	}
	return nil
}

// stateOf is the state of a file, kept from version to version and while the file
// is away.
func (e *Engine) stateOf(file string) *State {
	s := e.states[file]
	if s == nil {
		s = NewState(nil)
		e.states[file] = s
	}
	return s
}
