package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// Full tests what an implementation does when it has no room. Fill takes the room away
// for good, perhaps by retained messages below "filler"; reopen may be nil, as for [Run], and gives no room back.
func Full(t *testing.T, open Open, fill func(t *testing.T, s store.Store), reopen Reopen) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *subject, *store.Snapshot){
		"a full store takes what only frees":  testFrees,
		"a full store refuses what grows":     testGrows,
		"a full store refuses all or nothing": testAllOrNothing,
		"what follows a refusal is refused":   testFollows,
	} {
		t.Run(name, func(t *testing.T) {
			s := &subject{t: t, open: open, reopen: reopen, store: open(t)}
			defer func() { _ = s.store.Close() }() // it may fail, for want of room
			s.load()
			s.apply(session("a"), session("b"), enqueue("a", 1, msg("x", "1")), enqueue("a", 2, msg("x", "2")), enqueue("a", 3, msg("x", "3")),
				at(store.Send, "a", 1, 7), at(store.HoldID, "a", 0, 9), subscription("a", "s"), subscription("a", "t"), record("k", "1"), record("l", "1"),
				retain("r", "1"), retain("q", "1"))
			before := s.held()
			fill(t, s.store)
			test(t, s, before)
		})
	}
}

func subscription(id, filter string) store.Change {
	return store.Change{Op: store.Subscribe, Session: id, Sub: &store.Subscription{Filter: filter}}
}

func record(key, value string) store.Change {
	return store.Change{Op: store.Put, Bucket: "b", Key: key, Value: []byte(value)}
}

func retain(topic, payload string) store.Change {
	return store.Change{Op: store.Retain, Message: msg(topic, payload)}
}

// held is what the store has of what [Full] has put into it.
func (s *subject) held() *store.Snapshot {
	s.t.Helper()
	snap := s.after()
	for i := range snap.Sessions {
		if v := &snap.Sessions[i]; v.ClientID == "a" {
			for k := range v.InFlight {
				if q := &v.InFlight[k]; q.Received { // of which no more is kept
					q.Delivery = store.Delivery{}
				}
			}
			return &store.Snapshot{Retained: without(snap.Retained, "filler"), Sessions: []store.Session{*v}}
		}
	}
	return &store.Snapshot{Retained: without(snap.Retained, "filler")}
}

// without leaves out the messages of topics.
func without(all []*message.Message, prefix string) (rest []*message.Message) {
	for _, m := range all {
		if !strings.HasPrefix(m.Topic, prefix) {
			rest = append(rest, m)
		}
	}
	return rest
}

func testFrees(t *testing.T, s *subject, _ *store.Snapshot) {
	for _, change := range []store.Change{
		at(store.Received, "a", 1, 7), at(store.Send, "a", 2, 8), at(store.Dequeue, "a", 3, 0), at(store.ReleaseID, "a", 0, 9), at(store.HoldID, "a", 0, 10),
		{Op: store.Unsubscribe, Session: "a", Sub: &store.Subscription{Filter: "s"}},
		{Op: store.Delete, Bucket: "b", Key: "k"},
		retain("r", ""),
		{Op: store.PutSession, Session: "a", Record: &store.SessionRecord{ClientID: "a", Principal: "p"}},
		at(store.DropSession, "b", 0, 0),
	} {
		s.apply(change)
	}
	same(t, "held", s.held(), &store.Snapshot{Retained: []*message.Message{msg("q", "1")}, Sessions: []store.Session{{
		SessionRecord: store.SessionRecord{ClientID: "a", Principal: "p"}, Subscriptions: []store.Subscription{{Filter: "t"}},
		First: 1, Next: 4, Queued: 2, Bytes: int64(msg("x", "2").Size()),
		InFlight: []store.Queued{{Position: 1, Delivery: store.Delivery{}, ID: 7, Received: true}, {Position: 2, Message: msg("x", "2"), Delivery: store.Delivery{QoS: 1}, ID: 8}},
		HeldIDs:  []uint16{10},
	}}})
	same(t, "records", s.records(store.Range{Bucket: "b", Limit: 10}), []store.Record{{Key: "l", Size: 1, Value: []byte("1")}})
	s.apply(at(store.DropSession, "a", 0, 0), store.Change{Op: store.Delete, Bucket: "b", Key: "l"}, retain("q", ""))
	same(t, "at last", s.held(), &store.Snapshot{})
}

func testGrows(t *testing.T, s *subject, before *store.Snapshot) {
	for _, change := range []store.Change{enqueue("a", 4, msg("x", "4")), subscription("a", "u"), record("m", "1"), retain("z", "1"), retain("r", "2")} {
		s.refused(change)
	}
	same(t, "held", s.held(), before)
	same(t, "records", len(s.records(store.Range{Bucket: "b", Limit: 10})), 2)
}

func testAllOrNothing(t *testing.T, s *subject, before *store.Snapshot) {
	s.refused(at(store.Dequeue, "a", 3, 0), at(store.DropSession, "a", 0, 0), record("k", "2"))
	same(t, "held", s.held(), before)
}

func testFollows(t *testing.T, s *subject, before *store.Snapshot) {
	frees := []store.Change{at(store.Dequeue, "a", 3, 0)}
	first := s.store.Apply([]store.Change{retain("z", "1")})
	second := s.store.Apply(frees, first) // the first may be under way, or over
	third := s.store.Apply(frees, second)
	s.isRefused("the second", second)
	s.isRefused("the third", third)
	s.isRefused("the fourth", s.store.Apply(frees, third))
	same(t, "held", s.held(), before)
	taken := s.store.Apply(frees)
	if err := s.store.Apply(frees, taken).Wait(t.Context()); err != nil {
		t.Errorf("what follows what was taken: %v", err)
	}
}

// refused applies changes, and wants to hear that the store is full.
func (s *subject) refused(changes ...store.Change) {
	s.t.Helper()
	s.isRefused(fmt.Sprint("op ", changes[len(changes)-1].Op), s.store.Apply(changes))
}

func (s *subject) isRefused(what string, ticket store.Ticket) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := ticket.Wait(ctx); !errors.Is(err, store.ErrFull) {
		s.t.Errorf("%s: got %v, want that the store is full", what, err)
	}
}
