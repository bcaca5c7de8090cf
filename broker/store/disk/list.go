package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// A file gets the name of a segment once it is filled, on the medium: one that has such
// a name and no header has lost it.
const newSuffix = ".new"

// file is one of the folder that may be a segment.
type file struct {
	header
	name   string
	number int
	size   int64
	ok     bool  // it has a header
	err    error // the medium refused to read that
}

// list reads the headers of all files, and gives the segments in their order.
func (s *Store) list() (segs []*segment, err error) {
	entries, err := s.fs.ReadDir(s.opts.Folder)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, entry := range entries {
		f, ok, err := s.entry(entry)
		if err != nil {
			return nil, err
		}
		if ok {
			files = append(files, f)
		}
	}
	if err := s.readable(files); err != nil {
		return nil, err
	}
	for i := range files {
		g, err := s.adopt(&files[i])
		if err != nil {
			return nil, err
		}
		if g != nil {
			segs = append(segs, g)
		}
	}
	slices.SortFunc(segs, func(a, b *segment) int { return cmp.Compare(a.id, b.id) })
	for _, g := range segs {
		s.x.segs[g.id] = g
		s.log.lastID = g.id
	}
	s.log.lastID = max(s.log.lastID, firstSegment-1)
	return segs, nil
}

// entry reads the header of a file that may be a segment, and sees to the others.
func (s *Store) entry(entry fs.DirEntry) (f file, ok bool, err error) {
	name := entry.Name()
	switch {
	case name == ballastName:
		return f, false, s.adoptBallast()
	case strings.HasPrefix(name, probePrefix), strings.HasSuffix(name, newSuffix): // of a program that was ended
		s.tidy(name)
		return f, false, nil
	case strings.HasPrefix(name, asidePrefix):
		if n, ok := segmentNumber(strings.TrimSuffix(strings.TrimPrefix(name, asidePrefix), asideSuffix) + suffix); ok {
			s.number = max(s.number, n) // no other one is to have that name
		}
		if info, err := entry.Info(); err == nil {
			s.aside.Add(info.Size())
		}
		return f, false, nil
	}
	f.name = name
	if f.number, ok = segmentNumber(name); !ok {
		return f, false, nil
	}
	s.number = max(s.number, f.number)
	return f, true, s.lookAt(&f)
}

// tidy removes a file that is not needed.
func (s *Store) tidy(name string) {
	if err := s.fs.Remove(s.path(name)); err != nil {
		s.opts.Log.Warn("store: cannot remove a file that is not needed", "file", name, "err", err)
	}
}

func (s *Store) lookAt(f *file) error {
	open, err := s.openFile(f.name, os.O_RDWR)
	if refuses(err) {
		f.err = err
		return nil
	}
	if err != nil {
		return err
	}
	f.size, err = open.Size()
	b := make([]byte, dataStart)
	var n int
	if err == nil {
		var holes []hole
		if n, holes, err = readAt(open, b, 0); len(holes) > 0 {
			f.err = fmt.Errorf("cannot read %q", f.name)
		}
	}
	if err := errors.Join(err, open.Close()); err != nil {
		return err
	}
	f.header, f.ok = parseHeader(b[:n])
	if f.ok && f.version > version {
		return fmt.Errorf("%q has format %d, and this program knows those up to %d: it was written by a newer version, "+
			"which is needed to read it", f.name, f.version, version)
	}
	return nil
}

// readable returns an error if the medium refuses to read anything, or cannot be
// written either: then it is gone as a whole, and nothing is given up.
func (s *Store) readable(files []file) error {
	var refused error
	read := false
	for i := range files {
		read = read || files[i].err == nil
		refused = errors.Join(refused, files[i].err)
	}
	switch {
	case refused == nil:
		return nil
	case !read && !s.readsBallast():
		return fmt.Errorf("the medium reads none of the files, it may be gone as a whole: nothing was changed; "+
			"look at its plug, at dmesg, then start again: %w", refused)
	}
	return s.present(refused)
}

// readsBallast reports whether there is a ballast that can be read.
func (s *Store) readsBallast() bool {
	f, err := s.openFile(ballastName, os.O_RDONLY)
	if err != nil {
		return false
	}
	n, holes, err := readAt(f, make([]byte, pageLen), 0)
	return errors.Join(err, f.Close()) == nil && n > 0 && len(holes) == 0
}

// adopt takes a file that is free as such, and puts one aside that has lost its header; g
// is nil then.
func (s *Store) adopt(f *file) (g *segment, err error) {
	switch {
	case !f.ok:
		s.putAside(f)
		return nil, nil
	case f.free && f.size == s.opts.SegmentSize && f.header.size == f.size && len(s.log.ready) < maxReady:
		b := &blank{number: f.number, name: f.name, size: f.size}
		if b.file, err = s.openFile(f.name, os.O_RDWR); err != nil {
			return nil, err
		}
		s.log.ready = append(s.log.ready, b)
		return nil, nil
	case f.free:
		s.tidy(f.name)
		return nil, nil
	}
	g = &segment{header: f.header, name: f.name, number: f.number, off: dataStart, gapAt: dataStart}
	g.key = g.seed()
	g.actual = f.size
	return g, nil
}

// adoptBallast takes a ballast that is as long as it has to be.
func (s *Store) adoptBallast() error {
	size, err := s.sizeOf(ballastName)
	if err == nil && size == s.opts.Ballast {
		s.ballast.Store(true)
		return nil
	}
	if err != nil && !refuses(err) {
		return err
	}
	s.tidy(ballastName) // the keeper makes another one
	return nil
}

func (s *Store) sizeOf(name string) (int64, error) {
	f, err := s.openFile(name, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Close())
}
