package jsvm

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/dop251/goja"
)

// offers are the globals of ours that the script has not asked for yet: each takes most of
// a kilobyte of a runtime's memory, and a script uses few. They are below the global object,
// as its prototype, which makes each a plain global when it is first read. It implements
// goja.DynamicObject.
type offers struct {
	s    *script
	made map[string]any // what is made: a value of Go, or a func() goja.Value that makes it
}

// offer makes a global of ours when it is first read.
func (s *script) offer(name string, f any) {
	if s.offers == nil {
		s.offers = &offers{s: s, made: make(map[string]any, 40)}
	}
	s.offers.made[name] = f
}

// offerAll puts the offers in their place, once all are known. If the script does not reach
// the constructors of binary data, the global object inherits nothing else: a getter of
// Object.prototype would be handed it, and one of the engine's own gives away what it is
// handed.
func (s *script) offerAll(bytes bool) {
	below, err := s.rt.NewDynamicObject(s.offers), error(nil)
	if !bytes {
		err = below.SetPrototype(nil)
	}
	if err = errors.Join(err, s.rt.GlobalObject().SetPrototype(below)); err != nil {
		panic("jsvm: cannot set up globals: " + err.Error()) // those of a new runtime can be
	}
}

// makeDeclared makes at once what a script may declare by "var": that leaves a global as it
// is, but would hide one that is below the global object.
func (o *offers) makeDeclared(text string) {
	if !strings.Contains(text, "var") {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(o.made)) {
		if strings.Contains(text, name) {
			o.Get(name)
		}
	}
}

// Get implements goja.DynamicObject.
func (o *offers) Get(name string) goja.Value {
	f, ok := o.made[name]
	if !ok {
		return nil
	}
	delete(o.made, name)
	if make, ok := f.(func() goja.Value); ok {
		f = make()
	}
	o.s.global(name, f)
	return o.s.rt.Get(name)
}

// Set implements goja.DynamicObject: nobody sets what is below the global object.
func (*offers) Set(string, goja.Value) bool { return false }

// Has implements goja.DynamicObject.
func (o *offers) Has(name string) bool { return o.made[name] != nil }

// Delete implements goja.DynamicObject.
func (o *offers) Delete(name string) bool {
	delete(o.made, name)
	return true
}

// Keys implements goja.DynamicObject.
func (*offers) Keys() []string { return nil }
