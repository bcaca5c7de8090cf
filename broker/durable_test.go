package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// slowStore is a store whose tickets are done when the test says so.
type slowStore struct {
	*mem.Store
	mu      sync.Mutex
	held    bool
	tickets []*slowTicket
	applied []store.Change
	err     error // what tickets give
}

type slowTicket struct {
	done chan struct{}
	err  error
}

func (t *slowTicket) Done() <-chan struct{} { return t.done }

func (t *slowTicket) Wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slowStore) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &slowTicket{done: make(chan struct{}), err: s.err}
	s.applied = append(s.applied, changes...)
	if s.err == nil {
		s.Store.Apply(changes, after...)
	}
	if s.held {
		s.tickets = append(s.tickets, t)
	} else {
		close(t.done)
	}
	return t
}

// hold keeps tickets from being done until release.
func (s *slowStore) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = true
}

func (s *slowStore) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tickets {
		close(t.done)
	}
	s.tickets, s.held = nil, false
}

func (s *slowStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// ops are the operations applied so far.
func (s *slowStore) ops() []store.Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ops []store.Op
	for _, c := range s.applied {
		ops = append(ops, c.Op)
	}
	return ops
}

// changes are what was applied so far.
func (s *slowStore) changes() []store.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.applied)
}

func startSlow(t *testing.T) (*brokertest.Server, *slowStore) {
	t.Helper()
	slow := &slowStore{Store: mem.New()}
	o := options()
	o.Store = slow
	return brokertest.Start(t, o), slow
}

func TestAcknowledgementsWaitForTheStore(t *testing.T) {
	s, slow := startSlow(t)
	away := brokertest.Dial(t, s, v5("away", 100))
	subscribe(t, away, "x", 2)
	_ = away.Close() // without a word
	live := brokertest.Dial(t, s, v5("live", 0))
	subscribe(t, live, "x", 2)
	c := brokertest.Dial(t, s, v5("c", 0))
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 2 })
	slow.hold()
	for i := range 5 {
		p := &packet.Publish{Topic: "x", Payload: fmt.Append(nil, i), QoS: message.QoS(i % 3)}
		if p.QoS > 0 {
			p.ID = uint16(i) * 7
		}
		send(t, c, p)
	}
	send(t, c, &packet.Pingreq{})
	// The reader goes on, the answers wait; QoS 0 and 1 are heard, and what
	// follows QoS 2 waits with it.
	if p := read(t, c); p.Type() != packet.PINGRESP {
		t.Fatalf("got %T %+v", p, p)
	}
	for i := range 2 {
		if pub := readPublish(t, live); string(pub.Payload) != fmt.Sprint(i) {
			t.Errorf("heard %s", pub.Payload)
		}
	}
	slow.release()
	for i := range 5 {
		if i == 0 || i == 3 {
			continue // QoS 0
		}
		if a, ok := read(t, c).(*packet.Ack); !ok || a.ID != uint16(i)*7 || a.Reason != 0 {
			t.Errorf("message %d: got %+v", i, a)
		}
	}
	for range 3 {
		readPublish(t, live)
	}
	slow.hold()
	send(t, c, &packet.Publish{Topic: "y", QoS: 1, ID: 1}) // nobody hears it: nothing to wait for
	if a, ok := read(t, c).(*packet.Ack); !ok || a.Reason != packet.NoMatchingSubscribers {
		t.Errorf("got %+v", a)
	}
	slow.release()
}

func TestChangesOfOnePublishAreOneApply(t *testing.T) {
	s, slow := startSlow(t)
	a := brokertest.Dial(t, s, v5("a", 100))
	subscribe(t, a, "x", 2)
	before := len(slow.ops())
	send(t, a, &packet.Publish{Topic: "x", QoS: 2, ID: 9, Retain: true, Payload: []byte("1")})
	for range 2 {
		read(t, a) // PUBREC and PUBLISH
	}
	want := []store.Op{store.Retain, store.HoldID, store.Enqueue, store.Send}
	if got := slow.ops()[before:]; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	send(t, a, &packet.Ack{Kind: packet.PUBREL, ID: 9})
	send(t, a, &packet.Ack{Kind: packet.PUBREC, ID: 1})
	read(t, a)
	read(t, a)
	send(t, a, &packet.Ack{Kind: packet.PUBCOMP, ID: 1})
	eventually(t, "all is done", func() bool { return s.Clients()[0].InFlight == 0 })
	got := slow.ops()[before+4:]
	slices.Sort(got)
	if want := []store.Op{store.Received, store.Dequeue, store.ReleaseID}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What cannot be kept is refused; a 3.1.1 client, which cannot be told, is cut off
// [MQTT3-4.8.0-2].
func TestFullStore(t *testing.T) {
	s, slow := startSlow(t)
	away := brokertest.Dial(t, s, v5("away", 100))
	subscribe(t, away, "x", 2)
	c := brokertest.Dial(t, s, v5("c", 0))
	old := v5("old", 0)
	old.Version = packet.V311
	slow.fail(store.ErrFull)
	for _, q := range []message.QoS{1, 2} {
		send(t, c, &packet.Publish{Topic: "x", QoS: q, ID: 1})
		if a, ok := read(t, c).(*packet.Ack); !ok || a.Reason != packet.QuotaExceeded {
			t.Errorf("QoS %d: got %+v", q, a)
		}
		c4 := brokertest.Dial(t, s, old)
		send(t, c4, &packet.Publish{Topic: "x", QoS: q, ID: 1})
		if p, err := c4.Read(); !errors.Is(err, io.EOF) {
			t.Errorf("QoS %d: 3.1.1 is not cut off: %+v, %v", q, p, err)
		}
	}
	if err := s.Publish(t.Context(), message.Message{Topic: "x", QoS: 1}); err == nil {
		t.Error("the bus says that it was kept")
	}
	nc := v5("new", 100)
	t.Run("a session that cannot be kept is refused", func(t *testing.T) {
		failed := dialRaw(t, s)
		ack, err := failed.Connect(nc)
		if err != nil || ack.Reason != packet.ServerUnavailable {
			t.Errorf("got %+v, %v", ack, err)
		}
	})
	slow.fail(nil)
	send(t, c, &packet.Publish{Topic: "x", QoS: 2, ID: 1})
	if a, ok := read(t, c).(*packet.Ack); !ok || a.Reason != 0 {
		t.Errorf("with room again: got %+v", a)
	}
	if ack, err := dialRaw(t, s).Connect(nc); err != nil || ack.Reason != 0 || ack.SessionPresent {
		t.Errorf("with room again: got %+v, %v", ack, err)
	}
}

func TestReaderWaitsForAStoreThatIsBehind(t *testing.T) {
	s, slow := startSlow(t)
	away := brokertest.Dial(t, s, v5("away", 100))
	subscribe(t, away, "x", 1)
	_ = away.Close() // without a word
	old := v5("old", 0)
	old.Version = packet.V311
	c := brokertest.Dial(t, s, old)
	slow.hold()
	const n = 500
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			if err := c.Send(&packet.Publish{Topic: "x", QoS: 1, ID: uint16(i + 1)}); err != nil {
				t.Error(err)
			}
			if err := c.Send(&packet.Pingreq{}); err != nil { // ends a batch
				t.Error(err)
			}
		}
	})
	var pongs int
	for pongs < 32 {
		if p := read(t, c); p.Type() != packet.PINGRESP {
			t.Fatalf("got %T", p)
		}
		pongs++
	}
	slow.release()
	wanted := uint16(1)
	for pongs < n || wanted <= n {
		switch p := read(t, c).(type) {
		case *packet.Pingresp:
			pongs++
		case *packet.Ack:
			if p.ID != wanted {
				t.Fatalf("got %d, want %d", p.ID, wanted)
			}
			wanted++
		}
	}
	wg.Wait()
}

// What the store did not take is not answered: the connection ends, and the client says
// it again on the next one.
func TestFailedChangesAreNotAnswered(t *testing.T) {
	type step func(t *testing.T, s *brokertest.Server, c *brokertest.Client)
	ack := func(kind packet.Type, id uint16) step {
		return func(t *testing.T, _ *brokertest.Server, c *brokertest.Client) {
			send(t, c, &packet.Ack{Kind: kind, ID: id})
		}
	}
	for name, c := range map[string]struct {
		before, during, after step
		want                  packet.Packet // the answer, once the store takes it
	}{
		"SUBACK": {
			during: func(t *testing.T, _ *brokertest.Server, c *brokertest.Client) {
				send(t, c, &packet.Subscribe{ID: 7, Filters: []packet.Filter{{Filter: "y"}}})
			},
			want: &packet.Suback{ID: 7, Reasons: []packet.Reason{0}},
		},
		"UNSUBACK": {
			during: func(t *testing.T, _ *brokertest.Server, c *brokertest.Client) {
				send(t, c, &packet.Unsubscribe{ID: 7, Filters: []string{"x"}})
			},
			want: &packet.Unsuback{ID: 7, Reasons: []packet.Reason{packet.NoSubscriptionExisted}},
		},
		"PUBCOMP": {
			before: func(t *testing.T, _ *brokertest.Server, c *brokertest.Client) {
				send(t, c, &packet.Publish{Topic: "z", QoS: 2, ID: 7})
				send(t, c, &packet.Publish{Topic: "x", QoS: 2, ID: 8})
				read(t, c) // one PUBREC
				read(t, c) // and the other, or the message
				read(t, c)
			},
			during: ack(packet.PUBREL, 8),
			want:   &packet.Ack{Kind: packet.PUBCOMP, ID: 8},
		},
		"PUBREL": {
			before: func(t *testing.T, s *brokertest.Server, c *brokertest.Client) {
				publish(t, s, message.Message{Topic: "x", QoS: 2})
				read(t, c)
			},
			during: ack(packet.PUBREC, 1),
			after: func(t *testing.T, _ *brokertest.Server, c *brokertest.Client) {
				if p, ok := read(t, c).(*packet.Publish); !ok || p.ID != 1 || !p.Dup {
					t.Errorf("got %+v", p)
				}
			},
			want: &packet.Ack{Kind: packet.PUBREL, ID: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, slow := startSlow(t)
			one := brokertest.Dial(t, s, v5("c", 100))
			subscribe(t, one, "x", 2)
			if c.before != nil {
				c.before(t, s, one)
			}
			slow.fail(errors.New("broken"))
			c.during(t, s, one)
			if p, ok := read(t, one).(*packet.Disconnect); !ok || p.Reason != packet.ImplementationSpecificError {
				t.Errorf("got %+v", p)
			}
			_ = one.Close() // the server has
			slow.fail(nil)
			two := dialRaw(t, s)
			p := v5("c", 100)
			if ack, err := two.Connect(p); err != nil || !ack.SessionPresent {
				t.Fatalf("got %+v, %v", ack, err)
			}
			if c.after != nil {
				c.after(t, s, two)
			}
			c.during(t, s, two)
			for {
				got := read(t, two)
				if got.Type() == packet.PUBLISH { // in flight
					continue
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s", diff)
				}
				break
			}
		})
	}
}

// A session that the store did not let go of is let go of before its name is used again.
func TestFailedCleanStart(t *testing.T) {
	s, slow := startSlow(t)
	_ = brokertest.Dial(t, s, v5("c", 100)).Close() // without a word
	slow.fail(errors.New("broken"))
	for range 2 {
		if ack, err := dialRaw(t, s).Connect(v5("c", 0)); err != nil || ack.Reason != packet.ServerUnavailable {
			t.Errorf("got %+v, %v", ack, err)
		}
	}
	slow.fail(nil)
	before := len(slow.ops())
	brokertest.Dial(t, s, v5("c", 0))
	if got := slow.ops()[before:]; !slices.Equal(got, []store.Op{store.DropSession}) {
		t.Errorf("got %v", got)
	}
}

// What may leave at once does not overtake what waits for the store: neither in one batch
// nor in another.
func TestNothingOvertakesWhatWaitsForTheStore(t *testing.T) {
	s, slow := startSlow(t)
	sub := brokertest.Dial(t, s, v5("sub", 0))
	subscribe(t, sub, "x", 2)
	away := brokertest.Dial(t, s, v5("away", 100)) // has the store keep it
	subscribe(t, away, "x", 2)
	_ = away.Close() // without a word
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 1 })
	c := brokertest.Dial(t, s, v5("c", 0))
	slow.hold()
	for i, qos := range []message.QoS{2, 1, 1, 1} {
		send(t, c, &packet.Publish{Topic: "x", QoS: qos, ID: uint16(i + 1), Payload: fmt.Append(nil, i)})
		if i > 0 { // else it may be in one batch with the next
			send(t, c, &packet.Pingreq{})
			read(t, c) // the batch has been run
		}
	}
	slow.release()
	for i := range 4 {
		if p := readPublish(t, sub); string(p.Payload) != fmt.Sprint(i) {
			t.Errorf("message %s came as number %d", p.Payload, i)
		}
	}
}

// A message whose sending the store did not take, but that of a later one, comes before
// it again after a restart.
func TestOrderOfWhatWasSentAfterARestart(t *testing.T) {
	o := options()
	changes := []store.Change{
		{Op: store.PutSession, Session: "c", Record: &store.SessionRecord{ClientID: "c", Expiry: store.Forever}},
		{Op: store.Subscribe, Session: "c", Sub: &store.Subscription{Filter: "x", QoS: 1}},
	}
	for pos := range uint64(4) {
		m := numbered("x", int(pos+1), 1)
		changes = append(changes, store.Change{
			Op: store.Enqueue, Session: "c", Position: pos + 1, Message: &m, Delivery: store.Delivery{QoS: 1},
		})
	}
	changes = append(changes, store.Change{Op: store.Send, Session: "c", Position: 2, ID: 5},
		store.Change{Op: store.Send, Session: "c", Position: 3, ID: 6})
	if err := o.Store.Apply(changes).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := brokertest.Start(t, o)
	c := brokertest.Dial(t, s, v5("c", 100))
	for i := range 4 {
		p := readPublish(t, c)
		if want := fmt.Sprintf("%06d", i+1); string(p.Payload) != want || p.Dup != (i == 1 || i == 2) {
			t.Errorf("got %s with DUP %v, want %s", p.Payload, p.Dup, want)
		}
	}
}

// What the store refuses makes room in flight, and what waited for that comes, though
// nothing else happens to the session.
func TestRefusedMessageMakesRoom(t *testing.T) {
	s, slow := startSlow(t)
	hello := v5("sub", 0)
	hello.Properties.ReceiveMaximum = 1
	sub := brokertest.Dial(t, s, hello)
	subscribe(t, sub, "x", 2)
	absentee(t, s, "x", 0) // has the store keep it
	c := brokertest.Dial(t, s, v5("c", 0))
	slow.hold()
	for i, err := range []error{store.ErrFull, nil} {
		slow.fail(err)
		send(t, c, &packet.Publish{Topic: "x", QoS: message.QoS(2 - i), ID: uint16(i + 1), Payload: fmt.Append(nil, i)})
		send(t, c, &packet.Pingreq{})
		read(t, c) // the batch has been run
	}
	slow.release()
	if p := readPublish(t, sub); string(p.Payload) != "1" {
		t.Errorf("got %s, which was refused", p.Payload)
	}
}
