package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// What is damaged is put into files of these names. When they hold asideBytes, also those
// of earlier runs, no more is copied; files that are damaged as a whole keep their room.
const (
	asidePrefix = "damaged-"
	asideSuffix = ".bin"
	asideBytes  = 64 << 20
)

// asideName is what the file of a segment is called when it is put aside.
func asideName(name string) string {
	return asidePrefix + strings.TrimSuffix(name, suffix) + asideSuffix
}

// quarantine puts damaged bytes of a segment into a file, logs and counts them. The
// segment is then rewritten without them.
func (s *Store) quarantine(g *segment, off int64, b []byte) {
	s.damaged.Add(1)
	s.opts.Log.Error("store: damaged, and put aside", "file", g.name, "offset", off, "bytes", len(b))
	name := fmt.Sprintf("%s%08x-%06x%s", asidePrefix, g.id, off, asideSuffix)
	if err := s.writeAside(name, b); err != nil && !errors.Is(err, fs.ErrExist) {
		s.opts.Log.Error("store: cannot put aside what is damaged", "file", name, "err", err)
	}
}

func (s *Store) writeAside(name string, b []byte) error {
	if s.aside.Add(int64(len(b))) > asideBytes {
		s.aside.Add(-int64(len(b)))
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
func (s *Store) putAside(f *file) {
	s.damaged.Add(1)
	if f.err != nil {
		s.unreadable.Add(1)
	}
	s.aside.Add(f.size)
	to := asideName(f.name)
	s.opts.Log.Error("store: a file has no header, and is put aside", "file", f.name, "bytes", f.size, "as", to, "err", f.err)
	if err := errors.Join(s.fs.Rename(s.path(f.name), s.path(to)), s.fs.SyncDir(s.opts.Folder)); err != nil {
		s.opts.Log.Error("store: cannot put a file aside", "file", f.name, "err", err)
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
	var holes []hole
	f, err := s.openFile(w.seg.name, os.O_RDONLY)
	if err == nil {
		_, holes, err = readAt(f, b, w.off())
		err = errors.Join(err, f.Close())
	}
	if len(holes) > 0 || refuses(err) {
		s.giveUp(w.seg, []hole{{w.off(), w.off() + int64(w.n)}})
		return
	}
	if errors.Is(err, os.ErrNotExist) { // put aside as a whole meanwhile, with what there is of the record
		s.damaged.Add(1)
		s.opts.Log.Error("store: a record is lost with the file that was put aside", "file", w.seg.name, "offset", w.off())
		return
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
