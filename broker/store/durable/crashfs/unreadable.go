package crashfs

import (
	"fmt"
	"io/fs"
	"path/filepath"
)

// BadPlace is a part of a file that a failing medium does not read.
type BadPlace struct {
	// Name is the file as it is called now: a new name does not heal it. Empty is every
	// file, as of a medium that is gone.
	Name string
	// From and To are the bytes, up to below To; To 0 is the end of the file, however
	// long. As of a medium, no byte of a page of 4 KiB is read if one of it is not.
	From, To int64
	// Err is what a read gives, such as [syscall.EIO], after what is before the place.
	Err error
	// Times is how many reads fail; 0 is all.
	Times int
	// Closed says that the file cannot be opened either.
	Closed bool

	inode *inode
	left  int // times; below 0 is for good
}

// Unreadable has places be unreadable from now on, instead of those of an earlier call;
// none heals. Reads are no operations. It fails if there is no such file.
func (s *FS) Unreadable(places ...BadPlace) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = nil
	for _, p := range places {
		if p.Name != "" {
			if p.inode = s.names[filepath.Clean(p.Name)]; p.inode == nil {
				return fmt.Errorf("cannot make %q unreadable: %w", p.Name, fs.ErrNotExist)
			}
		}
		if p.left = p.Times; p.left == 0 {
			p.left = -1
		}
		s.bad = append(s.bad, p)
	}
	return nil
}

// refuses gives the error of a read of n, and up to where it reads.
func (s *FS) refuses(node *inode, off, end int64) (until int64, err error) {
	until = end
	for i := range s.bad {
		p := &s.bad[i]
		if p.inode != nil && p.inode != node || p.left == 0 {
			continue
		}
		from, to := p.From/pageSize*pageSize, node.now.size
		if p.To > 0 {
			to = min(to, (p.To+pageSize-1)/pageSize*pageSize)
		}
		if off < to && end > from && max(off, from) < until {
			until, err = max(off, from), p.Err
			p.spend()
		}
	}
	return until, err
}

// spend takes one of the times.
func (p *BadPlace) spend() {
	if p.left > 0 {
		p.left--
	}
}

// closed is what opening a file gives, nil if it may be.
func (s *FS) closed(node *inode) error {
	for i := range s.bad {
		if p := &s.bad[i]; p.Closed && p.left != 0 && (p.inode == nil || p.inode == node) {
			p.spend()
			return p.Err
		}
	}
	return nil
}
