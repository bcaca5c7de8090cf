package disk_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/disk"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// history is what a store should have held after each Apply.
type history struct {
	model *mem.Store
	dumps []string
	done  [][]store.Change
}

func newHistory(t testing.TB) *history {
	h := &history{model: mem.New()}
	h.dumps = append(h.dumps, dump(t, h.model))
	return h
}

func (h *history) apply(t testing.TB, changes []store.Change) {
	h.model.Apply(changes)
	h.done = append(h.done, changes)
	h.dumps = append(h.dumps, dump(t, h.model))
}

// since is the history that begins with the first n of another one.
func (h *history) since(t testing.TB, n int) *history {
	next := &history{model: mem.New()}
	for _, changes := range h.done[:n] {
		next.model.Apply(changes)
	}
	next.done = slices.Clone(h.done[:n])
	next.dumps = make([]string, n, len(h.dumps))
	copy(next.dumps, h.dumps)
	next.dumps = append(next.dumps, dump(t, next.model))
	return next
}

// run applies until the power is cut or there were n, and returns how many are known to
// be safe.
func (h *history) run(t testing.TB, s *disk.Store, fs *crashfs.FS, w *work, n int) (safe int) {
	t.Helper()
	type waiting struct {
		n int
		t store.Ticket
	}
	safe = len(h.done)
	var tickets []waiting
	collect := func() {
		for len(tickets) > 0 {
			if err := tickets[0].t.Wait(context.Background()); err != nil {
				return
			}
			safe = tickets[0].n
			tickets = tickets[1:]
		}
	}
	for range n {
		changes := w.changes()
		h.apply(t, changes)
		ticket := s.Apply(changes)
		if !lazy(changes) {
			tickets = append(tickets, waiting{len(h.done), ticket})
		}
		if w.IntN(3) == 0 {
			collect()
		}
		select {
		case <-fs.Dead():
			return safe
		default:
		}
	}
	collect()
	return safe
}

func lazy(changes []store.Change) bool {
	return !slices.ContainsFunc(changes, func(c store.Change) bool { return c.Op != store.Dequeue })
}

// TestCrash cuts the power at random points, also while what an earlier cut left is
// read: what was done is there, all of each Apply or nothing, and nothing of a later
// one without those before.
func TestCrash(t *testing.T) {
	disk.Verify(t)
	first, rounds := uint64(0), uint64(8)
	if soak, err := strconv.ParseUint(os.Getenv("SOAK"), 10, 32); err == nil { // a number of its own each time
		first, rounds = soak*400, 400
	}
	for seed := first; seed < first+rounds; seed++ {
		for _, v := range crashfs.Variants {
			t.Run(fmt.Sprint(seed, "/", v), func(t *testing.T) {
				crash(t, v, seed)
			})
		}
	}
}

func crash(t *testing.T, v crashfs.Variant, seed uint64) {
	w, fs, h := newWork(seed), crashfs.New(), newHistory(t)
	for round := range 3 {
		fs.CutAt(20 + w.IntN(400))
		s, err := disk.Open(small(fs))
		if err != nil { // the power was cut while it was opened
			fs = fs.After(v, seed)
			continue
		}
		safe := h.run(t, s, fs, w, 400)
		_ = s.Close()
		fs = fs.After(v, seed)
		before := disk.Physical(fs, "/store")
		s = open(t, logged(t, small(fs)))
		got := dump(t, s)
		at := -1
		for n := len(h.dumps) - 1; n >= safe; n-- {
			if h.dumps[n] == got {
				at = n
				break
			}
		}
		if at < 0 {
			t.Logf("before it was opened:\n%s", strings.Join(before, "\n"))
			t.Fatalf("round %d: the store holds what it did after none of the Apply from %d to %d:\n%s", round, safe, len(h.dumps)-1, near(h.dumps[safe:], got))
		}
		if damaged := s.Stats().Damaged; damaged != 0 {
			t.Errorf("%d places are said to be damaged, and none is", damaged)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		h = h.since(t, at)
	}
}

// near shows how what was found differs from the most similar of what was wanted.
func near(wanted []string, got string) string {
	lines := strings.Split(got, "\n")
	best, differ := "", 1<<30
	for i, w := range wanted {
		text, n := "", 0
		want := strings.Split(w, "\n")
		for _, line := range want {
			if !slices.Contains(lines, line) {
				text += "-" + line + "\n"
				n++
			}
		}
		for _, line := range lines {
			if !slices.Contains(want, line) {
				text += "+" + line + "\n"
				n++
			}
		}
		if n < differ {
			best, differ = fmt.Sprintf("after %d more:\n%s", i, text), n
		}
	}
	return best
}
