package broker_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// A client that comes back while its session ends gets a new one, which the end of
// the old one does not take from the store.
func TestNewSessionOutlivesTheEndOfTheOld(t *testing.T) {
	kept := mem.New()
	o := options()
	o.Store = kept
	s := brokertest.Start(t, o)
	many := &packet.Subscribe{ID: 1}
	for i := range 1000 { // their removal takes a while
		many.Filters = append(many.Filters, packet.Filter{Filter: fmt.Sprint("x/", i)})
	}
	end := uint32(0)
	for range 30 {
		old := brokertest.Dial(t, s, v5("a", 100))
		send(t, old, many)
		read(t, old)
		back := dialRaw(t, s)
		send(t, old, &packet.Disconnect{SessionExpiryInterval: &end})
		for len(s.Clients()) > 0 {
		}
		if ack, err := back.Connect(v5("a", 100)); err != nil || ack.Reason.Failed() {
			t.Fatalf("got %+v, %v", ack, err)
		}
		_ = old.Close() // closed by the server already
		eventually(t, "the old connection is gone", func() bool { return s.Stats().Connections == 1 })
		snap, err := kept.Load(t.Context())
		if err != nil || len(snap.Sessions) != 1 {
			t.Fatalf("the store has %d sessions, %v", len(snap.Sessions), err)
		}
		send(t, back, &packet.Disconnect{SessionExpiryInterval: &end})
		eventually(t, "nothing is left", func() bool { return s.Stats().Connections == 0 })
		_ = back.Close() // closed by the server already
	}
}

// banning is an authorizer that refuses with a code that few packets may carry.
type banning struct{ broker.Authorizer }

func (banning) Allow(context.Context, broker.Identity, broker.Action, string) error {
	return packet.Banned
}

func TestRefusalsAreAnsweredWhateverTheirCode(t *testing.T) {
	o := options()
	o.Authorizer = banning{brokertest.Everyone()}
	s := brokertest.Start(t, o)
	c := brokertest.Dial(t, s, v5("a", 0))
	for _, q := range []message.QoS{1, 2} {
		send(t, c, &packet.Publish{Topic: "x", QoS: q, ID: 1})
		if a, ok := read(t, c).(*packet.Ack); !ok || a.Reason != packet.ImplementationSpecificError {
			t.Errorf("QoS %d: got %+v", q, a)
		}
	}
	send(t, c, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "x"}}})
	if a, ok := read(t, c).(*packet.Suback); !ok || a.Reasons[0] != packet.ImplementationSpecificError {
		t.Errorf("got %+v", a)
	}
	if !s.Disconnect("a", packet.ServerUnavailable) {
		t.Error("not disconnected")
	}
	if d, ok := read(t, c).(*packet.Disconnect); !ok || d.Reason != packet.ImplementationSpecificError {
		t.Errorf("got %+v", d)
	}
}

// fickle is an authorizer that lets nobody be sent anything below a topic any more.
type fickle struct {
	broker.Authorizer
	revoked atomic.Pointer[string]
}

func (f *fickle) Allow(_ context.Context, _ broker.Identity, action broker.Action, topic string) error {
	if below := f.revoked.Load(); below != nil && action == broker.ActReceive && strings.HasPrefix(topic, *below) {
		return packet.NotAuthorized
	}
	return nil
}

func TestWhatWaitedIsAuthorizedAgain(t *testing.T) {
	o := options()
	f := &fickle{Authorizer: brokertest.Everyone()}
	o.Authorizer = f
	s := brokertest.Start(t, o)
	p := v5("a", 100)
	p.Properties.ReceiveMaximum = 2
	c := brokertest.Dial(t, s, p)
	subscribe(t, c, "#", 1)
	for _, name := range []string{"secret/sent", "open/sent", "secret/queued", "open/queued"} {
		publish(t, s, message.Message{Topic: name, QoS: 1})
	}
	for range 2 {
		read(t, c) // and does not acknowledge
	}
	_ = c.Close()
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 0 })
	secret := "secret/"
	f.revoked.Store(&secret)
	c = brokertest.Dial(t, s, p)
	for _, want := range []string{"open/sent", "open/queued"} {
		if pub := readPublish(t, c); pub.Topic != want {
			t.Errorf("got %q, want %q", pub.Topic, want)
		}
	}
	eventually(t, "nothing is left", func() bool { i := s.Clients()[0]; return i.Queued+i.InFlight == 0 })
	if n := s.Stats().Dropped["not-authorized"]; n != 2 {
		t.Errorf("%d counted", n)
	}
}
