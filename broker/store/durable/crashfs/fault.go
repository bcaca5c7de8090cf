package crashfs

// Fault makes operations fail. The zero value makes none.
type Fault struct {
	// Err is what they give, such as [syscall.ENOSPC], EIO, EROFS. Of a write that fails
	// with another error than EROFS one half may have been made.
	Err error
	// First is the number of the first operation to fail, counted from when Fail was
	// called, from 1.
	First int
	// Every is how many operations there are from one to the next that fails: 1 is all
	// from First on, 0 only First.
	Every int
}

// hits tells whether operation n is to fail.
func (f *Fault) hits(n int) bool {
	switch {
	case f.Err == nil || n < f.First:
		return false
	case f.Every == 0:
		return n == f.First
	}
	return (n-f.First)%f.Every == 0
}

// Fail makes operations fail from now on; the zero [Fault] heals.
func (s *FS) Fail(fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault.First += s.stats.Operations
	s.fault = fault
}

// CutAt cuts the power at operation n, counted as [Stats] does: the operation may last in
// part, as the variant of [FS.After] says, and it and all that come get [ErrCut].
func (s *FS) CutAt(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = n
}

// Cut cuts the power now.
func (s *FS) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.die()
}

// Dead is closed when the power is cut.
func (s *FS) Dead() <-chan struct{} { return s.dead }

func (s *FS) die() {
	if !s.isDead() {
		close(s.dead)
	}
}

func (s *FS) isDead() bool {
	select {
	case <-s.dead:
		return true
	default:
		return false
	}
}

// begin counts an operation. An error is what it gives instead of being made; cut is what
// it gives once it was begun, because the power went.
func (s *FS) begin() (cut, err error) {
	if s.isDead() {
		return nil, ErrCut
	}
	s.stats.Operations++
	if s.stats.Operations == s.cut {
		s.die()
		return ErrCut, nil
	}
	if s.fault.hits(s.stats.Operations) {
		return nil, s.fault.Err
	}
	return nil, nil
}
