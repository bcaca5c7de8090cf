package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// ballastName is the file that is given up when the disk is full.
const ballastName = "ballast"

func (s *Store) path(name string) string { return filepath.Join(s.opts.Folder, name) }

// makeReady makes one more file ready to be a segment than there were.
func (s *Store) makeReady(need *needSegment) error {
	s.making <- struct{}{}
	defer func() { <-s.making }()
	if s.filesReady(need.size) > need.ready { // the keeper was quicker
		return nil
	}
	return s.addReady(need.size)
}

// filesReady counts the files of a size that are ready to be a segment.
func (s *Store) filesReady(size int64) int {
	s.ix.Lock()
	defer s.ix.Unlock()
	return s.log.readyOf(size)
}

func (l *log) readyOf(size int64) (n int) {
	for _, b := range l.ready {
		if b.size == size {
			n++
		}
	}
	return n
}

// addReady makes one; making is full.
func (s *Store) addReady(size int64) error {
	b, err := s.makeBlank(size)
	if err != nil {
		return err
	}
	s.ix.Lock()
	s.log.ready = append(s.log.ready, b)
	s.ix.Unlock()
	return nil
}

// makeBlank makes a file of zeros: overwriting it costs a flush less than appending
// to a file. One that is larger than a segment is used once, and gets its bytes then.
// It has its name when its header is on the medium.
func (s *Store) makeBlank(size int64) (b *blank, err error) {
	s.ix.Lock()
	s.number++
	b = &blank{number: s.number, name: segmentName(s.number), size: size}
	s.ix.Unlock()
	h, filled := header{free: true, size: size}, size
	if size > s.opts.SegmentSize {
		filled = dataStart
	}
	before := b.name + newSuffix
	if b.file, err = s.makeFile(before, h.append(nil), filled); err != nil {
		return nil, err
	}
	if err := s.fs.Rename(s.path(before), s.path(b.name)); err != nil {
		return nil, errors.Join(err, b.file.Close(), s.fs.Remove(s.path(before)))
	}
	if err := s.fs.SyncDir(s.opts.Folder); err != nil {
		return nil, errors.Join(err, s.discard(b))
	}
	return b, nil
}

// makeFile makes a file that begins with head and goes on with zeros, and leaves
// nothing if it cannot.
func (s *Store) makeFile(name string, head []byte, size int64) (f durable.File, err error) {
	if f, err = s.fs.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	chunk := make([]byte, min(size, 64<<10))
	for off := int64(0); off < size && err == nil; off += int64(len(chunk)) {
		copy(chunk, head)
		_, err = f.WriteAt(chunk[:min(int64(len(chunk)), size-off)], off)
		if off == 0 {
			clear(chunk[:len(head)])
			head = nil
		}
		s.written.Add(int64(len(chunk)))
	}
	if err == nil {
		err = f.Sync()
		s.syncs.Add(1)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), s.fs.Remove(s.path(name)))
	}
	return f, nil
}

// discard removes a file that is not to be a segment, or puts it aside.
func (s *Store) discard(b *blank) error {
	var err error
	if b.file != nil {
		err = b.file.Close()
	}
	var e error
	if b.aside && s.aside.Load()+b.size <= asideBytes {
		if e = s.fs.Rename(s.path(b.name), s.path(asideName(b.name))); e == nil {
			s.aside.Add(b.size)
		}
	} else {
		e = s.fs.Remove(s.path(b.name))
	}
	if e != nil && !isMissing(e) {
		err = errors.Join(err, e)
	}
	return err
}

// makeBallast makes the file that is given up when the disk is full; making is full.
func (s *Store) makeBallast() error {
	if err := s.fs.Remove(s.path(ballastName)); err != nil && !isMissing(err) {
		return err
	}
	f, err := s.makeFile(ballastName, nil, s.opts.Ballast)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), s.fs.SyncDir(s.opts.Folder)); err != nil {
		return err
	}
	s.ballast.Store(true)
	return nil
}

// becomeFull reports whether there is reason to try again after an error: the disk is
// full, and now nothing may grow any more, or there is the room of the ballast.
func (s *Store) becomeFull(err error) bool {
	if !isFull(err) {
		return false
	}
	s.making <- struct{}{} // else the keeper's next ballast may be given up, and be thought to be there
	defer func() { <-s.making }()
	first := !s.full.Swap(true)
	poke(s.tend) // the keeper sees when there is room again, though nothing else happens
	if first {
		s.opts.Log.Error("store: the disk is full: only what takes things out is taken", "err", err)
	}
	if s.ballast.Swap(false) {
		err := s.fs.Remove(s.path(ballastName))
		if err == nil {
			err = s.fs.SyncDir(s.opts.Folder)
		}
		if err != nil {
			s.opts.Log.Error("store: cannot give up the ballast", "err", err)
		}
		return true
	}
	return first
}

// isFull reports whether an error says that there is no room, or none for us.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// heal takes back that the disk is full.
func (s *Store) heal() {
	if s.full.Swap(false) {
		s.opts.Log.Info("store: there is room again")
	}
}

// removeStale removes files of groups that failed. Until that is done nothing else is
// removed: what they hold does not count because of a later segment.
func (s *Store) removeStale() error {
	s.ix.Lock()
	stale := s.stale
	s.ix.Unlock()
	if len(stale) == 0 {
		return nil
	}
	for _, b := range stale {
		if b.file != nil {
			_ = b.file.Close() // a write to it has failed already
			b.file = nil
		}
		if err := s.discard(b); err != nil {
			return fmt.Errorf("cannot remove %q: %w", b.name, err)
		}
	}
	if err := s.fs.SyncDir(s.opts.Folder); err != nil {
		return err
	}
	s.ix.Lock()
	s.stale = s.stale[len(stale):]
	s.ix.Unlock()
	return nil
}
