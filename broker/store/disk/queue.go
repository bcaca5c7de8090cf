package disk

import (
	"cmp"
	"slices"
)

// blockEntries is how many messages one block of a queue has at most.
const blockEntries = 512

// queue is the places of one session's messages in the order of their positions:
// 12 bytes each, in blocks, so that neither growing nor shrinking copies much.
type queue struct {
	blocks []*block
	count  int
}

// block is a part of a queue. Entries whose segment is 0 are gone.
type block struct {
	base    uint64 // that positions are counted from
	live    int
	entries []entry
	sizes   []uint32 // while the store is loaded: message.Size of each
}

// entry is one message.
type entry struct {
	rel uint32 // position after the block's base
	place
}

// nowhere is the place of a message that was received: its position stays.
var nowhere = place{seg: 1}

// firstSegment is the lowest identifier of a segment: lower ones are no places.
const firstSegment = 2

// push appends a message; its position is above all that are there. Size is kept if
// sized.
func (q *queue) push(pos uint64, p place, size uint32, sized bool) {
	var b *block
	if n := len(q.blocks); n > 0 {
		b = q.blocks[n-1]
	}
	if b == nil || len(b.entries) == blockEntries || pos-b.base > 1<<32-1 {
		b = &block{base: pos}
		if len(q.blocks) > 0 { // a long queue: take the memory at once
			b.entries = make([]entry, 0, blockEntries)
		}
		q.blocks = append(q.blocks, b)
	}
	b.entries = append(b.entries, entry{uint32(pos - b.base), p})
	if sized {
		b.sizes = append(b.sizes, size)
	}
	b.live++
	q.count++
}

// unpush takes back the last push, and returns the place.
func (q *queue) unpush() place {
	b := q.blocks[len(q.blocks)-1]
	p := b.entries[len(b.entries)-1].place
	b.entries = b.entries[:len(b.entries)-1]
	b.live--
	q.count--
	if len(b.entries) == 0 {
		q.blocks = q.blocks[:len(q.blocks)-1]
	}
	return p
}

// seek finds the first entry whose position is at least pos, gone or not.
func (q *queue) seek(pos uint64) (bi, ei int) {
	bi, _ = slices.BinarySearchFunc(q.blocks, pos, func(b *block, pos uint64) int {
		if b.base <= pos {
			return -1
		}
		return 1
	})
	if bi == 0 {
		return 0, 0
	}
	b := q.blocks[bi-1]
	ei, _ = slices.BinarySearchFunc(b.entries, pos-b.base, func(e entry, rel uint64) int {
		return cmp.Compare(uint64(e.rel), rel)
	})
	if ei == len(b.entries) {
		return bi, 0
	}
	return bi - 1, ei
}

// find returns the block and index of a message that is there.
func (q *queue) find(pos uint64) (b *block, i int) {
	bi, ei := q.seek(pos)
	if bi == len(q.blocks) {
		return nil, 0
	}
	b = q.blocks[bi]
	if ei == len(b.entries) || b.base+uint64(b.entries[ei].rel) != pos || b.entries[ei].seg == 0 {
		return nil, 0
	}
	return b, ei
}

// take marks a message as gone and returns the place it had. Nothing moves until
// tidy, so that restore can undo it.
func (q *queue) take(b *block, i int) place {
	p := b.entries[i].place
	b.entries[i].place = place{}
	b.live--
	q.count--
	return p
}

// restore undoes take, if taken, or a change of place.
func (q *queue) restore(pos uint64, p place, taken bool) {
	bi, ei := q.seek(pos)
	q.blocks[bi].entries[ei].place = p
	if taken {
		q.blocks[bi].live++
		q.count++
	}
}

// tidy gives back the memory of messages around pos that are gone.
func (q *queue) tidy(pos uint64) {
	bi, _ := q.seek(pos)
	if bi == len(q.blocks) || q.blocks[bi].base > pos {
		bi--
	}
	if bi < 0 || bi >= len(q.blocks) {
		return
	}
	b := q.blocks[bi]
	switch {
	case b.live == 0:
		q.blocks = slices.Delete(q.blocks, bi, bi+1)
		if cap(q.blocks) > 64 && len(q.blocks) < cap(q.blocks)/4 {
			q.blocks = slices.Clone(q.blocks)
		}
	case len(b.entries) > 8 && b.live < len(b.entries)/4:
		b.shrink()
	}
}

func (b *block) shrink() {
	entries := make([]entry, 0, b.live)
	var sizes []uint32
	for i, e := range b.entries {
		if e.seg != 0 {
			entries = append(entries, e)
			if b.sizes != nil {
				sizes = append(sizes, b.sizes[i])
			}
		}
	}
	b.entries, b.sizes = entries, sizes
}

// from calls f with every message from a position on, oldest first, until f is false.
func (q *queue) from(pos uint64, f func(pos uint64, p place) bool) {
	bi, ei := q.seek(pos)
	for ; bi < len(q.blocks); bi, ei = bi+1, 0 {
		b := q.blocks[bi]
		for _, e := range b.entries[ei:] {
			if e.seg != 0 && !f(b.base+uint64(e.rel), e.place) {
				return
			}
		}
	}
}

// tail counts the messages whose positions are behind each other up to before next.
func (q *queue) tail(next uint64) (n uint64) {
	for _, b := range slices.Backward(q.blocks) {
		for _, e := range slices.Backward(b.entries) {
			switch {
			case e.seg == 0:
			case b.base+uint64(e.rel) != next-1-n:
				return n
			default:
				n++
			}
		}
	}
	return n
}
