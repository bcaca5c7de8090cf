// Package pieces lays a series out in records, so that one more item is one small record
// to be written, and not the whole series.
//
// A series grows at its end and is dropped at its front, as the values in a window are.
// Its items are numbered from 0 on, for ever. A piece is a few of them that lie next to each
// other; it is kept under the number of its slot. There are as many slots as the longest
// series needs, and they are used round and round: what was dropped is overwritten, and
// needs no record to be taken away.
//
//	l := pieces.Of(1000, 32)
//	for p := range l.Changed(first, saved, end) {
//		put(p.Slot, items[p.From-first:p.To-first])
//	}
//
// [Join] makes the series of the pieces that are found later.
package pieces
