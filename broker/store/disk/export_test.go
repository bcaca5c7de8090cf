package disk

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/durable"
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

var testEpoch = &epoch{1, store.Resume(time.Unix(1.7e9, 0), time.Time{}, time.Time{})}

// EncodeMessage and DecodeMessage are what bodies of records are made of.
func EncodeMessage(m *message.Message) []byte { return appendMessage(nil, m, testEpoch) }

// DecodeMessage is the other way round.
func DecodeMessage(b []byte) (*message.Message, bool) {
	d := decoder{b: b}
	m := d.message(testEpoch)
	return m, !d.bad
}

// SegmentOf makes a segment of records, each of a kind, flags, a length and as many
// bytes.
func SegmentOf(b []byte, size int64) []byte {
	h := header{id: firstSegment, salt: 1, size: size, version: version}
	file := h.append(nil)
	for len(b) > 3 {
		n := min(int(b[2]), len(b)-3)
		file = appendRecord(file, h.seed(), 1+kind(b[0])%(kinds-1), b[1]&3, b[3:3+n])
		b = b[3+n:]
	}
	if int64(len(file)) > size {
		return file[:size]
	}
	return append(file, make([]byte, size-int64(len(file)))...)
}

// Physical lists what is in the files of a store, for a test that fails.
func Physical(fs durable.FS, folder string) (lines []string) {
	entries, _ := fs.ReadDir(folder)
	for _, entry := range entries {
		f, err := fs.OpenFile(folder+"/"+entry.Name(), 0, 0)
		if err != nil {
			continue
		}
		size, _ := f.Size()
		b := make([]byte, size)
		_, _ = f.ReadAt(b, 0)
		_ = f.Close()
		h, ok := parseHeader(b)
		if !ok {
			continue
		}
		lines = append(lines, fmt.Sprintf("%06d %s free %v, before it %d ends at %d", h.id, entry.Name(), h.free, h.lastSeg, h.lastEnd))
		if h.free {
			continue
		}
		if foot, ok := parseFooter(b[size-footerLen:], h.seed(), size); ok {
			lines = append(lines, fmt.Sprintf("%06d hints to %d", h.id, foot.end))
			d := decoder{b: b[foot.hintOff : size-footerLen]}
			for end := int64(dataStart); len(d.b) > 0 && !d.bad; {
				v := d.hint(end)
				end = v.off + int64(padded(v.n))
				if rec, ok := parse(b[v.off:], h.seed()); !ok || rec.kind != v.kind || rec.flags != v.flags || len(rec.content) != v.n {
					lines = append(lines, fmt.Sprintf("%06d %06d hint without a record: %+v", h.id, v.off, v))
				}
			}
		}
		for off := int64(dataStart); off < size; {
			rec, ok := parse(b[off:], h.seed())
			if !ok {
				next, more := nextRecord(b, off+align, int64(len(b)), h.seed())
				lines = append(lines, fmt.Sprintf("%06d %06d bad, next at %d", h.id, off, next))
				if !more {
					break
				}
				off = next
				continue
			}
			d := decoder{b: rec.content}
			var what head
			if rec.kind != kindGroup {
				what = d.head(rec.kind)
			}
			lines = append(lines, fmt.Sprintf("%06d %06d kind %d flags %d owner %d pos %d part %v extra %x low %d high %d", h.id, off, rec.kind, rec.flags, what.owner, what.pos, what.part, what.extra, what.low, what.high))
			off += int64(rec.size())
		}
	}
	slices.Sort(lines)
	return lines
}

// Hold has the keeper wait until release is called.
func Hold(s *Store) (release func()) {
	s.tending <- struct{}{}
	return sync.OnceFunc(func() { <-s.tending })
}

// Clean rewrites all segments but those up to an identifier, and the last one. The
// keeper waits meanwhile.
func Clean(s *Store, but uint32) error {
	s.tending <- struct{}{}
	defer func() { <-s.tending }()
	k := &keeper{Store: s}
	s.ix.Lock()
	segs := s.order()
	s.ix.Unlock()
	for _, g := range segs[:len(segs)-1] {
		if g.id > but && g.sealed && !s.pinned(g) {
			if err := k.clean(g); err != nil {
				return err
			}
		}
	}
	return nil
}
