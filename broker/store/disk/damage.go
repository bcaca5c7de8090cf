package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// What is damaged is put into files of these names; they hold at most asideBytes.
const (
	asidePrefix = "damaged-"
	asideBytes  = 64 << 20
)

// quarantine puts damaged bytes of a segment into a file, logs and counts them. The
// segment is then rewritten without them.
func (s *Store) quarantine(g *segment, off int64, b []byte) {
	s.damaged.Add(1)
	s.opts.Log.Error("store: damaged, and put aside", "file", g.name, "offset", off, "bytes", len(b))
	name := fmt.Sprintf("%s%08x-%06x.bin", asidePrefix, g.id, off)
	if err := s.writeAside(name, b); err != nil && !errors.Is(err, fs.ErrExist) {
		s.opts.Log.Error("store: cannot put aside what is damaged", "file", name, "err", err)
	}
}

func (s *Store) writeAside(name string, b []byte) error {
	if s.aside.Add(int64(len(b))) > asideBytes {
		return fmt.Errorf("there are more than %d bytes already", int64(asideBytes))
	}
	f, err := s.fs.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), s.fs.SyncDir(s.opts.Folder))
}

// putAside gives a file that is no segment another name.
func (s *Store) putAside(name string, size int64) {
	s.damaged.Add(1)
	to := asidePrefix + strings.TrimSuffix(name, suffix) + ".bin"
	s.opts.Log.Error("store: a file has no header, and is put aside", "file", name, "bytes", size, "as", to)
	if err := errors.Join(s.fs.Rename(s.path(name), s.path(to)), s.fs.SyncDir(s.opts.Folder)); err != nil {
		s.opts.Log.Error("store: cannot put a file aside", "file", name, "err", err)
	}
}

// setAside quarantines a record that could not be read.
func (s *Store) setAside(w wanted) {
	if w.seg == nil {
		s.damaged.Add(1)
		s.opts.Log.Error("store: a record is lost", "segment", w.place.seg)
		return
	}
	b := make([]byte, w.n)
	f, err := s.fs.OpenFile(s.path(w.seg.name), os.O_RDONLY, 0)
	if err == nil {
		if _, err = f.ReadAt(b, w.off()); errors.Is(err, io.EOF) {
			err = nil
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.opts.Log.Error("store: cannot read what is damaged", "file", w.seg.name, "err", err)
	}
	s.quarantine(w.seg, w.off(), b)
	s.ix.Lock()
	w.seg.suspect = true
	s.ix.Unlock()
	poke(s.tend)
}

// loseMessage takes a message that could not be read out of its queue.
func (s *Store) loseMessage(session string, pos uint64, w *wanted) {
	s.setAside(*w)
	s.ix.Lock()
	sess := s.x.byID[session]
	s.ix.Unlock()
	if sess != nil {
		s.lose([]copied{{lost: true, kind: kindMessage, head: head{owner: sess.num, pos: pos}, from: w.place}})
	}
}

// lose takes what is damaged out of the index.
func (s *Store) lose(lost []copied) {
	if len(lost) > 0 {
		s.submit(apply{copies: lost, need: needWrite, every: lazyAfter})
		poke(s.tend)
	}
}
