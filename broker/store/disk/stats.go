package disk

import (
	"sync/atomic"
	"time"
)

// numbers count what happened since the store was opened.
type numbers struct {
	groups, syncs, written  atomic.Int64
	rewritten               atomic.Int64
	lost, refused, failures atomic.Int64
	damaged, aside          atomic.Int64
	unreadable              atomic.Int64 // of damaged
	probes                  atomic.Int64
	ballast                 atomic.Bool
	broken                  atomic.Pointer[error]
	number                  int      // of the last file; guarded by ix
	stale                   []*blank // guarded by ix
}

// Stats say how the store does.
type Stats struct {
	Durability string // commit, interval DURATION or off
	// Segments are in use, Ready wait to be, of SegmentSize bytes each.
	Segments, Ready int
	SegmentSize     int64
	// Live bytes are of records that count, Dead bytes the rest of the segments.
	Live, Dead int64
	// Sessions are kept, and Messages wait in their queues.
	Sessions, Messages int
	// Groups were written since Open, with Syncs flushes and Written bytes, Rewritten
	// of them to give back the room of what is gone.
	Groups, Syncs, Written, Rewritten int64
	// Damaged places were found since Open: see the files damaged-* in the folder.
	Damaged int64
	// Unreadable are those of them that the medium refused to read, twice.
	Unreadable int64
	// Aside is how many bytes the files damaged-* have together, also of earlier runs.
	Aside int64
	// Full says that the disk is: only what takes things out is taken. Refused counts
	// what was refused for that.
	Full    bool
	Refused int64
	// Failed is why the last group could not be written; empty once one could.
	Failed   string
	Failures int64
	// Lost counts what was relaxed or lazy, done, and could not be written.
	Lost int64
	// Unsynced is since when there is something done that is not on the medium; zero
	// if there is nothing.
	Unsynced time.Time
	// ClockPlausible says that the wall clock went on from where it was when the store
	// was written last.
	ClockPlausible bool
}

// Stats tells how the store does. Any goroutine may call it.
func (s *Store) Stats() Stats {
	v := Stats{
		Durability: s.opts.Durability.String(), SegmentSize: s.opts.SegmentSize,
		Groups: s.groups.Load(), Syncs: s.syncs.Load(), Written: s.written.Load(), Rewritten: s.rewritten.Load(),
		Damaged: s.damaged.Load(), Unreadable: s.unreadable.Load(), Aside: s.aside.Load(), Full: s.full.Load(), Refused: s.refused.Load(),
		Failures: s.failures.Load(), Lost: s.lost.Load(), ClockPlausible: s.epoch.Plausible(),
	}
	if err := s.broken.Load(); err != nil {
		v.Failed = (*err).Error()
	}
	s.ix.Lock()
	v.Segments, v.Ready, v.Sessions = len(s.x.segs), len(s.log.ready), len(s.x.byID)
	for _, g := range s.x.segs {
		v.Live += g.live
		v.Dead += g.size - g.live
	}
	for _, sess := range s.x.byID {
		v.Messages += sess.q.count
	}
	s.ix.Unlock()
	s.mu.Lock()
	v.Unsynced = s.unsynced
	s.mu.Unlock()
	return v
}
