package gateway

import (
	"context"
	"strings"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/rules"
)

// rulesBucket is where the store has what rules keep, under KIND\x00FILE\x00KEY.
const rulesBucket = "rules"

// keeper keeps what rules keep in the broker's store, together with what they publish.
// The server is made after the engine, which it intercepts, and before either runs.
type keeper struct {
	server *broker.Server
	store  store.Store
}

var _ rules.SteadyKeeper = (*keeper)(nil)

// Load reads all of it, once the broker is ready.
func (k *keeper) Load(ctx context.Context) ([]rules.Record, error) {
	select {
	case <-k.server.Ready():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	const page = 1000
	var all []rules.Record
	after := ""
	for {
		records, err := k.store.Records(ctx, store.Range{Bucket: rulesBucket, After: after, Limit: page})
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			after = r.Key
			kind, rest, _ := strings.Cut(r.Key, "\x00")
			file, key, ok := strings.Cut(rest, "\x00")
			if ok {
				all = append(all, rules.Record{Kind: kind, File: file, Key: key, Value: r.Value})
			}
		}
		if len(records) < page {
			return all, nil
		}
	}
}

// Timeline is the time that the store counts.
func (k *keeper) Timeline() rules.Timeline { return k.server.Clock() }

func (k *keeper) Commit(ctx context.Context, records []rules.Record, msgs []message.Message) error {
	return k.server.Commit(ctx, changesOf(records), msgs...)
}

func (k *keeper) Keep(ctx context.Context, records []rules.Record) (func(context.Context) error, error) {
	ticket, err := k.server.Keep(ctx, changesOf(records))
	if err != nil {
		return nil, err
	}
	return ticket.Wait, nil
}

func changesOf(records []rules.Record) []store.Change {
	changes := make([]store.Change, len(records))
	for i, r := range records {
		changes[i] = store.Change{Op: store.Put, Bucket: rulesBucket, Key: r.Kind + "\x00" + r.File + "\x00" + r.Key, Value: r.Value}
		if r.Value == nil {
			changes[i].Op = store.Delete
		}
	}
	return changes
}
