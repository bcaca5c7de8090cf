package disk

import (
	"cmp"
	"slices"
	"strings"
)

// late is a message that was read after one of a higher position: it was rewritten.
type late struct {
	pos  uint64
	size uint32
	place
}

// found is a record that was read on opening.
type found struct {
	kind  kind
	flags uint8
	off   int64
	n     int // of head and body
	head  head
	seg   *segment
}

// replay makes the index from what the segments hold, in their order.
type replay struct {
	collect *collector // if not nil it takes what is read
	x       *index
	seg     *segment
	pending []found // of an Apply whose end has not come
	torn    bool    // something was missing since pending began
	dropped map[uint32]struct{}
	last    *session
}

// take takes the next record. What it holds of f is copied. Of an Apply that went
// over the end of a segment one part may be gone by now, since nothing of it counted:
// only at the end of the log an Apply can be incomplete.
func (r *replay) take(f found) {
	if r.collect != nil {
		f.head.part.name = strings.Clone(f.head.part.name)
		r.collect.all = append(r.collect.all, f)
		return
	}
	f.seg = r.seg
	if f.flags&flagFirst != 0 {
		r.flush()
	}
	if f.flags&flagLast != 0 && len(r.pending) == 0 {
		r.do(&f)
		r.torn = false
		return
	}
	f.head.part.name = strings.Clone(f.head.part.name)
	r.pending = append(r.pending, f)
	if f.flags&flagLast != 0 {
		r.flush()
	}
}

func (r *replay) flush() {
	for i := range r.pending {
		r.do(&r.pending[i])
	}
	r.pending, r.torn = r.pending[:0], false
}

// cut drops an Apply that has no end, unless that is because of damage, and returns
// where it began.
func (r *replay) cut() (seg *segment, off int64) {
	if r.torn {
		r.flush()
	}
	if len(r.pending) > 0 {
		seg, off = r.pending[0].seg, r.pending[0].off
	}
	r.pending = nil
	return seg, off
}

// damaged says that records are missing here.
func (r *replay) damaged() { r.torn = true }

// segment says that the records that follow are of another segment.
func (r *replay) segment(g *segment) { r.seg = g }

func (r *replay) owner(num uint32) *session {
	if num == 0 {
		return r.x.store
	}
	if r.last != nil && r.last.num == num {
		return r.last
	}
	r.last = r.x.byNum[num]
	if r.last == nil {
		if _, gone := r.dropped[num]; gone {
			return nil
		}
		r.last = newSession(num, "")
		r.x.byNum[num] = r.last
		r.x.lastNum = max(r.x.lastNum, num)
	}
	return r.last
}

func (r *replay) do(f *found) {
	h := &f.head
	r.x.lastNum = max(r.x.lastNum, h.owner)
	if f.kind == kindDrop {
		delete(r.x.byNum, h.owner)
		r.dropped[h.owner] = struct{}{}
		r.last = nil
	}
	n := padded(f.n)
	if f.kind == kindDone || f.kind == kindDelete || f.kind == kindDrop {
		f.seg.noteDelete(max(h.low, 1), int64(n))
	}
	s := r.owner(h.owner)
	if s == nil {
		return
	}
	p := placeOf(f.seg.id, f.off, n)
	if _, ok := p.length(); !ok {
		r.x.lengths[p] = n
	}
	switch f.kind {
	case kindMessage:
		r.twice(s.message(h, p))
	case kindDone:
		s.done(h.pos)
	case kindPut:
		r.put(s, h, p)
	case kindDelete:
		if was, ok := s.parts[h.part]; ok && was.low < h.low { // deleted while its segment was rewritten
			r.twice(place{seg: was.low})
		}
		delete(s.parts, h.part)
	default:
	}
}

func (r *replay) put(s *session, h *head, p place) {
	key, low := h.part.key(), p.seg
	switch key.kind {
	case partNext:
		s.next = max(s.next, h.part.n)
	case partSession:
		s.id = strings.Clone(key.name)
	case partState:
		s.next = max(s.next, key.n+1)
		if h.extra&stateReceived != 0 {
			low = s.receive(key.n)
		}
	default:
	}
	k := kept{place: p, low: min(p.seg, low), extra: h.extra}
	if was, ok := s.parts[key]; ok {
		k.low = min(low, was.low)
	} else {
		key.name = strings.Clone(key.name)
	}
	s.parts[key] = k
}

// twice says that there are two records of a thing, the older one at p: the first
// thing to do is to rewrite its segment, so that it does not come again when the
// newer one is gone.
func (r *replay) twice(p place) {
	if g := r.x.segs[p.seg]; g != nil {
		g.suspect = true
	}
}

// message takes a message that was queued, or rewritten; then it may have been before.
func (s *session) message(h *head, p place) (before place) {
	if h.pos >= s.next {
		s.q.push(h.pos, p, h.size, true)
		s.next = h.pos + 1
		s.bytes += int64(h.size)
		return place{}
	}
	if b, i := s.q.find(h.pos); b != nil {
		if before = b.entries[i].place; before != nowhere {
			b.entries[i].place = p
		}
		return before
	}
	s.late = append(s.late, late{h.pos, h.size, p})
	return place{}
}

// receive notes that a message was received, and returns the segment that has it.
func (s *session) receive(pos uint64) uint32 {
	b, i := s.q.find(pos)
	if b == nil || b.entries[i].place == nowhere {
		return 1<<32 - 1
	}
	p := b.entries[i].place
	b.entries[i].place = nowhere
	s.bytes -= int64(b.sizes[i])
	return p.seg
}

func (s *session) done(pos uint64) {
	s.next = max(s.next, pos+1)
	delete(s.parts, part{kind: partState, n: pos})
	if b, i := s.q.find(pos); b != nil {
		if s.q.take(b, i) != nowhere {
			s.bytes -= int64(b.sizes[i])
		}
		s.q.tidy(pos)
	}
	if len(s.late) > 0 {
		if s.gone == nil {
			s.gone = make(map[uint64]struct{})
		}
		s.gone[pos] = struct{}{}
	}
}

// settle puts the messages that were found out of order where they belong, and those
// that were received in their place.
func (s *session) settle(twice func(place)) {
	for p, k := range s.parts {
		if p.kind == partState && k.extra&stateReceived != 0 {
			if b, _ := s.q.find(p.n); b == nil {
				s.late = append(s.late, late{pos: p.n, place: nowhere})
			}
		}
	}
	if len(s.late) > 0 {
		s.merge(twice)
	}
	s.late, s.gone = nil, nil
	for p := range s.parts { // what is left of messages that are lost
		if p.kind == partState {
			if b, _ := s.q.find(p.n); b == nil {
				delete(s.parts, p)
			}
		}
	}
}

func (s *session) merge(twice func(place)) {
	all := s.late
	for _, b := range s.q.blocks {
		for i, e := range b.entries {
			if e.seg != 0 {
				all = append(all, late{b.base + uint64(e.rel), b.sizes[i], e.place})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b late) int {
		return cmp.Or(cmp.Compare(a.pos, b.pos), cmp.Compare(a.seg, b.seg), cmp.Compare(a.at, b.at))
	})
	s.q, s.bytes = queue{}, 0
	for i, l := range all {
		if i+1 < len(all) && all[i+1].pos == l.pos {
			twice(l.place)
			continue
		}
		if _, gone := s.gone[l.pos]; gone {
			continue
		}
		if _, received, _ := s.state(l.pos); received {
			key := part{kind: partState, n: l.pos}
			k := s.parts[key]
			if l.place != nowhere {
				k.low = min(k.low, l.seg)
			}
			s.parts[key] = k
			l.place, l.size = nowhere, 0
		}
		s.q.push(l.pos, l.place, l.size, true)
		if l.place != nowhere {
			s.bytes += int64(l.size)
		}
	}
}

// finish ends the replay: sessions of which there is no record are none.
func (r *replay) finish() {
	for num, s := range r.x.byNum {
		if s.id == "" {
			delete(r.x.byNum, num)
			continue
		}
		s.settle(r.twice)
		if other := r.x.byID[s.id]; other != nil && other.num > num {
			delete(r.x.byNum, num)
			continue
		} else if other != nil {
			delete(r.x.byNum, other.num)
		}
		r.x.byID[s.id] = s
		for _, b := range s.q.blocks {
			b.sizes = nil
		}
	}
	r.x.count0()
}

// count0 counts what of each segment counts.
func (x *index) count0() {
	one := func(p place) {
		if g := x.segs[p.seg]; g != nil {
			g.live += int64(x.sizeAt(p))
		}
	}
	each := func(s *session) {
		for _, k := range s.parts {
			one(k.place)
		}
		s.q.from(0, func(_ uint64, p place) bool {
			one(p)
			return true
		})
	}
	each(x.store)
	for _, s := range x.byNum {
		each(s)
	}
}
