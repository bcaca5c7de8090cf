package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// probePrefix is what files are called that are written to see whether the medium is
// there.
const probePrefix = "probe-"

// errUnreadable says that the medium, which is there, refuses to read a place: what was
// in it is damaged.
var errUnreadable = fmt.Errorf("unreadable: %w", errDamaged)

// corrupted is what a file system gives that finds itself damaged: EUCLEAN, which only
// Linux has.
const corrupted = syscall.Errno(0x75)

// refuses reports whether an error says that the medium refuses to read.
func refuses(err error) bool {
	for _, e := range []error{syscall.EIO, syscall.ENODATA, syscall.EBADMSG, syscall.EILSEQ, corrupted, syscall.ENXIO, syscall.ENODEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// hole is a part of a file that the medium refuses to read.
type hole struct{ off, end int64 }

// overlap reports whether one of the holes has a byte from off up to below end.
func overlap(holes []hole, off, end int64) bool {
	for _, h := range holes {
		if h.off < end && off < h.end {
			return true
		}
	}
	return false
}

// join adds holes to those before them.
func join(holes, more []hole) []hole {
	if i := len(holes) - 1; i >= 0 && len(more) > 0 && holes[i].end == more[0].off {
		holes[i].end, more = more[0].end, more[1:]
	}
	return append(holes, more...)
}

// readAt reads into b what is in a file from an offset on, and says how much that is. If
// the medium refuses it reads page by page, each twice before it gives that one up: it
// is zeros then, and a hole.
func readAt(f durable.File, b []byte, off int64) (n int, holes []hole, err error) {
	n, err = f.ReadAt(b, off)
	if !refuses(err) {
		return n, nil, notEnd(err)
	}
	end := off + int64(len(b))
	for at := off; at < end; {
		next := min((at/pageLen+1)*pageLen, end)
		p := b[at-off : next-off]
		n, err = f.ReadAt(p, at)
		if refuses(err) {
			n, err = f.ReadAt(p, at)
		}
		switch {
		case refuses(err):
			clear(p)
			holes = join(holes, []hole{{at, next}})
		case err != nil:
			return int(at-off) + n, holes, notEnd(err)
		}
		at = next
	}
	return len(b), holes, nil
}

// notEnd is an error, unless that is the end of a file.
func notEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// openFile opens a file, and tries again if the medium refuses.
func (s *Store) openFile(name string, flag int) (durable.File, error) {
	f, err := s.fs.OpenFile(s.path(name), flag, 0o600)
	if refuses(err) {
		f, err = s.fs.OpenFile(s.path(name), flag, 0o600)
	}
	return f, err
}

// present returns nil if the medium is there, though it refused to read: a file can be
// written, and is on it. Else it is no time to give up what cannot be read: nothing can.
func (s *Store) present(refused error) error {
	name := s.path(fmt.Sprint(probePrefix, s.probes.Add(1)))
	f, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteAt(make([]byte, pageLen), 0)
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if e := s.fs.Remove(name); err == nil && !errors.Is(e, fs.ErrNotExist) {
		err = e
	}
	if err == nil || isFull(err) {
		return nil
	}
	err = fmt.Errorf("the medium neither reads nor writes, it may be gone as a whole: %w", errors.Join(refused, err))
	if s.broken.CompareAndSwap(nil, &err) {
		poke(s.tend) // the keeper sees when it is back
	}
	return err
}

// giveUp counts places of a segment that the medium refuses to read. All else of the
// segment is rewritten, then the file is put aside: what is bad in it is used no more.
func (s *Store) giveUp(g *segment, holes []hole) {
	for _, h := range holes {
		s.damaged.Add(1)
		s.unreadable.Add(1)
		s.opts.Log.Error("store: the medium refuses to read a place, which is given up", "file", g.name, "offset", h.off, "bytes", h.end-h.off)
	}
	s.ix.Lock()
	g.suspect, g.holed = true, true
	s.ix.Unlock()
	poke(s.tend)
}
