package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// scan reads segments for a replay.
type scan struct {
	s     *Store
	r     *replay
	last  *segment // the last one
	run   uint32   // the highest of a group
	holes []hole   // in the segment
	used  int64    // of it: what follows is zeros

	wrote, counted time.Time // the last group, by the wall clock and by the store's
}

// segment reads one. The log in it ends at limit at the latest.
func (sc *scan) segment(g *segment, limit int64, last bool) error {
	f, err := sc.s.openFile(g.name, os.O_RDWR)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			_ = f.Close() // it was only read
		}
	}()
	sc.r.segment(g)
	sc.last, sc.holes = g, nil
	short := g.actual < min(limit, g.size) // one that is for one record grows as it is written
	if short && (!last || g.size == sc.s.opts.SegmentSize) {
		g.suspect = true
		sc.s.damaged.Add(1)
		sc.s.opts.Log.Error("store: a file is shorter than it was", "file", g.name, "was", g.size)
	}
	if !last && sc.hinted(f, g, limit) { // in the last one what they tell of may be torn
		return nil
	}
	b, err := sc.whole(f, g)
	if err != nil {
		return err
	}
	sc.records(g, b[:min(limit, g.size)], last)
	foot, sealed := parseFooter(b[g.size-footerLen:], g.key, g.size)
	_, stray := nextRecord(b[:g.size-footerLen], g.off, sc.used, g.key)
	if last && !short && !sealed && !stray && len(sc.holes) == 0 && g.size == sc.s.opts.SegmentSize {
		g.file, g.synced, keep = f, g.off, true
		return nil
	}
	// It is not written any more: what is after its end does not count once the next
	// one has begun.
	g.hinted = last && sealed && !stray && foot.end == g.off && checksum(g.key, b[foot.hintOff:g.size-footerLen]) == foot.sum
	g.sealed, g.hints = true, nil
	return nil
}

// whole reads a segment from its beginning, and notes the holes. Most of one that has
// just been begun is zeros: that memory is never touched, or a start would wait for it.
func (sc *scan) whole(f durable.File, g *segment) ([]byte, error) {
	b, part := make([]byte, g.size), make([]byte, min(g.size, 128<<10))
	sc.used = 0
	for off := int64(0); off < g.size; off += int64(len(part)) {
		part = part[:min(int64(len(part)), g.size-off)]
		n, holes, err := readAt(f, part, off)
		if err != nil {
			return nil, err
		}
		sc.holes = join(sc.holes, holes)
		if !empty(part[:n]) {
			sc.used = off + int64(copy(b[off:], part[:n]))
		}
		if n < len(part) {
			break
		}
	}
	if len(sc.holes) > 0 {
		if err := sc.s.present(fmt.Errorf("cannot read %q", g.name)); err != nil {
			return nil, err
		}
		sc.s.giveUp(g, sc.holes)
	}
	return b, nil
}

// hinted reads the hints of a segment that has them.
func (sc *scan) hinted(f durable.File, g *segment, limit int64) bool {
	b := make([]byte, footerLen)
	if _, err := f.ReadAt(b, g.size-footerLen); err != nil {
		return false
	}
	foot, ok := parseFooter(b, g.key, g.size)
	if !ok {
		return false
	}
	b = make([]byte, foot.hintLen)
	if _, err := f.ReadAt(b, foot.hintOff); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	if checksum(g.key, b) != foot.sum {
		return false
	}
	sc.first(f, g, limit)
	// Hints that tell of more than counts need the header that says so: see pinned.
	g.off, g.sealed, g.hinted = min(foot.end, limit), true, foot.end <= limit
	d := decoder{b: b}
	for end := int64(dataStart); len(d.b) > 0; {
		h := d.hint(end)
		if d.bad || h.off >= limit {
			break
		}
		end = h.off + int64(padded(h.n))
		sc.r.take(found{kind: h.kind, flags: h.flags, off: h.off, n: h.n, head: h.head})
	}
	return true
}

// group reads the start of a group, and returns up to where its segment was on the
// medium then.
func (sc *scan) group(rec *record) (synced int64) {
	d := decoder{b: rec.content}
	run, wall := d.uint32(), d.time()
	synced = int64(d.uvarint())
	if d.bad {
		return 0
	}
	counted := wall
	if len(d.b) > 0 { // not yet in what the first versions wrote
		counted = d.time()
	}
	if d.bad || run < sc.run {
		return synced
	}
	sc.run, sc.wrote, sc.counted = run, wall, counted
	return synced
}

// first reads the group that a segment begins with: the last segment may have none,
// and then this one says when the store was written, and in which run.
func (sc *scan) first(f durable.File, g *segment, limit int64) {
	var b [128]byte
	n, _ := f.ReadAt(b[:], dataStart) // what cannot be read is no group
	if rec, ok := parse(b[:n], g.key); ok && rec.kind == kindGroup && limit > dataStart {
		sc.group(&rec)
	}
}

// records reads the records of a segment. What is not one is the end of the log if it
// is in the last segment and may not have been on the medium; else it is damage.
func (sc *scan) records(g *segment, b []byte, last bool) {
	size := int64(len(b))
	for off := int64(dataStart); off < size; {
		rec, ok := parse(b[off:], g.key)
		if ok {
			off = sc.record(g, &rec, off)
			continue
		}
		next, more := nextRecord(b, off+align, sc.used, g.key)
		missing := sc.missing(g, b, off)
		if last && !missing && (!more || !sc.wasSynced(b, next, off, g.key)) {
			break // torn, or the end
		}
		if !more { // in a segment that is complete
			next = size
			if !missing && (size == g.size || empty(b[off:])) {
				break
			}
		}
		sc.damaged(g, off, b[off:next])
		off = next
	}
}

// missing reports whether there may be a record at an offset, of which some cannot be
// read: that is neither torn nor the end.
func (sc *scan) missing(g *segment, b []byte, off int64) bool {
	n, _ := headerOf(b[off:], g.key) // 0 if there is none
	return overlap(sc.holes, off, off+int64(padded(n)))
}

// damaged puts bytes aside.
func (sc *scan) damaged(g *segment, off int64, b []byte) {
	if sc.r.collect != nil { // that was done on opening
		return
	}
	sc.r.damaged()
	g.suspect = true
	if !overlap(sc.holes, off, off+int64(len(b))) { // of which there is nothing to put aside
		sc.s.quarantine(g, off, b)
	}
}

// record takes one, and returns where the next one is.
func (sc *scan) record(g *segment, rec *record, off int64) int64 {
	n := int64(rec.size())
	if rec.kind == kindGroup {
		sc.group(rec)
	} else {
		d := decoder{b: rec.content}
		h := d.head(rec.kind)
		if d.bad {
			sc.damaged(g, off, rec.content)
		} else {
			headLen := len(rec.content) - len(d.b)
			g.hints = appendHint(g.hints, rec.kind, rec.flags, off-g.gapAt, len(rec.content), rec.content[:headLen])
			g.gapAt = off + n
			sc.r.take(found{kind: rec.kind, flags: rec.flags, off: off, n: len(rec.content), head: h})
		}
	}
	g.off = off + n
	return g.off
}

// nextRecord looks for the next record from an offset on. All of b after used is zeros.
func nextRecord(b []byte, off, used int64, seed uint32) (int64, bool) {
	for ; off < used && off+recordHeader <= int64(len(b)); off += align {
		if b[off+8] == 0 {
			continue
		}
		if _, ok := parse(b[off:], seed); ok {
			return off, true
		}
	}
	return 0, false
}

// wasSynced reports whether a group from an offset on says that what is at bad was on
// the medium.
func (sc *scan) wasSynced(b []byte, off, bad int64, seed uint32) bool {
	for more := true; more; off, more = nextRecord(b, off, sc.used, seed) {
		rec, ok := parse(b[off:], seed)
		if !ok {
			continue
		}
		if rec.kind == kindGroup && sc.syncedAt(&rec) > bad {
			return true
		}
		off += int64(rec.size())
	}
	return false
}

func (sc *scan) syncedAt(rec *record) int64 {
	d := decoder{b: rec.content}
	d.uint32()
	d.time()
	synced := int64(d.uvarint())
	if d.bad {
		return 0
	}
	return synced
}
