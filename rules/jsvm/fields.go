package jsvm

import "github.com/dop251/goja"

// fields are values by name. Most objects that scripts see have few that are asked for,
// over and over: to look through those is cheaper than a map.
type fields struct {
	few  []field
	more map[string]goja.Value
}

type field struct {
	name  string
	value goja.Value
}

const fewFields = 16

// get is nil if there is none of that name.
func (f *fields) get(name string) goja.Value {
	for i := range f.few {
		if f.few[i].name == name {
			return f.few[i].value
		}
	}
	return f.more[name]
}

func (f *fields) put(name string, v goja.Value) {
	for i := range f.few {
		if f.few[i].name == name {
			f.few[i].value = v
			return
		}
	}
	if len(f.few) < fewFields && f.more == nil {
		f.few = append(f.few, field{name, v})
		return
	}
	if f.more == nil {
		f.more = make(map[string]goja.Value)
	}
	f.more[name] = v
}

func (f *fields) drop(name string) {
	for i := range f.few {
		if f.few[i].name == name {
			f.few[i] = field{}
		}
	}
	delete(f.more, name)
}
