package crashfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// file is an open file.
type file struct {
	fs          *FS
	inode       *inode
	name        string
	read, write bool
	closed      bool
}

var _ durable.File = (*file)(nil)

// check tells whether the file may be used so.
func (f *file) check(op string, may bool) error {
	var err error
	switch {
	case f.closed:
		err = fs.ErrClosed
	case f.fs.isDead():
		err = ErrCut
	case !may:
		err = syscall.EBADF
	}
	return f.error(op, err)
}

func (f *file) error(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// ReadAt implements [io.ReaderAt].
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off < 0 {
		return 0, f.error("readat", errors.New("negative offset"))
	}
	if err := f.check("read", f.read); err != nil {
		return 0, err
	}
	until, err := f.fs.refuses(f.inode, off, off+int64(len(p)))
	n := f.inode.now.readAt(p[:until-off], off)
	if err != nil {
		return n, f.error("read", err)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements [io.WriterAt].
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	s := f.fs
	s.mu.Lock()
	defer s.mu.Unlock()
	if off < 0 {
		return 0, f.error("writeat", errors.New("negative offset"))
	}
	if err := f.check("write", f.write); err != nil || len(p) == 0 {
		return 0, err
	}
	n := len(p)
	cut, err := s.begin()
	if errors.Is(err, syscall.EROFS) || errors.Is(err, ErrCut) {
		return 0, f.error("write", err)
	}
	if err != nil {
		n /= 2
	}
	if room := s.room(f.inode, n, off); room < n {
		n, err = room, full
	}
	if n > 0 {
		s.used += f.inode.now.writeAt(p[:n], off)
		f.inode.pending = append(f.inode.pending, edit{off: off, data: bytes.Clone(p[:n])})
	}
	if cut != nil {
		return 0, f.error("write", cut)
	}
	s.stats.Writes++
	s.stats.Bytes += int64(n)
	return n, f.error("write", err)
}

// Truncate implements [durable.Storage].
func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.check("truncate", f.write)
	if err == nil && size < 0 {
		err = f.error("truncate", syscall.EINVAL)
	}
	if err != nil {
		return err
	}
	return f.error("truncate", f.fs.truncate(f.inode, size))
}

// truncate is an operation.
func (s *FS) truncate(n *inode, size int64) error {
	cut, err := s.begin()
	if err != nil {
		return err
	}
	s.used -= n.now.truncate(size)
	n.pending = append(n.pending, edit{truncate: true, off: size})
	return cut
}

// Sync implements [durable.Storage]. If it fails, what it was to make last never does.
func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("sync", true); err != nil {
		return err
	}
	cut, err := f.fs.begin()
	switch {
	case cut != nil:
		return f.error("sync", cut)
	case errors.Is(err, ErrCut):
		return f.error("sync", err)
	case err != nil:
		f.inode.pending = nil
		return f.error("sync", err)
	}
	f.fs.stats.Syncs++
	f.inode.sync()
	return nil
}

// Size implements [durable.Storage].
func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("stat", true); err != nil {
		return 0, err
	}
	return f.inode.now.size, nil
}

// Close implements [io.Closer].
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return f.error("close", fs.ErrClosed)
	}
	f.closed = true
	f.fs.release(f.inode)
	return nil
}

// entry is what ReadDir tells of a file.
type entry struct {
	name string
	size int64
}

// Name implements [fs.FileInfo].
func (e entry) Name() string { return e.name }

// Size implements [fs.FileInfo].
func (e entry) Size() int64 { return e.size }

// Mode implements [fs.FileInfo].
func (e entry) Mode() fs.FileMode { return 0o600 }

// ModTime implements [fs.FileInfo]; nobody keeps it.
func (e entry) ModTime() time.Time { return time.Time{} }

// IsDir implements [fs.FileInfo].
func (e entry) IsDir() bool { return false }

// Sys implements [fs.FileInfo].
func (e entry) Sys() any { return nil }
