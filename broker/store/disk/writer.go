package disk

import (
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// write is the writer: it alone appends to the log. It returns when the store is
// closing and nothing is pending.
func (s *Store) write() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		list, g, sync, wait := s.next()
		switch {
		case len(list) > 0 || sync:
			s.commit(list, sync)
			s.after(list, g)
			continue
		case wait == 0:
			return
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
		case <-s.closing:
		case <-timer.C:
		}
	}
}

// next takes what is to be written now, and says whether it is to be synced. If there
// is nothing wait says how long there is nothing to do; 0 is for good.
func (s *Store) next() (list []apply, g *group, sync bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	wait = time.Hour
	if !s.syncBy.IsZero() {
		wait = s.syncBy.Sub(now)
		sync = wait <= 0
	}
	if len(s.pending) > 0 {
		wait = min(wait, s.writeBy.Sub(now))
	}
	if s.closed {
		sync, wait = !s.unsynced.IsZero(), 0
	}
	if len(s.pending) > 0 && (s.closed || s.need > needNothing || !now.Before(s.writeBy)) {
		list, g = s.pending, s.group
		sync = sync || s.need == needSync || s.need == needNothing && s.opts.Durability.Mode == Commit
		s.pending, s.bytes, s.group, s.writing = nil, 0, nil, g
		s.space.Broadcast()
	}
	return list, g, sync, wait
}

// after tells those who wait.
func (s *Store) after(list []apply, g *group) {
	if g == nil {
		return
	}
	lost := 0
	for i := range list {
		if a := &list[i]; a.err != nil && !a.tells { // it was done before it was written
			lost++
		}
	}
	s.mu.Lock()
	if s.writing = nil; s.strict == g {
		s.strict = nil
	}
	s.mu.Unlock()
	s.lost.Add(int64(lost))
	close(g.done)
}

// commit writes a group, and syncs it if asked to.
func (s *Store) commit(list []apply, sync bool) {
	for {
		err := s.encode(list)
		if need := (*needSegment)(nil); errors.As(err, &need) {
			if err = s.makeReady(need); err == nil || s.becomeFull(err) {
				continue
			}
			s.fail(list, fmt.Errorf("cannot make a segment: %w", err))
			return
		}
		if err = s.flush(list, sync); err == nil {
			return
		}
		s.abandon(err)
		if !s.becomeFull(err) {
			s.fail(list, err)
			return
		}
	}
}

// encode appends a group to the log and changes the index. If it fails there was no
// change.
func (s *Store) encode(list []apply) error {
	s.ix.Lock()
	defer s.ix.Unlock()
	s.log.begin(s.epoch, time.Now())
	e := encoder{log: s.log, x: s.x, at: s.epoch}
	full := s.full.Load()
	for i := range list {
		a := &list[i]
		if a.fails(a.refused(full)); a.err != nil {
			s.refused.Add(1)
			continue
		}
		var err error
		if a.copies != nil {
			err = e.copies(a.copies)
		} else if a.try {
			err = e.try()
		} else {
			err = e.apply(a.changes)
		}
		if err != nil {
			s.x.revert()
			s.log.revert(s.x, false)
			if need := (*needSegment)(nil); errors.As(err, &need) {
				need.ready = s.log.readyOf(need.size)
			}
			return err
		}
	}
	return nil
}

// flush writes what was appended, and makes it last if it is to.
func (s *Store) flush(list []apply, sync bool) error {
	n, err := s.log.write()
	s.written.Add(n)
	if err != nil {
		return err
	}
	if g := s.log.seg; sync && g != nil && g.synced < g.off {
		if err := g.sync(); err != nil {
			return err
		}
		s.syncs.Add(1)
	}
	s.ix.Lock()
	s.x.keep()
	verify(s)
	work := len(s.log.taken) > 0 || s.x.died // for the keeper
	files := s.log.written()
	s.x.died = false
	if g := s.log.seg; g != nil {
		s.ends = end{g.id, g.off}
	}
	s.ix.Unlock()
	for _, f := range files {
		if err := f.Close(); err != nil {
			s.opts.Log.Warn("store: cannot close a segment", "err", err)
		}
	}
	if len(list) > 0 {
		s.groups.Add(1)
	}
	s.note(list, sync)
	s.broken.Store(nil)
	if work {
		poke(s.tend)
	}
	return nil
}

// verify looks at the index after each group, with ix locked. Only tests set it.
var verify = func(*Store) {}

// note notes until when what was written has to be synced.
func (s *Store) note(list []apply, sync bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sync {
		s.syncBy, s.unsynced = time.Time{}, time.Time{}
		return
	}
	now := time.Now()
	if s.unsynced.IsZero() {
		s.unsynced = now
	}
	for i := range list {
		a := &list[i]
		every := a.every
		if a.need == needNothing {
			every = lazyAfter
			if d := s.opts.Durability; d.Mode != Commit {
				every = d.Every
			}
		}
		if by := now.Add(every); every > 0 && (s.syncBy.IsZero() || by.Before(s.syncBy)) {
			s.syncBy = by
		}
	}
}

// abandon gives up the segment that could not be written: what was safe in it stays,
// and goes on in another one.
func (s *Store) abandon(err error) {
	var failed durable.File
	s.ix.Lock()
	s.x.revert()
	seg := s.log.started.seg
	stale := s.log.revert(s.x, true)
	s.stale = append(s.stale, stale...)
	if seg != nil && seg.file != nil {
		failed, seg.file = seg.file, nil
	}
	s.ix.Unlock()
	if failed != nil {
		_ = failed.Close() // it has failed already
	}
	s.opts.Log.Error("store: a write failed, going on in another segment", "err", err)
	poke(s.tend)
}

// fail gives the error to all who wait.
func (s *Store) fail(list []apply, err error) {
	s.broken.Store(&err)
	s.failures.Add(1)
	poke(s.tend) // the keeper sees when it is well again
	for i := range list {
		if list[i].err != nil {
			continue
		}
		if isFull(err) {
			list[i].fails(fmt.Errorf("%w: %w", store.ErrFull, err))
		} else {
			list[i].fails(err)
		}
	}
}
