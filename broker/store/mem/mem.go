package mem

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

var errClosed = errors.New("store is closed")

// Store keeps everything in memory. Its methods may be called by any goroutine.
// The zero value is not usable: use [New].
type Store struct {
	mu       sync.Mutex
	closed   bool
	run      uint32 // how often it was loaded
	retained map[string]*message.Message
	sessions map[string]*session
	records  map[recordKey][]byte
}

type recordKey struct{ bucket, key string }

var _ store.Store = (*Store)(nil)

// New makes an empty store.
func New() *Store {
	return &Store{
		retained: make(map[string]*message.Message),
		sessions: make(map[string]*session),
		records:  make(map[recordKey][]byte),
	}
}

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context) (*store.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.run++
	snap := &store.Snapshot{Run: s.run}
	for _, m := range s.retained {
		snap.Retained = append(snap.Retained, m)
	}
	for _, sess := range s.sessions {
		snap.Sessions = append(snap.Sessions, sess.snapshot())
	}
	return snap, nil
}

// Apply implements [store.Store]. It fails only when the store is closed, and after what
// has failed.
func (s *Store) Apply(changes []store.Change, after ...store.Ticket) store.Ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &closedTicket
	}
	if err := store.Failed(after); err != nil { // its own tickets are done at once
		return &ticket{done: closedTicket.done, err: err}
	}
	for i := range changes {
		s.apply(&changes[i])
	}
	return &doneTicket
}

func (s *Store) apply(c *store.Change) {
	switch c.Op {
	case store.Retain:
		if len(c.Message.Payload) == 0 {
			delete(s.retained, c.Message.Topic)
		} else {
			s.retained[c.Message.Topic] = c.Message
		}
	case store.PutSession:
		sess := s.sessions[c.Session]
		if sess == nil {
			sess = newSession()
			s.sessions[c.Session] = sess
		}
		sess.record = *c.Record
	case store.DropSession:
		delete(s.sessions, c.Session)
	case store.Put:
		s.records[recordKey{c.Bucket, c.Key}] = c.Value
	case store.Delete:
		delete(s.records, recordKey{c.Bucket, c.Key})
	default:
		if sess := s.sessions[c.Session]; sess != nil {
			sess.apply(c)
		}
	}
}

// Fetch implements [store.Store].
func (s *Store) Fetch(ctx context.Context, session string, from uint64, limit int) ([]store.Queued, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sess := s.sessions[session]
	if sess == nil {
		return nil, nil
	}
	return sess.fetch(from, limit), nil
}

// Records implements [store.Store].
func (s *Store) Records(ctx context.Context, r store.Range) ([]store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var keys []string
	for k := range s.records {
		if k.bucket == r.Bucket && k.key > r.After {
			keys = append(keys, k.key)
		}
	}
	slices.Sort(keys)
	found := make([]store.Record, 0, max(0, min(len(keys), r.Limit)))
	for _, key := range keys[:cap(found)] {
		v := s.records[recordKey{r.Bucket, key}]
		rec := store.Record{Key: key, Size: len(v)}
		if !r.NoValues {
			rec.Value = v
		}
		found = append(found, rec)
	}
	return found, nil
}

// Close implements [store.Store].
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// ticket is always done.
type ticket struct {
	done chan struct{}
	err  error
}

// The tickets of most changes; nothing writes them.
var (
	doneTicket   = ticket{done: closedChannel()}
	closedTicket = ticket{done: closedChannel(), err: errClosed}
)

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Done implements [store.Ticket].
func (t *ticket) Done() <-chan struct{} { return t.done }

// Wait implements [store.Ticket].
func (t *ticket) Wait(context.Context) error { return t.err }
