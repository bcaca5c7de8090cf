package disk

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// lockName is the file that says that the store is open.
const lockName = "lock"

// Open opens the store of a folder, and makes one if there is none. It starts the
// goroutines that write; Close waits for them. Damage does not keep it from opening, nor
// do places that the medium refuses to read: they are put aside, logged and counted.
// Errors are of the file system, or say that the medium as a whole neither reads nor
// writes, that another process has the store open ([durable.ErrLocked]), or that a newer
// version of the program has written it. Nothing is given up then.
func Open(opts Options) (*Store, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	s := &Store{
		opts: opts, fs: opts.FS,
		wake: make(chan struct{}, 1), tend: make(chan struct{}, 1), tending: make(chan struct{}, 1), making: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	s.space.L = &s.mu
	if s.fs == nil {
		if err := s.own(); err != nil {
			return nil, err
		}
	}
	if err := s.read(); err != nil {
		for _, b := range s.log.ready {
			_ = b.file.Close() // nothing was written to it
		}
		return nil, errors.Join(fmt.Errorf("cannot open the store %q: %w", opts.Folder, err), s.unlock())
	}
	s.ended.Go(s.write)
	s.ended.Go(s.keep)
	return s, nil
}

// own makes the folder and its lock.
func (s *Store) own() (err error) {
	if err := durable.MakeDir(s.opts.Folder, 0o700); err != nil {
		return fmt.Errorf("cannot make the folder of the store: %w", err)
	}
	s.fs = durable.OS()
	if s.lock, err = durable.Lock(s.path(lockName)); err != nil {
		return fmt.Errorf("the store is open already: %w", err)
	}
	return nil
}

// salt is random, so that nobody can make payloads that look like records.
func salt() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.LittleEndian.Uint32(b[:])
}

// read reads what is there.
func (s *Store) read() error {
	s.x = newIndex()
	s.log = &log{size: s.opts.SegmentSize, salt: salt}
	segs, err := s.list()
	if err != nil {
		return err
	}
	sc := &scan{s: s, r: &replay{x: s.x, dropped: make(map[uint32]struct{})}}
	for i, g := range segs {
		limit, void := limits(g, segs[i+1:])
		if void {
			s.stale = append(s.stale, &blank{number: g.number, name: g.name, size: g.size})
			delete(s.x.segs, g.id)
			continue
		}
		if err := sc.segment(g, limit, i == len(segs)-1); err != nil {
			return fmt.Errorf("%q: %w", g.name, err)
		}
	}
	cut, off := sc.r.cut()
	sc.r.finish()
	s.epoch = &epoch{sc.run + 1, store.Resume(time.Now(), sc.wrote, sc.counted)}
	if !s.epoch.Plausible() {
		s.opts.Log.Warn("store: the clock is not plausible: no time has passed since the store was written",
			"clock", s.epoch.Start, "written", sc.wrote)
	}
	if g := sc.last; g != nil {
		s.log.lastSeg, s.log.lastEnd = g.id, g.off
		s.ends = end{g.id, g.off}
		if !g.sealed {
			s.log.seg = g
		}
	}
	if cut != nil {
		s.endAt(cut, off, segs)
	}
	if err := s.removeStale(); err != nil { // the keeper will try again
		s.opts.Log.Warn("store: cannot tidy up", "err", err)
	}
	return nil
}

// endAt makes the log end in a segment, before an Apply that is not complete. What is
// after that does not count any more once the next segment has begun.
func (s *Store) endAt(g *segment, off int64, segs []*segment) {
	for _, h := range segs {
		if h.id >= g.id && h.file != nil {
			_ = h.file.Close() // nothing was written to it
			h.file = nil
		}
		if h.id > g.id && s.x.segs[h.id] == h {
			s.stale = append(s.stale, &blank{number: h.number, name: h.name, size: h.size})
			delete(s.x.segs, h.id)
		}
	}
	g.sealed, g.hinted, g.hints, g.off = true, false, nil, off
	s.log.seg, s.log.lastSeg, s.log.lastEnd, s.ends = nil, g.id, off, end{g.id, off}
}

// limits says where the log in g ends by what later segments say, and whether it
// ended before g.
func limits(g *segment, later []*segment) (limit int64, void bool) {
	limit = 1<<63 - 1
	for _, h := range later {
		if h.lastSeg < g.id {
			return 0, true
		}
		if h.lastSeg == g.id {
			limit = min(limit, h.lastEnd)
		}
	}
	return limit, false
}

func empty(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }

// endLog closes the log: a last group says that all before it is on the medium.
func (s *Store) endLog() error {
	s.ix.Lock()
	g := s.log.seg
	s.ix.Unlock()
	var err error
	if g != nil && g.room() > 128 && s.broken.Load() == nil && s.groups.Load() > 0 {
		s.log.begin(s.epoch, time.Now())
		s.log.extent()
		_, err = s.log.write()
		if err == nil {
			err = g.sync()
		}
	}
	for _, b := range s.log.ready {
		err = errors.Join(err, b.file.Close())
	}
	if g != nil && g.file != nil {
		err = errors.Join(err, g.file.Close())
	}
	return err
}

// isMissing reports whether a file is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
