package durable

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Overlay is a file system that reads what below has, and keeps what is changed in
// memory: whoever works on it changes nothing. Its methods may be called by any
// goroutine.
func Overlay(below FS) FS {
	return &overlay{below: below, changed: make(map[string]*layer)}
}

type overlay struct {
	below FS

	mu      sync.Mutex
	changed map[string]*layer // by name; nil is gone
}

// layer is a file of which some pages were written.
type layer struct {
	mu    sync.Mutex
	under File // nil if it was not there
	clip  int64
	size  int64
	pages map[int64][]byte
}

// overlayPage is how much is copied to change any of it, in bytes.
const overlayPage = 4096

// OpenFile implements [FS].
func (o *overlay) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name = filepath.Clean(name)
	l, known := o.changed[name]
	if !known {
		under, err := o.below.OpenFile(name, os.O_RDONLY, 0)
		if err == nil {
			if l, err = newLayer(under); err != nil {
				return nil, err
			}
		} else if flag&os.O_CREATE == 0 || !os.IsNotExist(err) {
			return nil, err
		}
	}
	switch {
	case l == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case l == nil:
		l = &layer{pages: make(map[int64][]byte)}
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	}
	o.changed[name] = l
	if flag&os.O_TRUNC != 0 {
		l.truncate(0)
	}
	return &overlayFile{layer: l}, nil
}

func newLayer(under File) (*layer, error) {
	size, err := under.Size()
	if err != nil {
		return nil, err
	}
	return &layer{under: under, clip: size, size: size, pages: make(map[int64][]byte)}, nil
}

// Rename implements [FS].
func (o *overlay) Rename(from, to string) error {
	f, err := o.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_ = f.Close() // which does nothing
	o.mu.Lock()
	defer o.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	if from != to {
		o.changed[to], o.changed[from] = o.changed[from], nil
	}
	return nil
}

// Remove implements [FS].
func (o *overlay) Remove(name string) error {
	f, err := o.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_ = f.Close() // which does nothing
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed[filepath.Clean(name)] = nil
	return nil
}

// ReadDir implements [FS].
func (o *overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	found, err := o.below.ReadDir(name)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	found = slices.DeleteFunc(found, func(e fs.DirEntry) bool {
		_, known := o.changed[filepath.Join(name, e.Name())]
		return known
	})
	for path, l := range o.changed {
		if l != nil && filepath.Dir(path) == filepath.Clean(name) {
			found = append(found, fs.FileInfoToDirEntry(layerInfo{filepath.Base(path), l}))
		}
	}
	slices.SortFunc(found, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return found, nil
}

// SyncDir implements [FS]; it has nothing to do.
func (o *overlay) SyncDir(string) error { return nil }

// overlayFile is an open file; the layer stays when it is closed.
type overlayFile struct{ *layer }

// Close implements [io.Closer]; the file below stays open for others.
func (f *overlayFile) Close() error { return nil }

// ReadAt implements [io.ReaderAt].
func (l *layer) ReadAt(p []byte, off int64) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= l.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), l.size-off))
	if err := l.readUnder(p[:n], off); err != nil {
		return 0, err
	}
	for i := off / overlayPage; i*overlayPage < off+int64(n); i++ {
		if page := l.pages[i]; page != nil {
			at := i*overlayPage - off
			if at < 0 {
				page, at = page[-at:], 0
			}
			copy(p[at:n], page)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readUnder reads what the file below has of p, and zeros for the rest.
func (l *layer) readUnder(p []byte, off int64) error {
	clear(p)
	if n := min(int64(len(p)), l.clip-off); n > 0 {
		if _, err := l.under.ReadAt(p[:n], off); err != nil && err != io.EOF { //nolint:errorlint // io.EOF is never wrapped
			return err
		}
	}
	return nil
}

// WriteAt implements [io.WriterAt].
func (l *layer) WriteAt(p []byte, off int64) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		i := at / overlayPage
		if l.pages[i] == nil {
			page := make([]byte, overlayPage)
			if err := l.readUnder(page, i*overlayPage); err != nil {
				return done, err
			}
			l.pages[i] = page
		}
		done += copy(l.pages[i][at%overlayPage:], p[done:])
	}
	l.size = max(l.size, off+int64(len(p)))
	return len(p), nil
}

// Truncate implements [Storage].
func (l *layer) Truncate(size int64) error {
	if size < 0 {
		return fs.ErrInvalid
	}
	l.truncate(size)
	return nil
}

func (l *layer) truncate(size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, page := range l.pages { // what is cut reads as zeros if the file grows again
		if begin := i * overlayPage; begin >= size {
			delete(l.pages, i)
		} else if begin+overlayPage > size {
			clear(page[size-begin:])
		}
	}
	l.clip, l.size = min(l.clip, size), size
}

// Sync implements [Storage]; it has nothing to do.
func (l *layer) Sync() error { return nil }

// Size implements [Storage].
func (l *layer) Size() (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size, nil
}

// layerInfo is what ReadDir tells of a file.
type layerInfo struct {
	name string
	*layer
}

// Name implements [fs.FileInfo].
func (i layerInfo) Name() string { return i.name }

// Size implements [fs.FileInfo].
func (i layerInfo) Size() int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.size
}

// Mode implements [fs.FileInfo].
func (i layerInfo) Mode() fs.FileMode { return 0o600 }

// ModTime implements [fs.FileInfo]; nobody keeps it.
func (i layerInfo) ModTime() time.Time { return time.Time{} }

// IsDir implements [fs.FileInfo].
func (i layerInfo) IsDir() bool { return false }

// Sys implements [fs.FileInfo].
func (i layerInfo) Sys() any { return nil }
