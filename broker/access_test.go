package broker_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// moody lets everyone in and do everything until it is told otherwise, and counts how
// often it is asked.
type moody struct {
	closed, gone atomic.Bool
	asked        atomic.Int64
}

func (*moody) Connect(_ context.Context, who broker.Identity, _ []byte) (string, error) {
	return who.Username, nil
}

func (f *moody) Allow(context.Context, broker.Identity, broker.Action, string) error {
	f.asked.Add(1)
	if f.closed.Load() {
		return packet.NotAuthorized
	}
	return nil
}

func (f *moody) AllowsAll(broker.Identity, broker.Action) bool { return !f.closed.Load() }

func (f *moody) Stays(who broker.Identity) bool { return !f.gone.Load() || who.Principal != "leaver" }

// user is a CONNECT of a user.
func user(id, name string, expiry uint32) *packet.Connect {
	p := v5(id, expiry)
	p.Username, p.HasUsername = name, true
	return p
}

// The server remembers that a client may do everything; it must not do so for longer
// than that is true.
func TestReauthorize(t *testing.T) {
	f := &moody{}
	o := options()
	o.Authorizer = f
	s := brokertest.Start(t, o)
	a := brokertest.Dial(t, s, user("a", "stayer", 100))
	subscribe(t, a, "x", 1)
	pub := func(reason packet.Reason) {
		t.Helper()
		send(t, a, &packet.Publish{Topic: "x", QoS: 1, ID: 7, Payload: []byte("1")})
		for range 2 {
			switch p := read(t, a).(type) {
			case *packet.Publish:
				if reason.Failed() {
					t.Error("it is sent what it may not receive")
				}
				send(t, a, &packet.Ack{Kind: packet.PUBACK, ID: p.ID})
			case *packet.Ack:
				if p.Reason != reason {
					t.Errorf("got %v, want %v", p.Reason, reason)
				}
				if reason.Failed() {
					return
				}
			}
		}
	}
	pub(packet.Success)
	before := f.asked.Load()
	pub(packet.Success)
	if now := f.asked.Load(); now != before {
		t.Errorf("it was asked %d times what it had answered for all", now-before)
	}
	f.closed.Store(true)
	s.Reauthorize()
	pub(packet.NotAuthorized)
	if err := s.Publish(t.Context(), message.Message{Topic: "x", QoS: 1, Payload: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	f.closed.Store(false)
	s.Reauthorize()
	subscribe(t, a, "x", 1) // which had ended
	pub(packet.Success)
}

func TestReauthorizeDisconnectsWhoMayNotStay(t *testing.T) {
	f := &moody{}
	o := options()
	o.Authorizer = f
	s := brokertest.Start(t, o)
	stayer, leaver := brokertest.Dial(t, s, user("a", "stayer", 0)), brokertest.Dial(t, s, user("b", "leaver", 100))
	old := user("c", "leaver", 0)
	old.Version, old.Properties, old.Clean = packet.V311, packet.ConnectProperties{}, true
	classic := brokertest.Dial(t, s, old)
	f.gone.Store(true)
	s.Reauthorize()
	if d, ok := read(t, leaver).(*packet.Disconnect); !ok || d.Reason != packet.NotAuthorized {
		t.Errorf("got %+v, want DISCONNECT 0x87", d)
	}
	if p, err := classic.Read(); err == nil {
		t.Errorf("a 3.1.1 client got %+v, want the end", p)
	}
	send(t, stayer, &packet.Pingreq{})
	if _, ok := read(t, stayer).(*packet.Pingresp); !ok {
		t.Error("the other is not served any more")
	}
}

// What waits for a client is asked about again when rights have changed, though the
// client was connected all the time.
func TestReauthorizeWithholdsWhatWaits(t *testing.T) {
	f := &moody{}
	o := options()
	o.Authorizer = f
	s := brokertest.Start(t, o)
	hello := user("a", "stayer", 100)
	hello.Properties.ReceiveMaximum = 1
	a := brokertest.Dial(t, s, hello)
	subscribe(t, a, "x", 1)
	for range 3 {
		if err := s.Publish(t.Context(), message.Message{Topic: "x", QoS: 1, Payload: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	first, ok := read(t, a).(*packet.Publish)
	if !ok {
		t.Fatal("nothing came")
	}
	f.closed.Store(true)
	s.Reauthorize()
	send(t, a, &packet.Ack{Kind: packet.PUBACK, ID: first.ID})
	send(t, a, &packet.Pingreq{})
	if p, ok := read(t, a).(*packet.Pingresp); !ok {
		t.Errorf("got %+v, want nothing but the PINGRESP", p)
	}
	eventually(t, "the other two are dropped", func() bool { return s.Stats().Dropped["not-authorized"] == 2 })
}

// narrow lets everyone do everything, but for subscriptions below "private" when told.
type narrow struct {
	moody
	shut atomic.Bool
}

func (n *narrow) Allow(ctx context.Context, who broker.Identity, a broker.Action, name string) error {
	if a == broker.ActSubscribe && n.shut.Load() && strings.HasPrefix(name, "private") {
		return packet.NotAuthorized
	}
	return n.moody.Allow(ctx, who, a, name)
}

// Who may not subscribe any more loses the subscription, connected, away or after a
// restart; what only the filter gave is not sent, what another filter gives is.
func TestReauthorizeEndsSubscriptions(t *testing.T) {
	n := &narrow{}
	o := options()
	o.Authorizer = n
	s := brokertest.Start(t, o)
	here, away := brokertest.Dial(t, s, user("here", "u", 100)), brokertest.Dial(t, s, user("away", "u", 100))
	for _, c := range []*brokertest.Client{here, away} {
		subscribe(t, c, "private/+", 1)
		subscribe(t, c, "$share/g/private/#", 1)
		subscribe(t, c, "public", 1)
	}
	_ = away.Close() // without a word
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 1 })
	n.shut.Store(true)
	s.Reauthorize()
	if st := s.Stats(); st.Subscriptions != 2 || st.Shared != 0 {
		t.Errorf("%d subscriptions are left, %d of them shared, want 2 and 0", st.Subscriptions, st.Shared)
	}
	n.shut.Store(false)
	back := brokertest.Dial(t, s, user("away", "u", 100)) // it got none back
	for _, name := range []string{"private/x", "public"} {
		if err := s.Publish(t.Context(), message.Message{Topic: name, QoS: 1, Payload: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []*brokertest.Client{here, back} {
		if p, ok := read(t, c).(*packet.Publish); !ok || p.Topic != "public" {
			t.Errorf("got %+v, want a message to public", p)
		}
	}
	subscribe(t, back, "private/+", 1)
	_ = back.Close()
	s.Stop()
	n.shut.Store(true)
	s = brokertest.Start(t, o)
	brokertest.Dial(t, s, user("away", "u", 100))
	eventually(t, "the subscription has ended", func() bool { return s.Stats().Subscriptions == 2 })
}
