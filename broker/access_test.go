package broker_test

import (
	"context"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// fenced lets clients publish anywhere but on "forbidden".
type fenced struct{ broker.Authorizer }

func (fenced) Connect(_ context.Context, who broker.Identity, _ []byte) (string, error) {
	return who.Username, nil
}

func (fenced) Allow(_ context.Context, _ broker.Identity, a broker.Action, name string) error {
	if a == broker.ActPublish && name == "forbidden" {
		return packet.NotAuthorized
	}
	return nil
}

// replacer replaces what is on a topic "replaced", as one that knows only what MQTT knows.
type replacer struct{}

func (replacer) Intercept(_ context.Context, batch []message.Message) []message.Verdict {
	verdicts := make([]message.Verdict, len(batch))
	for i, m := range batch {
		if m.Topic == "x/replaced" {
			verdicts[i] = message.Verdict{Action: message.Replace, Message: &message.Message{Topic: m.Topic, ResponseTopic: m.ResponseTopic, QoS: m.QoS}}
		}
	}
	return verdicts
}

// Whoever hears a message inside is told whether its sender may publish to the response
// topic, however the message comes.
func TestResponseTopicIsNotTheSenders(t *testing.T) {
	o := options()
	o.Authorizer, o.Interceptor = fenced{}, replacer{}
	inBubbleWith(t, o, func(t *testing.T, s *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		ctx, cancel := context.WithCancel(t.Context())
		heard := make(map[string]bool)
		var ended sync.WaitGroup
		ended.Go(func() {
			_ = s.Subscribe(ctx, message.Subscription{Name: "device/x", Filters: []string{"x/#"}}, func(_ context.Context, batch []message.Message) error {
				for _, m := range batch {
					heard[m.Topic+" "+m.ResponseTopic] = m.NoResponse
				}
				return nil
			}) // it ends with its context
		})
		synctest.Wait()
		hello := v5("a", 0)
		hello.Will = &packet.Will{Topic: "x/will"}
		hello.Will.Properties.ResponseTopic = "forbidden"
		a := dial(hello)
		for _, name := range []string{"x/live", "x/replaced", "$delayed/5/x/delayed"} {
			for _, to := range []string{"forbidden", "allowed"} {
				p := &packet.Publish{Topic: name}
				p.Properties.ResponseTopic = to
				send(t, a.Client, p)
			}
		}
		_ = a.Close()
		<-time.After(time.Minute)
		if err := s.Publish(ctx, message.Message{Topic: "x/inside", ResponseTopic: "forbidden"}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		cancel()
		ended.Wait()
		want := map[string]bool{"x/will forbidden": true, "x/inside forbidden": false}
		for _, name := range []string{"x/live", "x/replaced", "x/delayed"} {
			want[name+" forbidden"], want[name+" allowed"] = true, false
		}
		if !maps.Equal(heard, want) {
			t.Errorf("got %v, want %v", heard, want)
		}
	})
}
