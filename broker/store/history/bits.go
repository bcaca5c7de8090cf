package history

import "math/bits"

// bitWriter appends bits, the highest of a number first.
type bitWriter struct {
	b    []byte
	free uint // bits of the last byte
}

func (w *bitWriter) write(v uint64, n uint) {
	for n > 0 {
		if w.free == 0 {
			w.b, w.free = append(w.b, 0), 8
		}
		k := min(n, w.free)
		part := byte(v>>(n-k)) & (1<<k - 1)
		w.b[len(w.b)-1] |= part << (w.free - k)
		w.free -= k
		n -= k
	}
}

// bitReader reads them again. What is beyond the end is 0, and short is set.
type bitReader struct {
	b     []byte
	at    uint // of the next bit
	short bool
}

func (r *bitReader) read(n uint) (v uint64) {
	for n > 0 {
		i := r.at / 8
		if i >= uint(len(r.b)) {
			r.short = true
			return 0
		}
		left := 8 - r.at%8
		k := min(n, left)
		v = v<<k | uint64(r.b[i]>>(left-k))&(1<<k-1)
		r.at += k
		n -= k
	}
	return v
}

// ones counts the 1 bits before the next 0 bit, at most most of them.
func (r *bitReader) ones(most int) int {
	for n := range most {
		if r.read(1) == 0 {
			return n
		}
	}
	return most
}

// fits reports whether a number is one of n bits in two's complement; 0 is one of none.
func fits(v int64, n uint) bool {
	return v == 0 || n > 0 && v >= -1<<(n-1) && v < 1<<(n-1)
}

// extend makes a number of 64 bits of one of n.
func extend(v uint64, n uint) int64 { return int64(v<<(64-n)) >> (64 - n) }

// window is where the bits of a value are that differ from the one before: after lead
// leading zeros, n bits.
type window struct{ lead, n uint }

func windowOf(x uint64) window {
	lead := min(uint(bits.LeadingZeros64(x)), 31)
	return window{lead: lead, n: 64 - lead - uint(bits.TrailingZeros64(x))}
}

func (w window) trail() uint { return 64 - w.lead - w.n }

// holds reports whether all bits of another are in this one.
func (w window) holds(o window) bool {
	return w.n > 0 && o.lead >= w.lead && o.trail() >= w.trail()
}
