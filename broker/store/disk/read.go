package disk

import (
	"errors"
	"fmt"
	"os"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// readAhead is how much is read at once, in bytes, when places are near each other.
const readAhead = 256 << 10

// errDamaged says that a record is not what was written.
var errDamaged = errors.New("damaged")

// wanted is one record to read.
type wanted struct {
	place
	n   int // length of the record
	seg *segment
}

// reader reads records, of one segment after the other. It is used by one goroutine,
// and closed after use.
type reader struct {
	s   *Store
	seg *segment
	f   durable.File
	buf []byte
	off int64 // of buf
	bad []hole
}

func (r *reader) close() {
	if r.f != nil {
		_ = r.f.Close() // it was only read
	}
	r.f, r.seg, r.buf, r.bad = nil, nil, nil, nil
}

func (r *reader) open(g *segment) error {
	if r.seg == g {
		return nil
	}
	r.close()
	f, err := r.s.openFile(g.name, os.O_RDONLY)
	if refuses(err) {
		return r.s.missing(err)
	}
	if err != nil {
		return err
	}
	r.f, r.seg = f, g
	return nil
}

// read returns the i-th of the records, whose content lasts until the next read. It
// reads those after it along, if they are near.
func (r *reader) read(all []wanted, i int) (record, error) {
	w := &all[i]
	if w.seg == nil {
		return record{}, errDamaged
	}
	if err := r.open(w.seg); err != nil {
		return record{}, err
	}
	start, end := w.off(), w.off()+int64(w.n)
	fresh := start < r.off || end > r.off+int64(len(r.buf))
	if fresh {
		until := end
		for _, next := range all[i+1:] {
			if next.seg != w.seg || next.off() < until || next.off()+int64(next.n)-start > readAhead || next.off()-until > 16<<10 {
				break
			}
			until = next.off() + int64(next.n)
		}
		if err := r.fill(start, int(until-start)); err != nil {
			return record{}, err
		}
	}
	rec, ok := parse(r.buf[start-r.off:end-r.off], w.seg.key)
	bad := overlap(r.bad, start, end)
	if !ok && !fresh && !bad { // it may have been written since
		if err := r.fill(start, w.n); err != nil {
			return record{}, err
		}
		rec, ok = parse(r.buf, w.seg.key)
	}
	switch {
	case ok && rec.size() == w.n:
		return rec, nil
	case bad:
		return record{}, errUnreadable
	default:
		return record{}, errDamaged
	}
}

// missing says what it means that the medium refused to read: something is missing, or
// all is.
func (s *Store) missing(refused error) error {
	if err := s.present(refused); err != nil {
		return err
	}
	return errUnreadable
}

// part reads a record as read does. If it is a session's and damaged, its copy just
// before it is as good, and the segment is rewritten.
func (r *reader) part(all []wanted, i int, p part) (record, error) {
	rec, err := r.read(all, i)
	w := all[i]
	if p.kind != partSession || !errors.Is(err, errDamaged) || w.seg == nil || w.off()-int64(w.n) < dataStart {
		return rec, err
	}
	w.place = placeOf(w.seg.id, w.off()-int64(w.n), w.n)
	before, failed := r.read([]wanted{w}, 0)
	d := decoder{b: before.content}
	if failed != nil || before.kind != kindPut {
		return rec, err
	}
	if h := d.head(before.kind); d.bad || h.part != p {
		return rec, err
	}
	r.s.setAside(all[i])
	return before, nil
}

// fill reads part of the segment; at the end of the file what is missing is zero.
func (r *reader) fill(off int64, n int) error {
	if cap(r.buf) < n {
		r.buf = make([]byte, max(n, min(readAhead, int(r.seg.size))))
	}
	r.buf, r.off = r.buf[:n], off
	got, bad, err := readAt(r.f, r.buf, off)
	if err == nil && len(bad) > 0 {
		err = r.s.present(fmt.Errorf("cannot read %q", r.seg.name))
	}
	if err != nil {
		r.buf = r.buf[:0]
		return err
	}
	r.bad = bad
	clear(r.buf[got:])
	return nil
}
