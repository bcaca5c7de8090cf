package disk_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

// TestHealsUnasked has a store that could not write try again by itself: whoever looks
// at its health may send it nothing until it is well.
func TestHealsUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		s := open(t, logged(t, small(fs)))
		<-time.After(time.Minute)
		fs.Fail(crashfs.Fault{Err: syscall.EIO, First: 1, Every: 1})
		if err := s.Apply([]store.Change{session(0)}).Wait(t.Context()); err == nil {
			t.Fatal("it did not fail")
		}
		<-time.After(time.Minute)
		if s.Stats().Failed == "" {
			t.Error("it is said to be well, and is not")
		}
		fs.Fail(crashfs.Fault{})
		<-time.After(time.Minute)
		synctest.Wait()
		if st := s.Stats(); st.Failed != "" {
			t.Errorf("a minute later: %s", st.Failed)
		}
	})
}

// TestClockAfterATornSegment cuts the power when nothing but the header of a new segment
// is on the medium: when the store was last written is known all the same.
func TestClockAfterATornSegment(t *testing.T) {
	made := crashfs.New()
	synctest.Test(t, func(t *testing.T) {
		<-time.After(48 * time.Hour)
		s := settled(t, small(made))
		for at := range uint64(100) {
			put(t, s, enqueue("p0", at+1, &message.Message{Topic: "t", Payload: make([]byte, 500), QoS: 1}))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
	last := ""
	for _, line := range disk.Physical(made, "/store") { // in the order of segments
		if f := strings.Fields(line); strings.Contains(line, "free false") {
			last = f[1]
		}
	}
	if err := made.Damage("/store/"+last, func(b []byte) []byte {
		clear(b[1024:])
		return b
	}); err != nil {
		t.Fatal(err)
	}
	after := made.After(crashfs.Kept, 1)
	synctest.Test(t, func(t *testing.T) { // whose clock is two days behind
		s := open(t, small(after))
		if s.Stats().ClockPlausible {
			t.Error("a clock that went back is said to be plausible")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLostHeader has the beginning of a segment become zeros: it is put aside, not taken
// for a file that was never filled.
func TestLostHeader(t *testing.T) {
	fs := sealedAfter(t, session(0))
	if err := fs.Damage("/store/000001.log", func(b []byte) []byte {
		clear(b[:1024])
		return b
	}); err != nil {
		t.Fatal(err)
	}
	s := open(t, small(fs))
	if s.Stats().Damaged == 0 || !strings.Contains(strings.Join(fs.Names(), " "), "damaged-000001.bin") {
		t.Errorf("%d damaged, files %v", s.Stats().Damaged, fs.Names())
	}
}

// hooked calls a function when a file is opened to be read, once.
type hooked struct {
	durable.FS
	mu   sync.Mutex
	hook func()
}

func (h *hooked) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := h.FS.OpenFile(name, flag, perm)
	h.mu.Lock()
	hook := h.hook
	if flag == os.O_RDONLY {
		h.hook = nil
	}
	h.mu.Unlock()
	if flag == os.O_RDONLY && hook != nil {
		hook()
	}
	return f, err
}

// TestDeletedWhileRead deletes a record while it is read, and uses its room again: that
// is no damage.
func TestDeletedWhileRead(t *testing.T) {
	h := &hooked{FS: crashfs.New()}
	s := open(t, small(h))
	record := store.Change{Op: store.Put, Bucket: "b", Key: "k", Value: make([]byte, 5000)}
	put(t, s, session(0), record)
	at := uint64(0)
	churn := func() {
		for range 200 {
			at++
			put(t, s, enqueue("p0", at, &message.Message{Topic: "t", Payload: make([]byte, 1000), QoS: 1}))
			put(t, s, dequeue("p0", at), store.Change{Op: store.PutSession, Session: "p0", Record: session(0).Record})
		}
	}
	churn()
	release := disk.Hold(s) // the keeper opens files as well, and the hook is for who reads the record
	defer release()
	h.mu.Lock()
	h.hook = func() {
		release()
		put(t, s, store.Change{Op: store.Delete, Bucket: "b", Key: "k"}, session(0))
		churn()
	}
	h.mu.Unlock()
	records, err := s.Records(t.Context(), store.Range{Bucket: "b", Limit: 10})
	h.mu.Lock()
	if h.hook != nil {
		t.Error("no file was opened")
	}
	h.mu.Unlock()
	if err != nil || len(records) != 0 && len(records[0].Value) != 5000 {
		t.Errorf("got %d records, %v", len(records), err)
	}
	if n := s.Stats().Damaged; n != 0 {
		t.Errorf("%d places are said to be damaged, and none is", n)
	}
}

// TestOpenClosesItsFiles has a store that cannot be opened leave no file open.
func TestOpenClosesItsFiles(t *testing.T) {
	o := disk.Options{Folder: t.TempDir(), SegmentSize: disk.MinSegment}
	s := open(t, o)
	put(t, s, session(0))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(o.Folder, "999999.log")
	b, err := os.ReadFile(filepath.Join(o.Folder, "000001.log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(name, disk.WithVersion(b, 99), 0o600); err != nil {
		t.Fatal(err)
	}
	openFiles := func() (n int) {
		links, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, o.Folder) {
				n++
			}
		}
		return n
	}
	if _, err := disk.Open(o); err == nil {
		t.Fatal("it was opened")
	}
	if n := openFiles(); n != 0 {
		t.Errorf("%d files are open", n)
	}
}

// TestDeletedWhileItIsRewritten deletes what was just rewritten, and ends the program
// before the rest of the segment is: it does not come back when the segments that say
// so go before that one.
func TestDeletedWhileItIsRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		o := small(fs)
		o.SegmentSize, o.Budget = 256<<10, 64<<10
		s := open(t, o)
		keep := func(s *disk.Store, key string, n int) {
			put(t, s, store.Change{Op: store.Put, Bucket: "b", Key: key, Value: make([]byte, n)})
		}
		put(t, s, session(1), store.Change{Op: store.Retain, Message: &message.Message{Topic: "a", Payload: []byte("1"), QoS: 1}})
		for _, key := range []string{"1", "2", "3", "4", "5", "6"} {
			keep(s, key, 40_000)
		}
		keep(s, "next", 40_000)
		synctest.Wait()
		cleaned := make(chan error, 1)
		go func() { cleaned <- disk.Clean(s, 0) }()
		<-time.After(time.Second) // the first part was rewritten
		put(t, s, store.Change{Op: store.Retain, Message: &message.Message{Topic: "a"}})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-cleaned; err == nil {
			t.Fatal("all was rewritten")
		}
		o.Budget = 1 << 40
		c := &interrupted{Store: open(t, o), t: t}
		synctest.Wait()
		for range 3 {
			c.churn()
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		snap, err := open(t, o).Load(t.Context())
		if err != nil || len(snap.Retained) != 0 {
			t.Errorf("got %d retained messages, %v\n%s", len(snap.Retained), err, strings.Join(disk.Physical(fs, "/store"), "\n"))
		}
	})
}

// interrupted is a store of which all but the first segment is rewritten.
type interrupted struct {
	*disk.Store
	t  *testing.T
	at uint64
}

func (c *interrupted) churn() {
	c.t.Helper()
	for range 30 {
		c.at++
		put(c.t, c, enqueue("p1", c.at, &message.Message{Topic: "t", Payload: make([]byte, 20_000), QoS: 1}))
		put(c.t, c, dequeue("p1", c.at), store.Change{Op: store.HoldID, Session: "p1", ID: 1}, store.Change{Op: store.ReleaseID, Session: "p1", ID: 1})
	}
	synctest.Wait()
	if err := disk.Clean(c.Store, 2); err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}
