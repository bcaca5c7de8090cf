package jsvm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/rules/pieces"
)

// What is kept of a key of a window: one record if it holds few values, and else one for
// every few of them, so that it can be kept for each message.
const (
	windowRecord = "window"
	pieceRecord  = "piece"
	pieceSize    = 32
)

// keptPane says what is kept of a pane.
type keptPane struct {
	whole bool   // it has a record of its own
	saved int64  // the values before have records
	slots uint64 // of the pieces that have one
	// refused says that there was no room for it.
	refused bool
}

// keptPiece is some values that follow each other.
type keptPiece struct {
	First  int64     `json:"i"` // the number of the first one
	Times  []int64   `json:"t"` // the first, and then by how much later
	Values []float64 `json:"v"`
}

// foundPane is what is found of a pane.
type foundPane struct {
	whole  []point
	pieces []pieces.Found[point]
	names  []string
}

// layout is how what is kept of a key is divided; zero if that is one record.
func (w *windowSpec) layout() pieces.Layout {
	if w.most() <= pieceSize {
		return pieces.Layout{}
	}
	return pieces.Of(w.most(), pieceSize)
}

// windowKey is under which key a pane is saved.
func windowKey(w *windowSpec, key string) string { return recordKey(windowRecord, w.Name, key) }

func pieceKey(w *windowSpec, slot int, key string) string {
	return recordKey(pieceRecord, w.Name, strconv.Itoa(slot)+"/"+key)
}

// change notes that a pane has changed; a call may ask for it to be kept.
func (k *keptRecall) change(key paneKey, asked bool) {
	was := k.dirty[key]
	if k.dirty[key] = was || asked; asked && !was {
		k.asked = append(k.asked, key)
	}
}

// forget has what is kept of a pane taken away.
func (k *keptRecall) forget(p *pane) {
	w := &k.windows[p.window]
	if p.kept.whole {
		k.gone[windowKey(w, p.key)] = true
	}
	for slot := range w.layout().Slots() {
		if p.kept.slots&(1<<slot) != 0 {
			k.gone[pieceKey(w, slot, p.key)] = true
		}
	}
	delete(k.dirty, p.paneKey)
}

// savePanes gives the windows that have changed, or of these those that calls have asked for.
// It returns the first error of put.
func (k *keptRecall) savePanes(asked bool, put putter) (refused error) {
	for _, key := range k.asked {
		if at := k.recall.panes[key]; at != nil && at.Value.(*pane).kept.refused {
			k.dirty[key] = false // until all is saved
			continue
		}
		refused = cmp.Or(refused, k.savePane(key, put))
	}
	clear(k.asked)
	if k.asked = k.asked[:0]; asked {
		return refused
	}
	for key := range k.dirty {
		refused = cmp.Or(refused, k.savePane(key, put))
	}
	return refused
}

// savePane gives what has changed of a pane; if there is no room for it nothing is kept, as a
// part would be taken for the whole.
func (k *keptRecall) savePane(key paneKey, put putter) error {
	if _, is := k.dirty[key]; !is {
		return nil
	}
	delete(k.dirty, key)
	at := k.recall.panes[key] // which is dirty, and so there
	p, w := at.Value.(*pane), &k.windows[key.window]
	err := w.save(p, put)
	if p.kept.refused = err != nil; err != nil {
		k.forget(p)
		k.takeAway(put)
		p.kept = keptPane{refused: true}
		return fmt.Errorf("window %q: %w", w.Name, err)
	}
	return nil
}

// save gives what has changed of a pane.
func (w *windowSpec) save(p *pane, put putter) error {
	if w.layout().Slots() == 0 {
		values := make([][2]float64, len(p.points))
		for i, one := range p.points {
			values[i] = [2]float64{float64(one.At), one.Value}
		}
		p.kept.whole = true
		return putJSON(put, windowKey(w, p.key), values)
	}
	end := p.first + int64(len(p.points))
	for piece := range w.layout().Changed(p.first, p.kept.saved, end) {
		kept, before := keptPiece{First: piece.From}, int64(0)
		for _, one := range p.points[piece.From-p.first : piece.To-p.first] {
			kept.Times, kept.Values = append(kept.Times, one.At-before), append(kept.Values, one.Value)
			before = one.At
		}
		p.kept.slots |= 1 << piece.Slot
		if err := putJSON(put, pieceKey(w, piece.Slot, p.key), &kept); err != nil {
			return err
		}
	}
	p.kept.saved = end
	return nil
}

func putJSON(put putter, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil { // the worker was told to take finite numbers only
		return nil
	}
	return put(key, b)
}

// find notes a record of a window. It reports false if nobody needs it.
func (k *keptRecall) find(found map[paneKey]*foundPane, at string, value []byte) bool {
	kind, name, key := parseRecordKey(at)
	slot, whole := 0, kind == windowRecord
	if !whole {
		number, rest, cut := strings.Cut(key, "/")
		n, err := strconv.Atoi(number)
		if err != nil || !cut || n < 0 {
			return false
		}
		slot, key = n, rest
	}
	window := slices.IndexFunc(k.windows, func(w windowSpec) bool { return w.Name == name })
	if window < 0 || len(key) > maxPointKey {
		return false
	}
	var points []point
	var piece keptPiece
	if whole {
		var values [][2]float64
		if json.Unmarshal(value, &values) != nil {
			return false
		}
		for _, v := range values {
			points = append(points, point{At: int64(v[0]), Value: v[1]})
		}
	} else {
		if json.Unmarshal(value, &piece) != nil || len(piece.Times) != len(piece.Values) {
			return false
		}
		before := int64(0)
		for i, v := range piece.Values {
			before += piece.Times[i]
			points = append(points, point{At: before, Value: v})
		}
	}
	f := found[paneKey{window, key}]
	if f == nil {
		f = &foundPane{}
		found[paneKey{window, key}] = f
	}
	f.names = append(f.names, at)
	if whole {
		f.whole = points
	} else {
		f.pieces = append(f.pieces, pieces.Found[point]{Slot: slot, From: piece.First, Items: points})
	}
	return true
}

// restorePanes puts what was found into the windows. It reports whether that was anything.
func (k *keptRecall) restorePanes(found map[paneKey]*foundPane) (restored bool) {
	for _, key := range slices.SortedFunc(maps.Keys(found), func(a, b paneKey) int {
		return cmp.Or(cmp.Compare(a.window, b.window), cmp.Compare(a.key, b.key))
	}) {
		restored = k.restorePane(key, found[key]) || restored
	}
	return restored
}

func (k *keptRecall) restorePane(key paneKey, f *foundPane) bool {
	l, points, first, fits := k.windows[key.window].layout(), f.whole, int64(0), len(f.pieces) == 0
	if len(f.pieces) > 0 && f.whole == nil { // else it was written since, by a version from before there were any
		var joined []point
		if l.Slots() == 0 { // the window was larger
			_, joined, _ = pieces.Join(pieces.Of(maxPoints, pieceSize), f.pieces)
		} else {
			first, joined, fits = pieces.Join(l, f.pieces)
		}
		points = append(points, joined...)
	}
	fits = fits && (f.whole == nil) == (k.windows[key.window].layout().Slots() > 0)
	for _, p := range points {
		k.recall.add(k.windows, added{Window: key.window, Key: key.key, point: p})
	}
	at := k.recall.panes[key]
	if at == nil || !fits {
		for _, name := range f.names {
			k.gone[name] = true
		}
	}
	if at == nil {
		return false
	}
	p := at.Value.(*pane)
	if !fits {
		k.change(key, true) // with what takes the records away
		return true
	}
	p.kept.whole = f.whole != nil
	p.first += first
	p.kept.saved = first + int64(len(points))
	for _, one := range f.pieces {
		p.kept.slots |= 1 << one.Slot
	}
	return true
}
