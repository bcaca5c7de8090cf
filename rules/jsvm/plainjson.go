package jsvm

import (
	"bytes"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"
)

var (
	typeOfPlain = reflect.TypeFor[map[string]any]()
	typeOfBool  = reflect.TypeFor[bool]()
)

// plainJSON writes an object as JSON.stringify would, if it is a plain one, which is what
// scripts publish most: its numbers and short texts need none of what that is able to do.
// It is nil for any other. Each field is read once, as a getter may see.
func (s *script) plainJSON(o *goja.Object) []byte {
	if o.ExportType() != typeOfPlain || o.ClassName() != "Object" || o.Get("toJSON") != nil {
		return nil
	}
	keys := o.Keys()
	if slices.ContainsFunc(keys, func(key string) bool { return strings.ContainsRune(key, utf8.RuneError) }) {
		return nil // half of a surrogate pair, perhaps: the field would not be found by that name
	}
	b := append(s.text[:0], '{')
	s.text = nil // a getter may publish, too
	for _, key := range keys {
		b = s.appendField(b, key, o.Get(key))
	}
	if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	b = append(b, '}')
	if cap(b) <= mostText {
		s.text = b
	}
	return bytes.Clone(b)
}

// mostText is how many bytes of memory for JSON are used again.
const mostText = 4 << 10

// appendField appends a field and a comma, or nothing for what JSON leaves out.
func (s *script) appendField(b []byte, key string, v goja.Value) []byte {
	if v == nil || goja.IsUndefined(v) {
		return b
	}
	from := len(b)
	if _, isObject := v.(*goja.Object); !isObject && isPlainText(key) {
		b = append(append(append(b, '"'), key...), '"', ':')
		switch {
		case goja.IsNumber(v):
			return append(appendNumber(b, v), ',')
		case goja.IsString(v):
			if text := v.String(); isPlainText(text) {
				return append(append(append(b, '"'), text...), '"', ',')
			}
		case goja.IsNull(v):
			return append(b, "null,"...)
		case v.ExportType() == typeOfBool:
			return append(strconv.AppendBool(b, v.ToBoolean()), ',')
		}
	}
	// The field alone, in an object that inherits nothing.
	alone := s.rt.CreateObject(nil)
	if err := alone.DefineDataProperty(key, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE); err != nil {
		panic(err)
	}
	field, err := alone.MarshalJSON()
	if err != nil {
		panic(err) // a *goja.Exception, thrown on
	}
	if field = field[1 : len(field)-1]; len(field) == 0 {
		return b[:from]
	}
	return append(append(b[:from], field...), ',')
}

// isPlainText reports whether text stands for itself in JSON.
func isPlainText(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
