package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

func enqueue(id string, at uint64, m *message.Message) store.Change {
	return store.Change{Op: store.Enqueue, Session: id, Position: at, Message: m, Delivery: store.Delivery{QoS: 1}}
}

func dequeue(id string, at uint64) store.Change {
	return store.Change{Op: store.Dequeue, Session: id, Position: at}
}

func put(t testing.TB, s store.Store, changes ...store.Change) {
	t.Helper()
	if err := s.Apply(changes).Wait(context.Background()); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

func isDone(ticket store.Ticket) bool {
	select {
	case <-ticket.Done():
		return true
	default:
		return false
	}
}

// settled opens a store in a bubble and waits until it has made what it keeps ready.
func settled(t *testing.T, o disk.Options) *disk.Store {
	s := open(t, o)
	put(t, s, session(0), session(1))
	synctest.Wait()
	return s
}

func TestDurability(t *testing.T) {
	retain := func(topic string, qos message.QoS) store.Change {
		return store.Change{Op: store.Retain, Message: &message.Message{Topic: topic, Payload: []byte("1"), QoS: qos}}
	}
	relaxed := func(m *message.Message) (disk.Durability, bool) {
		return disk.Durability{Mode: disk.Interval, Every: 5 * time.Second}, m.Topic == "t"
	}
	m := &message.Message{Topic: "t", Payload: []byte("1"), QoS: 1}
	for _, test := range []struct {
		name    string
		options disk.Options
		changes []store.Change
		done    bool          // at once
		after   time.Duration // it is synced, 0 is at once
	}{
		{"a message", disk.Options{}, []store.Change{enqueue("p0", 2, m)}, false, 0},
		{"a retained message of QoS 1", disk.Options{}, []store.Change{retain("t", 1)}, false, 0},
		{"a retained message of QoS 0", disk.Options{}, []store.Change{retain("t", 0)}, true, time.Second},
		{"an acknowledgement", disk.Options{}, []store.Change{dequeue("p0", 9)}, true, time.Second},
		{"a relaxed topic", disk.Options{Relaxed: relaxed}, []store.Change{enqueue("p0", 2, m)}, true, 5 * time.Second},
		{"a relaxed topic and another", disk.Options{Relaxed: relaxed}, []store.Change{enqueue("p0", 2, m), retain("u", 1)}, false, 0},
		{
			"an interval",
			disk.Options{Durability: disk.Durability{Mode: disk.Interval, Every: 3 * time.Second}},
			[]store.Change{enqueue("p0", 2, m)},
			true, 3 * time.Second,
		},
		{"off", disk.Options{Durability: disk.Durability{Mode: disk.Off}}, []store.Change{enqueue("p0", 2, m)}, true, 1000 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := crashfs.New()
				o := small(fs)
				o.Durability, o.Relaxed = test.options.Durability, test.options.Relaxed
				s := settled(t, o)
				put(t, s, enqueue("p0", 1, m), retain("u", 1), enqueue("p1", 1, m)) // one that is not lazy
				<-time.After(time.Minute)
				synctest.Wait()
				syncs := fs.Stats().Syncs
				ticket := s.Apply(append([]store.Change(nil), test.changes...))
				switch done := isDone(ticket); { // the writer may have been quick
				case !done && test.done:
					t.Error("not done at once")
				case done && !test.done && fs.Stats().Syncs == syncs:
					t.Error("done before it was synced")
				}
				if test.after > 0 {
					<-time.After(test.after - time.Millisecond)
					if n := fs.Stats().Syncs; n != syncs {
						t.Errorf("%d syncs too early", n-syncs)
					}
					<-time.After(2 * time.Millisecond)
				}
				synctest.Wait()
				if n := fs.Stats().Syncs; n != syncs+1 && test.after < time.Hour && test.name != "an acknowledgement" {
					t.Errorf("%d syncs after %v", n-syncs, test.after)
				}
				if !s.Stats().Unsynced.IsZero() && test.after < time.Hour {
					t.Error("something is not synced")
				}
			})
		})
	}
}

// TestIdle has a store that nobody uses write nothing.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		settled(t, small(fs))
		<-time.After(time.Minute)
		synctest.Wait()
		before := fs.Stats().Bytes
		<-time.After(time.Hour)
		synctest.Wait()
		if n := fs.Stats().Bytes - before; n != 0 {
			t.Errorf("%d bytes in an idle hour", n)
		}
	})
}

// TestFull has the disk become full: what takes things out goes through, what is
// refused says so, and all is well when there is room again.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		s := settled(t, logged(t, small(fs)))
		fs.Limit(200 << 10)
		m := &message.Message{Topic: "t", Payload: make([]byte, 2000), QoS: 1}
		last := uint64(0)
		var err error
		for ; err == nil; last++ {
			err = s.Apply([]store.Change{enqueue("p0", last+1, m)}).Wait(t.Context())
		}
		last--
		if !errors.Is(err, store.ErrFull) || last < 40 || !s.Stats().Full {
			t.Fatalf("after %d messages: %v", last, err)
		}
		for range 10 { // some time later nothing has changed
			<-time.After(time.Minute)
			if err := s.Apply([]store.Change{enqueue("p0", last+1, m)}).Wait(t.Context()); !errors.Is(err, store.ErrFull) {
				t.Fatalf("got %v", err)
			}
		}
		for at := range last {
			if at%2 == 0 {
				put(t, s, dequeue("p0", at+1), store.Change{Op: store.HoldID, Session: "p0", ID: uint16(at)})
			}
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if s.Stats().Full {
			t.Fatalf("half of it is gone, and there is no room: %+v", s.Stats())
		}
		put(t, s, enqueue("p0", last+1, m))
		found, err := s.Fetch(t.Context(), "p0", 0, 1000)
		if err != nil || len(found) != int(last)-int(last+1)/2+1 {
			t.Fatalf("got %d of %d, %v", len(found), last, err)
		}
	})
}

// TestRoomIsGivenBack has a queue grow and shrink: its files go.
func TestRoomIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		s := settled(t, small(fs))
		m := &message.Message{Topic: "t", Payload: make([]byte, 2000), QoS: 1}
		for at := range uint64(1000) {
			put(t, s, enqueue("p0", at+1, m))
		}
		files := len(fs.Names())
		for at := range uint64(999) {
			put(t, s, dequeue("p0", at+1), store.Change{Op: store.Send, Session: "p0", Position: 1000, ID: 1})
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if n := len(fs.Names()); files < 100 || n > 20 {
			t.Errorf("%d files after %d", n, files)
		}
		found, err := s.Fetch(t.Context(), "p0", 0, 10)
		if err != nil || len(found) != 1 || found[0].Position != 1000 || !bytes.Equal(found[0].Message.Payload, m.Payload) {
			t.Errorf("got %+v, %v", found, err)
		}
	})
}

// TestRot flips bits of what is on the medium: the store opens, what it loses is one
// record, and it says so.
func TestRot(t *testing.T) {
	made := crashfs.New()
	s := open(t, small(made))
	put(t, s, session(0))
	for at := range uint64(40) {
		put(t, s, enqueue("p0", at+1, &message.Message{Topic: "t", Payload: fmt.Appendf(nil, "%-300d", at), QoS: 1}))
		put(t, s, store.Change{Op: store.Retain, Message: &message.Message{Topic: fmt.Sprint("r", at), Payload: []byte("1"), QoS: 1}})
	}
	want := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(want, "\n")
	for _, name := range made.Names() {
		if filepath.Ext(name) != ".log" {
			continue
		}
		for off := 3; off < disk.MinSegment; off += 53 {
			fs := made.After(crashfs.Kept, 1)
			flip := func(b []byte) []byte {
				b[off] ^= 1 << (off % 8)
				return b
			}
			if err := fs.Damage(name, flip); err != nil {
				t.Fatal(err)
			}
			s := open(t, small(fs))
			dump(t, s) // it may find damage, and then it is as it is
			got := dump(t, s)
			lost := 0
			for _, line := range lines {
				if !strings.HasPrefix(line, "session") && !strings.Contains(got, line+"\n") && line != "" {
					lost++
				}
			}
			damaged := s.Stats().Damaged
			if lost > 1 || !strings.Contains(got, "session") || lost > 0 && damaged == 0 {
				t.Errorf("%s at %d: %d lost, %d damaged\n%s", name, off, lost, damaged, near([]string{want}, got))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestNewerVersion(t *testing.T) {
	fs := crashfs.New()
	s := open(t, small(fs))
	put(t, s, session(0))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range fs.Names() {
		if filepath.Ext(name) == ".log" {
			if err := fs.Damage(name, func(b []byte) []byte { return disk.WithVersion(b, 2) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := disk.Open(small(fs)); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("got %v", err)
	}
}

func TestOneAtATime(t *testing.T) {
	o := disk.Options{Folder: t.TempDir(), SegmentSize: disk.MinSegment}
	s := open(t, o)
	if _, err := disk.Open(o); !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, o)
}

func TestOptions(t *testing.T) {
	for _, o := range []disk.Options{
		{},
		{Folder: "x", SegmentSize: 4096},
		{Folder: "x", SegmentSize: disk.MinSegment + 1},
		{Folder: "x", SegmentSize: 2 * disk.DefaultSegment},
		{Folder: "x", Durability: disk.Durability{Mode: disk.Interval}},
		{Folder: "x", Durability: disk.Durability{Mode: 7}},
	} {
		if _, err := disk.Open(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// TestExpiry has the wall clock be wrong when the store is opened again.
func TestExpiry(t *testing.T) {
	for _, test := range []struct {
		name string
		off  time.Duration // how long the store is closed, by the wall clock
		left time.Duration // of an hour
	}{
		{"ten minutes later", 10 * time.Minute, 50 * time.Minute},
		{"fifty years later", 50 * 365 * 24 * time.Hour, time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := crashfs.New()
				s := settled(t, small(fs))
				put(t, s, enqueue("p0", 1, &message.Message{Topic: "t", Expires: time.Now().Add(time.Hour)}))
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				<-time.After(test.off)
				s = open(t, small(fs))
				found, err := s.Fetch(t.Context(), "p0", 0, 1)
				if err != nil || len(found) != 1 {
					t.Fatal(found, err)
				}
				if left := time.Until(found[0].Message.Expires); left != test.left {
					t.Errorf("%v are left", left)
				}
			})
		})
	}
}

// TestLargeMessage keeps messages that are longer than a segment.
func TestLargeMessage(t *testing.T) {
	o := logged(t, disk.Options{Folder: t.TempDir()})
	s := open(t, o)
	payload := make([]byte, 20<<20)
	for i := 0; i < len(payload); i += 8 {
		binary.LittleEndian.PutUint64(payload[i:], uint64(i))
	}
	put(t, s, session(0), enqueue("p0", 1, &message.Message{Topic: "t", Payload: []byte("before")}),
		enqueue("p0", 2, &message.Message{Topic: "t", Payload: payload}), enqueue("p0", 3, &message.Message{Topic: "t", Payload: []byte("after")}))
	for range 2 {
		found, err := s.Fetch(t.Context(), "p0", 0, 10)
		if err != nil || len(found) != 3 || !bytes.Equal(found[1].Message.Payload, payload) || string(found[2].Message.Payload) != "after" {
			t.Fatalf("got %d, %v", len(found), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, o)
	}
}

// cleaned is a store that is written to and cleaned, for tests in a bubble.
type cleaned struct {
	*disk.Store
	t  *testing.T
	at uint64
}

// churn fills some segments with what is gone at once, and has all segments rewritten
// but those up to an identifier.
func (c *cleaned) churn(but uint32) {
	c.t.Helper()
	m := &message.Message{Topic: "t", Payload: make([]byte, 500), QoS: 1}
	for range 100 {
		c.at++
		put(c.t, c, enqueue("p1", c.at, m), store.Change{Op: store.Send, Session: "p1", Position: c.at, ID: 1})
		put(c.t, c, dequeue("p1", c.at), store.Change{Op: store.HoldID, Session: "p1", ID: 1}, store.Change{Op: store.ReleaseID, Session: "p1", ID: 1})
	}
	synctest.Wait()
	if err := disk.Clean(c.Store, but); err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}

// TestPositionsStay takes everything out of a queue, and has all that told of it go
// from the files: positions go on from where they were.
func TestPositionsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		s := &cleaned{Store: settled(t, small(fs)), t: t}
		m := &message.Message{Topic: "t", Payload: make([]byte, 500), QoS: 1}
		for at := range uint64(20) {
			put(t, s, enqueue("p0", at+1, m))
		}
		for at := range uint64(20) {
			put(t, s, dequeue("p0", at+1), store.Change{Op: store.HoldID, Session: "p1", ID: 1}, store.Change{Op: store.ReleaseID, Session: "p1", ID: 1})
		}
		s.churn(0)
		s.churn(0)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, line := range disk.Physical(fs, "/store") {
			if (strings.Contains(line, "kind 2") || strings.Contains(line, "kind 3")) && strings.Contains(line, "owner 1") {
				t.Fatalf("it is still there: %s", line)
			}
		}
		snap, err := open(t, small(fs)).Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range snap.Sessions {
			if v.ClientID == "p0" && v.Next != 21 {
				t.Errorf("the next position is %d", v.Next)
			}
		}
	})
}

// TestDeletedStays puts, deletes and puts again: nothing that was deleted comes back
// when the segments that say so are rewritten, and the one that has it is not.
func TestDeletedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		s := &cleaned{Store: settled(t, small(fs)), t: t}
		retain := func(payload string) {
			put(t, s, store.Change{Op: store.Retain, Message: &message.Message{Topic: "a", Payload: []byte(payload), QoS: 1}})
		}
		put(t, s, store.Change{Op: store.Put, Bucket: "b", Key: "stays", Value: make([]byte, 8000)})
		retain("old")
		s.churn(2)
		retain("")
		s.churn(2)
		retain("new")
		s.churn(2)
		retain("")
		s.churn(2)
		s.churn(2)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Join(disk.Physical(fs, "/store"), "\n"); !strings.Contains(lines, "part {1 0 a}") || !strings.Contains(lines, "000002") {
			t.Fatalf("what was deleted first is gone:\n%s", lines)
		}
		snap, err := open(t, small(fs)).Load(t.Context())
		if err != nil || len(snap.Retained) != 0 {
			t.Errorf("got %d retained messages, %v", len(snap.Retained), err)
		}
	})
}
