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
	forget := func() {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		if c.refs--; c.refs == 0 {
			delete(srv.claims, id)
		}
	}
	select {
	case c.turn <- struct{}{}:
		return func() { <-c.turn; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
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
