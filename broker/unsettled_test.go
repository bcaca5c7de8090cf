package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// lateStore refuses chosen changes, and says so when the test has it: as a journal does
// that comes late to a ticket that is done.
type lateStore struct {
	*mem.Store
	mu     sync.Mutex
	picks  func([]store.Change) bool
	ticket *slowTicket
}

func (s *lateStore) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.picks != nil && s.picks(changes) {
		s.picks = nil
		s.ticket = &slowTicket{done: make(chan struct{}), err: store.ErrFull}
		return s.ticket
	}
	if s.ticket != nil && slices.Contains(after, store.Ticket(s.ticket)) {
		return s.ticket
	}
	return s.Store.Apply(changes, after...)
}

// pick has the next changes with a message of a payload be refused.
func (s *lateStore) pick(payload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.picks = func(changes []store.Change) bool {
		return slices.ContainsFunc(changes, func(c store.Change) bool { return c.Op == store.Enqueue && string(c.Message.Payload) == payload })
	}
}

func (s *lateStore) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ticket != nil
}

func (s *lateStore) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.ticket.done)
}

// A client that comes back says a message of QoS 2 again whose refusal is on its way: it
// is not told that the store has it.
func TestRefusedMessageSaidAgainAtOnce(t *testing.T) {
	late := &lateStore{Store: mem.New()}
	o := options()
	o.Store = late
	inBubbleWith(t, o, func(t *testing.T, s *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		away := dial(v5("away", 100))
		send(t, away.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "x", Options: packet.SubscribeOptions{QoS: 2}}}})
		pub := dial(v5("pub", 100))
		synctest.Wait()
		_ = away.Close()
		late.pick("1")
		m := &packet.Publish{Topic: "x", QoS: 2, ID: 1, Payload: []byte("1")}
		send(t, pub.Client, m)
		synctest.Wait()
		if !late.waits() {
			t.Fatal("nothing was refused")
		}
		_ = pub.Close()
		synctest.Wait()
		var back *bubbleClient
		var dialed sync.WaitGroup
		dialed.Go(func() {
			back = dial(v5("pub", 100))
			m.Dup = true
			send(t, back.Client, m)
		})
		synctest.Wait()
		late.refuse()
		dialed.Wait()
		synctest.Wait()
		got := back.packets()
		if len(got) != 1 || got[0].(*packet.Ack).Kind != packet.PUBREC || got[0].(*packet.Ack).Reason.Failed() {
			t.Fatalf("got %+v", got)
		}
		if n := queuedOf(s.Clients(), "away"); n != 1 {
			t.Errorf("it is acknowledged, and %d messages wait", n)
		}
	})
}

// What a client publishes after a message that the store refuses is refused too if the
// client is not told but cut off: it says both again, in their order.
func TestNothingOvertakesWhatIsSaidAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		version packet.Version
		qos     message.QoS
		beside  *packet.Ack // in the same changes: it is what cannot be told
	}{
		"3.1.1, QoS 1":       {packet.V311, 1, nil},
		"3.1.1, QoS 2":       {packet.V311, 2, nil},
		"5.0 with a PUBREL":  {packet.V5, 2, &packet.Ack{Kind: packet.PUBREL, ID: 9}},
		"5.0, QoS 1, PUBREL": {packet.V5, 1, &packet.Ack{Kind: packet.PUBREL, ID: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			late := &lateStore{Store: mem.New()}
			o := options()
			o.Store = late
			inBubbleWith(t, o, func(t *testing.T, _ *broker.Server, dial func(*packet.Connect) *bubbleClient) {
				subscribeAndLeave(t, dial)
				hello := v5("pub", 100)
				if hello.Version = tt.version; tt.version != packet.V5 {
					hello = &packet.Connect{Version: tt.version, ClientID: "pub"}
				}
				pub := dial(hello)
				say := func(before packet.Packet, dup bool, ids ...uint16) {
					var all []byte
					if before != (*packet.Ack)(nil) {
						all = appendPacket(t, all, before, tt.version)
					}
					for _, id := range ids {
						all = appendPacket(t, all, &packet.Publish{Topic: "x", QoS: tt.qos, ID: id, Payload: fmt.Append(nil, id), Dup: dup}, tt.version)
					}
					if err := pub.Write(all); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				if tt.beside != nil {
					send(t, pub.Client, &packet.Publish{Topic: "y", QoS: 2, ID: tt.beside.ID})
					synctest.Wait()
				}
				late.pick("1")
				say(tt.beside, false, 1)
				say((*packet.Ack)(nil), false, 2) // before it is known what became of the first
				late.refuse()
				synctest.Wait()
				for _, p := range pub.packets() {
					if a, ok := p.(*packet.Ack); ok && a.ID < 9 {
						t.Errorf("it is told %+v", a)
					}
				}
				pub = dial(hello)
				say(tt.beside, true, 1, 2)
				away := dial(v5("away", 100))
				synctest.Wait()
				var heard []string
				for _, p := range away.packets() {
					heard = append(heard, string(p.(*packet.Publish).Payload))
				}
				if !slices.Equal(heard, []string{"1", "2"}) {
					t.Errorf("the subscriber heard %q", heard)
				}
			})
		})
	}
}

// A message of QoS 2 that comes twice on one connection is answered twice in the same way,
// whatever becomes of what came between.
func TestRefusedMessageSaidTwice(t *testing.T) {
	for _, refused := range []uint16{1, 2} {
		t.Run(fmt.Sprint(refused, " is refused"), func(t *testing.T) {
			late := &lateStore{Store: mem.New()}
			o := options()
			o.Store = late
			inBubbleWith(t, o, func(t *testing.T, s *broker.Server, dial func(*packet.Connect) *bubbleClient) {
				subscribeAndLeave(t, dial)
				pub := dial(v5("pub", 100))
				say := func(ids ...uint16) {
					var all []byte
					for _, id := range ids {
						all = appendPacket(t, all, &packet.Publish{Topic: "x", QoS: 2, ID: id, Payload: fmt.Append(nil, id)}, packet.V5)
					}
					if err := pub.Write(all); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				late.pick(fmt.Sprint(refused))
				say(1)
				say(1, 2)
				late.refuse()
				synctest.Wait()
				got := pub.packets()
				if len(got) != 3 {
					t.Fatalf("got %+v", got)
				}
				for _, p := range got {
					if a, ok := p.(*packet.Ack); !ok || a.Kind != packet.PUBREC || a.Reason.Failed() != (a.ID == refused) {
						t.Errorf("got %+v", p)
					}
				}
				if n := queuedOf(s.Clients(), "away"); n != 1 {
					t.Errorf("one is acknowledged, and %d wait", n)
				}
			})
		})
	}
}

// subscribeAndLeave has a session "away", which is not connected, wait for "x".
func subscribeAndLeave(t *testing.T, dial func(*packet.Connect) *bubbleClient) {
	t.Helper()
	away := dial(v5("away", 100))
	send(t, away.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "x", Options: packet.SubscribeOptions{QoS: 2}}}})
	synctest.Wait()
	_ = away.Close()
	synctest.Wait()
}

func appendPacket(t *testing.T, b []byte, p packet.Packet, version packet.Version) []byte {
	t.Helper()
	b, err := packet.Append(b, p, version)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// packets are those that have come.
func (c *bubbleClient) packets() []packet.Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

func queuedOf(clients []broker.ClientInfo, id string) int {
	for _, c := range clients {
		if c.ClientID == id {
			return c.Queued
		}
	}
	return -1
}

// A message of QoS 2 that waits in a queue is not sent before it is known that the store
// has it: its publisher says a refused one again.
func TestQueuedMessageIsNotSentInDoubt(t *testing.T) {
	for _, expiry := range []uint32{0, 100} {
		t.Run(fmt.Sprint("expiry ", expiry), func(t *testing.T) {
			late := &lateStore{Store: mem.New()}
			o := options()
			o.Store = late
			s := brokertest.Start(t, o)
			absentee(t, s, "x", 0)
			hello := v5("live", expiry)
			hello.Properties.ReceiveMaximum = 1
			live := brokertest.Dial(t, s, hello)
			subscribe(t, live, "x", 2)
			pub := brokertest.Dial(t, s, v5("pub", 0))
			say := func(payload string, id uint16) {
				send(t, pub, &packet.Publish{Topic: "x", QoS: 2, ID: id, Payload: []byte(payload)})
			}
			answer := func() packet.Reason {
				t.Helper()
				a, ok := read(t, pub).(*packet.Ack)
				if !ok || a.Kind != packet.PUBREC {
					t.Fatalf("got %+v", a)
				}
				return a.Reason
			}
			hear := func(payload string) {
				t.Helper()
				p, ok := read(t, live).(*packet.Publish)
				if !ok || string(p.Payload) != payload {
					t.Fatalf("got %+v, want %s", p, payload)
				}
				send(t, live, &packet.Ack{Kind: packet.PUBREC, ID: p.ID})
				read(t, live)
				send(t, live, &packet.Ack{Kind: packet.PUBCOMP, ID: p.ID})
			}
			say("1", 1)
			if reason := answer(); reason.Failed() {
				t.Fatal(reason)
			}
			late.pick("2")
			say("2", 2)
			eventually(t, "it waits", late.waits)
			hear("1")
			send(t, live, &packet.Pingreq{})
			if p, ok := read(t, live).(*packet.Pingresp); !ok {
				t.Errorf("got %+v before it is known whether the store has it", p)
			}
			say("3", 3)
			late.refuse()
			if reason := answer(); reason != packet.QuotaExceeded {
				t.Errorf("got %v", reason)
			}
			if reason := answer(); reason.Failed() {
				t.Errorf("got %v", reason)
			}
			hear("3")
			say("2", 2)
			hear("2")
			eventually(t, "all is done", func() bool { st := s.Stats(); return st.InFlight == 0 })
		})
	}
}

// Messages that were sent are not in the order of their positions, and there are gaps:
// all come after a restart.
func TestLoadsWhatWasOvertaken(t *testing.T) {
	o := options()
	kept := mem.New()
	o.Store = kept
	queued := func(pos uint64) store.Change {
		return store.Change{
			Op: store.Enqueue, Session: "a", Position: pos, Message: &message.Message{Topic: "x", Payload: fmt.Append(nil, pos), QoS: 1},
			Delivery: store.Delivery{QoS: 1},
		}
	}
	changes := []store.Change{{Op: store.PutSession, Session: "a", Record: &store.SessionRecord{ClientID: "a", Expiry: store.Forever}}}
	for _, pos := range []uint64{1, 3, 5} {
		changes = append(changes, queued(pos))
	}
	changes = append(changes, store.Change{Op: store.Send, Session: "a", Position: 3, ID: 7})
	if err := kept.Apply(changes).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := brokertest.Start(t, o)
	if n := queuedFor(s, "a"); n != 1 {
		t.Errorf("%d wait, and 1 does", n)
	}
	a := brokertest.Dial(t, s, v5("a", 1000))
	for _, want := range []string{"1", "3", "5"} {
		if got := readPublish(t, a); string(got.Payload) != want {
			t.Errorf("got %s, want %s", got.Payload, want)
		}
	}
	if n := s.Stats().Dropped["store"]; n != 0 {
		t.Errorf("%d are said to be lost", n)
	}
}

// blinkingStore misses a message in one Fetch, as a store does that is asked between a
// change and its failure.
type blinkingStore struct {
	*fullStore
	once          sync.Once
	asked, answer chan struct{}
	misses        string
}

func (s *blinkingStore) Fetch(ctx context.Context, session string, from uint64, limit int) (found []store.Queued, err error) {
	found, err = s.fullStore.Fetch(ctx, session, from, limit)
	s.once.Do(func() {
		found = slices.DeleteFunc(found, func(q store.Queued) bool { return string(q.Message.Payload) == s.misses })
		close(s.asked)
		<-s.answer
	})
	return found, err
}

// What was taken out of a queue for a message that is refused is put back, though what
// comes next is fetched meanwhile.
func TestPutBackWhileItIsFetched(t *testing.T) {
	o := options()
	blinking := &blinkingStore{
		fullStore: &fullStore{Store: mem.New()}, asked: make(chan struct{}), answer: make(chan struct{}), misses: "2",
	}
	o.Store = blinking
	o.Limits.QueueMessages = 4
	o.Topics.Priorities = []broker.Priority{{Filter: "urgent", Class: 1}}
	s := brokertest.Start(t, o)
	away := brokertest.Dial(t, s, v5("a", 1000))
	subscribe(t, away, "#", 1)
	send(t, away, &packet.Disconnect{})
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 0 })
	for i, topic := range []string{"urgent", "urgent", "x", "x"} {
		publish(t, s, message.Message{Topic: topic, QoS: 1, Payload: fmt.Append(nil, i)})
	}
	a := brokertest.Dial(t, s, v5("a", 1000))
	<-blinking.asked
	blinking.full.Store(true)
	if err := s.Publish(t.Context(), message.Message{Topic: "urgent", QoS: 1}); !errors.Is(err, store.ErrFull) {
		t.Errorf("got %v", err)
	}
	close(blinking.answer)
	for i := range 4 {
		if got := readPublish(t, a); string(got.Payload) != fmt.Sprint(i) {
			t.Errorf("got %s, want %d", got.Payload, i)
		}
	}
}

// What a member of a group leaves is handed over when it is known whether the store has
// it.
func TestNothingInDoubtIsHandedOver(t *testing.T) {
	late := &lateStore{Store: mem.New()}
	o := options()
	o.Store = late
	inBubbleWith(t, o, func(t *testing.T, _ *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		const group = "$share/g/x"
		join := func(id string) *bubbleClient {
			hello := v5(id, 100)
			hello.Properties.ReceiveMaximum = 1
			c := dial(hello)
			send(t, c.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: group, Options: packet.SubscribeOptions{QoS: 2}}}})
			synctest.Wait()
			return c
		}
		say := func(c *bubbleClient, id uint16) {
			send(t, c.Client, &packet.Publish{Topic: "x", QoS: 2, ID: id, Payload: fmt.Append(nil, id)})
			synctest.Wait()
		}
		leaver, pub := join("leaver"), dial(v5("pub", 100))
		say(pub, 1)
		late.pick("2")
		say(pub, 2)
		heir := join("heir")
		_ = leaver.Close()
		synctest.Wait()
		late.refuse()
		synctest.Wait()
		for _, p := range heir.packets() {
			if m, ok := p.(*packet.Publish); ok {
				t.Errorf("the heir got %s", m.Payload)
			}
		}
	})
}
