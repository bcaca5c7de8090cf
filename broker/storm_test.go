package broker_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// sealed is a payload of n bytes or more that says itself whether it is whole: its
// topic's name, a number, noise, and the sum of all.
func sealed(r *rand.Rand, topic string, number uint32, n int) []byte {
	b := binary.BigEndian.AppendUint32(nil, number)
	b = append(b, byte(len(topic)))
	b = append(b, topic...)
	for len(b) < n {
		b = append(b, byte(r.Uint32()))
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// unseal says the number of a sealed payload, and what is wrong with it.
func unseal(topic string, b []byte) (number uint32, err error) {
	if len(b) < 9 {
		return 0, fmt.Errorf("payload of %q has %d bytes", topic, len(b))
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.ChecksumIEEE(body) != sum {
		return 0, fmt.Errorf("payload of %q is not what was published", topic)
	}
	if name := string(body[5:][:body[4]]); name != topic {
		return 0, fmt.Errorf("payload of %q came with topic %q", name, topic)
	}
	return binary.BigEndian.Uint32(body), nil
}

// ledger checks that what one listener hears is whole and in order, a topic.
type ledger struct {
	last map[string]uint32
	n    int
}

func (l *ledger) take(topic string, payload []byte) error {
	l.n++
	number, err := unseal(topic, payload)
	if err != nil {
		return err
	}
	if l.last == nil {
		l.last = make(map[string]uint32)
	}
	if before, heard := l.last[topic]; heard && number <= before {
		return fmt.Errorf("number %d of %q came after %d", number, topic, before)
	}
	l.last[topic] = number
	return nil
}

// keeper is an interceptor that hears some topics, changes nothing, and keeps what
// it was shown, as it may.
type keeper struct {
	mu   sync.Mutex
	seen []message.Message
}

func (*keeper) Hears(topic string) bool { return len(topic)%2 == 0 }

func (r *keeper) Intercept(_ context.Context, batch []message.Message) []message.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, batch...)
	return nil
}

// Loops lend the memory that they read into to messages. Whoever keeps one for
// longer must have copied it: retained messages, queues, in-process subscribers,
// wills, topic aliases, interceptors, packets that come in parts. Every payload
// carries the sum of its bytes, so a copy that was forgotten shows.
func TestMessagesOutliveTheMemoryTheyWereReadInto(t *testing.T) {
	heard := &keeper{}
	o := options()
	o.Interceptor = heard
	o.Limits.QueueMessages, o.Limits.QueueBytes = 1<<20, 1<<30
	s := brokertest.Start(t, o)
	const publishers, each = 6, 300
	away := brokertest.Dial(t, s, v5("away", 1000)) // what is for it is queued
	subscribe(t, away, "#", 1)
	send(t, away, &packet.Disconnect{})
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 0 })
	var bus ledger
	ctx, cancel := context.WithCancel(t.Context())
	subscribed, hears := make(chan struct{}), make(chan error, 1)
	go func() {
		hears <- s.Subscribe(ctx, message.Subscription{
			Name: "bus", Filters: []string{"#"}, QoS: 1, Ready: func() { close(subscribed) },
		}, func(_ context.Context, batch []message.Message) error {
			for i := range batch {
				if err := bus.take(batch[i].Topic, batch[i].Payload); err != nil {
					t.Error("in-process subscriber: ", err)
				}
			}
			if bus.n == publishers*each {
				cancel()
			}
			return nil
		})
	}()
	<-subscribed
	live := brokertest.Dial(t, s, v5("live", 0))
	subscribe(t, live, "#", 1)
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() { pour(t, s, i, each) })
	}
	expectAll(t, live, publishers*each)
	wg.Wait()
	if err := <-hears; err != nil {
		t.Error(err)
	}
	away = brokertest.Dial(t, s, v5("away", 1000))
	expectAll(t, away, publishers*each)
	for _, m := range s.Retained("#", 1000) {
		if _, err := unseal(m.Topic, m.Payload); err != nil {
			t.Error("retained: ", err)
		}
	}
	heard.mu.Lock()
	defer heard.mu.Unlock()
	for _, m := range heard.seen {
		if _, err := unseal(m.Topic, m.Payload); err != nil {
			t.Error("interceptor: ", err)
		}
		if !heard.Hears(m.Topic) {
			t.Errorf("the interceptor does not hear %q", m.Topic)
		}
	}
	if len(heard.seen) == 0 || len(s.Retained("#", 1000)) == 0 {
		t.Error("nothing was intercepted or retained, so this shows nothing")
	}
}

// pour publishes sealed messages of many sizes, several a write, cut anywhere, some
// by topic alias, some retained.
func pour(t *testing.T, s *brokertest.Server, publisher, n int) {
	r := rand.New(rand.NewPCG(1, uint64(publisher)))
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Error(err)
		return
	}
	defer nc.Close()
	c := brokertest.NewClient(nc)
	if ack, err := c.Connect(v5(fmt.Sprint("pours", publisher), 0)); err != nil || ack.Reason.Failed() {
		t.Error(ack, err)
		return
	}
	var acked sync.WaitGroup
	acked.Go(func() {
		for range n {
			if p, err := c.Read(); err != nil {
				t.Errorf("answer: %v, %v", p, err)
				return
			}
		}
	})
	topics := []string{fmt.Sprint("a/", publisher), fmt.Sprint("ab/", publisher), fmt.Sprint("abc/", publisher)}
	named := make([]bool, len(topics))
	var out []byte
	for i := range n {
		at := r.IntN(len(topics))
		size := []int{10, 200, 3_000, 20_000, 70_000}[r.IntN(100)*r.IntN(100)/2000]
		p := &packet.Publish{
			Topic: topics[at], QoS: 1, ID: uint16(i + 1), Retain: r.IntN(3) == 0,
			Payload: sealed(r, topics[at], uint32(i+1), size),
		}
		if r.IntN(2) == 0 {
			p.Properties.TopicAlias = uint16(at + 1)
			if named[at] {
				p.Topic = ""
			}
			named[at] = true
		}
		if out, err = packet.Append(out, p, packet.V5); err != nil {
			t.Error(err)
			return
		}
		for len(out) > 0 && (i == n-1 || r.IntN(4) == 0) {
			part := out[:min(len(out), 1+r.IntN(30_000))]
			if _, err := nc.Write(part); err != nil {
				t.Error(err)
				return
			}
			out = out[len(part):]
		}
	}
	acked.Wait()
}

// expectAll reads n sealed messages, acknowledging them.
func expectAll(t *testing.T, c *brokertest.Client, n int) {
	t.Helper()
	var l ledger
	for l.n < n {
		pub := readPublish(t, c)
		if err := l.take(pub.Topic, pub.Payload); err != nil {
			t.Fatal(err)
		}
	}
}

// A storm of connects, floods, slow readers, half-closes, resets and kicks leaves
// two who have nothing to do with it alone: none of their messages is lost or late
// for good, which a lost wake-up or a descriptor taken for another's would do.
func TestStorm(t *testing.T) {
	o := options()
	o.Limits.Output = 32 << 10
	s := brokertest.Start(t, o)
	calm := brokertest.Dial(t, s, v5("calm", 0))
	subscribe(t, calm, "calm/#", 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var raged atomic.Int64
	for i := range 12 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(i)))
			for ctx.Err() == nil {
				rage(s, r, fmt.Sprint("rage", i%9))
				raged.Add(1)
			}
		})
	}
	wg.Go(func() { // kicks whoever is there
		for ctx.Err() == nil {
			for _, c := range s.Clients() {
				if c.ClientID != "calm" {
					s.Disconnect(c.ClientID, packet.AdministrativeAction)
				}
			}
			if nc, err := net.Dial("tcp", s.Address()); err == nil {
				_ = nc.Close() // without a word
			}
		}
	})
	var heard sync.WaitGroup
	heard.Go(func() { expectAllOf(t, calm, 200) })
	for i := range 200 {
		m := message.Message{Topic: "calm/x", QoS: 1, Payload: sealed(rand.New(rand.NewPCG(3, 3)), "calm/x", uint32(i+1), 500)}
		publish(t, s, m)
		publish(t, s, message.Message{Topic: "rage/x", QoS: message.QoS(i % 3), Payload: make([]byte, 4<<10)})
	}
	heard.Wait()
	eventually(t, "it has stormed", func() bool { return raged.Load() > 300 })
	cancel()
	wg.Wait()
	send(t, calm, &packet.Disconnect{})
	eventually(t, "nothing is left", func() bool {
		stats := s.Stats()
		return stats.Connections == 0 && stats.Clients == 0 && stats.Sessions == 0 && stats.Subscriptions == 0
	})
}

func expectAllOf(t *testing.T, c *brokertest.Client, n int) {
	var l ledger
	for l.n < n {
		p, err := c.Read()
		if err != nil {
			t.Errorf("after %d messages: %v", l.n, err)
			return
		}
		if pub, ok := p.(*packet.Publish); ok {
			if err := l.take(pub.Topic, pub.Payload); err != nil {
				t.Error(err)
			}
			if err := c.Send(&packet.Ack{Kind: packet.PUBACK, ID: pub.ID}); err != nil {
				t.Error(err)
			}
		}
	}
}

// rage is one connection of a storm: it connects, does something wild, and leaves in
// one of many ways.
func rage(s *brokertest.Server, r *rand.Rand, id string) {
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		return
	}
	defer nc.Close()
	tcp := nc.(*net.TCPConn) //nolint:forcetypeassert // it is what "tcp" gives
	if r.IntN(10) == 0 {     // says nothing
		return
	}
	c := brokertest.NewClient(nc)
	if r.IntN(2) == 0 {
		_ = tcp.SetReadBuffer(4 << 10) // a slow reader
	}
	if _, err := c.Connect(v5(id, 0)); err != nil {
		return
	}
	_ = c.Send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{
		{Filter: "rage/#", Options: packet.SubscribeOptions{QoS: message.QoS(r.IntN(3))}},
	}})
	var flood []byte
	for i := range r.IntN(200) {
		p := &packet.Publish{Topic: "rage/y", QoS: message.QoS(r.IntN(3)), Payload: make([]byte, r.IntN(2000))}
		if p.QoS > 0 {
			p.ID = uint16(i + 1)
		}
		flood, _ = packet.Append(flood, p, packet.V5)
	}
	for len(flood) > 0 && r.IntN(20) != 0 { // or it breaks off
		part := flood[:min(len(flood), 1+r.IntN(60_000))]
		if _, err := nc.Write(part); err != nil {
			return
		}
		flood = flood[len(part):]
	}
	for range r.IntN(30) {
		if _, err := c.Read(); err != nil {
			return
		}
	}
	switch r.IntN(4) {
	case 0:
		_ = c.Send(&packet.Disconnect{})
	case 1:
		_ = tcp.CloseWrite() // and reads to the end
		_, _ = io.Copy(io.Discard, nc)
	case 2:
		_ = tcp.SetLinger(0) // a reset
	default:
	}
}

// A client that does not read what it is sent is not listened to either; when it
// reads again, it is, and nothing is lost: whoever waited for room was woken.
func TestStalledClientGoesOn(t *testing.T) {
	o := options()
	o.Limits.Output = 16 << 10
	s := brokertest.Start(t, o)
	listener := newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	serving.Go(func() { _ = s.Serve(ctx, listener) })
	for name, dial := range map[string]func() (net.Conn, error){
		"on a loop":                   func() (net.Conn, error) { return net.Dial("tcp", s.Address()) },
		"with a goroutine of its own": func() (net.Conn, error) { return listener.dial(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			c := brokertest.NewClient(nc)
			if ack, err := c.Connect(v5("stalls", 0)); err != nil || ack.Reason.Failed() {
				t.Fatal(ack, err)
			}
			subscribe(t, c, "x", 1)
			const n = 1000
			var wrote atomic.Int64
			var wg sync.WaitGroup
			wg.Go(func() {
				r := rand.New(rand.NewPCG(4, 4))
				for i := range n {
					err := c.Send(&packet.Publish{Topic: "x", QoS: message.QoS(i % 2), ID: uint16(i % 2 * (i + 1)), Payload: sealed(r, "x", uint32(i+1), 20<<10)})
					if err != nil {
						t.Error(err)
						return
					}
					wrote.Add(1)
				}
			})
			acks := make(chan *packet.Ack, n) // by another goroutine: it may have to wait until this one reads
			wg.Go(func() {
				for ack := range acks {
					if err := c.Send(ack); err != nil {
						t.Error(err)
					}
				}
			})
			eventually(t, "it is not listened to", func() bool {
				before := s.Stats().Received
				tick := time.NewTimer(50 * time.Millisecond)
				defer tick.Stop()
				<-tick.C
				return wrote.Load() < n && s.Stats().Received == before
			})
			for heard, acked := 0, 0; heard < n/2 || acked < n/2; { // of QoS 0 some are dropped
				switch p := read(t, c).(type) {
				case *packet.Publish:
					if _, err := unseal("x", p.Payload); err != nil {
						t.Fatal(err)
					}
					if p.QoS == 1 {
						heard++
						acks <- &packet.Ack{Kind: packet.PUBACK, ID: p.ID}
					}
				case *packet.Ack:
					acked++
				}
			}
			close(acks)
			wg.Wait()
		})
	}
}

// slowClose is a connection whose Close takes its time, as that of TLS does when the
// peer reads nothing.
type slowClose struct {
	net.Conn
	may chan struct{}
}

// Close implements [net.Conn].
func (c *slowClose) Close() error {
	<-c.may
	return c.Conn.Close()
}

type slowlyClosed struct {
	*pipes
	may chan struct{}
}

// Accept implements [net.Listener].
func (l *slowlyClosed) Accept() (net.Conn, error) {
	nc, err := l.pipes.Accept()
	if err != nil {
		return nil, err
	}
	return &slowClose{nc, l.may}, nil
}

// Nobody who publishes waits for the socket of a client that reads nothing to close.
func TestSlowCloseStopsNobody(t *testing.T) {
	o := options()
	o.Limits.Output, o.Limits.WriteTime = 1<<10, 50*time.Millisecond
	s := brokertest.Start(t, o)
	l := &slowlyClosed{newPipes(), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	defer close(l.may)
	serving.Go(func() { _ = s.Serve(ctx, l) })
	nc, err := l.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := brokertest.NewClient(nc)
	if ack, err := c.Connect(v5("deaf", 0)); err != nil || ack.Reason.Failed() {
		t.Fatal(ack, err)
	}
	subscribe(t, c, "x", 0)
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for publishing.Err() == nil {
				if err := s.Publish(ctx, message.Message{Topic: "x", Payload: []byte("1")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	eventually(t, "the deaf client is given up", func() bool { return s.Stats().Clients == 0 })
	stop()
	done := make(chan bool, 1)
	go func() { publishers.Wait(); done <- true }()
	expect(t, done, true)
	if n := s.Stats().Connections; n != 1 {
		t.Errorf("there are %d connections, so it is not closing any more", n)
	}
}

// A panic of an authorizer ends the connection that brought it about, and no other.
func TestPanicEndsOneConnection(t *testing.T) {
	o := options()
	o.Authorizer = panics{brokertest.Everyone()}
	_, listener := servePipes(t, o)
	loops := brokertest.Start(t, o)
	for name, dial := range map[string]func() (net.Conn, error){
		"on a loop":                   func() (net.Conn, error) { return net.Dial("tcp", loops.Address()) },
		"with a goroutine of its own": func() (net.Conn, error) { return listener.dial(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			connect := func(id string) *brokertest.Client {
				nc, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = nc.Close() })
				c := brokertest.NewClient(nc)
				if ack, err := c.Connect(v5(id, 100)); err != nil || ack.Reason.Failed() {
					t.Fatal(ack, err)
				}
				return c
			}
			victim := connect("victim")
			subscribe(t, victim, "#", 1)
			for i := range 10 {
				bad := connect(fmt.Sprint("bad", i))
				send(t, bad, &packet.Publish{Topic: "boom", QoS: 1, ID: 78})
				if p, err := bad.Read(); err == nil {
					t.Fatalf("it goes on after a panic: %+v", p)
				}
				good := connect(fmt.Sprint("good", i))
				send(t, good, &packet.Publish{Topic: "fine", QoS: 1, ID: 79})
				if ack, ok := read(t, good).(*packet.Ack); !ok || ack.ID != 79 {
					t.Fatalf("got %+v", ack)
				}
				if pub := readPublish(t, victim); pub.Topic != "fine" {
					t.Fatalf("got %+v", pub)
				}
			}
		})
	}
}

type panics struct{ broker.Authorizer }

func (panics) Allow(_ context.Context, who broker.Identity, action broker.Action, topic string) error {
	if action == broker.ActReceive && topic == "boom" && who.ClientID == "victim" {
		panic("boom")
	}
	return nil
}

// servePipes runs a server whose connections are pipes, each with a goroutine of its
// own.
func servePipes(t testing.TB, o broker.Options) (*broker.Server, *pipes) {
	t.Helper()
	server, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	listener := newPipes()
	var ended sync.WaitGroup
	ended.Go(func() { _ = server.Run(ctx) })
	ended.Go(func() { _ = server.Serve(ctx, listener) })
	t.Cleanup(func() { cancel(); ended.Wait() })
	return server, listener
}
