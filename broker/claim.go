package broker

import "context"

// claim is held by whoever makes, takes over or ends the session of one client
// identifier.
type claim struct {
	turn chan struct{} // capacity 1: full while held
	refs int           // holders and those who wait, under the server's mu
}

// claim waits for the client identifier to be free, and takes it.
func (srv *Server) claim(ctx context.Context, id string) (release func(), err error) {
	srv.mu.Lock()
	c := srv.claims[id]
	if c == nil {
		c = &claim{turn: make(chan struct{}, 1)}
		srv.claims[id] = c
	}
	c.refs++
	srv.mu.Unlock()
	select {
	case c.turn <- struct{}{}:
		return func() { <-c.turn; srv.unclaim(id, c) }, nil
	case <-ctx.Done():
		srv.unclaim(id, c)
		return nil, ctx.Err()
	}
}

// tryClaim takes the client identifier if nobody has it or waits for it.
func (srv *Server) tryClaim(id string) (release func(), free bool) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.claims[id] != nil {
		return nil, false
	}
	c := &claim{turn: make(chan struct{}, 1), refs: 1}
	c.turn <- struct{}{}
	srv.claims[id] = c
	return func() { <-c.turn; srv.unclaim(id, c) }, true
}

// unclaim forgets one who held the claim or waited for it.
func (srv *Server) unclaim(id string, c *claim) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if c.refs--; c.refs == 0 {
		delete(srv.claims, id)
	}
}

// session finds a session by its identifier.
func (srv *Server) session(id string) *Session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.sessions[id]
}

// newSession makes a session, unless there are too many. The caller holds its
// claim.
func (srv *Server) newSession(id, origin string, stored bool) *Session {
	s := &Session{srv: srv, id: id, origin: origin, stored: stored}
	s.q.all = &srv.queued
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if len(srv.sessions) >= srv.opts.Limits.Sessions {
		return nil
	}
	srv.sessions[id] = s
	return s
}
