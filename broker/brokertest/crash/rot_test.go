package crash_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

// rotten opens a store of 64 KiB that a change has gone over, and tells what is left of
// its 100 queued and 100 retained messages, and whether it says that it is damaged.
func rotten(t *testing.T, fsys *crashfs.FS) (left map[string]bool, reported bool, err error) {
	t.Helper()
	s, err := disk.Open(disk.Options{Folder: "/store", FS: fsys, SegmentSize: disk.MinSegment, Ballast: -1})
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	snap, err := s.Load(t.Context())
	if err != nil {
		return nil, false, err
	}
	left = make(map[string]bool)
	for _, m := range snap.Retained {
		left["retained "+m.Topic+" "+string(m.Payload)] = true
	}
	for from := uint64(0); ; {
		queued, err := s.Fetch(context.Background(), "a", from, 1000)
		if err != nil || len(queued) == 0 {
			return left, s.Stats().Damaged > 0, err
		}
		for _, q := range queued {
			if q.Message != nil {
				left["queued "+string(q.Message.Payload)] = true
			}
		}
		from = queued[len(queued)-1].Position + 1
	}
}

// fill writes a store of 64 KiB.
func fill(t *testing.T) (*crashfs.FS, map[string]bool) {
	t.Helper()
	fsys := crashfs.New()
	s, err := disk.Open(disk.Options{Folder: "/store", FS: fsys, SegmentSize: disk.MinSegment, Ballast: -1})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(changes ...store.Change) {
		t.Helper()
		if err := s.Apply(changes).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	apply(store.Change{Op: store.PutSession, Session: "a", Record: &store.SessionRecord{ClientID: "a", Expiry: store.Forever}})
	pad := strings.Repeat("x", 150)
	for i := range 100 {
		apply(store.Change{Op: store.Enqueue, Session: "a", Position: uint64(i + 1), Message: &message.Message{
			Topic: "t", Payload: fmt.Appendf(nil, "%d %s", i, pad), QoS: 1,
		}, Delivery: store.Delivery{QoS: 1}})
		apply(store.Change{Op: store.Retain, Message: &message.Message{
			Topic: fmt.Sprint("r/", i), Payload: fmt.Appendf(nil, "%d %s", i, pad), QoS: 1, Retain: true,
		}})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, reported, err := rotten(t, fsys.After(crashfs.Lost, 0))
	if err != nil || reported || len(whole) != 200 {
		t.Fatalf("an undamaged store has %d of 200 messages, damaged %v: %v", len(whole), reported, err)
	}
	return fsys, whole
}

// TestBitRot flips each byte of each file and truncates each file at each length, also to
// nothing, a sample of them unless CRASH is set: the store opens, it serves nothing that was not
// written, it loses no more than a few records, and what it lost it reports.
func TestBitRot(t *testing.T) {
	fsys, whole := fill(t)
	step := 97
	if os.Getenv("CRASH") != "" {
		step = 1
	}
	for _, name := range fsys.Names() {
		var size int
		if err := fsys.Damage(name, func(b []byte) []byte { size = len(b); return b }); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < size; i += step {
			for kind, change := range map[string]func([]byte) []byte{
				"flipped at":   func(b []byte) []byte { b[i] ^= 0x10; return b },
				"truncated at": func(b []byte) []byte { return b[:i] },
			} {
				after := fsys.After(crashfs.Lost, 0)
				if err := after.Damage(name, change); err != nil {
					t.Fatal(err)
				}
				what := fmt.Sprintf("%s %s %d of %d", name, kind, i, size)
				judge(t, what, after, whole, strings.HasPrefix(kind, "flipped"))
			}
		}
	}
}

// worst is how many records one flipped byte may cost.
const worst = 4

func judge(t *testing.T, what string, fsys *crashfs.FS, whole map[string]bool, flipped bool) {
	t.Helper()
	left, reported, err := rotten(t, fsys)
	if err != nil {
		t.Errorf("%s: it does not open: %v", what, err)
		return
	}
	lost := 0
	for m := range whole {
		if !left[m] {
			lost++
		}
	}
	for m := range left {
		if !whole[m] {
			t.Errorf("%s: it serves %.40q, which was never written", what, m)
		}
	}
	if lost > 0 && !reported {
		t.Errorf("%s: %d messages are lost in silence", what, lost)
	}
	if flipped && lost > worst {
		t.Errorf("%s: %d messages are lost", what, lost)
	}
}
