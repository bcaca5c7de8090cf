package disk

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// Verify has every store count again, after each group, what counts in its segments,
// until the test ends.
func Verify(t testing.TB) {
	t.Cleanup(func() { verify = func(*Store) {} })
	verify = func(s *Store) {
		live := make(map[uint32]int64)
		each := func(v *session) {
			for _, k := range v.parts {
				live[k.seg] += int64(s.x.sizeAt(k.place))
			}
			v.q.from(0, func(_ uint64, p place) bool {
				live[p.seg] += int64(s.x.sizeAt(p))
				return true
			})
		}
		each(s.x.store)
		for _, v := range s.x.byNum {
			each(v)
		}
		for id, g := range s.x.segs {
			if live[id] != g.live {
				panic(fmt.Sprintf("segment %d counts %d bytes, and %d are live", id, g.live, live[id]))
			}
		}
	}
}

// WithVersion gives a segment's file another version.
func WithVersion(b []byte, v uint32) []byte {
	for _, at := range []int{0, headerCopy} {
		p := b[at : at+headerLen]
		binary.LittleEndian.PutUint32(p[8:], v)
		binary.LittleEndian.PutUint32(p[12:], headerSum(p))
	}
	return b
}
