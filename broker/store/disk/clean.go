package disk

import (
	"bytes"
	"context"
	"errors"
	"os"
	"time"
)

const (
	cleanBatch = 128 << 10 // bytes that are rewritten at once
	slack      = 8         // segments of what is gone that are let be
)

// copied is a record that the keeper has the writer write again, or take out of the
// index if it is lost.
type copied struct {
	lost    bool
	kind    kind
	head    head
	content []byte // head and body
	from    place
}

// victim chooses the segment whose rewriting gives back the most: one that was damaged,
// or when more is gone than is live, one of which at least a quarter is gone.
func (k *keeper) victim() *segment {
	k.ix.Lock()
	defer k.ix.Unlock()
	var best *segment
	var live, size, most int64
	segs := k.order()
	for i, g := range segs {
		live, size = live+g.live, size+g.size
		if !g.sealed || g.file != nil || g.stuck || i == len(segs)-1 || k.pinned(g) {
			continue
		}
		if g.suspect {
			return g
		}
		if gain := g.size - g.live - g.needed(segs); gain > most && gain >= g.size/4 {
			best, most = g, gain
		}
	}
	if dead := size - live; dead <= live+slack*k.opts.SegmentSize && !k.full.Load() {
		return nil
	}
	return best
}

// clean writes what counts in a segment again, at the end of the log, and makes the
// segment free. What is damaged is lost.
func (k *keeper) clean(g *segment) error {
	k.ix.Lock()
	g.suspect = true // from now on it is the first to go: of what moves there are two records until then
	k.ix.Unlock()
	hints, err := k.hintsOf(g)
	if err != nil {
		return err
	}
	r := reader{s: k.Store}
	defer r.close()
	for len(hints) > 0 {
		batch, places, n := k.choose(g, &hints)
		if err := k.rewrite(&r, batch, places); err != nil {
			return err
		}
		if !k.pause(n) {
			return errClosed
		}
	}
	if err := k.loseLeft(g); err != nil {
		return err
	}
	k.ix.Lock()
	left := g.live
	g.stuck = left != 0
	k.ix.Unlock()
	if left != 0 {
		k.opts.Log.Error("store: a segment counts more than it holds", "file", g.name, "bytes", left)
		return nil
	}
	return k.free(g)
}

// loseLeft takes out of the index what is in the holes of a segment: of records that
// could not be listed nobody else will find out.
func (k *keeper) loseLeft(g *segment) error {
	k.ix.Lock()
	var left []copied
	if g.holed && g.live != 0 {
		left = k.x.in(g)
	}
	k.ix.Unlock()
	if len(left) == 0 {
		return nil
	}
	k.opts.Log.Error("store: records are lost that the medium refuses to read", "file", g.name, "records", len(left))
	return k.submit(apply{copies: left, need: needSync}).Wait(context.Background())
}

// in lists what the index has in a segment, as lost.
func (x *index) in(g *segment) (all []copied) {
	each := func(s *session) {
		for p, k := range s.parts {
			if k.seg == g.id {
				all = append(all, copied{lost: true, kind: kindPut, head: head{owner: s.num, part: p}, from: k.place})
			}
		}
		s.q.from(0, func(pos uint64, p place) bool {
			if p.seg == g.id {
				all = append(all, copied{lost: true, kind: kindMessage, head: head{owner: s.num, pos: pos}, from: p})
			}
			return true
		})
	}
	each(x.store)
	for _, s := range x.byNum {
		each(s)
	}
	return all
}

// pause keeps to the budget, and reports whether the store is still open.
func (k *keeper) pause(n int64) bool {
	k.rewritten.Add(n)
	if n == 0 || k.full.Load() {
		select {
		case <-k.closing:
			return false
		default:
			return true
		}
	}
	timer := time.NewTimer(time.Duration(n) * time.Second / time.Duration(k.opts.Budget))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-k.closing:
		return false
	}
}

// choose takes the next records of a segment that have to be written again, about
// [cleanBatch] of them. The places are of those whose bodies have to be read.
func (k *keeper) choose(g *segment, hints *[]found) (batch []copied, places []wanted, size int64) {
	k.ix.Lock()
	defer k.ix.Unlock()
	segs := k.order()
	for len(*hints) > 0 && size < cleanBatch {
		h := &(*hints)[0]
		*hints = (*hints)[1:]
		n := padded(h.n)
		at := placeOf(g.id, h.off, n)
		if !k.x.counts(h.kind, &h.head, at) && !k.x.needs(segs, g, h.kind, &h.head) {
			if mark, ok := k.x.mark(h.kind, &h.head); ok {
				batch = append(batch, mark)
			}
			continue
		}
		c := copied{kind: h.kind, head: h.head, from: at}
		if h.kind == kindMessage || h.kind == kindPut {
			places = append(places, wanted{place: at, n: n, seg: g})
		}
		batch = append(batch, c)
		size += int64(n)
	}
	return batch, places, size
}

// counts reports whether a record at a place is what the index says of a message or
// part.
func (x *index) counts(k kind, h *head, at place) bool {
	s := x.owner(h.owner)
	if s == nil {
		return false
	}
	switch k {
	case kindMessage:
		b, i := s.q.find(h.pos)
		return b != nil && b.entries[i].place == at
	case kindPut:
		kept, ok := s.parts[h.part.key()]
		return ok && kept.place == at
	default:
		return false
	}
}

// needs reports whether a record of g that deletes something is needed, because what
// it deletes may be in another segment.
func (x *index) needs(segs []*segment, g *segment, k kind, h *head) bool {
	switch k {
	case kindDone, kindDelete, kindDrop:
	default:
		return false
	}
	s := x.owner(h.owner)
	if (s == nil) != (k == kindDrop) { // that of the session does it
		return false
	}
	if k == kindDelete {
		key := h.part.key()
		if now, ok := s.parts[key]; ok { // a newer one says that this is gone
			now.low = min(now.low, max(h.low, 1))
			s.parts[key] = now
			return false
		}
	}
	return exists(segs, h.low, h.high, g.id)
}

// mark is what keeps the next position of a queue when the record that tells it goes.
func (x *index) mark(k kind, h *head) (c copied, ok bool) {
	s := x.owner(h.owner)
	if s == nil || k != kindMessage && k != kindDone || h.pos+1 != s.next {
		return c, false
	}
	c = copied{kind: kindPut, head: head{owner: h.owner, part: part{kind: partNext, n: s.next}}}
	c.content = c.head.append(nil, kindPut)
	return c, true
}

// key is what the index knows a part by.
func (p part) key() part {
	if p.kind == partNext {
		p.n = 0
	}
	return p
}

// rewrite reads records and has the writer write them again.
func (k *keeper) rewrite(r *reader, batch []copied, places []wanted) error {
	if len(batch) == 0 {
		return nil
	}
	next, size := 0, 0
	for i := range batch {
		c := &batch[i]
		switch {
		case c.content != nil:
		case c.kind == kindMessage || c.kind == kindPut:
			rec, err := r.part(places, next, c.head.part)
			next++
			if errors.Is(err, errDamaged) {
				c.lost = true
				k.setAside(places[next-1])
				continue
			}
			if err != nil {
				return err
			}
			c.content = bytes.Clone(rec.content)
		default:
			c.content = c.head.append(nil, c.kind)
		}
		size += len(c.content)
	}
	return k.submit(apply{copies: batch, need: needSync, size: size}).Wait(context.Background())
}

// copies appends records again, and changes the index accordingly.
func (e *encoder) copies(batch []copied) error {
	for i := range batch {
		e.first = true
		if err := e.copy(&batch[i]); err != nil {
			return err
		}
		e.log.finish(flagLast)
	}
	return nil
}

func (e *encoder) copy(c *copied) error {
	s := e.x.owner(c.head.owner)
	key := c.head.part.key()
	marks := key.kind == partNext && c.from == place{}
	switch {
	case s == nil && c.kind != kindDrop, (c.kind == kindMessage || c.kind == kindPut) && !marks && !e.x.counts(c.kind, &c.head, c.from):
		return nil // it is gone since
	case c.lost && c.kind == kindMessage:
		return e.dequeue(s, c.head.pos)
	case c.lost:
		return e.remove(s, key)
	case c.kind == kindDelete:
		if _, ok := s.parts[key]; ok {
			return nil
		}
	}
	e.log.kind, e.log.head = c.kind, c.head
	e.log.content = append(e.log.content[:0], c.content...)
	e.log.headLen = headLen(c.kind, c.content)
	to, err := e.end(e.x)
	if err != nil {
		return err
	}
	switch c.kind {
	case kindMessage:
		b, j := s.q.find(c.head.pos)
		e.x.move(s, b, j, to)
	case kindPut:
		e.moved(s, key, c, to)
		if key.kind == partSession { // twice, as it was
			if to, err = e.end(e.x); err != nil {
				return err
			}
			e.moved(s, key, c, to)
		}
	default:
	}
	return nil
}

// moved notes where a part is now.
func (e *encoder) moved(s *session, key part, c *copied, to place) {
	k := kept{place: to, low: to.seg, extra: c.head.extra}
	if was, ok := s.parts[key]; ok && was.low != c.from.seg {
		k.low = was.low
	}
	e.x.setPart(s, key, k)
}

// headLen is how much of a content is head.
func headLen(k kind, content []byte) int {
	d := decoder{b: content}
	d.head(k)
	return len(content) - len(d.b)
}

// hintsOf reads what is in a segment: its hints, or the records if it has none.
func (k *keeper) hintsOf(g *segment) ([]found, error) {
	c := collector{}
	sc := &scan{s: k.Store, r: &replay{collect: &c}}
	f, err := k.openFile(g.name, os.O_RDONLY)
	if refuses(err) {
		if err := k.present(err); err != nil {
			return nil, err
		}
		k.giveUp(g, []hole{{0, g.size}})
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	shadow := &segment{header: g.header, name: g.name, key: g.key, off: dataStart, gapAt: dataStart}
	if sc.hinted(f, shadow, g.off) {
		return c.all, nil
	}
	b, err := sc.whole(f, shadow)
	if err != nil {
		return nil, err
	}
	k.ix.Lock()
	g.holed = g.holed || len(sc.holes) > 0
	k.ix.Unlock()
	sc.records(shadow, b[:g.off], false)
	return c.all, nil
}

// collector takes records instead of a replay.
type collector struct{ all []found }

// free makes a segment, in which nothing counts, ready to be another one.
func (k *keeper) free(g *segment) error {
	b := &blank{number: g.number, name: g.name, size: g.size, aside: g.holed}
	k.ix.Lock()
	delete(k.x.segs, g.id)
	enough := g.holed || len(k.log.ready) >= maxReady || g.size != k.opts.SegmentSize
	if enough || k.full.Load() && k.opts.Ballast > 0 && !k.ballast.Load() && len(k.log.ready) > 2 {
		k.stale = append(k.stale, b)
	}
	removed := len(k.stale) > 0 && k.stale[len(k.stale)-1] == b
	k.ix.Unlock()
	if removed {
		return k.removeStale()
	}
	err := k.markFree(b, g)
	k.ix.Lock()
	defer k.ix.Unlock()
	if err != nil {
		k.stale = append(k.stale, b)
		return err
	}
	k.log.ready = append(k.log.ready, b)
	return nil
}

// markFree writes the header of a segment that is free.
func (k *keeper) markFree(b *blank, g *segment) error {
	f, err := k.fs.OpenFile(k.path(b.name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	h := header{id: g.id, salt: g.salt, free: true, size: g.size}
	head := h.append(nil)
	if _, err = f.WriteAt(head, 0); err == nil {
		err = f.Sync()
	}
	k.written.Add(int64(len(head)))
	k.syncs.Add(1)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	b.file = f
	return nil
}
