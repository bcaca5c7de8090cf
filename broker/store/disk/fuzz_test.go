package disk_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

func messages() []*message.Message {
	return []*message.Message{
		{},
		{Topic: "home/hall", Payload: []byte("on"), QoS: 1, Origin: "client/a", At: time.Unix(1.7e9, 5)},
		{
			Topic: "t", Payload: []byte{0}, QoS: 2, Retain: true, UTF8: true, ContentType: "text", ResponseTopic: "r",
			CorrelationData: []byte{1}, UserProperties: []message.Property{{Key: "k", Value: "v"}, {}}, Hops: 3,
			Expires: time.Unix(2e9, 0),
		},
		{Topic: "t", Origin: "client/a", Order: 1},
		{Topic: "t", Order: 1<<64 - 1, Payload: []byte("x")},
	}
}

// FuzzMessage decodes, encodes and decodes again.
func FuzzMessage(f *testing.F) {
	for _, m := range messages() {
		f.Add(disk.EncodeMessage(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := disk.DecodeMessage(b)
		if !ok {
			return
		}
		if len(m.Payload) > len(b) || len(m.UserProperties) > len(b) {
			t.Fatalf("%d bytes are a message of %d, with %d properties", len(b), len(m.Payload), len(m.UserProperties))
		}
		again, ok := disk.DecodeMessage(disk.EncodeMessage(m))
		if !ok || !reflect.DeepEqual(again, m) {
			t.Fatalf("got %+v\nwant %+v", again, m)
		}
	})
}

// TestOrderOfAMessage: what was written before messages had an order is read as it was, and
// a program from then reads what is written now, all but the origin.
func TestOrderOfAMessage(t *testing.T) {
	const head, tail = "\x01\x00\x09home/hall", "on"
	before := head + "\x08client/a" + tail
	m, ok := disk.DecodeMessage([]byte(before))
	if !ok || m.Order != 0 || m.Origin != "client/a" || string(m.Payload) != "on" {
		t.Fatalf("what was written is %+v", m)
	}
	if got := string(disk.EncodeMessage(m)); got != before {
		t.Errorf("without an order it is %q", got)
	}
	m.Order = 3<<42 + 300
	want := head + "\x10client/a\x00\xac\x82\x80\x80\x80\x80\x03" + tail
	if got := string(disk.EncodeMessage(m)); got != want {
		t.Errorf("with an order it is %q, not %q", got, want)
	}
}

// segmentOf is the file of a small store.
func segmentOf(f *testing.F) []byte {
	fs := crashfs.New()
	s, err := disk.Open(small(fs))
	if err != nil {
		f.Fatal(err)
	}
	w := newWork(1)
	for range 40 {
		s.Apply(w.changes())
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	var first []byte
	for _, name := range fs.Names() {
		if filepath.Ext(name) == ".log" && first == nil {
			_ = fs.Damage(name, func(b []byte) []byte {
				first = bytes.Clone(b)
				return b
			})
		}
	}
	return first
}

// FuzzSegment opens what may be anything: whatever it is, the store opens, holds the
// same when it is opened again, and can be written to.
func FuzzSegment(f *testing.F) {
	f.Add(segmentOf(f), false)
	f.Add([]byte{2, 3, 9, 1, 1, 64, 1, 0, 0, 1, 't', 0}, true)
	f.Add([]byte{4, 3, 8, 1, 3, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 3, 3, 4, 1, 1, 2, 3}, true)
	f.Fuzz(func(t *testing.T, b []byte, records bool) {
		if records { // they are whole, only what they say is anything
			b = disk.SegmentOf(b, disk.MinSegment)
		}
		if len(b) > 1<<20 {
			return
		}
		fs := crashfs.New()
		file, err := fs.OpenFile("/store/000001.log", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		s, err := disk.Open(small(fs))
		if err != nil {
			return // of a newer version
		}
		dump(t, s) // finds the damage
		want := unsized(dump(t, s))
		put(t, s, session(77), store.Change{Op: store.DropSession, Session: "p77"})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = disk.Open(small(fs)); err != nil {
			t.Fatal(err)
		}
		if got := unsized(dump(t, s)); got != want {
			t.Errorf("opened again:\n%s", near([]string{want}, got))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAllocations holds the writer to a few allocations for each Apply.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := open(t, disk.Options{Folder: t.TempDir(), Durability: disk.Durability{Mode: disk.Off}})
	put(t, s, session(0))
	m, at := queued(256), uint64(0)
	changes := make([]store.Change, 1)
	n := testing.AllocsPerRun(2000, func() {
		at++
		changes[0] = enqueue("p0", at, m)
		s.Apply(changes)
		if at%100 == 0 {
			if _, err := s.Fetch(t.Context(), "p0", at, 1); err != nil {
				t.Error(err)
			}
		}
	})
	if n > 8 {
		t.Errorf("%v allocations for each Apply", n)
	}
	t.Log(n)
}
