package storetest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// Open makes an empty store of its own for a test; the suite closes it.
type Open func(t *testing.T) store.Store

// Reopen closes s and opens what it left.
type Reopen func(t *testing.T, s store.Store) store.Store

// Run tests one implementation. Reopen is nil for a store that leaves nothing: then
// another Load of the same store is what is looked at.
func Run(t *testing.T, open Open, reopen Reopen) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *subject){
		"an empty store is empty":                          testEmpty,
		"runs are counted":                                 testRuns,
		"retained messages are replaced and cleared":       testRetained,
		"a message comes back whole":                       testWholeMessage,
		"sessions come with their parts":                   testSession,
		"a session's record is replaced, its parts stay":   testPutSession,
		"a dropped session leaves nothing":                 testDropSession,
		"subscriptions are replaced and removed":           testSubscriptions,
		"changes to a session that is not are passed over": testNoSession,
		"a queue keeps order, positions and sizes":         testQueue,
		"a queue is fetched in parts":                      testFetch,
		"what is sent is in flight until dequeued":         testInFlight,
		"what is received needs no payload":                testReceived,
		"messages leave a queue in any order":              testDequeueAnyOrder,
		"an enqueue that comes again changes nothing":      testEnqueueAgain,
		"identifiers are held until released":              testHeldIDs,
		"records are put and deleted":                      testRecords,
		"records are read in parts":                        testRecordsInParts,
		"the slice of changes may be used again":           testSliceReused,
		"tickets are done in order":                        testTickets,
		"many goroutines may use it":                       testConcurrent,
		"a closed store says so":                           testClosed,
		"it does what a naive store does":                  testModel,
	} {
		t.Run(name, func(t *testing.T) {
			s := &subject{t: t, open: open, reopen: reopen, store: open(t)}
			defer func() {
				if err := s.store.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			s.load()
			test(t, s)
		})
	}
}

// subject is a store under test.
type subject struct {
	t      *testing.T
	open   Open
	reopen Reopen
	store  store.Store
}

func (s *subject) load() *store.Snapshot {
	s.t.Helper()
	snap, err := s.store.Load(s.t.Context())
	if err != nil {
		s.t.Fatalf("load: %v", err)
	}
	slices.SortFunc(snap.Retained, func(a, b *message.Message) int { return cmp.Compare(a.Topic, b.Topic) })
	slices.SortFunc(snap.Sessions, func(a, b store.Session) int { return cmp.Compare(a.ClientID, b.ClientID) })
	for i := range snap.Sessions {
		slices.SortFunc(snap.Sessions[i].Subscriptions, func(a, b store.Subscription) int { return cmp.Compare(a.Filter, b.Filter) })
		slices.Sort(snap.Sessions[i].HeldIDs)
	}
	return snap
}

// after reopens the store, if it can, and loads it.
func (s *subject) after() *store.Snapshot {
	s.t.Helper()
	if s.reopen != nil {
		s.store = s.reopen(s.t, s.store)
	}
	return s.load()
}

func (s *subject) apply(changes ...store.Change) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	if err := s.store.Apply(changes).Wait(ctx); err != nil {
		s.t.Fatalf("apply: %v", err)
	}
}

func (s *subject) fetch(session string, from uint64, limit int) []store.Queued {
	s.t.Helper()
	found, err := s.store.Fetch(s.t.Context(), session, from, limit)
	if err != nil {
		s.t.Fatalf("fetch: %v", err)
	}
	return found
}

func (s *subject) records(r store.Range) []store.Record {
	s.t.Helper()
	found, err := s.store.Records(s.t.Context(), r)
	if err != nil {
		s.t.Fatalf("records: %v", err)
	}
	return found
}

// same ignores the difference between empty and nil, and monotonic readings.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	options := gocmp.Options{
		cmpopts.EquateEmpty(),
		gocmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }),
		gocmp.Comparer(func(_, _ store.Clock) bool { return true }), // it is another one each time
		cmpopts.IgnoreFields(store.Snapshot{}, "Run"),               // which grows: see runs
	}
	if diff := gocmp.Diff(want, got, options); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func testRuns(t *testing.T, s *subject) {
	s.apply(session("a"))
	first := s.after().Run
	s.apply(session("b"))
	if second := s.after().Run; first < 1 || second <= first {
		t.Errorf("run %d follows run %d", second, first)
	}
}

func msg(topic, payload string) *message.Message {
	return &message.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Origin: "client/test"}
}

func session(id string) store.Change {
	return store.Change{Op: store.PutSession, Session: id, Record: &store.SessionRecord{ClientID: id, Expiry: time.Hour}}
}

func enqueue(id string, position uint64, m *message.Message) store.Change {
	return store.Change{Op: store.Enqueue, Session: id, Position: position, Message: m, Delivery: store.Delivery{QoS: 1}}
}

func at(op store.Op, id string, position uint64, packetID uint16) store.Change {
	return store.Change{Op: op, Session: id, Position: position, ID: packetID}
}

func testEmpty(t *testing.T, s *subject) {
	same(t, "snapshot", s.after(), &store.Snapshot{})
	same(t, "fetched", s.fetch("nobody", 0, 10), []store.Queued{})
}

func testRetained(t *testing.T, s *subject) {
	retain := func(m *message.Message) store.Change { return store.Change{Op: store.Retain, Message: m} }
	s.apply(retain(msg("a", "1")), retain(msg("b", "1")), retain(msg("c", "1")))
	s.apply(retain(msg("b", "2")), retain(msg("c", "")))
	s.apply(retain(msg("never", "")))
	same(t, "retained", s.after().Retained, []*message.Message{msg("a", "1"), msg("b", "2")})
}

func testWholeMessage(t *testing.T, s *subject) {
	whole := &message.Message{
		Topic: "home/客厅", Payload: []byte{0, 1, 0xff}, QoS: 2, Retain: true, UTF8: true,
		ContentType: "application/json", ResponseTopic: "answers/1", CorrelationData: []byte{7},
		UserProperties: []message.Property{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}, {}},
		Expires:        time.Date(2030, 1, 2, 3, 4, 5, 678, time.UTC), Origin: "rule/x", Hops: 3, Order: 7<<42 + 1,
		At: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC),
	}
	delivery := store.Delivery{QoS: 2, Retain: true, SubscriptionIDs: []uint32{1, 268435455}, Share: "$share/g/home/+"}
	s.apply(session("a"), store.Change{Op: store.Retain, Message: whole},
		store.Change{Op: store.Enqueue, Session: "a", Position: 1, Message: whole, Delivery: delivery})
	same(t, "retained", s.after().Retained, []*message.Message{whole})
	same(t, "queued", s.fetch("a", 0, 1), []store.Queued{{Position: 1, Message: whole, Delivery: delivery}})
}

func testSession(t *testing.T, s *subject) {
	record := store.SessionRecord{
		ClientID: "a", Principal: "alice", Expiry: store.Forever, Ended: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC),
		Will: msg("will", "gone"), WillAt: time.Date(2026, 1, 2, 3, 5, 5, 678, time.UTC),
	}
	sub := store.Subscription{
		Filter: "$share/g/home/+", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, ID: 7,
	}
	s.apply(store.Change{Op: store.PutSession, Session: "a", Record: &record},
		store.Change{Op: store.Subscribe, Session: "a", Sub: &sub}, session("b"))
	same(t, "sessions", s.after().Sessions, []store.Session{
		{SessionRecord: record, Subscriptions: []store.Subscription{sub}, First: 1, Next: 1},
		{SessionRecord: *session("b").Record, First: 1, Next: 1},
	})
}

func testPutSession(t *testing.T, s *subject) {
	s.apply(session("a"), enqueue("a", 1, msg("x", "1")), at(store.HoldID, "a", 0, 9),
		store.Change{Op: store.Subscribe, Session: "a", Sub: &store.Subscription{Filter: "x"}})
	record := &store.SessionRecord{ClientID: "a", Expiry: time.Minute, Principal: "p"}
	s.apply(store.Change{Op: store.PutSession, Session: "a", Record: record})
	same(t, "sessions", s.after().Sessions, []store.Session{{
		SessionRecord: *record, Subscriptions: []store.Subscription{{Filter: "x"}}, First: 1, Next: 2,
		Queued: 1, Tail: 1, Bytes: int64(msg("x", "1").Size()), HeldIDs: []uint16{9},
	}})
}

func testDropSession(t *testing.T, s *subject) {
	s.apply(session("a"), enqueue("a", 5, msg("x", "1")), at(store.HoldID, "a", 0, 9),
		store.Change{Op: store.Subscribe, Session: "a", Sub: &store.Subscription{Filter: "x"}}, session("b"))
	s.apply(at(store.DropSession, "a", 0, 0))
	same(t, "sessions", s.after().Sessions, []store.Session{{SessionRecord: *session("b").Record, First: 1, Next: 1}})
	same(t, "fetched", s.fetch("a", 0, 10), []store.Queued{})
	s.apply(session("a"))
	same(t, "made again", s.after().Sessions[0], store.Session{SessionRecord: *session("a").Record, First: 1, Next: 1})
}

func testSubscriptions(t *testing.T, s *subject) {
	subscribe := func(filter string, qos message.QoS) store.Change {
		return store.Change{Op: store.Subscribe, Session: "a", Sub: &store.Subscription{Filter: filter, QoS: qos}}
	}
	s.apply(session("a"), subscribe("x", 0), subscribe("y", 0), subscribe("x", 2))
	s.apply(store.Change{Op: store.Unsubscribe, Session: "a", Sub: &store.Subscription{Filter: "y"}})
	s.apply(store.Change{Op: store.Unsubscribe, Session: "a", Sub: &store.Subscription{Filter: "never"}})
	same(t, "subscriptions", s.after().Sessions[0].Subscriptions, []store.Subscription{{Filter: "x", QoS: 2}})
}

func testNoSession(t *testing.T, s *subject) {
	s.apply(enqueue("a", 1, msg("x", "1")), at(store.Send, "a", 1, 1), at(store.Received, "a", 1, 1), at(store.Dequeue, "a", 1, 0),
		at(store.HoldID, "a", 0, 1), at(store.ReleaseID, "a", 0, 1), at(store.DropSession, "a", 0, 0),
		store.Change{Op: store.Subscribe, Session: "a", Sub: &store.Subscription{Filter: "x"}},
		store.Change{Op: store.Unsubscribe, Session: "a", Sub: &store.Subscription{Filter: "x"}})
	same(t, "snapshot", s.after(), &store.Snapshot{})
}

func testQueue(t *testing.T, s *subject) {
	s.apply(session("a"), session("b"))
	s.apply(enqueue("a", 3, msg("x", "1")), enqueue("b", 1, msg("y", "1")), enqueue("a", 4, msg("x", "22")), enqueue("a", 9, msg("x", "333")))
	s.apply(at(store.Dequeue, "a", 3, 0), at(store.Dequeue, "a", 77, 0))
	got := s.after().Sessions[0]
	same(t, "session", got, store.Session{
		SessionRecord: *session("a").Record, First: 4, Next: 10, Queued: 2, Tail: 1,
		Bytes: int64(msg("x", "22").Size() + msg("x", "333").Size()),
	})
	same(t, "queue", positions(s.fetch("a", 0, 10)), []uint64{4, 9})
	s.apply(enqueue("a", 10, msg("x", "1")), enqueue("a", 11, msg("x", "1")), enqueue("a", 12, msg("x", "1")))
	same(t, "tail", s.after().Sessions[0].Tail, uint64(4))
	s.apply(at(store.Dequeue, "a", 10, 0))
	same(t, "tail behind a gap", s.after().Sessions[0].Tail, uint64(2))
	s.apply(at(store.Dequeue, "a", 12, 0))
	same(t, "tail, the last is gone", s.after().Sessions[0].Tail, uint64(0))
}

func positions(queued []store.Queued) []uint64 {
	var p []uint64
	for _, q := range queued {
		p = append(p, q.Position)
	}
	return p
}

func testFetch(t *testing.T, s *subject) {
	s.apply(session("a"))
	for i := range uint64(10) {
		s.apply(enqueue("a", 2*i+1, msg("x", fmt.Sprint(i))))
	}
	s.after()
	same(t, "from the first", positions(s.fetch("a", 0, 3)), []uint64{1, 3, 5})
	same(t, "from between", positions(s.fetch("a", 6, 2)), []uint64{7, 9})
	same(t, "to the end", positions(s.fetch("a", 17, 100)), []uint64{17, 19})
	same(t, "beyond the end", positions(s.fetch("a", 20, 100)), []uint64{})
	same(t, "a payload", string(s.fetch("a", 7, 1)[0].Message.Payload), "3")
}

func testInFlight(t *testing.T, s *subject) {
	s.apply(session("a"), enqueue("a", 1, msg("x", "1")), enqueue("a", 2, msg("x", "2")), enqueue("a", 3, msg("x", "3")))
	s.apply(at(store.Send, "a", 1, 11), at(store.Send, "a", 2, 12))
	s.apply(at(store.Dequeue, "a", 1, 0))
	got := s.after().Sessions[0]
	if len(got.InFlight) != 1 || got.InFlight[0].Position != 2 || got.InFlight[0].ID != 12 || got.Queued != 2 {
		t.Errorf("got %+v", got)
	}
	same(t, "queue", positions(s.fetch("a", 0, 10)), []uint64{2, 3})
	if q := s.fetch("a", 2, 1)[0]; q.ID != 12 || string(q.Message.Payload) != "2" {
		t.Errorf("got %+v", q)
	}
}

func testReceived(t *testing.T, s *subject) {
	s.apply(session("a"), enqueue("a", 1, msg("x", "1")), enqueue("a", 2, msg("x", "2")))
	s.apply(at(store.Send, "a", 1, 11), at(store.Send, "a", 2, 12))
	s.apply(at(store.Received, "a", 1, 11))
	got := s.after().Sessions[0]
	if len(got.InFlight) != 2 || !got.InFlight[0].Received || got.InFlight[0].ID != 11 || got.InFlight[1].Received {
		t.Errorf("got %+v", got.InFlight)
	}
	q := s.fetch("a", 1, 1)[0]
	if !q.Received || q.Message != nil || q.ID != 11 {
		t.Errorf("got %+v", q)
	}
	s.apply(at(store.Dequeue, "a", 1, 0))
	same(t, "queue", positions(s.fetch("a", 0, 10)), []uint64{2})
}

func testDequeueAnyOrder(t *testing.T, s *subject) {
	s.apply(session("a"))
	const n = 200
	for i := range uint64(n) {
		s.apply(enqueue("a", i+1, msg("x", "1")))
	}
	for i := range uint64(n) {
		if position := i*7%n + 1; position%10 != 0 {
			s.apply(at(store.Dequeue, "a", position, 0))
		}
	}
	got := s.after().Sessions[0]
	if got.Queued != n/10 || got.Tail != 1 || got.First != 10 || got.Next != n+1 || got.Bytes != int64(n/10*msg("x", "1").Size()) {
		t.Errorf("got %+v", got)
	}
	if left := positions(s.fetch("a", 0, n)); len(left) != n/10 || left[0] != 10 || left[len(left)-1] != n {
		t.Errorf("got %v", left)
	}
}

func testEnqueueAgain(t *testing.T, s *subject) {
	s.apply(session("a"), enqueue("a", 1, msg("x", "1")), enqueue("a", 2, msg("x", "2")))
	s.apply(enqueue("a", 2, msg("x", "again")), at(store.Dequeue, "a", 1, 0), enqueue("a", 1, msg("x", "again")))
	got := s.fetch("a", 0, 10)
	if len(got) != 1 || string(got[0].Message.Payload) != "2" {
		t.Errorf("got %+v", got)
	}
}

func testHeldIDs(t *testing.T, s *subject) {
	s.apply(session("a"), at(store.HoldID, "a", 0, 1), at(store.HoldID, "a", 0, 65535), at(store.HoldID, "a", 0, 1), at(store.HoldID, "a", 0, 2))
	s.apply(at(store.ReleaseID, "a", 0, 1), at(store.ReleaseID, "a", 0, 3))
	same(t, "held", s.after().Sessions[0].HeldIDs, []uint16{2, 65535})
}

func testRecords(t *testing.T, s *subject) {
	put := func(bucket, key, value string) store.Change {
		return store.Change{Op: store.Put, Bucket: bucket, Key: key, Value: []byte(value)}
	}
	s.apply(put("b", "k", "1"), put("b", "l", "1"), put("c", "k", "1"))
	s.apply(put("b", "k", "2"), store.Change{Op: store.Delete, Bucket: "b", Key: "l"}, store.Change{Op: store.Delete, Bucket: "x", Key: "x"})
	s.after()
	same(t, "records of b", s.records(store.Range{Bucket: "b", Limit: 9}), []store.Record{{Key: "k", Size: 1, Value: []byte("2")}})
	same(t, "records of c", s.records(store.Range{Bucket: "c", Limit: 9}), []store.Record{{Key: "k", Size: 1, Value: []byte("1")}})
	same(t, "records of x", s.records(store.Range{Bucket: "x", Limit: 9}), []store.Record{})
}

func testRecordsInParts(t *testing.T, s *subject) {
	var changes []store.Change
	var want []store.Record
	for i := range 100 {
		rec := store.Record{Key: fmt.Sprintf("a\x00%03d", i), Value: bytes.Repeat([]byte{byte(i)}, i)}
		rec.Size = len(rec.Value)
		want = append(want, rec)
		changes = append(changes,
			store.Change{Op: store.Put, Bucket: "b", Key: rec.Key, Value: rec.Value},
			store.Change{Op: store.Put, Bucket: "b2", Key: rec.Key, Value: []byte("of another")})
	}
	slices.Reverse(changes) // they come in the order of keys all the same
	s.apply(changes...)
	s.after()
	var got []store.Record
	for r := (store.Range{Bucket: "b", Limit: 7}); ; {
		part := s.records(r)
		if len(part) > 7 {
			t.Fatalf("%d records, 7 asked for", len(part))
		}
		if got = append(got, part...); len(part) == 0 {
			break
		}
		r.After = part[len(part)-1].Key
	}
	same(t, "all", got, want)
	for i := range want {
		want[i].Value = nil
	}
	same(t, "without values", s.records(store.Range{Bucket: "b", Limit: 1000, NoValues: true}), want)
	same(t, "from one on", s.records(store.Range{Bucket: "b", After: want[97].Key, Limit: 1000, NoValues: true}), want[98:])
	same(t, "none", s.records(store.Range{Bucket: "b"}), []store.Record{})
}

func testSliceReused(t *testing.T, s *subject) {
	changes := []store.Change{session("a"), enqueue("a", 1, msg("x", "1"))}
	ticket := s.store.Apply(changes)
	clear(changes)
	if err := ticket.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.fetch("a", 0, 1); len(got) != 1 || !bytes.Equal(got[0].Message.Payload, []byte("1")) {
		t.Errorf("got %+v", got)
	}
}

func testTickets(t *testing.T, s *subject) {
	var tickets []store.Ticket
	tickets = append(tickets, s.store.Apply([]store.Change{session("a")}))
	for i := range uint64(50) {
		tickets = append(tickets, s.store.Apply([]store.Change{enqueue("a", i+1, msg("x", "1"))}))
	}
	<-tickets[len(tickets)-1].Done()
	for i, ticket := range tickets {
		select {
		case <-ticket.Done():
		default:
			t.Fatalf("ticket %d is not done, and the last is", i)
		}
		if err := ticket.Wait(t.Context()); err != nil {
			t.Errorf("ticket %d: %v", i, err)
		}
	}
}

func testClosed(t *testing.T, s *subject) {
	s.apply(session("a"))
	other := s.open(t)
	if _, err := other.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := other.Apply([]store.Change{session("a")}).Wait(t.Context()); err == nil {
		t.Error("a closed store took changes")
	}
	if _, err := other.Fetch(t.Context(), "a", 0, 1); err == nil {
		t.Error("a closed store gave messages")
	}
	if _, err := other.Records(t.Context(), store.Range{Bucket: "b", Limit: 1}); err == nil {
		t.Error("a closed store gave records")
	}
}
