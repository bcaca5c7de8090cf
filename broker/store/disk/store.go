package disk

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// pendingBytes is how much may wait for the writer before Apply waits too.
const pendingBytes = 16 << 20

// Store is a [store.Store] on disk. Use [Open].
type Store struct {
	opts  Options
	fs    durable.FS
	lock  io.Closer
	epoch *epoch
	ended sync.WaitGroup // writer and keeper

	// Of the writer and the keeper.
	wake    chan struct{} // capacity 1: something is pending
	tend    chan struct{} // capacity 1: segments changed
	tending chan struct{} // capacity 1: full while the keeper works, or a test in its place
	making  chan struct{} // capacity 1: full while a file is made: two at once would take each other's room
	closing chan struct{}

	mu       sync.Mutex
	space    sync.Cond // there is room in pending
	pending  []apply
	bytes    int       // of pending
	group    *group    // that pending will be, nil if there is nothing
	writing  *group    // that is being written
	strict   *group    // the last one with somebody who waits for the medium
	need     need      // the most that pending needs
	writeBy  time.Time // pending, at the latest
	syncBy   time.Time // for what was written and not synced
	unsynced time.Time // since when there is such, zero if there is none
	closed   bool

	full atomic.Bool // nothing may grow

	ix   sync.Mutex // guards what follows; never taken with mu
	x    *index
	log  *log
	ends end // the log is in its files before here
	numbers
}

// end is where something ends.
type end struct {
	seg uint32
	off int64
}

var _ store.Store = (*Store)(nil)

// Apply implements [store.Store]. It waits only while 16 MiB are on their way to the
// disk before it. What only keeps retained messages of QoS 0, or only takes messages
// out of queues, is done at once and written within a second. Without room Apply fails
// with [store.ErrFull], except for what takes things out.
func (s *Store) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	a := apply{changes: append(make([]store.Change, 0, len(changes)), changes...), err: store.Failed(after)}
	for _, t := range after {
		if t, ours := t.(*ticket); ours {
			a.after = append(a.after, t)
		}
	}
	a.weigh(&s.opts)
	return s.submit(a)
}

func (s *Store) submit(a apply) *ticket {
	s.mu.Lock()
	for s.bytes > pendingBytes && !s.closed {
		s.space.Wait()
	}
	if s.closed {
		s.mu.Unlock()
		return &ticket{g: finished, err: errClosed}
	}
	if a.err == nil && a.grows && s.full.Load() {
		a.err = store.ErrFull
		s.refused.Add(1)
	}
	if a.err == nil && s.group == nil {
		s.group = newGroup()
	}
	if a.err == nil && a.need == needSync {
		s.strict = s.group
	}
	a.t = &ticket{g: s.strict, err: a.err} // those before it are done first
	if s.strict == nil {
		a.t.g = finished
	}
	if a.err != nil {
		s.mu.Unlock()
		return a.t
	}
	a.tells = a.t.g == s.group
	first := len(s.pending) == 0 || a.need > s.need
	if first {
		s.need = a.need
	}
	if len(s.pending) == 0 {
		s.writeBy = time.Now().Add(lazyAfter)
	}
	s.pending = append(s.pending, a)
	s.bytes += a.size
	s.mu.Unlock()
	if first {
		poke(s.wake)
	}
	return a.t
}

// finished is a group that is over.
var finished = func() *group {
	g := newGroup()
	close(g.done)
	return g
}()

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// settle waits until everything applied so far is in the index, or has failed.
func (s *Store) settle(ctx context.Context) error {
	s.mu.Lock()
	g := s.group
	if g == nil {
		g = s.writing
	} else if s.need == needNothing {
		s.need = needWrite
		poke(s.wake)
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return errClosed
	}
	if g == nil {
		return ctx.Err()
	}
	select {
	case <-g.done:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements [store.Store]: everything applied is on the medium when it
// returns nil. It waits for the goroutines that Open started.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.space.Broadcast()
	s.mu.Unlock()
	close(s.closing)
	s.ended.Wait()
	return errors.Join(s.endLog(), s.unlock())
}

func (s *Store) unlock() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}
