package broker_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// options are those of a server that lets everyone in.
func options() broker.Options {
	return broker.Options{Store: mem.New(), Authorizer: brokertest.Everyone(), StatusEvery: -1}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("it does not come to be that %s", what)
		}
	}
}

// v5 is a CONNECT of 5.0; expiry is that of the session in seconds.
func v5(id string, expiry uint32) *packet.Connect {
	return &packet.Connect{
		Version: packet.V5, ClientID: id, Clean: expiry == 0,
		Properties: packet.ConnectProperties{SessionExpiryInterval: expiry},
	}
}

// subscribe subscribes to one filter.
func subscribe(t testing.TB, c *brokertest.Client, filter string, qos message.QoS) {
	t.Helper()
	send(t, c, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: filter, Options: packet.SubscribeOptions{QoS: qos}}}})
	if ack, ok := read(t, c).(*packet.Suback); !ok || ack.Reasons[0].Failed() {
		t.Fatalf("not subscribed: %+v", ack)
	}
}

func send(t testing.TB, c *brokertest.Client, p packet.Packet) {
	t.Helper()
	if err := c.Send(p); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, c *brokertest.Client) packet.Packet {
	t.Helper()
	p, err := c.Read()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// readPublish reads a PUBLISH and acknowledges it, if it is of QoS 1.
func readPublish(t testing.TB, c *brokertest.Client) *packet.Publish {
	t.Helper()
	p := read(t, c)
	pub, ok := p.(*packet.Publish)
	if !ok {
		t.Fatalf("expected a PUBLISH, got %T %+v", p, p)
	}
	if pub.QoS == 1 {
		send(t, c, &packet.Ack{Kind: packet.PUBACK, ID: pub.ID})
	}
	return pub
}

func publish(t testing.TB, s *brokertest.Server, msgs ...message.Message) {
	t.Helper()
	if err := s.Publish(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
}

func numbered(topic string, n int, qos message.QoS) message.Message {
	return message.Message{Topic: topic, Payload: fmt.Appendf(nil, "%06d", n), QoS: qos}
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// dialRaw opens a connection and does not connect yet.
func dialRaw(t testing.TB, s *brokertest.Server) *brokertest.Client {
	t.Helper()
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() }) // closed before, perhaps
	return brokertest.NewClient(nc)
}
