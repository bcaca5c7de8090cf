package broker_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
	"github.com/gatehouse/gatehouse/broker/store/storetest"
)

// fullStore takes, while it is full, only what keeps nothing new, as one on a full
// disk does.
type fullStore struct {
	*mem.Store
	full atomic.Bool
}

func (s *fullStore) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	for i := range changes {
		switch c := &changes[i]; c.Op {
		case store.Enqueue, store.Subscribe, store.Put, store.Retain:
			if s.full.Load() && (c.Op != store.Retain || len(c.Message.Payload) > 0) {
				t := &slowTicket{done: make(chan struct{}), err: store.ErrFull}
				close(t.done)
				return t
			}
		default:
		}
	}
	return s.Store.Apply(changes, after...)
}

func startFull(t *testing.T, limit func(*broker.Limits)) (*brokertest.Server, *fullStore, func() *brokertest.Server) {
	t.Helper()
	o := options()
	full := &fullStore{Store: mem.New()}
	o.Store = full
	limit(&o.Limits)
	s := brokertest.Start(t, o)
	return s, full, func() *brokertest.Server {
		s.Stop()
		s = brokertest.Start(t, o)
		return s
	}
}

// While the store is full a queue that is full too loses nothing of what was
// acknowledged to what is refused, in memory or after a restart; QoS 0 and who needs no
// store go on, and all is as before when there is room.
func TestFullStoreLosesNothing(t *testing.T) {
	const n = 10
	s, full, restart := startFull(t, func(l *broker.Limits) { l.QueueMessages = n })
	absentee(t, s, "away", n)
	live := brokertest.Dial(t, s, v5("live", 0))
	subscribe(t, live, "away", 1)
	pub := brokertest.Dial(t, s, v5("pub", 0))
	full.full.Store(true)
	for i := range 3 * n {
		for qos := range message.QoS(3) {
			p := &packet.Publish{Topic: "away", Payload: fmt.Append(nil, "new", i), QoS: qos}
			if qos > 0 {
				p.ID = uint16(qos)
			}
			send(t, pub, p)
			if qos == 0 {
				if got := readPublish(t, live); got.QoS != 0 {
					t.Fatalf("got %+v, want the message of QoS 0", got)
				}
				continue
			}
			if a, ok := read(t, pub).(*packet.Ack); !ok || a.Reason != packet.QuotaExceeded {
				t.Fatalf("QoS %d: got %+v, want 0x97", qos, a)
			}
			if qos == 1 { // who is there hears it
				readPublish(t, live)
			}
		}
	}
	if err := s.Publish(t.Context(), numbered("away", 99, 1)); !errors.Is(err, store.ErrFull) {
		t.Errorf("from inside: got %v, want that the store is full", err)
	}
	if got := queuedFor(s, "away"); got != n {
		t.Errorf("%d messages are queued, want %d", got, n)
	}
	if st := s.Stats(); st.Dropped["queue"] != 0 || st.Dropped["store"] == 0 {
		t.Errorf("dropped: %v", st.Dropped)
	}
	s = restart()
	away := brokertest.Dial(t, s, v5("away", 1000)) // and what it receives frees the store, full or not
	for i := range n {
		if got := readPublish(t, away); string(got.Payload) != fmt.Sprintf("%06d", i) {
			t.Errorf("got %s, want message %d", got.Payload, i)
		}
	}
	eventually(t, "all is done", func() bool { st := s.Stats(); return st.Queued+st.InFlight == 0 })
	full.full.Store(false)
	publish(t, s, numbered("away", n, 1))
	readPublish(t, away)
	if left := queueInStore(t, full, "away"); left > 1 {
		t.Errorf("%d messages are left in the store", left)
	}
}

func queuedFor(s *brokertest.Server, id string) int {
	for _, info := range s.Clients() {
		if info.ClientID == id {
			return info.Queued
		}
	}
	return -1
}

func queueInStore(t *testing.T, s store.Store, id string) int {
	t.Helper()
	snap, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range snap.Sessions {
		if snap.Sessions[i].ClientID == id {
			return snap.Sessions[i].Queued
		}
	}
	return 0
}

// What a client acknowledges beside a publish that is refused is acknowledged.
func TestFullStoreTakesAcknowledgements(t *testing.T) {
	s, full, restart := startFull(t, func(*broker.Limits) {})
	c := brokertest.Dial(t, s, v5("c", 1000))
	subscribe(t, c, "x", 1)
	absentee(t, s, "away", 0)
	publish(t, s, numbered("x", 1, 1))
	got, ok := read(t, c).(*packet.Publish)
	if !ok {
		t.Fatal("nothing came")
	}
	full.full.Store(true)
	var both []byte
	for _, p := range []packet.Packet{&packet.Ack{Kind: packet.PUBACK, ID: got.ID}, &packet.Publish{Topic: "away", QoS: 1, ID: 1}} {
		var err error
		if both, err = packet.Append(both, p, packet.V5); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Write(both); err != nil {
		t.Fatal(err)
	}
	if a, ok := read(t, c).(*packet.Ack); !ok || a.Reason != packet.QuotaExceeded {
		t.Fatalf("got %+v, want 0x97", a)
	}
	s = restart()
	c = brokertest.Dial(t, s, v5("c", 1000))
	send(t, c, &packet.Pingreq{})
	if p, ok := read(t, c).(*packet.Pingresp); !ok {
		t.Errorf("got %+v, which was acknowledged", p)
	}
}

// What cannot be handed over stays where it is.
func TestFullStoreHandsNothingOver(t *testing.T) {
	const n = 5
	s, full, _ := startFull(t, func(*broker.Limits) {})
	away := brokertest.Dial(t, s, v5("away", 1000))
	subscribe(t, away, "$share/g/x", 1)
	_ = away.Close() // without a word
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 0 })
	for i := range n {
		publish(t, s, numbered("x", i, 1))
	}
	hello := v5("heir", 1000)
	hello.Properties.ReceiveMaximum = 1
	heir := brokertest.Dial(t, s, hello)
	subscribe(t, heir, "$share/other/x", 1)
	full.full.Store(true)
	send(t, heir, &packet.Subscribe{ID: 2, Filters: []packet.Filter{{Filter: "$share/g/x", Options: packet.SubscribeOptions{QoS: 1}}}})
	read(t, heir) // SUBACK, though the subscription is not kept
	eventually(t, "they are where they were", func() bool { return queuedFor(s, "away") == n })
	_ = heir.Close()
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 0 })
	back := brokertest.Dial(t, s, v5("away", 1000))
	came := make(map[string]bool)
	for range n {
		came[string(readPublish(t, back).Payload)] = true
	}
	if len(came) != n {
		t.Errorf("%d of %d came", len(came), n)
	}
}

// A message of QoS 2 that is refused is not heard by a subscriber on the bus either: it
// would hear it twice when its publisher says it again.
func TestFullStoreRefusesTheBusToo(t *testing.T) {
	s, full, _ := startFull(t, func(*broker.Limits) {})
	absentee(t, s, "x", 0)
	l := listen(t, s, message.Subscription{Name: "rules", Filters: []string{"x"}, QoS: 2})
	defer l.stop(t)
	c := brokertest.Dial(t, s, v5("c", 0))
	for _, refused := range []bool{true, false} {
		full.full.Store(refused)
		send(t, c, &packet.Publish{Topic: "x", QoS: 2, ID: 1, Payload: fmt.Append(nil, "refused is ", refused)})
		if a, ok := read(t, c).(*packet.Ack); !ok || a.Reason.Failed() != refused {
			t.Fatalf("got %+v", a)
		}
	}
	if got := l.payloads(t, 1); got[0] != "refused is false" {
		t.Errorf("heard %q", got)
	}
}

// With KeepOldest a full queue takes no more, but for the sake of a higher class.
func TestKeepOldest(t *testing.T) {
	o := options()
	o.Limits.QueueMessages, o.Limits.KeepOldest = 3, true
	o.Topics.Priorities = []broker.Priority{{Filter: "+/urgent", Class: 1}}
	for _, expiry := range []uint32{0, 1000} {
		t.Run(fmt.Sprint("expiry ", expiry), func(t *testing.T) {
			o.Store = mem.New()
			s := brokertest.Start(t, o)
			hello := v5("a", expiry)
			hello.Properties.ReceiveMaximum = 1
			c := brokertest.Dial(t, s, hello)
			subscribe(t, c, "#", 1)
			for i := range 10 {
				publish(t, s, numbered("x", i, 1))
			}
			publish(t, s, numbered("x/urgent", 10, 1))
			for _, want := range []int{0, 10, 1, 2} {
				if got := readPublish(t, c); string(got.Payload) != fmt.Sprintf("%06d", want) {
					t.Errorf("got %s, want message %d", got.Payload, want)
				}
			}
			eventually(t, "all is done", func() bool { st := s.Stats(); return st.Queued+st.InFlight == 0 })
			if n := s.Stats().Dropped["queue"]; n != 7 {
				t.Errorf("%d were dropped, want 7", n)
			}
		})
	}
}

// The store of these tests keeps to the contract of a full one.
func TestFullStoreIsOne(t *testing.T) {
	storetest.Full(t,
		func(*testing.T) store.Store { return &fullStore{Store: mem.New()} },
		func(_ *testing.T, s store.Store) { s.(*fullStore).full.Store(true) }, nil)
}
