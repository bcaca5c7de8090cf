package exprlang

import (
	"cmp"
	"container/list"
)

// maxKeyBytes is the longest key that something is remembered under.
const maxKeyBytes = 256

// keyed is what a rule remembers by key: windows, edges. What was used longest ago goes
// first. It is for one goroutine.
type keyed[T any] struct {
	prefix string // of the names of the records of its cells
	most   int    // cells
	cells  map[string]*list.Element
	order  list.List  // of *cell[T], the one used last at the back
	listed []*cell[T] // those that are
	asked  []*cell[T] // changed since they were saved, which a call asks for
	gone   []string   // names of records that nobody needs any more
	// promised says that what is used now is to be kept with the call.
	promised bool
	// parts gives the names of the records of a cell beside its own; nil if there are none.
	parts func(c *cell[T], name func(string))
	// unsaved is told that a cell has no records any more; nil for nobody.
	unsaved func(c *cell[T])
}

// putter takes a record, or nil to take it away; an error says that there is no room for it.
type putter = func(key string, value []byte) error

// restSaves is how many times all is saved before a cell is tried again for which there was
// no room: five minutes.
const restSaves = 30

// cell is what is remembered under one key.
type cell[T any] struct {
	key       string
	changed   bool // since it was saved
	listed    bool // it is in the list of those that change
	asked     bool
	saved     bool // it has a record
	forgotten bool
	rest      int // for how many saves of all it is not to be tried
	value     T
}

func newKeyed[T any](prefix string, most int) *keyed[T] {
	return &keyed[T]{prefix: prefix, most: most, cells: make(map[string]*list.Element)}
}

// find returns the cell of a key, nil if there is none.
func (k *keyed[T]) find(key []byte) *cell[T] {
	if at := k.cells[string(key)]; at != nil {
		return at.Value.(*cell[T])
	}
	return nil
}

// use returns the cell of a key to be changed, a new one if there was none; nil if the
// key is too long.
func (k *keyed[T]) use(key []byte) *cell[T] {
	at := k.cells[string(key)]
	switch {
	case at != nil:
		k.order.MoveToBack(at)
	case len(key) > maxKeyBytes:
		return nil
	default:
		at = k.order.PushBack(&cell[T]{key: string(key)})
		k.cells[string(key)] = at
		if len(k.cells) > k.most {
			k.forget()
		}
	}
	c := at.Value.(*cell[T])
	k.change(c)
	return c
}

// change notes that a cell is to be saved.
func (k *keyed[T]) change(c *cell[T]) {
	c.changed = true
	if !c.listed {
		c.listed = true
		k.listed = append(k.listed, c)
	}
	if k.promised {
		k.ask(c)
	}
}

// ask notes that a cell that has changed is to be kept with the next call that asks for it.
func (k *keyed[T]) ask(c *cell[T]) {
	if !c.asked {
		c.asked = true
		k.asked = append(k.asked, c)
	}
}

// forget removes the cell that was used longest ago.
func (k *keyed[T]) forget() {
	c := k.order.Remove(k.order.Front()).(*cell[T])
	delete(k.cells, c.key)
	c.forgotten = true
	k.drop(c)
}

// drop has the records of a cell taken away.
func (k *keyed[T]) drop(c *cell[T]) {
	if c.saved {
		k.gone = append(k.gone, k.prefix+c.key)
	}
	if k.parts != nil {
		k.parts(c, func(name string) { k.gone = append(k.gone, name) })
	}
}

// restore takes a cell over that was saved; nil if there is no room for it.
func (k *keyed[T]) restore(key string, value T) *cell[T] {
	if len(k.cells) >= k.most || len(key) > maxKeyBytes || k.cells[key] != nil {
		k.gone = append(k.gone, k.prefix+key)
		return nil
	}
	c := &cell[T]{key: key, saved: true, value: value}
	k.cells[key] = k.order.PushBack(c)
	return c
}

// save gives what has changed, or of that what calls have asked for. It returns the first
// error of put; of a cell for which there is no room nothing is kept, as a part of it would be
// taken for the whole.
func (k *keyed[T]) save(asked bool, put putter, write func(c *cell[T], put putter) error) (refused error) {
	k.takeAway(put)
	for _, c := range k.asked {
		if c.asked = false; c.rest == 0 {
			refused = cmp.Or(refused, k.saveCell(c, put, write))
		}
	}
	clear(k.asked)
	k.asked = k.asked[:0]
	if asked {
		return refused
	}
	left := k.listed[:0]
	for _, c := range k.listed {
		if c.rest > 0 && !c.forgotten {
			c.rest--
			left = append(left, c)
			continue
		}
		c.listed = false
		refused = cmp.Or(refused, k.saveCell(c, put, write))
	}
	clear(k.listed[len(left):])
	k.listed = left
	return refused
}

func (k *keyed[T]) saveCell(c *cell[T], put putter, write func(c *cell[T], put putter) error) error {
	if !c.changed || c.forgotten {
		c.changed = false
		return nil
	}
	c.changed = false
	err := write(c, put)
	if err != nil {
		k.drop(c)
		k.takeAway(put)
		c.saved, c.rest = false, restSaves
		if k.unsaved != nil {
			k.unsaved(c)
		}
	}
	return err
}

// takeAway takes the records away that nobody needs any more.
func (k *keyed[T]) takeAway(put putter) {
	for _, name := range k.gone {
		_ = put(name, nil) // is never refused
	}
	k.gone = nil
}
