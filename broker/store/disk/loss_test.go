package disk_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

// damage flips a bit of each of the first n times that a text is in the files of the
// log, from skip on.
func damage(t *testing.T, fs *crashfs.FS, text string, skip, n int) {
	t.Helper()
	for _, name := range fs.Names() {
		if filepath.Ext(name) != ".log" {
			continue
		}
		if err := fs.Damage(name, func(b []byte) []byte {
			for off := 0; n > 0; off++ {
				i := bytes.Index(b[off:], []byte(text))
				if i < 0 {
					break
				}
				if off += i; skip > 0 {
					skip--
					continue
				}
				b[off] ^= 1
				n--
			}
			return b
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n > 0 {
		t.Fatalf("%q is not there often enough", text)
	}
}

// sealedAfter makes a store whose first segments, which hold what the changes made, are
// sealed, and closes it.
func sealedAfter(t *testing.T, changes ...store.Change) *crashfs.FS {
	t.Helper()
	fs := crashfs.New()
	s := open(t, small(fs))
	put(t, s, changes...)
	for at := range uint64(100) {
		put(t, s, enqueue("p0", at+1, &message.Message{Topic: "t", Payload: fmt.Appendf(nil, "<%d>%300d", at+1, at), QoS: 1}))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return fs.After(crashfs.Kept, 1)
}

// TestDamageWithinWhatIsFetched has Fetch pass over what is lost: whoever gets less than
// was asked for takes it that there is no more.
func TestDamageWithinWhatIsFetched(t *testing.T) {
	fs := sealedAfter(t, session(0))
	for _, at := range []int{2, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20} {
		damage(t, fs, fmt.Sprintf("<%d>", at), 0, 1)
	}
	s := open(t, small(fs))
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ from, first, last uint64 }{{1, 1, 6}, {11, 21, 25}, {30, 30, 34}} {
		found, err := s.Fetch(t.Context(), "p0", test.from, 5)
		if err != nil || len(found) != 5 || found[0].Position != test.first || found[4].Position != test.last {
			t.Errorf("from %d: got %d messages, %+v, %v", test.from, len(found), found, err)
		}
	}
}

// TestDamagedSession has a session survive one flipped bit, and leave nothing behind
// if it is lost.
func TestDamagedSession(t *testing.T) {
	record := store.Change{Op: store.PutSession, Session: "p0", Record: &store.SessionRecord{ClientID: "p0", Principal: "principal"}}
	again := func(t *testing.T, fs *crashfs.FS) *store.Snapshot {
		s := open(t, small(fs))
		snap, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return snap
	}
	for name, changes := range map[string][]store.Change{"new": {record}, "put again": {session(0), record}} {
		for copyOf := range 2 {
			t.Run(fmt.Sprintf("%s, one bit of copy %d", name, copyOf), func(t *testing.T) {
				fs := sealedAfter(t, changes...)
				damage(t, fs, "principal", copyOf, 1)
				for range 3 {
					if snap := again(t, fs); len(snap.Sessions) != 1 || snap.Sessions[0].Principal != "principal" || snap.Sessions[0].Queued != 100 {
						t.Fatalf("got %+v", snap.Sessions)
					}
				}
			})
		}
	}
	t.Run("all of it", func(t *testing.T) {
		fs := sealedAfter(t, record)
		damage(t, fs, "principal", 0, 2)
		s := open(t, small(fs))
		snap, err := s.Load(t.Context())
		if err != nil || len(snap.Sessions) != 0 || s.Stats().Damaged == 0 {
			t.Fatalf("got %+v, %v", snap, err)
		}
		put(t, s, record)
		put(t, s, enqueue("p0", 1, &message.Message{Topic: "t", Payload: []byte("of another session"), QoS: 1}))
		found, err := s.Fetch(t.Context(), "p0", 0, 10)
		if err != nil || len(found) != 1 || string(found[0].Message.Payload) != "of another session" {
			t.Errorf("got %+v, %v", found, err)
		}
	})
}
