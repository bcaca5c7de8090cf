package broker_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// plainAllocs is what a publish of QoS 0 to a plain subscription allocates on its way.
const plainAllocs = 0

// TestPlainPublishAllocates shows that what a publish of QoS 0 does not use costs it
// no allocation: shared subscriptions, priorities, delays, aliases, events and
// retained expiry are all in force.
func TestPlainPublishAllocates(t *testing.T) {
	o := options()
	o.ClientEvents = true
	o.Topics.Priorities = []broker.Priority{{Filter: "#", Class: 1}}
	o.Topics.RetainedExpiry = []broker.RetainedExpiry{{Filter: "#", After: 1 << 40}}
	o.Shared.Strategy = broker.HashTopic
	s := brokertest.Start(t, o)
	other := brokertest.Dial(t, s, v5("other", 0))
	subscribe(t, other, "$share/g/others/#", 1)
	for _, c := range []struct {
		name    string
		version packet.Version
		aliases uint16
	}{
		{"a client of 3.1.1", packet.V311, 0},
		{"a client of 5.0", packet.V5, 0},
		{"a client of 5.0 with topic aliases", packet.V5, 10},
	} {
		t.Run(c.name, func(t *testing.T) { measurePlain(t, s, c.version, c.aliases) })
	}
}

func measurePlain(t *testing.T, s *brokertest.Server, version packet.Version, aliases uint16) {
	const batch = 32
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := brokertest.NewClient(nc)
	p := &packet.Connect{Version: version, ClientID: "a", Clean: true}
	p.Properties.TopicAliasMaximum = aliases
	if _, err := c.Connect(p); err != nil {
		t.Fatal(err)
	}
	subscribe(t, c, "plain/+", 0)
	sent, err := packet.Append(nil, &packet.Publish{Topic: "plain/topic", Payload: make([]byte, 20)}, version)
	if err != nil {
		t.Fatal(err)
	}
	comes := len(sent)
	if aliases > 0 {
		send(t, c, &packet.Publish{Topic: "plain/topic"}) // from now on the alias is known
		read(t, c)
		comes -= len("plain/topic") - packet.AliasCost
	}
	var out []byte
	for range batch {
		out = append(out, sent...)
	}
	in := make([]byte, batch*comes)
	allocs := testing.AllocsPerRun(200, func() {
		if _, err := nc.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(nc, in); err != nil {
			t.Fatal(err)
		}
	})
	if perMessage := allocs / batch; perMessage >= plainAllocs+1 { // pools lose a little
		t.Errorf("%.2f allocations a message, want about %d", perMessage, plainAllocs)
	}
}

// insideAllocs is what a publish of QoS 0 to a subscriber inside allocates on its way: the
// message's bytes. Its place in the queue is used again.
const insideAllocs = 1

// TestInsideAllocates shows that a subscriber's batches use the same memory again.
func TestInsideAllocates(t *testing.T) {
	const batch = 32
	s := brokertest.Start(t, options())
	ctx, cancel := context.WithCancel(t.Context())
	stands, heard, ended := make(chan struct{}), make(chan struct{}, 1), make(chan error, 1)
	go func() {
		n := 0
		ended <- s.Subscribe(ctx, message.Subscription{
			Name: "inside", Filters: []string{"plain/+"}, Ready: func() { close(stands) },
		}, func(_ context.Context, msgs []message.Message) error {
			if n += len(msgs); n == batch {
				n = 0
				heard <- struct{}{}
			}
			return nil
		})
	}()
	<-stands
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := brokertest.NewClient(nc).Connect(&packet.Connect{Version: packet.V311, ClientID: "a", Clean: true}); err != nil {
		t.Fatal(err)
	}
	sent, err := packet.Append(nil, &packet.Publish{Topic: "plain/topic", Payload: make([]byte, 20)}, packet.V311)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Repeat(sent, batch)
	allocs := testing.AllocsPerRun(200, func() {
		if _, err := nc.Write(out); err != nil {
			t.Fatal(err)
		}
		<-heard
	})
	if perMessage := allocs / batch; perMessage >= insideAllocs+1 { // pools lose a little
		t.Errorf("%.2f allocations a message, want about %d", perMessage, insideAllocs)
	} else {
		t.Logf("%.2f allocations a message", perMessage)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// BenchmarkFanOutAliases has one message delivered to many clients, with and without
// topic aliases of their own; an operation is one delivery.
func BenchmarkFanOutAliases(b *testing.B) {
	for name, aliases := range map[string]uint16{"aliases=0": 0, "aliases=16": 16} {
		b.Run(name, func(b *testing.B) { benchmarkAliases(b, aliases) })
	}
}

func benchmarkAliases(b *testing.B, aliases uint16) {
	const clients = 100
	s := brokertest.Start(b, options())
	done := make(chan int, clients)
	rounds := max(1, b.N/clients)
	for i := range clients {
		p := v5(string(rune('A'+i)), 0)
		p.Properties.TopicAliasMaximum = aliases
		c := brokertest.Dial(b, s, p)
		subscribe(b, c, "house/floor/1/room/7/temperature", 0)
		go func() {
			for n := range rounds {
				if _, err := c.ReadPatiently(); err != nil {
					done <- n
					return
				}
			}
			done <- rounds
		}()
	}
	m := message.Message{Topic: "house/floor/1/room/7/temperature", Payload: make([]byte, 20)}
	b.ReportAllocs()
	b.ResetTimer()
	for range rounds {
		if err := s.Publish(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
	for range clients {
		if n := <-done; n != rounds {
			b.Errorf("got %d of %d", n, rounds)
		}
	}
}
