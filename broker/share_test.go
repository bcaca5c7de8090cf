package broker_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

func TestStrategyNames(t *testing.T) {
	for _, s := range []broker.Strategy{
		broker.RoundRobin, broker.LeastInFlight, broker.Sticky, broker.HashClient, broker.HashTopic,
	} {
		if got, err := broker.ParseStrategy(s.String()); err != nil || got != s {
			t.Errorf("%v: got %v, %v", s, got, err)
		}
	}
	if _, err := broker.ParseStrategy("random"); err == nil {
		t.Error("a strategy that there is not")
	}
	o := options()
	o.Shared.Groups = map[string]broker.Strategy{"g": 99}
	if _, err := broker.New(o); err == nil {
		t.Error("a server with a strategy that there is not")
	}
}

// owners says which of the members gets the messages of each key, which must be one.
func owners(t *testing.T, members map[string]*bubbleClient, keys int, publish func(key int)) map[string]string {
	t.Helper()
	owner := make(map[string]string)
	for range 3 {
		for key := range keys {
			publish(key)
		}
	}
	for name, c := range members {
		for _, p := range publishes(c) {
			key := string(p.Payload)
			if old, known := owner[key]; known && old != name {
				t.Errorf("%s went to %s and %s", key, old, name)
			}
			owner[key] = name
		}
	}
	if len(owner) != keys {
		t.Errorf("of %d keys %d came", keys, len(owner))
	}
	return owner
}

func TestSharedByHash(t *testing.T) {
	const keys = 60
	for _, strategy := range []broker.Strategy{broker.HashClient, broker.HashTopic} {
		t.Run(strategy.String(), func(t *testing.T) {
			o := options()
			o.Shared.Strategy = strategy
			inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
				members := make(map[string]*bubbleClient)
				for i := range 3 {
					name := fmt.Sprint("member", i)
					members[name] = dial(v5(name, 0))
					send(t, members[name].Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "$share/g/k/#"}}})
					members[name].received()
				}
				publish := func(key int) {
					m := message.Message{Topic: "k/x", Origin: fmt.Sprint("client/", key), Payload: fmt.Appendf(nil, "key %d", key)}
					if strategy == broker.HashTopic {
						m.Topic, m.Origin = fmt.Sprint("k/", key), ""
					}
					if err := server.Publish(t.Context(), m); err != nil {
						t.Fatal(err)
					}
				}
				before := owners(t, members, keys, publish)
				share := make(map[string]int)
				for _, name := range before {
					share[name]++
				}
				for name := range members {
					if share[name] < keys/10 {
						t.Errorf("%s got %d of %d keys", name, share[name], keys)
					}
				}
				_ = members["member1"].Close()
				synctest.Wait() // until it has left
				delete(members, "member1")
				for key, name := range owners(t, members, keys, publish) {
					if old := before[key]; old != "member1" && old != name {
						t.Errorf("%s moved from %s to %s though both are there", key, old, name)
					}
				}
			})
		})
	}
}

// TestSharedLosesNothing has members come and go, with and without sessions, while
// messages are published; each message must be acknowledged by someone, and in the
// end nothing waits.
func TestSharedLosesNothing(t *testing.T) {
	s := brokertest.Start(t, options())
	const messages, members = 2000, 4
	var mu sync.Mutex
	acked := make(map[string]int)
	all := make(chan struct{})
	done, cancel := context.WithCancel(t.Context())
	defer cancel()
	var working sync.WaitGroup
	keeper := brokertest.Dial(t, s, v5("keeper", 3600)) // so that the group is never empty
	subscribe(t, keeper, "$share/g/x", 1)
	work := func(c *brokertest.Client, until int) {
		for range until {
			p, err := c.ReadPatiently()
			if err != nil {
				return
			}
			pub, ok := p.(*packet.Publish)
			if !ok {
				continue
			}
			if c.Send(&packet.Ack{Kind: packet.PUBACK, ID: pub.ID}) != nil {
				return
			}
			mu.Lock()
			if acked[string(pub.Payload)]++; len(acked) == messages && acked[string(pub.Payload)] == 1 {
				close(all)
			}
			mu.Unlock()
		}
	}
	working.Go(func() { work(keeper, 1<<30) })
	for i := range members {
		working.Go(func() {
			for round := 0; ; round++ {
				if done.Err() != nil {
					return
				}
				expiry := uint32(0)
				if (i+round)%2 == 0 {
					expiry = 3600
				}
				c := brokertest.Dial(t, s, v5(fmt.Sprint("m", i), expiry))
				leave := context.AfterFunc(done, func() { _ = c.Close() })
				if c.Send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "$share/g/x", Options: packet.SubscribeOptions{QoS: 1}}}}) == nil {
					work(c, 50)
				}
				leave()
				_ = c.Close()
			}
		})
	}
	for i := range messages {
		publish(t, s, numbered("x", i, 1))
	}
	select {
	case <-all:
	case <-time.After(patience):
		mu.Lock()
		t.Errorf("%d of %d messages were acknowledged", len(acked), messages)
		mu.Unlock()
	}
	cancel() // the members leave, and what they have goes to the keeper
	eventually(t, "nothing waits", func() bool { st := s.Stats(); return st.Queued+st.InFlight == 0 })
	_ = keeper.Close()
	working.Wait()
}

// latchedStore does not fetch for one session until it is let.
type latchedStore struct {
	store.Store
	session string
	fetches chan struct{} // one is asked for
	let     chan struct{}
}

func (s *latchedStore) Fetch(ctx context.Context, session string, from uint64, limit int) ([]store.Queued, error) {
	if session == s.session {
		s.fetches <- struct{}{}
		<-s.let
	}
	return s.Store.Fetch(ctx, session, from, limit)
}

// A member that is just coming when the server stops takes nothing over from those
// that the stop has ended: they come back to what they were sent.
func TestStopHandsNothingOver(t *testing.T) {
	o := options()
	kept := o.Store
	latched := &latchedStore{Store: kept, session: "a", fetches: make(chan struct{}), let: make(chan struct{})}
	o.Store = latched
	s := brokertest.Start(t, o)
	a := brokertest.Dial(t, s, v5("a", 100))
	subscribe(t, a, "own", 1)
	subscribe(t, a, "$share/g/x", 1)
	publish(t, s, numbered("own", 0, 1)) // it is fetched when the client comes back
	read(t, a)
	_ = a.Close() // without a word
	b := brokertest.Dial(t, s, v5("b", 100))
	subscribe(t, b, "$share/g/x", 1)
	eventually(t, "it has left", func() bool { return s.Stats().Connections == 1 })
	publish(t, s, numbered("x", 1, 1), numbered("x", 2, 1))
	read(t, b)
	read(t, b)
	coming, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer coming.Close()
	send(t, brokertest.NewClient(coming), v5("a", 100))
	<-latched.fetches
	ended := make(chan struct{})
	go func() { s.Stop(); close(ended) }()
	eventually(t, "the other has ended", func() bool { return s.Stats().Connections == 1 })
	close(latched.let)
	<-ended
	o.Store = kept
	s = brokertest.Start(t, o)
	b = brokertest.Dial(t, s, v5("b", 100))
	for id := range 2 {
		if p, ok := read(t, b).(*packet.Publish); !ok || p.Topic != "x" || p.ID != uint16(id+1) || !p.Dup {
			t.Errorf("expected message %d again, got %+v", id+1, p)
		}
	}
}

// A member whose queue is full takes over what fits, and the rest when it has
// nothing waiting: what several have left is more than one may queue.
func TestHandOverDropsNothing(t *testing.T) {
	const each, members = 10, 3
	one := numbered("x", 0, 1)
	size := one.Size()
	for name, limit := range map[string]func(*broker.Limits){
		"of one queue":         func(l *broker.Limits) { l.QueueMessages = each },
		"of all queues":        func(l *broker.Limits) { l.AllQueues.Count = each * (members + 1) },
		"of all queues' bytes": func(l *broker.Limits) { l.AllQueues.Bytes = int64(each*(members+1)) * int64(size) },
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			limit(&o.Limits)
			s := brokertest.Start(t, o)
			for i := range members {
				away := brokertest.Dial(t, s, v5(fmt.Sprint("away", i), 100))
				subscribe(t, away, "$share/g/x", 1)
				_ = away.Close() // without a word
			}
			eventually(t, "they have left", func() bool { return s.Stats().Clients == 0 })
			for i := range each * members {
				publish(t, s, numbered("x", i, 1))
			}
			hello := v5("heir", 100)
			hello.Properties.ReceiveMaximum = 1
			heir := brokertest.Dial(t, s, hello)
			subscribe(t, heir, "$share/g/x", 1)
			came := make(map[string]bool)
			for range each * members {
				came[string(readPublish(t, heir).Payload)] = true
			}
			for why, n := range s.Stats().Dropped {
				if n > 0 {
					t.Errorf("%d were dropped: %s", n, why)
				}
			}
			if len(came) != each*members {
				t.Errorf("of %d messages %d came", each*members, len(came))
			}
		})
	}
}

// An in-process member does as any other: it takes over no more than it may queue, and
// the rest later, also of what waited before it came.
func TestHandOverToTheBusDropsNothing(t *testing.T) {
	const each, members = 10, 3
	o := options()
	o.Limits.QueueMessages = each
	s := brokertest.Start(t, o)
	for i := range members {
		away := brokertest.Dial(t, s, v5(fmt.Sprint("away", i), 100))
		subscribe(t, away, "$share/g/x", 1)
		_ = away.Close() // without a word
	}
	eventually(t, "they have left", func() bool { return s.Stats().Clients == 0 })
	for i := range each * members {
		publish(t, s, numbered("x", i, 1))
	}
	came := make(map[string]bool)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := s.Subscribe(ctx, message.Subscription{Name: "heir", Filters: []string{"$share/g/x"}, QoS: 1}, func(_ context.Context, batch []message.Message) error {
		for i := range batch {
			came[string(batch[i].Payload)] = true
		}
		if len(came) == each*members {
			cancel()
		}
		return nil
	})
	if err != nil || len(came) != each*members {
		t.Errorf("of %d messages %d came: %v", each*members, len(came), err)
	}
	for why, n := range s.Stats().Dropped {
		if n > 0 {
			t.Errorf("%d were dropped: %s", n, why)
		}
	}
}
