package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

func TestNewChecksOptions(t *testing.T) {
	for name, o := range map[string]broker.Options{
		"no store":                {},
		"a limit below 0":         {Store: mem.New(), Limits: broker.Limits{Packet: -1}},
		"too many in flight":      {Store: mem.New(), Limits: broker.Limits{InFlight: 65_536}},
		"too many aliases":        {Store: mem.New(), Limits: broker.Limits{TopicAliases: 65_536}},
		"a packet that cannot be": {Store: mem.New(), Limits: broker.Limits{Packet: 1 << 28}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := broker.New(o); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestServerThatEndsBeforeItIsReady(t *testing.T) {
	closed := mem.New()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	server, err := broker.New(broker.Options{Store: closed})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot load the store") {
		t.Errorf("got %v", err)
	}
	if err := server.Publish(t.Context(), message.Message{Topic: "x"}); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("publish: got %v", err)
	}
	if err := server.Serve(t.Context(), newPipes()); err != nil {
		t.Errorf("serve: got %v", err)
	}
	if err := server.Run(t.Context()); err == nil {
		t.Error("it runs twice")
	}
}

// failing is a listener that fails, first for a while, then for good.
type failing struct {
	*pipes
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

type passingError struct{ error }

func (passingError) Temporary() bool { return true }

func TestServeReturnsWhatDoesNotPass(t *testing.T) {
	s := brokertest.Start(t, options())
	full, broken := passingError{errors.New("too many open files")}, errors.New("broken")
	err := s.Serve(t.Context(), &failing{pipes: newPipes(), errs: []error{full, full, broken}})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestTakeoverRace(t *testing.T) {
	s := brokertest.Start(t, options())
	const clients, each = 8, 25
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			for i := range each {
				nc, err := net.Dial("tcp", s.Address())
				if err != nil {
					t.Error(err)
					return
				}
				c := brokertest.NewClient(nc)
				p := v5("the one", uint32((i+n)%3)*100)
				ack, err := c.Connect(p)
				switch {
				case err != nil: // taken over before the answer was read
				case ack.Reason.Failed():
					t.Errorf("connect: %v", ack.Reason)
				case i%4 == 0:
					_ = c.Send(&packet.Disconnect{}) // taken over, perhaps
				default:
					_ = c.Send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: fmt.Sprint("t", n)}}}) // as well
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	last := brokertest.Dial(t, s, v5("the one", 0))
	if infos := s.Clients(); len(infos) != 1 || !infos[0].Connected {
		t.Errorf("got %+v", infos)
	}
	send(t, last, &packet.Disconnect{})
	eventually(t, "nothing is left", func() bool {
		stats := s.Stats()
		return stats.Sessions == 0 && stats.Clients == 0 && stats.Connections == 0 && stats.Subscriptions == 0
	})
}

func TestThousandClientsLeaveNothing(t *testing.T) {
	s := brokertest.Start(t, options())
	const n = 1000
	clients := make([]*brokertest.Client, n)
	var wg sync.WaitGroup
	for part := range 8 {
		wg.Go(func() {
			for i := part; i < n; i += 8 {
				c := brokertest.Dial(t, s, v5(fmt.Sprint("client", i), uint32(i%2)))
				subscribe(t, c, "all/+", 1)
				clients[i] = c
			}
		})
	}
	wg.Wait()
	publish(t, s, message.Message{Topic: "all/x", Payload: []byte("1"), QoS: 1})
	for _, c := range clients {
		if pub := readPublish(t, c); pub.Topic != "all/x" {
			t.Fatalf("got %+v", pub)
		}
	}
	if stats := s.Stats(); stats.Clients != n || stats.Subscriptions != n {
		t.Errorf("got %+v", stats)
	}
	for i, c := range clients {
		if i%3 == 0 {
			_ = c.Close() // without a word
			continue
		}
		send(t, c, &packet.Disconnect{})
	}
	eventually(t, "all have left, and their sessions have expired", func() bool {
		stats := s.Stats()
		return stats.Sessions == 0 && stats.Connections == 0 && stats.Subscriptions == 0
	})
	// goleak looks for goroutines when all tests are over.
}

func TestSlowConsumerDoesNotStopOthers(t *testing.T) {
	o := options()
	o.Limits.Output = 64 << 10
	s := brokertest.Start(t, o)
	slow := brokertest.Dial(t, s, v5("slow", 0))
	subscribe(t, slow, "x", 0)
	fast := brokertest.Dial(t, s, v5("fast", 0))
	subscribe(t, fast, "x", 0)
	payload := make([]byte, 16<<10)
	const n = 2000 // 32 MB: more than sockets hold
	for range n {
		publish(t, s, message.Message{Topic: "x", Payload: payload})
		readPublish(t, fast)
	}
	dropped := s.Stats().Dropped["slow"]
	if dropped < n/4 {
		t.Errorf("only %d of %d messages were dropped", dropped, n)
	}
	// The slow one goes on with what was not dropped, and is still there.
	for range n - int(dropped) {
		readPublish(t, slow)
	}
	send(t, slow, &packet.Pingreq{})
	if p := read(t, slow); p.Type() != packet.PINGRESP {
		t.Errorf("got %T", p)
	}
}

func TestSlowConsumerGetsAllOfQoS1(t *testing.T) {
	o := options()
	o.Limits.Output = 64 << 10
	o.Limits.QueueBytes = 1 << 30
	s := brokertest.Start(t, o)
	for _, expiry := range []uint32{0, 100} {
		t.Run(fmt.Sprint("expiry ", expiry), func(t *testing.T) {
			slow := brokertest.Dial(t, s, v5("slow", expiry))
			subscribe(t, slow, "x", 1)
			pad := strings.Repeat("x", 16<<10)
			const n = 2000
			for i := range n {
				publish(t, s, message.Message{Topic: "x", Payload: fmt.Appendf(nil, "%06d%s", i, pad), QoS: 1})
			}
			for i := range n {
				if pub := readPublish(t, slow); string(pub.Payload[:6]) != fmt.Sprintf("%06d", i) || pub.Dup {
					t.Fatalf("message %d: got %s, dup %v", i, pub.Payload[:6], pub.Dup)
				}
			}
			send(t, slow, &packet.Disconnect{})
			eventually(t, "it has left", func() bool { return s.Stats().Clients == 0 })
		})
	}
}

func TestLongQueueIsFetchedInOrder(t *testing.T) {
	s := brokertest.Start(t, options())
	away := brokertest.Dial(t, s, v5("away", 100))
	subscribe(t, away, "x", 2)
	_ = away.Close() // without a word
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 0 })
	const n = 5000 // more than the window in memory
	for i := range n {
		publish(t, s, numbered("x", i, 1))
	}
	p := v5("away", 100)
	p.Properties.ReceiveMaximum = 7
	back := brokertest.Dial(t, s, p)
	for i := range n {
		if i == n/2 { // and while it is fetched, more comes
			for j := range 3000 {
				publish(t, s, numbered("x", n+j, 1))
			}
		}
		if pub := readPublish(t, back); string(pub.Payload) != fmt.Sprintf("%06d", i) {
			t.Fatalf("message %d: got %s", i, pub.Payload)
		}
	}
	for i := range 3000 {
		if pub := readPublish(t, back); string(pub.Payload) != fmt.Sprintf("%06d", n+i) {
			t.Fatalf("message %d: got %s", n+i, pub.Payload)
		}
	}
	eventually(t, "nothing is queued", func() bool {
		info := s.Clients()[0]
		return info.Queued == 0 && info.InFlight == 0
	})
}

func TestManyRetainedMessages(t *testing.T) {
	o := options()
	o.Limits.Output, o.Limits.QueueMessages = 32<<10, 10
	s := brokertest.Start(t, o)
	const n = 3000
	for i := range n {
		m := numbered(fmt.Sprint("r/", i), i, message.QoS(i%2))
		m.Retain = true
		publish(t, s, m)
	}
	for _, expiry := range []uint32{0, 100} {
		c := brokertest.Dial(t, s, v5(fmt.Sprint("c", expiry), expiry))
		subscribe(t, c, "r/#", 1)
		for range n {
			if pub := readPublish(t, c); !pub.Retain {
				t.Fatalf("got %+v", pub)
			}
		}
		send(t, c, &packet.Disconnect{})
	}
	if dropped := s.Stats().Dropped; dropped["queue"]+dropped["slow"] > 0 {
		t.Errorf("dropped: %v", dropped)
	}
}

func TestStopsWhileClientsPublish(t *testing.T) {
	s := brokertest.Start(t, options())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var clients []*brokertest.Client
	for i := range 8 {
		c := brokertest.Dial(t, s, v5(fmt.Sprint("c", i), uint32(i)))
		subscribe(t, c, "x/#", 1)
		clients = append(clients, c)
	}
	for _, c := range clients {
		wg.Go(func() {
			for ctx.Err() == nil && c.Send(&packet.Publish{Topic: "x/y", Payload: []byte("1")}) == nil {
			}
		})
		wg.Go(func() {
			for {
				if _, err := c.Read(); err != nil {
					return
				}
			}
		})
	}
	eventually(t, "messages flow", func() bool { return s.Stats().Sent[0] > 1000 })
	s.Stop()
	wg.Wait()
}
