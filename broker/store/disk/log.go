package disk

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// needSegment says that a group needs one more segment, of a size in bytes, than there
// were ready.
type needSegment struct {
	size  int64
	ready int
}

func (n *needSegment) Error() string { return fmt.Sprintf("a segment of %d bytes is needed", n.size) }

// blank is a file that is ready to be a segment: as long as it has to be, on the
// medium, and free.
type blank struct {
	number int
	name   string
	size   int64
	file   durable.File
	aside  bool // it is put aside, not removed
}

// extent is bytes to write into a segment.
type extent struct {
	seg  *segment
	off  int64
	buf  []byte
	seal bool // these are its hints: what follows goes into another segment
}

// log is the end of the log. What the writer appends is in memory until it writes
// the extents.
type log struct {
	size    int64 // of a segment
	seg     *segment
	ready   []*blank
	lastID  uint32
	lastSeg uint32 // the log before seg ends there, or before the next one without seg
	lastEnd int64
	salt    func() uint32

	out      []extent
	taken    []*blank // of ready, by the group at hand
	buf      []byte   // for the first extent
	group    []byte   // what its first record says, but for what is on the medium
	counted  []byte   // and behind that, by the store's clock
	grouped  bool     // it has one in seg
	first    bool     // the next record is the first of an Apply
	open     opened
	appended int64 // bytes of records, ever
	started  mark

	kind    kind
	head    head
	headLen int
	content []byte // head and body of the record at hand
}

// opened is the last record, whose header waits for the end of its Apply.
type opened struct {
	set    bool
	at, n  int // in the last extent
	kind   kind
	flags  uint8
	hintAt int
}

// mark is what the log was before a group.
type mark struct {
	seg        *segment
	off, gapAt int64
	hints      int
	lastSeg    uint32
	lastEnd    int64
	appended   int64
}

// usable is how long a record may be that goes into a segment with others.
func (l *log) usable() int64 { return l.size - dataStart - footerLen - 256 }

// begin begins a group.
func (l *log) begin(at *epoch, now time.Time) {
	l.started = mark{seg: l.seg, lastSeg: l.lastSeg, lastEnd: l.lastEnd, appended: l.appended}
	if g := l.seg; g != nil {
		l.started.off, l.started.gapAt, l.started.hints = g.off, g.gapAt, len(g.hints)
	}
	clear(l.out)
	l.out, l.taken, l.grouped = l.out[:0], l.taken[:0], false
	l.group = binary.AppendUvarint(l.group[:0], uint64(at.run))
	l.group = appendTime(l.group, now)
	l.counted = appendTime(l.counted[:0], at.Keep(now))
}

// revert takes back the group. The segments that it began are not segments any more;
// if something of it may have been written, so is the one before them, and what was
// in it until then is all that counts.
func (l *log) revert(x *index, written bool) (stale []*blank) {
	m := &l.started
	for _, e := range l.out {
		if e.seg != m.seg {
			delete(x.segs, e.seg.id)
		}
	}
	l.seg, l.lastSeg, l.lastEnd, l.appended = m.seg, m.lastSeg, m.lastEnd, m.appended
	if g := l.seg; g != nil {
		g.off, g.gapAt, g.hints, g.sealed = m.off, m.gapAt, g.hints[:m.hints], false
		if written {
			g.sealed, g.suspect, g.hints = true, true, nil
			l.seg, l.lastSeg, l.lastEnd = nil, g.id, g.off
		}
	}
	if written {
		stale = append(stale, l.taken...)
	} else {
		l.ready = append(l.ready, l.taken...)
	}
	l.taken, l.open = l.taken[:0], opened{}
	return stale
}

// put begins the record at hand, whose body is then appended to content.
func (l *log) put(k kind, h *head) {
	l.kind, l.head = k, *h
	l.content = h.append(l.content[:0], k)
	l.headLen = len(l.content)
}

// end appends the record at hand and returns its place.
func (l *log) end(x *index) (place, error) {
	n := padded(len(l.content))
	if err := l.fit(x, int64(n)); err != nil {
		return place{}, err
	}
	l.finish(0)
	flags := uint8(0)
	if l.first {
		flags, l.first = flagFirst, false
	}
	e := l.extent()
	g := e.seg
	l.open = opened{set: true, at: len(e.buf), n: len(l.content), kind: l.kind, flags: flags, hintAt: len(g.hints)}
	e.buf = append(e.buf, make([]byte, recordHeader)...)
	e.buf = append(e.buf, l.content...)
	for len(e.buf)%align != 0 {
		e.buf = append(e.buf, 0)
	}
	g.hints = appendHint(g.hints, l.kind, flags, g.off-g.gapAt, len(l.content), l.content[:l.headLen])
	p := placeOf(g.id, g.off, n)
	if _, ok := p.length(); !ok {
		x.lengths[p] = n
	}
	g.off += int64(n)
	g.gapAt = g.off
	l.appended += int64(n)
	low := uint32(0)
	if l.kind != kindMessage && l.kind != kindPut {
		low = max(l.head.low, 1)
	}
	x.count(g, low, n)
	return p, nil
}

// finish writes the header of the last record, with more flags.
func (l *log) finish(flags uint8) {
	if !l.open.set {
		return
	}
	o := &l.open
	e := &l.out[len(l.out)-1]
	o.flags |= flags
	finish(e.buf[o.at:], e.seg.key, o.kind, o.flags, o.n)
	e.seg.hints[o.hintAt] = byte(o.kind) | o.flags<<4
	o.set = false
}

// extent is where the next record goes: segment and group have begun.
func (l *log) extent() *extent {
	if n := len(l.out); n == 0 || l.out[n-1].seg != l.seg || l.out[n-1].seal {
		e := extent{seg: l.seg, off: l.seg.off}
		if n == 0 {
			e.buf = l.buf[:0]
		}
		l.out = append(l.out, e)
	}
	e := &l.out[len(l.out)-1]
	if !l.grouped {
		l.grouped = true
		content := append(binary.AppendUvarint(l.group, uint64(l.seg.synced)), l.counted...)
		at := len(e.buf)
		e.buf = appendRecord(e.buf, l.seg.key, kindGroup, 0, content)
		l.seg.off += int64(len(e.buf) - at)
		l.appended += int64(len(e.buf) - at)
	}
	return e
}

// fit makes sure that the next record, of n bytes, fits into seg.
func (l *log) fit(x *index, n int64) error {
	need := n + int64(l.headLen) + 16 // its hint
	if !l.grouped {
		need += 64
	}
	if l.seg != nil && need <= l.seg.room() && l.seg.size <= l.size { // a larger one is for one record
		return nil
	}
	size := l.size
	if need+64 > l.usable() {
		size = (dataStart + footerLen + 256 + need + pageLen - 1) / pageLen * pageLen
	}
	for i, b := range l.ready {
		if b.size == size || size > l.size && b.size > size {
			l.ready = append(l.ready[:i:i], l.ready[i+1:]...)
			l.taken = append(l.taken, b)
			l.seal()
			l.start(x, b)
			return nil
		}
	}
	return &needSegment{size: size}
}

// seal ends seg with its hints.
func (l *log) seal() {
	g := l.seg
	if g == nil {
		return
	}
	l.finish(0)
	f := footer{
		hintOff: g.size - footerLen - int64(len(g.hints)), hintLen: len(g.hints),
		end: g.off, sum: checksum(g.key, g.hints),
	}
	buf := append(make([]byte, 0, len(g.hints)+footerLen), g.hints...)
	l.out = append(l.out, extent{seg: g, off: f.hintOff, buf: f.append(buf, g.key), seal: true})
	g.sealed = true
	l.lastSeg, l.lastEnd, l.seg = g.id, g.off, nil
}

// start makes a blank file the next segment.
func (l *log) start(x *index, b *blank) {
	l.lastID++
	g := &segment{
		header: header{id: l.lastID, salt: l.salt(), size: b.size, lastSeg: l.lastSeg, lastEnd: l.lastEnd, version: version},
		name:   b.name, number: b.number, file: b.file, off: dataStart, gapAt: dataStart,
	}
	g.key = g.seed()
	e := extent{seg: g}
	if len(l.out) == 0 {
		e.buf = l.buf[:0]
	}
	e.buf = g.header.append(e.buf)
	l.out = append(l.out, e)
	l.seg, l.grouped = g, false
	x.segs[g.id] = g
}

// write writes the extents. A segment is on the medium before the next one begins, so
// that only the last one can be torn.
func (l *log) write() (written int64, err error) {
	for i := range l.out {
		e := &l.out[i]
		if i > 0 && l.out[i-1].seg != e.seg {
			if err := l.out[i-1].seg.sync(); err != nil {
				return written, err
			}
		}
		if !e.seal { // whole pages need not be read before they are written
			end := e.off + int64(len(e.buf))
			fill := min((end+pageLen-1)/pageLen*pageLen, e.seg.size) - end
			e.buf = append(e.buf, make([]byte, fill)...)
		}
		n, err := e.seg.file.WriteAt(e.buf, e.off)
		written += int64(n)
		if err != nil {
			return written, fmt.Errorf("cannot write %q: %w", e.seg.name, err)
		}
	}
	return written, nil
}

func (g *segment) sync() error {
	if err := g.file.Sync(); err != nil {
		return fmt.Errorf("cannot sync %q: %w", g.name, err)
	}
	g.synced = g.off
	return nil
}

// written tidies up after the extents are in their files, and returns those that are
// not written any more. The index is locked.
func (l *log) written() (files []durable.File) {
	for i := range l.out {
		if e := &l.out[i]; e.seal {
			files = append(files, e.seg.file)
			e.seg.hinted, e.seg.hints, e.seg.file = true, nil, nil
		}
	}
	if len(l.out) > 0 {
		if l.buf = l.out[0].buf; cap(l.buf) > 1<<20 {
			l.buf = nil
		}
	}
	if cap(l.content) > 1<<20 {
		l.content = nil
	}
	clear(l.out)
	l.out, l.taken = l.out[:0], l.taken[:0]
	return files
}
