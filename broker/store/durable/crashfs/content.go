package crashfs

import "slices"

// pageSize is how much is allocated at once, in bytes.
const pageSize = 4096

// page is never written once it is part of a content, so that contents share pages.
type page [pageSize]byte

// zeros is the page of every zero that was written.
var zeros = new(page)

// content is the bytes of a file.
type content struct {
	size  int64
	pages []*page // nil is a hole, which reads as zeros and takes no room
}

func (c *content) clone() content {
	return content{size: c.size, pages: slices.Clone(c.pages)}
}

// readAt reads what is there of p at off.
func (c *content) readAt(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	n := int(min(int64(len(p)), c.size-off))
	for done := 0; done < n; {
		at := off + int64(done)
		from := zeros
		if i := at / pageSize; i < int64(len(c.pages)) && c.pages[i] != nil {
			from = c.pages[i]
		}
		done += copy(p[done:n], from[at%pageSize:])
	}
	return n
}

// writeAt writes p at off and tells how many pages that allocated.
func (c *content) writeAt(p []byte, off int64) (allocated int64) {
	end := off + int64(len(p))
	c.size = max(c.size, end)
	c.grow(c.size)
	for len(p) > 0 {
		i, within := off/pageSize, int(off%pageSize)
		n := min(len(p), pageSize-within)
		if c.pages[i] == nil {
			allocated++
		}
		c.pages[i] = c.pages[i].with(p[:n], within)
		p, off = p[n:], off+int64(n)
	}
	return allocated
}

// with is a page like this one with p in it.
func (g *page) with(p []byte, within int) *page {
	if len(p) == pageSize && page(p) == *zeros {
		return zeros
	}
	changed := new(page)
	if g != nil {
		*changed = *g
	}
	copy(changed[within:], p)
	return changed
}

// grow makes the list of pages as long as size needs.
func (c *content) grow(size int64) {
	if n := int((size + pageSize - 1) / pageSize); n > len(c.pages) {
		c.pages = append(c.pages, make([]*page, n-len(c.pages))...)
	}
}

// truncate sets the size and tells how many pages that freed.
func (c *content) truncate(size int64) (freed int64) {
	keep := int((size + pageSize - 1) / pageSize)
	for i := keep; i < len(c.pages); i++ {
		if c.pages[i] != nil {
			freed++
		}
	}
	if keep < len(c.pages) {
		c.pages = c.pages[:keep]
	}
	if within := int(size % pageSize); size < c.size && within != 0 && c.pages[keep-1] != nil {
		rest := make([]byte, pageSize-within) // else the old bytes were there when it grows again
		c.pages[keep-1] = c.pages[keep-1].with(rest, within)
	}
	c.size = size
	c.grow(size)
	return freed
}

// allocated is the number of pages that take room.
func (c *content) allocated() (n int64) {
	for _, g := range c.pages {
		if g != nil {
			n++
		}
	}
	return n
}

// missing is how many pages a write of n bytes at off would allocate.
func (c *content) missing(n int, off int64) (pages int64) {
	for i := off / pageSize; n > 0 && i <= (off+int64(n)-1)/pageSize; i++ {
		if i >= int64(len(c.pages)) || c.pages[i] == nil {
			pages++
		}
	}
	return pages
}
