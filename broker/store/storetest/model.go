package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/broker/store"
)

// testConcurrent has many goroutines work on sessions of their own.
func testConcurrent(t *testing.T, s *subject) {
	const workers, each = 8, 50
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			id := fmt.Sprint("client", w)
			s.store.Apply([]store.Change{session(id)})
			for i := range uint64(each) {
				s.store.Apply([]store.Change{enqueue(id, i+1, msg("x", "1")), at(store.Send, id, i+1, uint16(i+1))})
				if _, err := s.store.Fetch(t.Context(), id, i, 2); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					s.store.Apply([]store.Change{at(store.Dequeue, id, i+1, 0)})
				}
			}
		})
	}
	wg.Wait()
	s.apply() // all before it is done
	for _, got := range s.after().Sessions {
		if got.Queued != each/2 || len(got.InFlight) != each/2 {
			t.Errorf("session %q: %d queued, %d in flight", got.ClientID, got.Queued, len(got.InFlight))
		}
	}
}

// naive is the queue of a session as simply as can be.
type naive struct {
	queue []store.Queued
	next  uint64
}

func (n *naive) find(position uint64) int {
	return slices.IndexFunc(n.queue, func(q store.Queued) bool { return q.Position == position })
}

// testModel makes random changes to a queue and compares.
func testModel(t *testing.T, s *subject) {
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		id := fmt.Sprint("client", round)
		s.apply(session(id))
		n := &naive{next: 1}
		rt.Repeat(map[string]func(*rapid.T){
			"enqueue": func(rt *rapid.T) {
				n.next += uint64(rapid.IntRange(0, 2).Draw(rt, "gap"))
				m := msg("x", fmt.Sprint(n.next))
				s.apply(enqueue(id, n.next, m))
				n.queue = append(n.queue, store.Queued{Position: n.next, Message: m, Delivery: store.Delivery{QoS: 1}})
				n.next++
			},
			"send": func(rt *rapid.T) {
				position := rapid.Uint64Range(1, n.next).Draw(rt, "position")
				i := n.find(position)
				if i >= 0 && n.queue[i].Received {
					return
				}
				packetID := rapid.Uint16Range(1, 9).Draw(rt, "id")
				s.apply(at(store.Send, id, position, packetID))
				if i >= 0 {
					n.queue[i].ID = packetID
				}
			},
			"received": func(rt *rapid.T) {
				position := rapid.Uint64Range(1, n.next).Draw(rt, "position")
				i := n.find(position)
				if i < 0 || n.queue[i].ID == 0 {
					return
				}
				s.apply(at(store.Received, id, position, n.queue[i].ID))
				n.queue[i].Received, n.queue[i].Message = true, nil
			},
			"dequeue": func(rt *rapid.T) {
				position := rapid.Uint64Range(1, n.next).Draw(rt, "position")
				s.apply(at(store.Dequeue, id, position, 0))
				if i := n.find(position); i >= 0 {
					n.queue = slices.Delete(n.queue, i, i+1)
				}
			},
			"": func(rt *rapid.T) {
				got := s.fetch(id, 0, len(n.queue)+1)
				if len(got) != len(n.queue) {
					rt.Fatalf("got %v, want %v", positions(got), positions(n.queue))
				}
				for i, want := range n.queue {
					g := got[i]
					if g.Position != want.Position || g.ID != want.ID || g.Received != want.Received || (g.Message == nil) != want.Received {
						rt.Fatalf("got %+v, want %+v", g, want)
					}
				}
			},
		})
		s.apply(at(store.DropSession, id, 0, 0))
	})
}
