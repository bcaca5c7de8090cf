package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// A message of QoS 0 that is published while retained ones are replayed comes,
// though nothing else happens on the subscriber's connection.
func TestQoS0BehindRetainedIsNotForgotten(t *testing.T) {
	s := brokertest.Start(t, options())
	for i := range 20 {
		m := numbered(fmt.Sprint("x/", i), i, 0)
		m.Retain = true
		publish(t, s, m)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := s.Publish(t.Context(), message.Message{Topic: "x/live", Payload: []byte("flood")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	const n = 120
	clients := make([]*brokertest.Client, 0, n)
	for i := range n {
		c := brokertest.Dial(t, s, v5(fmt.Sprint("c", i), 0))
		send(t, c, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "x/#"}}})
		clients = append(clients, c)
		if i%20 < 19 {
			continue
		}
		for _, c := range clients {
			send(t, c, &packet.Unsubscribe{ID: 2, Filters: []string{"x/#"}})
		}
		for _, c := range clients {
			for p := read(t, c); p.Type() != packet.UNSUBACK; p = read(t, c) {
			}
		}
		for _, info := range s.Clients() {
			if info.Queued > 0 {
				t.Fatalf("%d messages are forgotten in the queue of %q", info.Queued, info.ClientID)
			}
		}
		for _, c := range clients {
			_ = c.Close()
		}
		clients = clients[:0]
	}
}
