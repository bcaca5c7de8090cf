package broker

import (
	"testing"

	"pgregory.net/rapid"
)

// A window does what a map does, and its identifiers are not in use.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		model := make(map[uint16]*item)
		last := rapid.Uint16().Draw(t, "last")
		check := func() {
			if w.len() != len(model) {
				t.Fatalf("%d in it, want %d", w.len(), len(model))
			}
			for id, it := range model {
				if w.get(id) != it {
					t.Fatalf("identifier %d: got %v, want %v", id, w.get(id), it)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"next": func(t *rapid.T) {
				last = w.next(last)
				if last == 0 || model[last] != nil {
					t.Fatalf("identifier %d is in use", last)
				}
				model[last] = &item{id: last}
				w.put(model[last])
			},
			"one of an earlier run": func(t *rapid.T) {
				id := rapid.OneOf(rapid.Uint16Range(1, 1<<16-1), rapid.SampledFrom([]uint16{1, 257, 32769})).Draw(t, "id")
				if model[id] == nil {
					model[id] = &item{id: id}
					w.put(model[id])
				}
			},
			"remove": func(t *rapid.T) {
				for id, it := range model { // any
					w.remove(it)
					delete(model, id)
					break
				}
				w.remove(&item{id: last})
			},
			"": func(*rapid.T) { check() },
		})
	})
}

// The last identifiers are given out too, and one that is never acknowledged costs
// neither memory nor time.
func TestWindowIsFull(t *testing.T) {
	var w window
	seen := make(map[uint16]bool)
	id := uint16(0)
	for range 65535 {
		id = w.next(id)
		if seen[id] {
			t.Fatalf("identifier %d came twice", id)
		}
		seen[id] = true
		w.put(&item{id: id})
	}
	for id := range seen {
		if id != 7 {
			w.remove(w.get(id))
		}
	}
	if w.len() != 1 || w.get(7) == nil {
		t.Fatalf("%d left", w.len())
	}
	var stuck window
	stuck.put(&item{id: 1})
	for range 1 << 17 {
		id = stuck.next(id)
		it := &item{id: id}
		stuck.put(it)
		stuck.remove(it)
	}
	if len(stuck.slots) > 8 || len(stuck.aside) > 0 {
		t.Errorf("%d places, %d aside", len(stuck.slots), len(stuck.aside))
	}
}
