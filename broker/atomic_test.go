package broker_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// recorder is a store that remembers what was applied together.
type recorder struct {
	store.Store
	mu      sync.Mutex
	applied [][]store.Change
}

func (r *recorder) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	r.mu.Lock()
	r.applied = append(r.applied, slices.Clone(changes))
	r.mu.Unlock()
	return r.Store.Apply(changes, after...)
}

// together finds what was applied with a change.
func (r *recorder) together(with func(store.Change) bool) []store.Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, changes := range r.applied {
		if slices.ContainsFunc(changes, with) {
			return changes
		}
	}
	return nil
}

func TestHandOverIsOneChange(t *testing.T) {
	o := options()
	r := &recorder{Store: mem.New()}
	o.Store = r
	s := brokertest.Start(t, o)
	p := v5("a", 100)
	p.Properties.ReceiveMaximum = 1
	a := brokertest.Dial(t, s, p)
	subscribe(t, a, "$share/g/x", 1)
	publish(t, s, numbered("x", 1, 1), numbered("x", 2, 1))
	if got, ok := read(t, a).(*packet.Publish); !ok || string(got.Payload) != "000001" {
		t.Fatalf("got %v", got)
	}
	b := brokertest.Dial(t, s, v5("b", 100))
	subscribe(t, b, "$share/g/x", 1)
	_ = a.Close()
	for _, want := range []string{"000001", "000002"} {
		if got := readPublish(t, b); string(got.Payload) != want || got.Dup {
			t.Errorf("got %s, DUP %v", got.Payload, got.Dup)
		}
	}
	moved := r.together(func(c store.Change) bool { return c.Op == store.Enqueue && c.Session == "b" })
	var given, taken []uint64
	for _, c := range moved {
		switch {
		case c.Op == store.Enqueue && c.Session == "b" && c.Delivery.Share == "$share/g/x":
			given = append(given, c.Position)
		case c.Op == store.Dequeue && c.Session == "a":
			taken = append(taken, c.Position)
		}
	}
	if !slices.Equal(given, []uint64{1, 2}) || !slices.Equal(taken, []uint64{1, 2}) {
		t.Errorf("b got %v and a lost %v in one change", given, taken)
	}
}

func TestDelayedMessageIsOneChange(t *testing.T) {
	o := options()
	r := &recorder{Store: mem.New()}
	o.Store = r
	s := brokertest.Start(t, o)
	a := brokertest.Dial(t, s, v5("a", 100))
	subscribe(t, a, "x", 1)
	publish(t, s, message.Message{Topic: "$delayed/1/x", QoS: 1})
	readPublish(t, a)
	put := r.together(func(c store.Change) bool { return c.Op == store.Put })
	due := r.together(func(c store.Change) bool { return c.Op == store.Delete })
	if len(put) != 1 || !slices.ContainsFunc(due, func(c store.Change) bool { return c.Op == store.Enqueue && c.Session == "a" }) {
		t.Errorf("put %+v, when due %+v", put, due)
	}
}

func TestWillIsOneChange(t *testing.T) {
	o := options()
	r := &recorder{Store: mem.New()}
	o.Store = r
	s := brokertest.Start(t, o)
	a := brokertest.Dial(t, s, v5("a", 100))
	subscribe(t, a, "x", 2)
	p := v5("b", 100)
	p.Will = &packet.Will{Topic: "x", QoS: 2}
	_ = brokertest.Dial(t, s, p).Close() // without a word
	readPublish(t, a)
	together := r.together(func(c store.Change) bool { return c.Op == store.Enqueue })
	if !slices.ContainsFunc(together, func(c store.Change) bool {
		return c.Op == store.PutSession && c.Session == "b" && c.Record.Will == nil
	}) {
		t.Errorf("got %+v", together)
	}
}
