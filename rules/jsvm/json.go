package jsvm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/rules/jsonview"
)

// document is a payload that was read as JSON. Its objects and arrays become
// JavaScript objects one by one, as a script touches them.
type document struct {
	rt    *goja.Runtime
	raw   []byte
	root  goja.Value
	dirty bool // a script changed something in it
}

// parseDocument reads raw as JSON of at most maxJSON bytes, maxDepth levels and
// maxValues values.
func parseDocument(rt *goja.Runtime, raw []byte) (*document, error) {
	if len(raw) == 0 {
		return nil, errors.New("it is empty")
	}
	if len(raw) > maxJSON {
		return nil, fmt.Errorf("%d bytes are over the limit of %d", len(raw), maxJSON)
	}
	if len(raw) > maxValues {
		if _, values := jsonShape(raw); values > maxValues {
			return nil, fmt.Errorf("it has more than %d values", maxValues)
		}
	}
	v, ok := jsonview.Parse(raw, maxDepth)
	if !ok {
		return nil, explain(raw)
	}
	d := &document{rt: rt, raw: raw}
	d.root = d.value(v)
	return d, nil
}

// explain says what is wrong with JSON that was refused, and where.
func explain(raw []byte) error {
	var syntax *json.SyntaxError
	var any json.RawMessage
	if err := json.Unmarshal(raw, &any); errors.As(err, &syntax) {
		return fmt.Errorf("%w (byte %d)", err, syntax.Offset)
	}
	if place, ok := jsonview.Misencoded(raw, maxDepth); ok {
		return fmt.Errorf("a string in it is not UTF-8 (byte %d)", place)
	}
	return fmt.Errorf("it is nested deeper than %d", maxDepth)
}

func (d *document) value(v jsonview.Value) goja.Value {
	switch v.Kind() {
	case jsonview.Object:
		return d.rt.NewDynamicObject(&jsonObject{doc: d, text: v})
	case jsonview.Array:
		return d.rt.NewDynamicArray(newJSONArray(d, v))
	case jsonview.String:
		return d.rt.ToValue(v.Text())
	case jsonview.Number:
		return d.number(v)
	case jsonview.True:
		return d.rt.ToValue(true)
	case jsonview.False:
		return d.rt.ToValue(false)
	case jsonview.None, jsonview.Null:
	}
	return goja.Null()
}

func (d *document) number(digits jsonview.Value) goja.Value {
	if len(digits) <= 15 {
		if n, ok := smallInt(digits); ok {
			return d.rt.ToValue(n)
		}
	}
	f, _ := strconv.ParseFloat(string(digits), 64) // out of range gives infinity, as in JavaScript
	return d.rt.ToValue(f)
}

func smallInt(digits []byte) (int64, bool) {
	var n int64
	negative := len(digits) > 1 && digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
		if n == 0 {
			return 0, false // -0 is a float
		}
	}
	return n, true
}

// jsonObject is an object of a document. Until a script writes to it, values are
// taken from text and kept in made, so that they are made once and an object is the same
// each time; from the first write on own holds all.
type jsonObject struct {
	doc   *document
	text  jsonview.Value // nil after the first write
	made  fields
	index map[string]jsonview.Value
	own   map[string]goja.Value
	order []string
}

// indexFrom is the bytes of an object from which on a lookup wants an index.
const indexFrom = 2048

// find gives the last value of the key, as JSON.parse does.
func (o *jsonObject) find(key string) jsonview.Value {
	if len(o.text) < indexFrom {
		return o.text.Member(key)
	}
	if o.index == nil {
		o.index = make(map[string]jsonview.Value)
		for k, v := range o.text.Members {
			o.index[k.Text()] = v
		}
	}
	return o.index[key]
}

// Get implements goja.DynamicObject.
func (o *jsonObject) Get(key string) goja.Value {
	if o.text == nil {
		return o.own[key]
	}
	if v := o.made.get(key); v != nil {
		return v
	}
	found := o.find(key)
	if found == nil {
		return nil
	}
	v := o.doc.value(found)
	o.made.put(key, v)
	return v
}

// Has implements goja.DynamicObject.
func (o *jsonObject) Has(key string) bool {
	if o.text == nil {
		_, ok := o.own[key]
		return ok
	}
	return o.find(key) != nil
}

// Keys implements goja.DynamicObject.
func (o *jsonObject) Keys() []string {
	if o.text == nil {
		return o.order
	}
	var keys []string
	seen := make(map[string]struct{})
	for name := range o.text.Members {
		k := name.Text()
		if _, twice := seen[k]; !twice {
			seen[k] = struct{}{}
			keys = append(keys, k)
		}
	}
	return keys
}

// unfold takes all values over, so that they can be changed.
func (o *jsonObject) unfold() {
	o.doc.dirty = true
	if o.text == nil {
		return
	}
	keys := o.Keys()
	own := make(map[string]goja.Value, len(keys))
	for _, k := range keys {
		own[k] = o.Get(k)
	}
	o.text, o.made, o.index, o.own, o.order = nil, fields{}, nil, own, keys
}

// Set implements goja.DynamicObject.
func (o *jsonObject) Set(key string, v goja.Value) bool {
	o.unfold()
	if _, had := o.own[key]; !had {
		o.order = append(o.order, key)
	}
	o.own[key] = v
	return true
}

// Delete implements goja.DynamicObject.
func (o *jsonObject) Delete(key string) bool {
	o.unfold()
	if _, had := o.own[key]; !had {
		return true
	}
	delete(o.own, key)
	kept := make([]string, 0, len(o.order)-1)
	for _, k := range o.order {
		if k != key {
			kept = append(kept, k)
		}
	}
	o.order = kept
	return true
}

// jsonArray is an array of a document; as with jsonObject, own holds what was
// touched, and from the first write on everything.
type jsonArray struct {
	doc   *document
	items []jsonview.Value // nil after the first write
	own   []goja.Value
}

func newJSONArray(d *document, v jsonview.Value) *jsonArray {
	a := &jsonArray{doc: d, items: []jsonview.Value{}}
	for item := range v.Elements {
		a.items = append(a.items, item)
	}
	return a
}

// Len implements goja.DynamicArray.
func (a *jsonArray) Len() int {
	if a.items == nil {
		return len(a.own)
	}
	return len(a.items)
}

// Get implements goja.DynamicArray.
func (a *jsonArray) Get(i int) goja.Value {
	if i < 0 || i >= a.Len() {
		return nil
	}
	if a.items == nil {
		return a.own[i]
	}
	if a.own == nil {
		a.own = make([]goja.Value, len(a.items))
	}
	if a.own[i] == nil {
		a.own[i] = a.doc.value(a.items[i])
	}
	return a.own[i]
}

func (a *jsonArray) unfold() {
	a.doc.dirty = true
	if a.items == nil {
		return
	}
	for i := range a.items {
		a.Get(i)
	}
	a.items = nil
}

// Set implements goja.DynamicArray.
func (a *jsonArray) Set(i int, v goja.Value) bool {
	if i < 0 || i >= maxElements {
		return false
	}
	a.unfold()
	if i >= len(a.own) && !a.SetLen(i+1) {
		return false
	}
	a.own[i] = v
	return true
}

// SetLen implements goja.DynamicArray.
func (a *jsonArray) SetLen(n int) bool {
	if n < 0 || n > maxElements {
		return false
	}
	a.unfold()
	for len(a.own) < n {
		a.own = append(a.own, goja.Undefined())
	}
	a.own = a.own[:n]
	return true
}
