package jsvm

import (
	"strings"
	"sync"

	"github.com/dop251/goja"
)

// capBuiltins puts bounds before the builtins that take memory or native time out
// of all proportion to the script that calls them, and takes away those that read
// source text, which would pass by the scan.
func (s *script) capBuiltins() {
	noEval := func(goja.FunctionCall) goja.Value {
		panic(s.rt.NewTypeError("scripts cannot make code from text"))
	}
	s.global("eval", noEval)
	s.disableConstructors(func(goja.ConstructorCall) *goja.Object { noEval(goja.FunctionCall{}); return nil })

	str := s.proto("String")
	s.wrap(str, "repeat", func(call goja.FunctionCall) {
		s.textCap(float64(len(call.This.String())) * max(call.Argument(0).ToFloat(), 0))
	})
	for _, pad := range []string{"padStart", "padEnd"} {
		s.wrap(str, pad, func(call goja.FunctionCall) { s.textCap(call.Argument(0).ToFloat()) })
	}
	for _, replace := range []string{"replace", "replaceAll"} {
		s.wrap(str, replace, s.capReplace)
	}
	s.wrap(str, "split", s.capSplit)
	array := s.proto("Array")
	for _, name := range []string{
		"fill", "join", "indexOf", "lastIndexOf", "includes", "sort", "reverse", "slice", "splice", "concat",
		"shift", "unshift", "copyWithin", "flat", "toString", "toSorted", "toReversed", "toSpliced", "with",
	} {
		s.wrap(array, name, func(call goja.FunctionCall) { s.lengthCap(call.This) })
	}
	s.wrap(s.rt.Get("Array").ToObject(s.rt), "from", func(call goja.FunctionCall) { s.lengthCap(call.Argument(0)) })
	s.wrap(s.rt.Get("JSON").ToObject(s.rt), "parse", s.capParse)
	s.parseJSON, _ = goja.AssertFunction(s.rt.Get("JSON").ToObject(s.rt).Get("parse"))
	s.capConstructor("Array")
}

// setUpBytes makes the constructors of binary data, with bounds before them. They take a
// third of the memory of a runtime, so they are made for scripts that can come by them: by
// themselves, see reachesBytes, or when the first bytes are handed to one.
func (s *script) setUpBytes() {
	if s.newArray8 != nil {
		return
	}
	s.newArray8 = s.rt.Get("Uint8Array").ToObject(s.rt)
	for _, name := range []string{
		"ArrayBuffer", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array",
		"Int32Array", "Uint32Array", "Float32Array", "Float64Array", "BigInt64Array", "BigUint64Array",
	} {
		s.capConstructor(name)
	}
}

func (s *script) proto(class string) *goja.Object {
	return s.rt.Get(class).ToObject(s.rt).Get("prototype").ToObject(s.rt)
}

// wrap puts check before the method; a builtin that the engine lacks is left out.
func (s *script) wrap(o *goja.Object, name string, check func(goja.FunctionCall)) {
	original, ok := goja.AssertFunction(o.Get(name))
	if !ok {
		return
	}
	capped := s.rt.ToValue(func(call goja.FunctionCall) goja.Value {
		check(call)
		v, err := original(call.This, call.Arguments...)
		if err != nil {
			panic(err)
		}
		return v
	})
	s.define(o, name, capped)
}

func (s *script) define(o *goja.Object, name string, v goja.Value) {
	if err := o.DefineDataProperty(name, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE); err != nil {
		panic("jsvm: cannot define " + name + ": " + err.Error()) // builtins of a new runtime can be
	}
}

// functionSamples make one function of each kind.
var functionSamples = sync.OnceValue(func() (all []*goja.Program) {
	for _, text := range []string{"(function () {})", "(async function () {})", "(function* () {})"} {
		all = append(all, goja.MustCompile("", text, false))
	}
	return all
})

// disableConstructors closes the ways from a function to the one that compiles
// text: Function itself and (async function(){}).constructor and its like.
func (s *script) disableConstructors(refuse func(goja.ConstructorCall) *goja.Object) {
	v := s.rt.ToValue(refuse)
	s.global("Function", v)
	for _, sample := range functionSamples() {
		f, err := s.rt.RunProgram(sample)
		if err != nil {
			panic("jsvm: " + err.Error())
		}
		s.define(f.ToObject(s.rt).Prototype(), "constructor", v)
	}
}

// textCap refuses to make a string of n characters.
func (s *script) textCap(n float64) {
	if n > maxText {
		panic(s.rangeError("a string of %.0f characters is over the limit of %d", n, maxText))
	}
}

// lengthCap refuses to walk over something that says it is very long.
func (s *script) lengthCap(v goja.Value) {
	o, ok := v.(*goja.Object)
	if !ok {
		return
	}
	length := o.Get("length")
	if length == nil || !goja.IsNumber(length) {
		return
	}
	if n := length.ToFloat(); n > maxElements {
		panic(s.rangeError("an array of %.0f elements is over the limit of %d", n, maxElements))
	}
}

func (s *script) rangeError(format string, args ...any) goja.Value {
	return s.newError("RangeError: "+format, args...)
}

// capReplace bounds what replacing can make of a long string.
func (s *script) capReplace(call goja.FunctionCall) {
	if !goja.IsString(call.Argument(1)) || !goja.IsString(call.This) {
		return
	}
	text, with := call.This.String(), call.Argument(1).String()
	worst := float64(len(text)+1) * float64(len(with))
	if worst > maxText && goja.IsString(call.Argument(0)) {
		worst = float64(strings.Count(text, call.Argument(0).String())) * float64(len(with))
	}
	s.textCap(worst)
}

// capParse bounds the text and the depth of what JSON.parse reads.
func (s *script) capParse(call goja.FunctionCall) {
	text := call.Argument(0).String()
	s.capJSON(text)
}

// capJSON bounds the size, the depth and the number of values of JSON text.
func (s *script) capJSON(text string) {
	if len(text) > maxJSON {
		panic(s.rangeError("JSON of %d bytes is over the limit of %d", len(text), maxJSON))
	}
	depth, values := jsonShape(text)
	if depth > maxDepth {
		panic(s.rangeError("JSON nested deeper than %d", maxDepth))
	}
	if values > maxValues {
		panic(s.rangeError("JSON of more than %d values", maxValues))
	}
}

// capSplit bounds how many pieces a text is split into.
func (s *script) capSplit(call goja.FunctionCall) {
	text, ok := call.This.(goja.String)
	if !ok || text.Length() <= maxPieces {
		return
	}
	pieces := text.Length() // of what is not a string: a regular expression may match anywhere
	if separator := call.Argument(0); goja.IsString(separator) {
		pieces = strings.Count(text.String(), separator.String()) + 1
	}
	if pieces > maxPieces {
		panic(s.rangeError("a text split into %d pieces is over the limit of %d", pieces, maxPieces))
	}
}

// jsonShape is how deep brackets are nested in JSON text, and how many values there
// are in it, or a few more.
func jsonShape[T string | []byte](text T) (deepest, values int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
			values++
			deepest = max(deepest, depth)
		case c == ',':
			values++
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest, values + 1
}

// capConstructor stands before a constructor whose argument is a length.
func (s *script) capConstructor(name string) {
	target, ok := s.rt.Get(name).(*goja.Object)
	if !ok {
		return
	}
	check := func(args []goja.Value) {
		if len(args) == 0 {
			return
		}
		if goja.IsNumber(args[0]) && len(args) == 1 && args[0].ToFloat() > maxElements {
			panic(s.rangeError("%s of %s elements is over the limit of %d", name, args[0].String(), maxElements))
		}
		s.lengthCap(args[0])
	}
	capped := s.rt.NewProxy(target, &goja.ProxyTrapConfig{
		Construct: func(t *goja.Object, args []goja.Value, newTarget *goja.Object) *goja.Object {
			check(args)
			construct, _ := goja.AssertConstructor(t)
			o, err := construct(newTarget, args...)
			if err != nil {
				panic(err)
			}
			return o
		},
		Apply: func(t *goja.Object, this goja.Value, args []goja.Value) goja.Value {
			check(args)
			call, _ := goja.AssertFunction(t)
			v, err := call(this, args...)
			if err != nil {
				panic(err)
			}
			return v
		},
	})
	v := s.rt.ToValue(capped)
	s.define(target.Get("prototype").ToObject(s.rt), "constructor", v)
	s.global(name, v)
}
