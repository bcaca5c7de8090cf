package disk_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

// TestFaults has operations fail: what is said to have failed is not there, what is
// said to be done is, and the store goes on when they fail no more.
func TestFaults(t *testing.T) {
	disk.Verify(t)
	rounds := uint64(6)
	if os.Getenv("SOAK") != "" {
		rounds = 300
	}
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS} {
		for seed := range rounds {
			t.Run(fmt.Sprint(fault, "/", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { faults(t, fault, seed) })
			})
		}
	}
}

func faults(t *testing.T, fault error, seed uint64) {
	w, fs, h := newWork(seed), crashfs.New(), newHistory(t)
	s := open(t, logged(t, small(fs)))
	failed := 0
	for range 4 {
		fs.Fail(crashfs.Fault{Err: fault, First: 1 + w.IntN(60), Every: w.IntN(4)})
		failed += h.some(t, s, w, 60)
		fs.Fail(crashfs.Fault{})
		h.heal(t, s, w)
		if got, want := unsized(dump(t, s)), unsized(h.dumps[len(h.dumps)-1]); got != want {
			t.Fatalf("after the faults:\n%s", near([]string{want}, got))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, logged(t, small(fs)))
	if got, want := dump(t, s), h.dumps[len(h.dumps)-1]; got != want {
		t.Fatalf("opened again:\n%s", near([]string{want}, got))
	}
	if damaged := s.Stats().Damaged; damaged != 0 {
		t.Errorf("%d places are said to be damaged, and none is", damaged)
	}
	t.Logf("%d of %d failed", failed, failed+len(h.done))
}

// some applies changes that are to be safe, and keeps those that are.
func (h *history) some(t *testing.T, s store.Store, w *work, n int) (failed int) {
	t.Helper()
	type waiting struct {
		changes []store.Change
		ticket  store.Ticket
		after   []store.Ticket
	}
	var all []waiting
	collect := func() {
		for _, a := range all {
			switch err := a.ticket.Wait(context.Background()); {
			case err == nil && store.Failed(a.after) != nil:
				t.Fatal("it was made after what was not")
			case err == nil:
				h.apply(t, a.changes)
			case !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EROFS) && !errors.Is(err, store.ErrFull):
				t.Fatalf("failed with %v", err)
			default:
				failed++
			}
		}
		all = nil
	}
	for range n {
		changes := w.changes()
		if lazy(changes) {
			continue
		}
		var after []store.Ticket
		if len(all) > 0 && w.IntN(2) == 0 {
			after = []store.Ticket{all[w.IntN(len(all))].ticket}
		}
		all = append(all, waiting{changes, s.Apply(changes, after...), after})
		if w.IntN(3) == 0 {
			collect()
		}
	}
	collect()
	return failed
}

// heal waits until the store takes things again.
func (h *history) heal(t *testing.T, s store.Store, w *work) {
	t.Helper()
	for range 1000 {
		changes := []store.Change{{Op: store.Retain, Message: w.message("healed")}}
		if s.Apply(changes).Wait(context.Background()) == nil {
			h.apply(t, changes)
			return
		}
		<-time.After(time.Second)
	}
	t.Fatal("it did not heal in 1000 s")
}
