package mem

import (
	"cmp"
	"maps"
	"slices"

	"github.com/gatehouse/gatehouse/broker/store"
)

// session is what the store holds of one session.
type session struct {
	record store.SessionRecord
	subs   map[string]store.Subscription
	queue  []store.Queued // by position; the first head of them are gone
	gone   []bool         // queue[i] was dequeued out of order
	head   int
	next   uint64
	count  int
	bytes  int64
	held   map[uint16]struct{}
}

func newSession() *session {
	return &session{
		subs: make(map[string]store.Subscription),
		held: make(map[uint16]struct{}),
		next: 1,
	}
}

func (s *session) apply(c *store.Change) {
	switch c.Op {
	case store.Subscribe:
		s.subs[c.Sub.Filter] = *c.Sub
	case store.Unsubscribe:
		delete(s.subs, c.Sub.Filter)
	case store.Enqueue:
		s.enqueue(c)
	case store.Send:
		if i, ok := s.find(c.Position); ok {
			s.queue[i].ID = c.ID
		}
	case store.Received:
		s.received(c)
	case store.Dequeue:
		s.dequeue(c.Position)
	case store.HoldID:
		s.held[c.ID] = struct{}{}
	case store.ReleaseID:
		delete(s.held, c.ID)
	default: // the others are not a session's
	}
}

func (s *session) enqueue(c *store.Change) {
	if c.Position < s.next { // positions only grow: this one was there before
		return
	}
	s.queue = append(s.queue, store.Queued{Position: c.Position, Message: c.Message, Delivery: c.Delivery})
	s.gone = append(s.gone, false)
	s.next = c.Position + 1
	s.count++
	s.bytes += int64(c.Message.Size())
}

func (s *session) find(position uint64) (int, bool) {
	i, ok := slices.BinarySearchFunc(s.queue[s.head:], position, func(q store.Queued, p uint64) int {
		return cmp.Compare(q.Position, p)
	})
	return s.head + i, ok && !s.gone[s.head+i]
}

func (s *session) received(c *store.Change) {
	i, ok := s.find(c.Position)
	if !ok || s.queue[i].Received {
		return
	}
	q := &s.queue[i]
	s.bytes -= int64(q.Message.Size())
	q.Received, q.Message = true, nil
	if c.ID != 0 {
		q.ID = c.ID
	}
}

func (s *session) dequeue(position uint64) {
	i, ok := s.find(position)
	if !ok {
		return
	}
	q := &s.queue[i]
	s.count--
	if q.Message != nil {
		s.bytes -= int64(q.Message.Size())
	}
	s.gone[i] = true
	q.Message, q.Delivery = nil, store.Delivery{}
	for s.head < len(s.queue) && s.gone[s.head] {
		s.head++
	}
	if s.head == len(s.queue) || s.head > 64 && s.head > len(s.queue)/2 {
		s.queue = slices.Delete(s.queue, 0, s.head)
		s.gone = slices.Delete(s.gone, 0, s.head)
		s.head = 0
	}
}

func (s *session) fetch(from uint64, limit int) []store.Queued {
	i, _ := slices.BinarySearchFunc(s.queue[s.head:], from, func(q store.Queued, p uint64) int {
		return cmp.Compare(q.Position, p)
	})
	var found []store.Queued
	for i += s.head; i < len(s.queue) && len(found) < limit; i++ {
		if !s.gone[i] {
			found = append(found, s.queue[i])
		}
	}
	return found
}

func (s *session) snapshot() store.Session {
	snap := store.Session{
		SessionRecord: s.record,
		Subscriptions: slices.Collect(maps.Values(s.subs)),
		First:         s.next,
		Next:          s.next,
		Queued:        s.count,
		Bytes:         s.bytes,
		HeldIDs:       slices.Sorted(maps.Keys(s.held)),
	}
	for i := len(s.queue) - 1; i >= s.head && !s.gone[i] && s.queue[i].Position == s.next-1-snap.Tail; i-- {
		snap.Tail++
	}
	for i := s.head; i < len(s.queue); i++ {
		q := s.queue[i]
		if s.gone[i] {
			continue
		}
		snap.First = min(snap.First, q.Position)
		if q.ID != 0 {
			snap.InFlight = append(snap.InFlight, q)
		}
	}
	return snap
}
