package broker

import "context"

// unsettled counts what a session is still to hear of the store: messages that are to be
// sent, or taken back, and answers of its connections. Until there is nothing more the
// session is not another connection's, and nothing of it is handed over: it would go by
// what the store may not have taken. The session's mu guards it.
type unsettled struct {
	n     int
	quiet chan struct{} // closed when there is nothing; nil while nobody waits
}

func (u *unsettled) add() { u.n++ }

func (u *unsettled) done() {
	if u.n--; u.n == 0 && u.quiet != nil {
		close(u.quiet)
		u.quiet = nil
	}
}

// settled waits until there is nothing unsettled. The session has no connection, so that
// nothing new comes.
func (s *Session) settled(ctx context.Context) error {
	s.mu.Lock()
	u := &s.unsettled
	if u.n == 0 {
		s.mu.Unlock()
		return nil
	}
	if u.quiet == nil {
		u.quiet = make(chan struct{})
	}
	quiet := u.quiet
	s.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unsettle counts answers that go into the journal.
func (s *Session) unsettle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsettled.add()
}

// settle counts them as gone from there.
func (s *Session) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsettled.done()
}

// await counts a message as unsettled until it is emitted or forgone. The caller holds
// mu.
func (s *Session) await(b *batch, e emit) {
	e.counted = true
	s.unsettled.add()
	b.later = append(b.later, e)
}

// heard counts it as settled, once. The caller holds mu.
func (e *emit) heard() {
	if e.counted {
		e.counted = false
		e.s.unsettled.done()
	}
}

// forgo says that a message will not be emitted any more, after a panic.
func (e *emit) forgo() {
	if !e.counted {
		return
	}
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.heard()
}

// forgoAll does it for many.
func forgoAll(later []emit) {
	for i := range later {
		later[i].forgo()
	}
}
