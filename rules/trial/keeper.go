package trial

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// Keeper is a rules.Keeper in memory, which outlives the engines that use it. Its
// methods may be called by any goroutine.
type Keeper struct {
	bus *Bus

	mu      sync.Mutex
	records map[recordKey][]byte
}

type recordKey struct{ kind, file, key string }

// NewKeeper returns an empty keeper that publishes to bus.
func NewKeeper(bus *Bus) *Keeper {
	return &Keeper{bus: bus, records: make(map[recordKey][]byte)}
}

// Load returns the records, in the order of their kinds, files and keys.
func (k *Keeper) Load(context.Context) ([]rules.Record, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]rules.Record, 0, len(k.records))
	for at, value := range k.records {
		all = append(all, rules.Record{Kind: at.kind, File: at.file, Key: at.key, Value: value})
	}
	slices.SortFunc(all, func(a, b rules.Record) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.File, b.File), cmp.Compare(a.Key, b.Key))
	})
	return all, nil
}

// keeping is one engine's use of a Keeper, until the power is cut.
type keeping struct {
	*Keeper
	mu  sync.Mutex
	cut bool
}

// errCut is what an engine gets from a keeper after the power was cut.
var errCut = errors.New("the power is cut")

// Commit keeps the records and publishes the messages. One that a filter refuses costs
// only itself.
func (k *keeping) Commit(ctx context.Context, records []rules.Record, msgs []message.Message) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut {
		return errCut
	}
	k.Keeper.keep(records)
	var refused []error
	for i := range msgs {
		var one *message.RefusedError
		if err := k.bus.Publish(ctx, msgs[i]); errors.As(err, &one) {
			refused = append(refused, &message.RefusedError{Index: i, Tried: len(msgs), Topic: one.Topic, Err: one.Err})
		} else if err != nil {
			return err
		}
	}
	return errors.Join(refused...)
}

// Keep keeps the records.
func (k *keeping) Keep(_ context.Context, records []rules.Record) (func(context.Context) error, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut {
		return nil, errCut
	}
	k.Keeper.keep(records)
	return func(context.Context) error { return nil }, nil
}

func (k *Keeper) keep(records []rules.Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range records {
		at := recordKey{r.Kind, r.File, r.Key}
		if r.Value == nil {
			delete(k.records, at)
			continue
		}
		k.records[at] = r.Value
	}
}

// stop cuts the power: what the engine says from now on is lost.
func (k *keeping) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
}
