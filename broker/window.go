package broker

// window is what is in flight, by packet identifier: a table whose size is a power of
// two and at least twice what it holds, which the identifier's last bits index. New
// identifiers are chosen so that their place is free (see next), so that a client that
// leaves one message unacknowledged for ever costs no more than that. The zero value is
// empty.
type window struct {
	slots []*item
	n     int
	// aside are those of an earlier run of the program whose place was taken.
	aside map[uint16]*item
}

// A table that has become empty is kept up to this size.
const fewSlots = 64

func (w *window) len() int { return w.n }

func (w *window) at(id uint16) **item { return &w.slots[int(id)&(len(w.slots)-1)] }

// get is the message of an identifier, or nil.
func (w *window) get(id uint16) *item {
	if w.n == 0 {
		return nil
	}
	if it := *w.at(id); it != nil && it.id == id {
		return it
	}
	return w.aside[id]
}

// next is an identifier whose place is free, after last if it can be.
func (w *window) next(last uint16) uint16 {
	w.reserve()
	for {
		last++
		if last != 0 && *w.at(last) == nil && w.aside[last] == nil {
			return last
		}
	}
}

// put takes in a message whose identifier is not in use.
func (w *window) put(it *item) {
	w.reserve()
	w.n++
	w.place(it)
}

func (w *window) place(it *item) {
	if at := w.at(it.id); *at == nil {
		*at = it
		return
	}
	if w.aside == nil {
		w.aside = make(map[uint16]*item)
	}
	w.aside[it.id] = it
}

// reserve has room for one more: half the places stay free, so that next finds one.
func (w *window) reserve() {
	if 2*(w.n+1) <= len(w.slots) {
		return
	}
	old, aside := w.slots, w.aside
	w.slots, w.aside = make([]*item, max(4, 2*len(old))), nil
	for _, it := range old {
		if it != nil {
			w.place(it)
		}
	}
	for _, it := range aside {
		w.place(it)
	}
}

// remove takes a message out; one that is not in is passed over.
func (w *window) remove(it *item) {
	if w.get(it.id) != it {
		return
	}
	if at := w.at(it.id); *at == it {
		*at = nil
	} else {
		delete(w.aside, it.id)
	}
	if w.n--; w.n == 0 && len(w.slots) > fewSlots {
		w.slots, w.aside = nil, nil
	}
}
