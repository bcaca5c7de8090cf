package disk

// place is where a record is: the identifier of its segment (0 is nowhere) and,
// in units of 8 bytes, its offset and length. 13 bits of length reach 64 KiB; of
// longer records the log knows the length.
type place struct{ seg, at uint32 }

const (
	align    = 8
	longBits = 13
	long     = 1<<longBits - 1
)

// placeOf is the place of n bytes at an offset, both multiples of 8.
func placeOf(seg uint32, off int64, n int) place {
	return place{seg, uint32(off/align)<<longBits | uint32(min(n/align, long))}
}

func (p place) off() int64 { return int64(p.at>>longBits) * align }

// length is in bytes; ok is false if it is longer than that.
func (p place) length() (n int, ok bool) {
	n = int(p.at & long)
	return n * align, n < long
}

// before reports whether a record is whole before an end, which is that of a record.
func (p place) before(e end) bool { return p.seg < e.seg || p.seg == e.seg && p.off() < e.off }
