package exprlang

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/rules/jsonview"
)

// Bounds of a payload that is decoded.
const (
	maxPayload = 1 << 20 // bytes
	maxDepth   = 300     // brackets open at once
)

// payloadKind says what a payload is.
type payloadKind uint8

const (
	unknown payloadKind = iota // not looked at yet
	isJSON
	isPlain  // text that is not JSON
	isAbsent // there is no message

	// Those of which an expression that reads them fails.
	isTooBig     // to be decoded
	isMisencoded // JSON, but for a string that is not UTF-8
)

// fault is why a payload cannot be read; nil for one that can.
func (d *document) fault() error {
	switch d.kind {
	case isTooBig:
		return errTooBig
	case isMisencoded:
		place, _ := jsonview.Misencoded(d.bytes, maxDepth)
		return &notEvaluated{reason: fmt.Sprintf("the payload is not JSON: a string in it is not UTF-8 (byte %d)", place)}
	case unknown, isJSON, isPlain, isAbsent:
	}
	return nil
}

// document is one payload, decoded on demand. It is used again for the next one:
// everything it gave away is copied.
type document struct {
	bytes []byte
	kind  payloadKind
	value jsonview.Value
	// members are those of value, if it is an object; one more than fewMembers if it has
	// more than that.
	members []jsonview.Member
}

// fewMembers is how many members of an object are listed. One of more is gone through for
// each that is looked for.
const fewMembers = 32

// load makes the document that of a payload.
func (d *document) load(payload []byte, there bool) {
	d.bytes, d.value, d.kind = payload, nil, unknown
	if payload == nil {
		clear(d.members[:cap(d.members)]) // they hold on to the message
	}
	if !there {
		d.kind = isAbsent
	}
}

// look finds out what the payload is.
func (d *document) look() payloadKind {
	if d.kind != unknown {
		return d.kind
	}
	d.kind = isPlain
	switch {
	case len(d.bytes) > maxPayload:
		d.kind = isTooBig
	case mayBeJSON(d.bytes):
		v, members, ok := jsonview.ParseListed(d.bytes, maxDepth, d.members[:0], fewMembers)
		if d.members = members; ok {
			d.kind, d.value = isJSON, v
		} else if _, ok := jsonview.Misencoded(d.bytes, maxDepth); ok {
			d.kind = isMisencoded
		}
	}
	return d.kind
}

// mayBeJSON tells most plain text apart without an error, which would cost more
// than all the rest.
func mayBeJSON(b []byte) bool {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t') {
		b = b[1:]
	}
	if len(b) == 0 {
		return false
	}
	switch c := b[0]; c {
	case '{', '[', '"':
		return true
	case 't', 'f', 'n':
		return len(b) >= 4 && (string(b[:4]) == "true" || string(b[:4]) == "fals" || string(b[:4]) == "null")
	default:
		return c == '-' || c >= '0' && c <= '9'
	}
}

// find goes down the path; nil is not there.
func (d *document) find(path []step) jsonview.Value {
	if len(path) == 0 {
		return d.value
	}
	v := d.first(path[0])
	for _, s := range path[1:] {
		v = s.of(v)
	}
	return v
}

func (s step) of(v jsonview.Value) jsonview.Value {
	if s.index >= 0 {
		return v.Element(s.index)
	}
	return v.Member(s.key)
}

// first goes down one step.
func (d *document) first(s step) (found jsonview.Value) {
	if s.index >= 0 || d.value.Kind() != jsonview.Object || len(d.members) > fewMembers {
		return s.of(d.value)
	}
	for i := range d.members {
		if d.members[i].Key.Is(s.key) {
			found = d.members[i].Value
		}
	}
	return found
}

// numbers remembers the digits that float64s were made of, so that a number which
// only passes through an expression comes out as it went in.
type numbers struct {
	seen   []numberText // not in byBits yet
	byBits map[uint64]string
}

type numberText struct {
	bits uint64
	text jsonview.Value // of the message at hand
}

func (n *numbers) reset() {
	clear(n.seen) // it holds on to the message
	n.seen = n.seen[:0]
	if len(n.byBits) > 0 {
		clear(n.byBits)
	}
}

func (n *numbers) add(f float64, text jsonview.Value) {
	n.seen = append(n.seen, numberText{math.Float64bits(f), text})
}

// appendText appends the digits of f, if there are any and there are no others.
func (n *numbers) appendText(b []byte, f float64) ([]byte, bool) {
	const few = 8 // for which no map is made
	bits := math.Float64bits(f)
	if len(n.byBits) == 0 && len(n.seen) <= few {
		var text jsonview.Value
		for _, s := range n.seen {
			if s.bits != bits {
				continue
			}
			if text != nil && !bytes.Equal(text, s.text) {
				return b, false
			}
			text = s.text
		}
		return append(b, text...), text != nil
	}
	if n.byBits == nil {
		n.byBits = make(map[uint64]string)
	}
	for _, s := range n.seen {
		text := string(s.text)
		if other, ok := n.byBits[s.bits]; ok && other != text {
			text = ""
		}
		n.byBits[s.bits] = text
	}
	n.seen = n.seen[:0]
	return append(b, n.byBits[bits]...), n.byBits[bits] != ""
}

// decode makes a value of expr of one of JSON.
func (n *numbers) decode(v jsonview.Value) any {
	switch v.Kind() {
	case jsonview.True:
		return true
	case jsonview.False:
		return false
	case jsonview.String:
		return v.Text()
	case jsonview.Number:
		return n.number(v)
	case jsonview.Array, jsonview.Object:
		return n.nested(v)
	case jsonview.None, jsonview.Null:
	}
	return nil
}

// nested decodes a list or an object, in one pass however deep it is.
func (n *numbers) nested(v jsonview.Value) any {
	type container struct {
		list   []any
		object map[string]any // instead of list
		key    string         // of the next member
		keyed  bool
	}
	var open []container
	for token := range v.Tokens {
		var value any
		top := len(open) - 1
		switch token[0] {
		case ',', ':':
			continue
		case '[':
			open = append(open, container{list: []any{}})
			continue
		case '{':
			open = append(open, container{object: make(map[string]any)})
			continue
		case ']', '}':
			if value = open[top].list; open[top].object != nil {
				value = open[top].object
			}
			if open, top = open[:top], top-1; top < 0 {
				return value
			}
		default:
			if in := &open[top]; in.object != nil && !in.keyed {
				in.key, in.keyed = token.Text(), true
				continue
			}
			value = n.decode(token)
		}
		if in := &open[top]; in.object != nil {
			in.object[in.key], in.keyed = value, false
		} else {
			in.list = append(in.list, value)
		}
	}
	return nil // a value is whole
}

// number decodes a whole number as int where that has 64 bits and holds it, and any
// other as float64: expr's integers are int, which must not overflow in silence on
// a machine of 32 bits.
func (n *numbers) number(digits jsonview.Value) any {
	if strconv.IntSize == 64 {
		if i, ok := wholeNumber(digits); ok {
			return i
		}
	}
	f, err := strconv.ParseFloat(string(digits), 64)
	if err != nil {
		return nil // 1e999: no number that can be calculated with
	}
	n.add(f, digits)
	return f
}

func wholeNumber(digits []byte) (int, bool) {
	if len(digits) > 20 {
		return 0, false
	}
	for _, c := range digits {
		if c != '-' && (c < '0' || c > '9') {
			return 0, false
		}
	}
	i, err := strconv.Atoi(string(digits))
	return i, err == nil && !(i == 0 && digits[0] == '-')
}

// appendRaw writes a value of JSON as it came: numbers digit for digit, members in
// their order.
func appendRaw(b []byte, v jsonview.Value) []byte {
	if v == nil {
		return append(b, "null"...)
	}
	for token := range v.Tokens {
		if token[0] == '"' {
			b = appendRawString(b, token)
		} else {
			b = append(b, token...)
		}
	}
	return b
}

// appendRawString writes a string with no more escapes than it needs.
func appendRawString(b []byte, v jsonview.Value) []byte {
	if bytes.IndexByte(v, '\\') < 0 {
		return append(b, v...)
	}
	return appendQuoted(b, v.Text())
}

// appendQuoted writes text as a JSON string; what is not UTF-8 is replaced.
func appendQuoted[S string | []byte](b []byte, s S) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(append(b, s[from:i]...), '\\', c)
		case c < 0x20:
			b = append(append(b, s[from:i]...), '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			i++
			continue
		default:
			r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			if r != utf8.RuneError || size != 1 {
				i += size
				continue
			}
			b = append(append(b, s[from:i]...), "\uFFFD"...)
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}

// appendValue writes a value of expr as JSON.
func (n *numbers) appendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendQuoted(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case float64:
		return n.appendFloat(b, v)
	case time.Time:
		return appendQuoted(b, v.Format(time.RFC3339Nano)), nil
	case time.Duration:
		return appendQuoted(b, v.String()), nil
	case []any:
		return appendList(b, v, n.appendValue)
	case []string:
		return appendList(b, v, func(b []byte, s string) ([]byte, error) { return appendQuoted(b, s), nil })
	case map[string]any:
		return n.appendObject(b, v)
	}
	return n.appendOther(b, v)
}

func appendList[T any](b []byte, list []T, one func([]byte, T) ([]byte, error)) ([]byte, error) {
	var err error
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = one(b, v); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

func (n *numbers) appendObject(b []byte, object map[string]any) ([]byte, error) {
	keys := make([]string, 0, len(object))
	for k := range object {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var err error
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, k), ':')
		if b, err = n.appendValue(b, object[k]); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func (n *numbers) appendFloat(b []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return b, &notEvaluated{reason: fmt.Sprintf("the result %v is not a number that JSON has", f)}
	}
	if b, ok := n.appendText(b, f); ok {
		return b, nil
	}
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.AppendFloat(b, f, 'e', -1, 64), nil
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64), nil
}

// appendOther writes what the library's functions may give besides.
func (n *numbers) appendOther(b []byte, v any) ([]byte, error) {
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.Slice || r.Kind() == reflect.Array {
		list := make([]any, r.Len())
		for i := range list {
			list[i] = r.Index(i).Interface()
		}
		return n.appendValue(b, list)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return b, &notEvaluated{reason: "the result cannot be written as JSON: " + err.Error()}
	}
	return append(b, text...), nil
}
