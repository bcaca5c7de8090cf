package broker

import (
	"context"
	"sync"
	"time"
)

// maxFetchers is how many sessions have messages fetched from the store at once.
const maxFetchers = 4

// fetches are the sessions that wait for messages from the store. A loop must not: a
// disk may take its time. Each session is in it once, and there are no more goroutines
// than [maxFetchers], which end when nobody waits and which the server waits for.
type fetches struct {
	mu      sync.Mutex
	waiting ring[*Session]
	running int
}

// fetch has a session's next messages fetched. The caller has set its fetching.
func (srv *Server) fetch(s *Session) {
	f := &srv.fetches
	f.mu.Lock()
	f.waiting.push(s)
	start := f.running < maxFetchers
	if start {
		f.running++
	}
	f.mu.Unlock()
	if !start {
		return
	}
	if !srv.enter() { // it is too late
		f.mu.Lock()
		f.running--
		f.mu.Unlock()
		return
	}
	go func() {
		defer srv.leave()
		for s := f.next(); s != nil; s = f.next() {
			srv.fetchFor(s)
		}
	}()
}

// next is the session that has waited for the longest, or nil, and then the caller
// ends.
func (f *fetches) next() *Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting.len() == 0 {
		f.running--
		return nil
	}
	return f.waiting.pop()
}

// fetchFor fetches for one session, and sends what it can; after an error it is tried
// again, later each time.
func (srv *Server) fetchFor(s *Session) {
	defer srv.recovered("a fetch from the store", nil)
	if !srv.refill(srv.stopping, s) {
		srv.fetchLater(s)
		return
	}
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	srv.pump(b, s)
}

func (srv *Server) fetchLater(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if srv.stopping.Err() != nil {
		return
	}
	s.fetchPause = min(max(retryPause, 2*s.fetchPause), retryMost)
	s.fetching = true
	s.refetch = time.AfterFunc(s.fetchPause, func() { srv.fetch(s) })
}

// pumpSoon has what waits sent, now that there is room in flight that no acknowledgement
// has made. The caller holds mu.
func (s *Session) pumpSoon() {
	if s.fetching || s.q.len() == 0 || s.bus != nil {
		return // nothing, or it comes to that by itself
	}
	s.fetching = true
	s.refetch = time.AfterFunc(0, func() { s.srv.fetch(s) })
}

// refill fetches the next messages of a queue whose fetching is set, and clears that.
// It is false when the store has failed. When nobody listens, nothing is fetched.
func (srv *Server) refill(ctx context.Context, s *Session) bool {
	for {
		done, err := srv.refillOnce(ctx, s)
		if err != nil {
			if ctx.Err() == nil { // else it is the stop that has failed it
				srv.storeFailed(err)
			}
			return false
		}
		if done {
			return true
		}
	}
}

// refillOnce does it once. It is not done if what was fetched is old: the store was
// asked while something was out of the queue that it then did not let go.
func (srv *Server) refillOnce(ctx context.Context, s *Session) (done bool, err error) {
	limits := &srv.opts.Limits
	// Every position given out under commitMu is in the store when it is free.
	srv.commitMu.Lock()
	s.mu.Lock()
	from, n := s.q.wanted(limits)
	end, back := s.q.next+1, s.q.back
	if n == 0 || s.over || !s.listens() {
		n, s.fetching = 0, false
	}
	s.mu.Unlock()
	srv.commitMu.Unlock()
	if n == 0 {
		return true, nil
	}
	fetched, err := srv.opts.Store.Fetch(ctx, s.id, from, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.q.back != back {
		return false, nil
	}
	s.fetching = false
	if err != nil {
		return false, err
	}
	s.fetchPause = 0
	if len(fetched) >= n {
		end = min(end, fetched[len(fetched)-1].Position+1)
	}
	if s.over || !s.listens() {
		return true, nil
	}
	for range s.q.fill(from, end, fetched, limits) {
		srv.stats.drop(dropStore)
	}
	s.weigh()
	return true, nil
}
