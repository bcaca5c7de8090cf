package exprlang

import "container/list"

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
}

// cell is what is remembered under one key.
type cell[T any] struct {
	key       string
	changed   bool // since it was saved
	listed    bool // it is in the list of those that change
	asked     bool
	saved     bool // it has a record
	forgotten bool
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

// save gives what has changed, or of that what calls have asked for.
func (k *keyed[T]) save(asked bool, put func(key string, value []byte), write func(c *cell[T], put func(key string, value []byte))) {
	for _, name := range k.gone {
		put(name, nil)
	}
	k.gone = nil
	for _, c := range k.asked {
		k.saveCell(c, put, write)
	}
	clear(k.asked)
	k.asked = k.asked[:0]
	if asked {
		return
	}
	for _, c := range k.listed {
		c.listed = false
		k.saveCell(c, put, write)
	}
	clear(k.listed)
	k.listed = k.listed[:0]
}

func (k *keyed[T]) saveCell(c *cell[T], put func(key string, value []byte), write func(c *cell[T], put func(key string, value []byte))) {
	if c.asked = false; c.changed && !c.forgotten {
		write(c, put)
	}
	c.changed = false
}
