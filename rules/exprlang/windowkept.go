package exprlang

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/gatehouse/gatehouse/rules/pieces"
)

// What a window holds under a key is kept as one record if that is small, and else in pieces
// of a few hundred bytes, so that it can be kept for each message.
const (
	pointPiece     = 32 // points of one
	aggregatePiece = 8
)

// kept is what is kept in pieces of a pane: of its points, or panes.
type kept struct {
	first  int64  // the number of the first one
	saved  int64  // those before are in records
	slots  uint64 // that have a record
	headed bool   // there is a record that says what the pieces are
	found  []foundPiece
}

type foundPiece struct {
	slot   int
	first  int64
	points []point
	panes  []aggregate
}

// keptPane is a pane as it is saved, or what is to be known of its pieces.
type keptPane struct {
	Shape  string      `json:"shape"`
	First  int64       `json:"first,omitempty"` // the number of the first point that counts
	Values []float64   `json:"v,omitempty"`
	Times  []int64     `json:"t,omitempty"` // the first, and then by how much later
	Panes  []aggregate `json:"panes,omitempty"`
	Now    *aggregate  `json:"now,omitempty"`
	Number int64       `json:"number,omitempty"`
	Whole  *aggregate  `json:"whole,omitempty"`
	Median any         `json:"median,omitempty"`
	EMA    float64     `json:"ema,omitempty"`
	Seen   bool        `json:"seen,omitempty"`
}

// keptPiece is some points, or aggregates, that follow each other.
type keptPiece struct {
	First  int64       `json:"i"` // the number of the first one
	Values []float64   `json:"v,omitempty"`
	Times  []int64     `json:"t,omitempty"`
	Panes  [][]float64 `json:"p,omitempty"` // as of brief; their times count from the one of Times
}

// brief is an aggregate in few numbers.
func (a *aggregate) brief(since int64) []float64 {
	if a.N == 1 {
		return []float64{a.Last, float64(a.LastAt - since)}
	}
	return []float64{float64(a.N), a.Sum, a.Min, a.Max, a.First, a.Last, float64(a.FirstAt - since), float64(a.LastAt - since)}
}

// aggregateOf is the aggregate of a brief one; false if it is none.
func aggregateOf(b []float64, since int64) (a aggregate, ok bool) {
	switch len(b) {
	case 2:
		a.add(b[0], since+int64(b[1]))
	case 8:
		a = aggregate{N: int(b[0]), Sum: b[1], Min: b[2], Max: b[3], First: b[4], Last: b[5], FirstAt: since + int64(b[6]), LastAt: since + int64(b[7])}
	}
	return a, a.N > 0
}

// aggregates reports false if the piece holds anything else.
func (k *keptPiece) aggregates() (all []aggregate, ok bool) {
	if len(k.Values) > 0 || len(k.Times) != 1 {
		return nil, false
	}
	for _, b := range k.Panes {
		a, ok := aggregateOf(b, k.Times[0])
		if !ok {
			return nil, false
		}
		all = append(all, a)
	}
	return all, len(all) > 0
}

// ofPoints reports whether the window holds points, and not aggregates.
func (w *window) ofPoints() bool { return w.extent == extentLast || w.function == fnMedian }

// collects reports whether the window begins anew, and so says each time what counts.
func (w *window) collects() bool { return w.extent == extentEvery || w.extent == extentPer }

// layOut says how what is kept of a key is divided.
func (w *window) layOut(rule string) {
	most := 0
	switch {
	case w.extent == extentLast || w.extent == extentPer && w.function == fnMedian:
		most = min(w.points, maxWindowPoints)
	case w.function == fnMedian:
		most = maxWindowPoints
	case w.extent == extentOver:
		w.layout = pieces.Of(maxWindowPanes+1, aggregatePiece)
	}
	if most > pointPiece {
		w.layout = pieces.Of(most, pointPiece)
	}
	prefix := savePrefix("p", rule, w.name)
	w.pieceName = func(slot int, key string) string { return prefix + strconv.Itoa(slot) + "\x00" + key }
	w.panes.unsaved = func(c *cell[pane]) {
		k := &c.value.pieces
		k.saved, k.slots, k.headed = k.first, 0, false
	}
	w.panes.parts = func(c *cell[pane], name func(string)) {
		for slot := range w.layout.Slots() {
			if c.value.pieces.slots&(1<<slot) != 0 {
				name(w.pieceName(slot, c.key))
			}
		}
	}
}

// write saves what has changed of a key.
func (w *window) write(c *cell[pane], put putter) error {
	p := &c.value
	k := &p.pieces
	if name := w.panes.prefix + c.key; !k.headed || w.collects() || w.layout.Slots() == 0 {
		head := w.head(p)
		c.saved, k.headed = head != nil, head != nil
		if err := put(name, head); err != nil {
			return err
		}
	}
	if w.layout.Slots() == 0 {
		return nil
	}
	n, changed := len(p.points), k.saved
	if !w.ofPoints() {
		n, changed = len(p.panes), k.saved-1 // the last one goes on
	}
	for at := range w.layout.Changed(k.first, changed, k.first+int64(n)) {
		k.slots |= 1 << at.Slot
		if err := put(w.pieceName(at.Slot, c.key), w.piece(p, int(at.From-k.first), int(at.To-k.first))); err != nil {
			return err
		}
	}
	k.saved = k.first + int64(n)
	return nil
}

// head is what is kept of a pane beside its pieces, or all of it.
func (w *window) head(p *pane) []byte {
	k := keptPane{Shape: w.shape, Number: p.number, Median: p.median, EMA: p.ema, Seen: p.seen}
	if w.layout.Slots() == 0 {
		k.Values, k.Times = w.encodePoints(p.points)
	} else if w.collects() {
		k.First = p.pieces.first
	}
	if p.now.N > 0 {
		k.Now = &p.now
	}
	if p.whole.N > 0 {
		k.Whole = &p.whole
	}
	b, err := json.Marshal(&k)
	if err != nil { // a number that JSON has not: the sum of what is finite
		return nil
	}
	return b
}

// piece is the record of some points or aggregates.
func (w *window) piece(p *pane, from, to int) []byte {
	k := keptPiece{First: p.pieces.first + int64(from)}
	if w.ofPoints() {
		k.Values, k.Times = w.encodePoints(p.points[from:to])
	} else {
		k.Times = []int64{p.panes[from].FirstAt}
		for i := from; i < to; i++ {
			k.Panes = append(k.Panes, p.panes[i].brief(k.Times[0]))
		}
	}
	b, err := json.Marshal(&k)
	if err != nil {
		return nil
	}
	return b
}

func (w *window) encodePoints(points []point) (values []float64, times []int64) {
	before := int64(0)
	for _, one := range points {
		values = append(values, one.value)
		if w.extent != extentLast || w.function == fnRate {
			times = append(times, one.at-before)
			before = one.at
		}
	}
	return values, times
}

// decodePoints reports false if they are none.
func decodePoints(values []float64, times []int64) (points []point, ok bool) {
	if len(times) > 0 && len(times) != len(values) {
		return nil, false
	}
	at := int64(0)
	for i, v := range values {
		if len(times) > 0 {
			at += times[i]
		}
		points = append(points, point{at, v})
	}
	return points, true
}

// restore takes over what was saved under a key.
func (w *window) restore(key string, value []byte, now int64) error {
	var k keptPane
	if err := json.Unmarshal(value, &k); err != nil {
		return fmt.Errorf("window %q: %w", w.name, err)
	}
	points, ok := decodePoints(k.Values, k.Times)
	if !ok || k.Shape != w.shape || len(k.Values) > maxWindowPoints || len(k.Panes) > maxWindowPanes+1 {
		w.panes.gone = append(w.panes.gone, w.panes.prefix+key)
		return nil
	}
	p := pane{points: points, panes: k.Panes, number: k.Number, median: k.Median, ema: k.EMA, seen: k.Seen}
	p.pieces.first, p.pieces.headed = k.First, true
	if k.Now != nil {
		p.now = *k.Now
	}
	if k.Whole != nil {
		p.whole = *k.Whole
	}
	p.past(now)
	if c := w.panes.restore(key, p); c != nil && w.layout.Slots() > 0 && len(p.points)+len(p.panes) > 0 {
		c.value.pieces.headed = false // it is from a version that kept all in one record
		w.panes.change(c)
	}
	return nil
}

// past has what a clock that was wrong says of the future be of now.
func (p *pane) past(now int64) {
	for i := range p.points {
		p.points[i].at = min(p.points[i].at, now)
	}
	for i := range p.panes {
		p.panes[i].FirstAt, p.panes[i].LastAt = min(p.panes[i].FirstAt, now), min(p.panes[i].LastAt, now)
	}
}

// restorePiece notes a piece of what is kept of a key. It reports false if that is none.
func (w *window) restorePiece(slot int, key string, value []byte) bool {
	var piece keptPiece
	c, ok := w.panes.find([]byte(key)), false
	if c == nil || slot < 0 || slot >= w.layout.Slots() || json.Unmarshal(value, &piece) != nil {
		return false
	}
	found := foundPiece{slot: slot, first: piece.First}
	if w.ofPoints() {
		found.points, ok = decodePoints(piece.Values, piece.Times)
	} else {
		found.panes, ok = piece.aggregates()
	}
	if ok {
		c.value.pieces.slots |= 1 << slot
		c.value.pieces.found = append(c.value.pieces.found, found)
	}
	return ok
}

// restored makes of the pieces that were found what they were.
func (w *window) restored(now int64) {
	for at := w.panes.order.Front(); at != nil; at = at.Next() {
		c := at.Value.(*cell[pane])
		p := &c.value
		found := p.pieces.found
		if len(found) == 0 {
			continue
		}
		p.pieces.found = nil
		if len(p.points)+len(p.panes) == 0 && w.join(p, found) {
			p.past(now)
			continue
		}
		p.past(now)
		w.panes.parts(c, func(name string) { w.panes.gone = append(w.panes.gone, name) })
		p.pieces.slots, p.pieces.saved = 0, p.pieces.first
		w.panes.change(c)
		w.panes.ask(c) // so that it is written with what takes the pieces away
	}
}

// join has a pane hold what the pieces say. It reports false if they have to be written anew.
func (w *window) join(p *pane, found []foundPiece) (ok bool) {
	var points []pieces.Found[point]
	var panes []pieces.Found[aggregate]
	for _, f := range found {
		points = append(points, pieces.Found[point]{Slot: f.slot, From: f.first, Items: f.points})
		panes = append(panes, pieces.Found[aggregate]{Slot: f.slot, From: f.first, Items: f.panes})
	}
	from, first, n := int64(0), p.pieces.first, 0
	if w.ofPoints() {
		from, p.points, ok = pieces.Join(w.layout, points)
		n = len(p.points)
	} else {
		from, p.panes, ok = pieces.Join(w.layout, panes)
		n = len(p.panes)
	}
	p.pieces.first, p.pieces.saved = from, from+int64(n)
	if w.ofPoints() {
		most := maxWindowPoints
		if w.extent != extentOver && w.points > 0 {
			most = min(most, w.points)
		}
		drop := max(int(min(max(first-from, 0), int64(n))), n-most)
		p.points = p.points[drop:]
		p.pieces.first += int64(drop)
	}
	return ok
}
