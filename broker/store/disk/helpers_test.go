package disk_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// small are the options of a store of small segments.
func small(fs durable.FS) disk.Options {
	return disk.Options{Folder: "/store", FS: fs, SegmentSize: disk.MinSegment, Budget: 1 << 40}
}

func open(t testing.TB, o disk.Options) *disk.Store {
	t.Helper()
	s, err := disk.Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// logged are options whose log goes to the test.
func logged(t testing.TB, o disk.Options) disk.Options {
	o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return o
}

// dump is all that a store holds, as text.
func dump(t testing.TB, s store.Store) string {
	t.Helper()
	snap, err := s.Load(context.Background())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	var b strings.Builder
	slices.SortFunc(snap.Retained, func(a, b *message.Message) int { return cmp.Compare(a.Topic, b.Topic) })
	for _, m := range snap.Retained {
		fmt.Fprintf(&b, "retained %s %s\n", m.Topic, short(m.Payload))
	}
	records, err := s.Records(context.Background(), store.Range{Bucket: "b", Limit: 1 << 20})
	if err != nil {
		t.Fatalf("records: %v", err)
	}
	for _, r := range records {
		fmt.Fprintf(&b, "record %s %s of %d\n", r.Key, short(r.Value), r.Size)
	}
	slices.SortFunc(snap.Sessions, func(a, b store.Session) int { return cmp.Compare(a.ClientID, b.ClientID) })
	for _, v := range snap.Sessions {
		slices.Sort(v.HeldIDs)
		slices.SortFunc(v.Subscriptions, func(a, b store.Subscription) int { return cmp.Compare(a.Filter, b.Filter) })
		fmt.Fprintf(&b, "session %s %s next %d queued %d of %d bytes, in flight %d, held %v, subscriptions %v\n",
			v.ClientID, v.Principal, v.Next, v.Queued, v.Bytes, len(v.InFlight), v.HeldIDs, v.Subscriptions)
		found, err := s.Fetch(context.Background(), v.ClientID, 0, 1<<20)
		if err != nil {
			t.Fatalf("fetch: %v", err)
		}
		for _, q := range found {
			payload := "-"
			if q.Message != nil {
				payload = short(q.Message.Payload)
			}
			fmt.Fprintf(&b, "  %d id %d received %v %s\n", q.Position, q.ID, q.Received, payload)
		}
	}
	return b.String()
}

func short(b []byte) string {
	return fmt.Sprintf("%s of %d", b[:min(len(b), 12)], len(b))
}

// work makes random changes.
type work struct {
	*rand.Rand
	n    int
	next map[string]uint64
}

func newWork(seed uint64) *work {
	return &work{Rand: rand.New(rand.NewPCG(seed, 1)), next: make(map[string]uint64)}
}

func (w *work) payload() []byte {
	w.n++
	size := 20 + w.IntN(600)
	switch w.IntN(40) {
	case 0:
		size = 14000 // nearly a segment
	case 1:
		size = 40000 // more than one
	}
	return fmt.Appendf(nil, "%-*d", size, w.n)
}

func (w *work) message(topic string) *message.Message {
	return &message.Message{Topic: topic, Payload: w.payload(), QoS: 1, Origin: "client/test"}
}

// changes are those of one Apply.
func (w *work) changes() []store.Change {
	var changes []store.Change
	for range 1 + w.IntN(3) {
		id := string("abc"[w.IntN(3)])
		c := store.Change{Session: id, Position: w.old(id), ID: uint16(1 + w.IntN(5))}
		switch w.IntN(20) {
		case 0, 1, 2, 3, 4:
			w.next[id]++
			c.Op, c.Position, c.Message, c.Delivery = store.Enqueue, w.next[id], w.message("t"), store.Delivery{QoS: 1}
		case 5, 6, 7, 8:
			c.Op = store.Dequeue
		case 9, 10:
			c.Op = store.Send
		case 11:
			c.Op = store.Received
		case 12:
			c.Op = store.HoldID
		case 13:
			c.Op = store.ReleaseID
		case 14:
			c.Op, c.Message = store.Retain, w.message(fmt.Sprint("r", w.IntN(4)))
			if w.IntN(4) == 0 {
				c.Message.Payload = nil
			}
		case 15:
			c.Op, c.Bucket, c.Key, c.Value = store.Put, "b", fmt.Sprint("k", w.IntN(4)), w.payload()
		case 16:
			c.Op, c.Bucket, c.Key = store.Delete, "b", fmt.Sprint("k", w.IntN(4))
		case 17:
			c.Op, c.Sub = store.Subscribe, &store.Subscription{Filter: fmt.Sprint("f", w.IntN(3)), QoS: message.QoS(w.IntN(3))}
		case 18:
			c.Op, c.Sub = store.Unsubscribe, &store.Subscription{Filter: fmt.Sprint("f", w.IntN(3))}
		default:
			c.Op = store.PutSession
			c.Record = &store.SessionRecord{ClientID: id, Principal: fmt.Sprint("p", w.IntN(3)), Expiry: time.Hour}
			if w.IntN(8) == 0 {
				c.Op, w.next[id] = store.DropSession, 0
			}
		}
		changes = append(changes, c)
	}
	return changes
}

// old is a position that may be in the queue.
func (w *work) old(id string) uint64 {
	if w.next[id] == 0 {
		return 1
	}
	return max(1, w.next[id]-w.Uint64N(min(w.next[id], 40)))
}
