package pieces

import (
	"cmp"
	"iter"
	"slices"
)

// Layout says how a series lies in its pieces. The zero value is none.
type Layout struct{ size, slots int64 }

// Of is the layout of a series of at most so many items, above 0, in pieces of so many.
func Of(most, size int) Layout {
	return Layout{size: int64(size), slots: int64((most+size-1)/size) + 1}
}

// Slots is how many slots there are.
func (l Layout) Slots() int { return int(l.slots) }

// Piece is a record that is to be written: the items from From on, before To.
type Piece struct {
	Slot     int
	From, To int64
}

// Changed gives the pieces to be written of a series that has the items from first on,
// before end, if those from changed on are not in what was written before.
func (l Layout) Changed(first, changed, end int64) iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		for at := max(first, changed) / l.size; at*l.size < end; at++ {
			p := Piece{Slot: int(at % l.slots), From: max(first, at*l.size), To: min(end, (at+1)*l.size)}
			if p.From < p.To && !yield(p) {
				return
			}
		}
	}
}

// Found is a piece as it was read.
type Found[T any] struct {
	Slot  int
	From  int64 // the number of the first item
	Items []T
}

// Join gives the items of the last pieces that lie next to each other, which it sorts, and
// the number of the first one. It reports whether all pieces lie as the layout has it: if
// not, the series has to be written anew.
func Join[T any](l Layout, found []Found[T]) (first int64, items []T, fits bool) {
	const most = 1 << 60 // numbers beyond are nonsense
	slices.SortFunc(found, func(a, b Found[T]) int { return cmp.Compare(a.From, b.From) })
	fits = true
	for _, f := range found {
		n := int64(len(f.Items))
		if f.From < 0 || f.From > most || n == 0 || n > l.size {
			return 0, nil, false
		}
		fits = fits && int64(f.Slot) == f.From/l.size%l.slots && f.From/l.size == (f.From+n-1)/l.size
	}
	from := len(found)
	for from > 0 && (from == len(found) || found[from-1].From+int64(len(found[from-1].Items)) == found[from].From) {
		from--
	}
	for i := from; i < len(found); i++ {
		items = append(items, found[i].Items...)
	}
	if from < len(found) {
		first = found[from].From
	}
	return first, items, fits
}
