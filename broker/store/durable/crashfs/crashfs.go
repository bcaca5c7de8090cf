package crashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// ErrCut is what every operation gives once the power is cut.
var ErrCut = errors.New("power is cut")

// Variant says what a power cut leaves of what was not synced.
type Variant uint8

// The variants.
const (
	Lost   Variant = iota // nothing of it
	Kept                  // all of it
	Random                // some of the writes and some of the names
	Torn                  // some sectors of 512 bytes of each write, some of the names
)

// Variants is all of them.
var Variants = []Variant{Lost, Kept, Random, Torn}

func (v Variant) String() string {
	return [...]string{"lost", "kept", "random", "torn"}[v]
}

// Stats counts what was done since New or After.
type Stats struct {
	Operations int   // all that the package calls an operation
	Writes     int   // of files
	Bytes      int64 // in them
	Syncs      int   // of files
	DirSyncs   int   // of folders
}

// FS is a file system in memory. Its methods may be called by any goroutine; the zero
// value is not usable, use [New].
type FS struct {
	mu      sync.Mutex
	names   map[string]*inode // what programs see
	lasting map[string]*inode // what the medium has
	pending []renaming        // what SyncDir makes last, in order
	used    int64             // pages
	limit   int64             // pages; 0 is none
	stats   Stats
	cut     int // the operation at which the power is cut; 0 is never
	dead    chan struct{}
	fault   Fault
	bad     []BadPlace
}

// renaming is a change of names: each gets its file, nil removes it.
type renaming map[string]*inode

var _ durable.FS = (*FS)(nil)

// New makes an empty file system without limit or faults.
func New() *FS {
	return &FS{names: make(map[string]*inode), lasting: make(map[string]*inode), dead: make(chan struct{})}
}

// Stats gives the counts.
func (s *FS) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// OpenFile implements [durable.FS]; it knows O_RDONLY, O_WRONLY, O_RDWR, O_CREATE,
// O_EXCL and O_TRUNC.
func (s *FS) OpenFile(name string, flag int, _ fs.FileMode) (durable.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = filepath.Clean(name)
	n, err := s.find(name, flag)
	if err == nil && n != nil && flag&os.O_TRUNC != 0 && n.now.size > 0 {
		err = s.truncate(n, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	n.refs++
	return &file{fs: s, inode: n, name: name, read: flag&os.O_WRONLY == 0, write: flag&(os.O_WRONLY|os.O_RDWR) != 0}, nil
}

// find is the file of a name, which it makes if it is to.
func (s *FS) find(name string, flag int) (*inode, error) {
	n := s.names[name]
	switch {
	case s.isDead():
		return nil, ErrCut
	case n == nil && flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	case n != nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, fs.ErrExist
	case n != nil:
		return n, s.closed(n)
	}
	cut, err := s.begin()
	if err != nil {
		return nil, err
	}
	n = &inode{}
	s.rename(renaming{name: n})
	return n, cut
}

// Rename implements [durable.FS].
func (s *FS) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	cut, err := s.begin()
	n := s.names[from]
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	if from != to {
		s.rename(renaming{from: nil, to: n})
	}
	return cut
}

// Remove implements [durable.FS].
func (s *FS) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = filepath.Clean(name)
	cut, err := s.begin()
	if err == nil && s.names[name] == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	s.rename(renaming{name: nil})
	return cut
}

// rename changes names; it lasts with the next SyncDir.
func (s *FS) rename(change renaming) {
	s.pending = append(s.pending, change)
	for _, n := range change {
		if n != nil {
			n.refs++ // first, so that a file that only changes its name is not released
		}
	}
	for name, n := range change {
		if before := s.names[name]; before != nil {
			s.release(before)
		}
		set(s.names, name, n)
	}
}

// release gives up a name or an open file of n; the last one frees its room.
func (s *FS) release(n *inode) {
	if n.refs--; n.refs == 0 {
		s.used -= n.now.allocated()
	}
}

// ReadDir implements [durable.FS]. A folder that has no files is empty.
func (s *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDead() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: ErrCut}
	}
	name = filepath.Clean(name)
	var found []fs.DirEntry
	for _, path := range slices.Sorted(maps.Keys(s.names)) {
		if filepath.Dir(path) == name {
			found = append(found, fs.FileInfoToDirEntry(entry{filepath.Base(path), s.names[path].now.size}))
		}
	}
	return found, nil
}

// SyncDir implements [durable.FS].
func (s *FS) SyncDir(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = filepath.Clean(name)
	cut, err := s.begin()
	if err == nil {
		err = cut
	}
	if err != nil {
		return &fs.PathError{Op: "sync", Path: name, Err: err}
	}
	s.stats.DirSyncs++
	var rest []renaming
	for _, change := range s.pending {
		for path, n := range change {
			if filepath.Dir(path) == name {
				set(s.lasting, path, n)
				delete(change, path)
			}
		}
		if len(change) > 0 {
			rest = append(rest, change)
		}
	}
	s.pending = rest
	return nil
}

// set gives a name its file, or none.
func set(names map[string]*inode, path string, n *inode) {
	if n == nil {
		delete(names, path)
	} else {
		names[path] = n
	}
}

// After is what a machine finds when the power comes back: a file system of its own
// without faults, of the same size. It changes nothing here, so that one cut can be
// looked at in each variant. The seed decides what is random.
func (s *FS) After(v Variant, seed uint64) *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := rand.New(rand.NewPCG(seed, uint64(v)))
	names := maps.Clone(s.lasting)
	for _, change := range s.pending {
		if v == Kept || v >= Random && r.IntN(2) == 0 {
			for path, n := range change {
				set(names, path, n)
			}
		}
	}
	after := New()
	after.limit = s.limit
	made := make(map[*inode]*inode)
	for _, path := range slices.Sorted(maps.Keys(names)) {
		n := names[path]
		if made[n] == nil {
			made[n] = n.after(v, r)
			after.used += made[n].now.allocated()
		}
		made[n].refs++
		after.names[path], after.lasting[path] = made[n], made[n]
	}
	return after
}

// Names lists all files.
func (s *FS) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.names))
}

// Damage changes the bytes of a file as a failing medium does: change gets what is there
// and returns what is to be there. It is no operation.
func (s *FS) Damage(name string, change func([]byte) []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names[filepath.Clean(name)]
	if n == nil {
		return fmt.Errorf("cannot damage %q: %w", name, fs.ErrNotExist)
	}
	b := make([]byte, n.now.size)
	n.now.readAt(b, 0)
	b = change(b)
	s.used -= n.now.allocated()
	n.now, n.pending = content{}, nil
	s.used += n.now.writeAt(b, 0)
	n.lasting = n.now.clone()
	return nil
}

// Limit makes it hold at most size bytes, in blocks of 4 KiB; 0 takes the limit away.
func (s *FS) Limit(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = size / pageSize
	if size > 0 && s.limit == 0 {
		s.limit = 1
	}
}

// room is how many of n bytes at off find room.
func (s *FS) room(node *inode, n int, off int64) int {
	if s.limit == 0 {
		return n
	}
	for n > 0 && s.used+node.now.missing(n, off) > s.limit {
		n -= min(n, int((off+int64(n)-1)%pageSize)+1) // the last page
	}
	return n
}

// full is the error of a write that found no room.
const full = syscall.ENOSPC
