package broker

import (
	"math/bits"
	"slices"
)

// backlog is what of a queue only the store has, in the order of positions: which
// positions there are, and how many bytes each 64 of them have together. It costs less
// than a byte a message, where positions are close. The zero value is empty.
type backlog struct {
	blocks ring[block]
	n      int
}

// block is what there is of 64 positions. The size of a single message is not kept:
// each counts as the mean of those that are left, which adds up.
type block struct {
	first uint64 // a multiple of blockSpan; bit i stands for position first+i
	has   uint64
	asked uint64 // of has: not counted in limits
	bytes sizes
}

const blockSpan = 64

// sizes are bytes of messages: of those that limits count, and of those that were
// asked for.
type sizes [2]int64

func (s sizes) sum() int64 { return s[0] + s[1] }

// kind is an index of sizes.
func kind(asked bool) int {
	if asked {
		return 1
	}
	return 0
}

func bitOf(pos uint64) (first, bit uint64) { return pos &^ (blockSpan - 1), 1 << (pos % blockSpan) }

// of counts the messages of a kind.
func (b *block) of(asked bool) int {
	if asked {
		return bits.OnesCount64(b.asked)
	}
	return bits.OnesCount64(b.has &^ b.asked)
}

// lowest is the first position of a block that has a bit of mask.
func (b *block) lowest(mask uint64) uint64 { return b.first + uint64(bits.TrailingZeros64(mask)) }

// add takes in a position that is not there yet.
func (l *backlog) add(pos uint64, size int64, asked bool) {
	first, bit := bitOf(pos)
	b := l.block(first)
	b.has |= bit
	if asked {
		b.asked |= bit
	}
	b.bytes[kind(asked)] += size
	l.n++
}

// block finds or makes the one that begins at first.
func (l *backlog) block(first uint64) *block {
	n := l.blocks.len()
	switch {
	case n == 0 || l.blocks.at(n-1).first < first:
		l.blocks.push(block{first: first})
		return l.blocks.at(n)
	case l.blocks.at(0).first > first:
		l.blocks.pushFront(block{first: first})
		return l.blocks.at(0)
	}
	i, found := l.find(first)
	if !found {
		l.blocks.push(block{}) // and all from i on move
		for j := n; j > i; j-- {
			*l.blocks.at(j) = *l.blocks.at(j - 1)
		}
		*l.blocks.at(i) = block{first: first}
	}
	return l.blocks.at(i)
}

// find is where the block that begins at first is, or would be.
func (l *backlog) find(first uint64) (int, bool) {
	low, high := 0, l.blocks.len()
	for low < high {
		if mid := (low + high) / 2; l.blocks.at(mid).first < first {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < l.blocks.len() && l.blocks.at(low).first == first
}

// front is the lowest position. There is one.
func (l *backlog) front() uint64 {
	b := l.blocks.at(0)
	return b.lowest(b.has)
}

// back is the highest. There is one.
func (l *backlog) back() uint64 {
	b := l.blocks.at(l.blocks.len() - 1)
	return b.first + blockSpan - 1 - uint64(bits.LeadingZeros64(b.has))
}

// oldest is the lowest position that limits count.
func (l *backlog) oldest() (pos uint64, ok bool) {
	for i := range l.blocks.len() {
		if b := l.blocks.at(i); b.has != b.asked {
			return b.lowest(b.has &^ b.asked), true
		}
	}
	return 0, false
}

// newest is the highest position that limits count.
func (l *backlog) newest() (pos uint64, ok bool) {
	for i := l.blocks.len() - 1; i >= 0; i-- {
		if b := l.blocks.at(i); b.has != b.asked {
			return b.first + blockSpan - 1 - uint64(bits.LeadingZeros64(b.has&^b.asked)), true
		}
	}
	return 0, false
}

// remove takes a position out and says what it counted. Its size is what is told, if
// that is not below 0 and can be, or else the mean.
func (l *backlog) remove(pos uint64, told int64) (size int64, asked, ok bool) {
	first, bit := bitOf(pos)
	i, found := l.find(first)
	if !found || l.blocks.at(i).has&bit == 0 {
		return 0, false, false
	}
	b := l.blocks.at(i)
	asked = b.asked&bit != 0
	n, bytes := int64(b.of(asked)), &b.bytes[kind(asked)]
	switch {
	case n == 1:
		size = *bytes
	case told >= 0:
		size = min(told, *bytes)
	default:
		size = *bytes / n
	}
	*bytes -= size
	b.has &^= bit
	b.asked &^= bit
	l.n--
	switch {
	case b.has != 0:
	case i == 0:
		l.blocks.pop()
	default:
		at := -1
		l.blocks.keep(func(*block) bool { at++; return at != i })
	}
	return size, asked, true
}

// within counts the messages of a block that begins at first, and their bytes.
func (l *backlog) within(first uint64) (n int, bytes int64) {
	i, found := l.find(first)
	if !found {
		return 0, 0
	}
	b := l.blocks.at(i)
	return bits.OnesCount64(b.has), b.bytes.sum()
}

// between lists the positions from a first one up to below an end.
func (l *backlog) between(from, end uint64) (found []uint64) {
	i, _ := l.find(from &^ (blockSpan - 1))
	for ; i < l.blocks.len(); i++ {
		b := l.blocks.at(i)
		if b.first >= end {
			break
		}
		for has := b.has; has != 0; has &= has - 1 {
			if pos := b.lowest(has); pos >= from && pos < end {
				found = append(found, pos)
			}
		}
	}
	return slices.Clip(found)
}
