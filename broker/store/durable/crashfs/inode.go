package crashfs

import "math/rand/v2"

// sector is what a disk writes whole or not at all, in bytes.
const sector = 512

// edit is a change of a file that no sync has made last: bytes at off, or a new size.
type edit struct {
	truncate bool
	off      int64 // or the size
	data     []byte
}

func (e *edit) apply(c *content) {
	if e.truncate {
		c.truncate(e.off)
	} else {
		c.writeAt(e.data, e.off)
	}
}

// inode is a file, whatever its names.
type inode struct {
	now     content // what programs read
	lasting content // what the medium has
	pending []edit  // what the next sync makes last
	refs    int     // names and open files
}

// sync makes what is pending last.
func (n *inode) sync() {
	for i := range n.pending {
		n.pending[i].apply(&n.lasting)
	}
	n.pending = nil
}

// after is what the medium has after a power cut.
func (n *inode) after(v Variant, r *rand.Rand) *inode {
	c := n.lasting.clone()
	for i := range n.pending {
		e := &n.pending[i]
		switch {
		case v == Kept, v == Random && r.IntN(2) == 0, v == Torn && e.truncate && r.IntN(2) == 0:
			e.apply(&c)
		case v == Torn && !e.truncate:
			e.tear(&c, r)
		}
	}
	return &inode{now: c, lasting: c.clone()}
}

// tear writes some of the sectors.
func (e *edit) tear(c *content, r *rand.Rand) {
	for data, off := e.data, e.off; len(data) > 0; {
		n := min(len(data), int(sector-off%sector))
		if r.IntN(2) == 0 {
			c.writeAt(data[:n], off)
		}
		data, off = data[n:], off+int64(n)
	}
}
