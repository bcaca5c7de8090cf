package exprlang

import "container/list"

// maxKeyBytes is the longest key that something is remembered under.
const maxKeyBytes = 256

// keyed is what a rule remembers by key: windows, edges. What was used longest ago goes
// first. It is for one goroutine.
type keyed[T any] struct {
	prefix string // of the keys that its cells are saved under
	most   int    // cells
	cells  map[string]*list.Element
	order  list.List  // of *cell[T], the one used last at the back
	dirty  []*cell[T] // changed since they were saved
	gone   []string   // saved once, and forgotten since
}

// cell is what is remembered under one key.
type cell[T any] struct {
	key          string
	dirty, saved bool
	forgotten    bool
	value        T
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
	if !c.dirty {
		c.dirty = true
		k.dirty = append(k.dirty, c)
	}
	return c
}

// forget removes the cell that was used longest ago.
func (k *keyed[T]) forget() {
	c := k.order.Remove(k.order.Front()).(*cell[T])
	delete(k.cells, c.key)
	c.forgotten = true
	if c.saved {
		k.gone = append(k.gone, c.key)
	}
}

// restore takes a cell over that was saved.
func (k *keyed[T]) restore(key string, value T) {
	if len(k.cells) >= k.most || len(key) > maxKeyBytes || k.cells[key] != nil {
		k.gone = append(k.gone, key)
		return
	}
	k.cells[key] = k.order.PushBack(&cell[T]{key: key, saved: true, value: value})
}

// save gives what changed.
func (k *keyed[T]) save(put func(key string, value []byte), encode func(*T) []byte) {
	for _, key := range k.gone {
		if k.cells[key] == nil {
			put(k.prefix+key, nil)
		}
	}
	for _, c := range k.dirty {
		c.dirty = false
		if !c.forgotten {
			c.saved = true
			put(k.prefix+c.key, encode(&c.value))
		}
	}
	clear(k.dirty)
	k.gone, k.dirty = nil, k.dirty[:0]
}
