package disk

import (
	"slices"
	"strings"
)

// kept is where the newest version of a part is. Older ones may be in the segments
// from low on.
type kept struct {
	place
	low, extra uint32
}

// session is what the index knows of a session, or of the store itself, whose
// number is 0.
type session struct {
	num   uint32
	id    string
	next  uint64 // position
	parts map[part]kept
	q     queue
	bytes int64  // of its queue, while the store is loaded
	late  []late // messages found out of order, while the store is read
	gone  map[uint64]struct{}
}

func newSession(num uint32, id string) *session {
	return &session{num: num, id: id, next: 1, parts: make(map[part]kept)}
}

// state is what is known of a message that was sent.
func (s *session) state(pos uint64) (id uint16, received, ok bool) {
	k, ok := s.parts[part{kind: partState, n: pos}]
	return uint16(k.extra), k.extra&stateReceived != 0, ok
}

// index says where everything is. It is changed by the writer alone.
type index struct {
	store   *session
	byID    map[string]*session
	byNum   map[uint32]*session
	lastNum uint32
	segs    map[uint32]*segment
	// lengths of records whose place does not say it.
	lengths map[place]int
	undo    []undo
	died    bool // a sealed segment has nothing live any more
	// names of the keyed records of each bucket that was asked for, in their order.
	names map[string][]string
}

func newIndex() *index {
	return &index{
		store: newSession(0, ""), byID: make(map[string]*session), byNum: make(map[uint32]*session),
		segs: make(map[uint32]*segment), lengths: make(map[place]int), names: make(map[string][]string),
	}
}

func (x *index) owner(num uint32) *session {
	if num == 0 {
		return x.store
	}
	return x.byNum[num]
}

// sizeAt is the length of the record at a place.
func (x *index) sizeAt(p place) int {
	if n, ok := p.length(); ok {
		return n
	}
	return x.lengths[p]
}

// undo is one change of the index that is not on disk yet.
type undo struct {
	op   undoOp
	s    *session
	part part
	was  kept
	had  bool
	pos  uint64
	num  int64
}

type undoOp uint8

const (
	undoPart   undoOp = iota // was, if had, is what the part was
	undoPush                 // pos is gone again, and next is num
	undoTake                 // pos was at was
	undoMove                 // pos was at was, and is
	undoCreate               // of a session
	undoDrop
	undoLive    // num bytes of the segment was.seg count
	undoDeletes // num bytes of it delete from was.low on
)

func (x *index) setPart(s *session, p part, k kept) {
	was, had := s.parts[p]
	if !had {
		p.name = strings.Clone(p.name)
		x.named(p, true)
	}
	x.undo = append(x.undo, undo{op: undoPart, s: s, part: p, was: was, had: had})
	s.parts[p] = k
}

func (x *index) removePart(s *session, p part) {
	if was, had := s.parts[p]; had {
		x.undo = append(x.undo, undo{op: undoPart, s: s, part: p, was: was, had: true})
		delete(s.parts, p)
		x.named(p, false)
	}
}

// named notes that a keyed record is there, or is not any more.
func (x *index) named(p part, there bool) {
	if p.kind != partRecord {
		return
	}
	bucket, _, _ := splitName(p.name)
	names, ok := x.names[bucket]
	if !ok {
		return
	}
	i, found := slices.BinarySearch(names, p.name)
	switch {
	case there && !found:
		x.names[bucket] = slices.Insert(names, i, p.name)
	case !there && found:
		x.names[bucket] = slices.Delete(names, i, i+1)
	}
}

// bucket lists the names of the keyed records of a bucket, in their order.
func (x *index) bucket(bucket string) []string {
	names, ok := x.names[bucket]
	if ok {
		return names
	}
	prefix := recordName(bucket, "")
	for p := range x.store.parts {
		if p.kind == partRecord && strings.HasPrefix(p.name, prefix) {
			names = append(names, p.name)
		}
	}
	slices.Sort(names)
	x.names[strings.Clone(bucket)] = names
	return names
}

func (x *index) push(s *session, pos uint64, p place) {
	x.undo = append(x.undo, undo{op: undoPush, s: s, pos: pos, num: int64(s.next)})
	s.q.push(pos, p, 0, false)
	s.next = pos + 1
}

func (x *index) take(s *session, b *block, i int) place {
	pos := b.base + uint64(b.entries[i].rel)
	p := s.q.take(b, i)
	x.undo = append(x.undo, undo{op: undoTake, s: s, pos: pos, was: kept{place: p}})
	return p
}

func (x *index) move(s *session, b *block, i int, to place) {
	pos := b.base + uint64(b.entries[i].rel)
	x.undo = append(x.undo, undo{op: undoMove, s: s, pos: pos, was: kept{place: b.entries[i].place}})
	b.entries[i].place = to
}

func (x *index) create(id string) *session {
	x.lastNum++
	s := newSession(x.lastNum, strings.Clone(id))
	x.byID[s.id], x.byNum[s.num] = s, s
	x.undo = append(x.undo, undo{op: undoCreate, s: s})
	return s
}

func (x *index) drop(s *session) {
	delete(x.byID, s.id)
	delete(x.byNum, s.num)
	x.undo = append(x.undo, undo{op: undoDrop, s: s})
}

// count counts bytes of a segment, as what deletes from low on if low is not 0.
func (x *index) count(g *segment, low uint32, n int) {
	u := undo{op: undoLive, num: int64(n), was: kept{place: place{seg: g.id}}}
	if low == 0 {
		g.live += int64(n)
	} else {
		u.op, u.was.low = undoDeletes, low
		g.noteDelete(low, int64(n))
	}
	x.undo = append(x.undo, u)
}

// dead stops counting the record at a place.
func (x *index) dead(p place) {
	if g := x.segs[p.seg]; g != nil {
		g.live -= int64(x.sizeAt(p))
		x.died = x.died || g.live == 0 && g.sealed
	}
	delete(x.lengths, p)
}

// keep makes the changes last: they are on disk. What was replaced is dead.
func (x *index) keep() {
	for i := range x.undo {
		u := &x.undo[i]
		switch u.op {
		case undoPart:
			if u.had {
				x.dead(u.was.place)
			}
		case undoTake:
			x.dead(u.was.place)
			u.s.q.tidy(u.pos)
		case undoMove:
			x.dead(u.was.place)
		case undoDrop:
			for _, k := range u.s.parts {
				x.dead(k.place)
			}
			u.s.q.from(0, func(_ uint64, p place) bool {
				x.dead(p)
				return true
			})
		default: // what is new was counted
		}
	}
	x.forget()
}

// revert undoes the changes, the last one first.
func (x *index) revert() {
	clear(x.names)
	for i := len(x.undo) - 1; i >= 0; i-- {
		u := &x.undo[i]
		switch u.op {
		case undoPart:
			if now, ok := u.s.parts[u.part]; ok {
				delete(x.lengths, now.place)
			}
			if u.had {
				u.s.parts[u.part] = u.was
			} else {
				delete(u.s.parts, u.part)
			}
		case undoPush:
			delete(x.lengths, u.s.q.unpush())
			u.s.next = uint64(u.num)
		case undoTake, undoMove: // a move may leave a length behind, which is harmless
			u.s.q.restore(u.pos, u.was.place, u.op == undoTake)
		case undoCreate:
			delete(x.byID, u.s.id)
			delete(x.byNum, u.s.num)
		case undoDrop:
			x.byID[u.s.id], x.byNum[u.s.num] = u.s, u.s
		case undoLive:
			x.segs[u.was.seg].live -= u.num
		case undoDeletes:
			x.segs[u.was.seg].noteDelete(u.was.low, -u.num)
		}
	}
	x.forget()
}

func (x *index) forget() {
	clear(x.undo)
	if x.undo = x.undo[:0]; cap(x.undo) > 1<<14 {
		x.undo = nil
	}
}
