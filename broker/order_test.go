package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
)

// orders waits until n messages were heard, and gives the order of each by its payload.
func (l *listener) orders(t *testing.T, n int) map[string]uint64 {
	t.Helper()
	l.payloads(t, n)
	l.mu.Lock()
	defer l.mu.Unlock()
	got := make(map[string]uint64, len(l.heard))
	for _, m := range l.heard {
		got[string(m.Payload)] = m.Order
	}
	return got
}

// What one publisher says is in the order in which he says it, whatever order he gives it;
// what is retained has that of its publish; and two subscriptions are told the same.
func TestOrderOfMessages(t *testing.T) {
	s := brokertest.Start(t, options())
	plain := listen(t, s, message.Subscription{Name: "plain", Filters: []string{"x"}, QoS: 2})
	defer plain.stop(t)
	kept := listen(t, s, message.Subscription{Name: "kept", Filters: []string{"#"}, QoS: 2, Durable: true})
	defer kept.stop(t)
	var last string
	for i := range 60 {
		m := numbered("x", i, message.QoS(i%3))
		m.Retain, m.Order, last = i%5 == 0, uint64(1000-i), string(m.Payload)
		publish(t, s, m, numbered("y", 100+i, 0))
	}
	publish(t, s, message.Message{Topic: "x", Payload: []byte("retained"), Retain: true})
	one, other := plain.orders(t, 61), kept.orders(t, 121)
	before := uint64(0)
	for i := range 60 {
		name := fmt.Sprintf("%06d", i)
		if one[name] <= before || one[name] != other[name] {
			t.Errorf("message %d has the orders %d and %d, that before it %d", i, one[name], other[name], before)
		}
		before = one[name]
	}
	if r := s.Retained("x", 1); len(r) != 1 || r[0].Order <= one[last] || r[0].Order != one["retained"] || r[0].Order != other["retained"] {
		t.Errorf("retained is %+v, which was heard as %d and %d", r, one["retained"], other["retained"])
	}
}

// Of what two publishers say at once, two subscriptions take the same for the last, though they
// may hear it in another order each; and what is retained is the last one of what asked for it.
func TestOrderOfTwoPublishers(t *testing.T) {
	const each = 500
	s := brokertest.Start(t, options())
	a := listen(t, s, message.Subscription{Name: "a", Filters: []string{"x"}, QoS: 2})
	defer a.stop(t)
	b := listen(t, s, message.Subscription{Name: "b", Filters: []string{"x"}, QoS: 2, Durable: true})
	defer b.stop(t)
	var group sync.WaitGroup
	for who := range 2 {
		group.Go(func() {
			for i := range each {
				m := numbered("x", who*each+i, message.QoS(i%2))
				m.Retain = i%7 == 0
				if err := s.Publish(t.Context(), m); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	one, other := a.orders(t, 2*each), b.orders(t, 2*each)
	seen, last := make(map[uint64]bool), uint64(0)
	for who := range 2 {
		before := uint64(0)
		for i := range each {
			name := fmt.Sprintf("%06d", who*each+i)
			order := one[name]
			if order != other[name] || order <= before || seen[order] {
				t.Fatalf("%s has the orders %d and %d, that before it %d", name, order, other[name], before)
			}
			if seen[order], before = true, order; i%7 == 0 {
				last = max(last, order)
			}
		}
	}
	if r := s.Retained("x", 1); len(r) != 1 || r[0].Order != last {
		t.Errorf("retained is %+v, not the one of order %d", r, last)
	}
}

// What was kept over a restart has the order that it had, and what comes then a later one.
func TestOrderOverARestart(t *testing.T) {
	o := options()
	s := brokertest.Start(t, o)
	sub := message.Subscription{Name: "kept", Filters: []string{"x"}, QoS: 1, Durable: true}
	listen(t, s, sub).stop(t)
	publish(t, s, numbered("x", 1, 1), numbered("x", 2, 1))
	publish(t, s, message.Message{Topic: "x", Payload: []byte("retained"), Retain: true})
	publish(t, s, numbered("x", 3, 1))
	before := s.Retained("x", 1)
	s.Stop()
	s = brokertest.Start(t, o)
	l := listen(t, s, sub)
	defer l.stop(t)
	publish(t, s, numbered("x", 4, 0))
	got := l.orders(t, 4)
	r := s.Retained("x", 1)
	if len(before) != 1 || len(r) != 1 || r[0].Order != before[0].Order {
		t.Fatalf("retained is %+v, and was %+v", r, before)
	}
	all := []uint64{0, got["000001"], got["000002"], r[0].Order, got["000003"], got["000004"]}
	for i := 1; i < len(all); i++ {
		if all[i] <= all[i-1] {
			t.Errorf("the orders are %d", all)
			break
		}
	}
}

// What is retained and waits for a subscriber inside, or is with it, is told apart from what is not.
func TestRetainedBesideASubscriber(t *testing.T) {
	s := brokertest.Start(t, options())
	publish(t, s, message.Message{Topic: "x/1", Payload: []byte("1"), Retain: true})
	going, taken := make(chan struct{}), make(chan struct{}, 10)
	ready, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- s.Subscribe(ctx, message.Subscription{Name: "slow", Filters: []string{"x/+"}, Ready: func() { close(ready) }},
			func(context.Context, []message.Message) error {
				taken <- struct{}{}
				<-going
				return nil
			})
	}()
	<-ready
	beside := func(name string) string {
		found, waits := s.RetainedBeside(name, "x/#", 10)
		all := make([]string, len(found))
		for i, m := range found {
			all[i] = fmt.Sprint(m.Topic, " ", waits[i])
		}
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	publish(t, s, message.Message{Topic: "x/2", Payload: []byte("2"), Retain: true})
	<-taken
	publish(t, s, message.Message{Topic: "x/3", Payload: []byte("3"), Retain: true}, message.Message{Topic: "x/1", Payload: []byte("live")})
	if got, want := beside("slow"), "x/1 false, x/2 true, x/3 true"; got != want {
		t.Errorf("while it is busy: %s", got)
	}
	if got, want := beside("nobody"), "x/1 false, x/2 false, x/3 false"; got != want {
		t.Errorf("beside nobody: %s", got)
	}
	close(going)
	eventually(t, "all was heard", func() bool { return beside("slow") == beside("nobody") })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
