package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// damagedStore finds while it is loaded that messages in flight cannot be read, after it
// has counted them, and others when they are asked for.
type damagedStore struct {
	*mem.Store
	lost []uint64
}

func (s *damagedStore) Load(ctx context.Context) (*store.Snapshot, error) {
	snap, err := s.Store.Load(ctx)
	if err != nil {
		return nil, err
	}
	for i := range snap.Sessions {
		v := &snap.Sessions[i]
		v.InFlight = slices.DeleteFunc(v.InFlight, func(q store.Queued) bool { return slices.Contains(s.lost, q.Position) })
		for _, pos := range s.lost {
			s.Store.Apply([]store.Change{{Op: store.Dequeue, Session: v.ClientID, Position: pos}})
		}
	}
	return snap, nil
}

// What is left of a queue that is damaged comes once, in its order, and nothing else is
// said to be lost than what is.
func TestLoadsDamagedQueue(t *testing.T) {
	rounds := uint64(300)
	if testing.Short() {
		rounds = 60
	}
	for seed := range rounds {
		loadDamaged(t, rand.New(rand.NewPCG(seed, 1)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func loadDamaged(t *testing.T, random *rand.Rand) {
	damaged := &damagedStore{Store: mem.New()}
	changes := []store.Change{{Op: store.PutSession, Session: "a", Record: &store.SessionRecord{ClientID: "a", Expiry: store.Forever}}}
	at := func(op store.Op, pos uint64, id uint16) {
		changes = append(changes, store.Change{Op: op, Session: "a", Position: pos, ID: id})
	}
	var want []string
	trace, sent, last := "", random.IntN(6), uint64(0) // that was sent and is there
	for pos := range uint64(8) {
		pos++
		changes = append(changes, store.Change{
			Op: store.Enqueue, Session: "a", Position: pos, Message: &message.Message{Topic: "x", Payload: fmt.Append(nil, pos), QoS: 1},
			Delivery: store.Delivery{QoS: 1},
		})
		gone, lost := random.IntN(4) == 0, random.IntN(5) == 0
		flies := int(pos) <= sent && random.IntN(4) > 0
		if flies {
			at(store.Send, pos, uint16(pos))
		}
		switch trace += fmt.Sprintf(" %d", pos); {
		case gone:
			trace += " is gone"
			at(store.Dequeue, pos, 0)
		case lost:
			trace += " is lost"
			damaged.lost = append(damaged.lost, pos)
		default:
			want = append(want, fmt.Sprint(pos))
			if flies {
				last = pos
			}
		}
	}
	if err := damaged.Apply(changes).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Store = damaged
	inBubbleWith(t, o, func(t *testing.T, s *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		a := dial(v5("a", 1000))
		synctest.Wait()
		var got []string
		for _, p := range a.packets() {
			if m, ok := p.(*packet.Publish); ok {
				got = append(got, string(m.Payload))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("it hears %v, and %v are there:%s", got, want, trace)
		}
		waiting := int64(0)
		for _, pos := range damaged.lost {
			if pos > last {
				waiting++
			}
		}
		if n := s.Stats().Dropped["store"]; n > waiting {
			t.Errorf("%d are said to be lost of those that wait, and %d are:%s", n, waiting, trace)
		}
	})
}
