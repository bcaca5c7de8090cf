package exprlang

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/valyala/fastjson"
)

// maxPayload is the longest payload that is decoded.
const maxPayload = 1 << 20

// payloadKind says what a payload is.
type payloadKind uint8

const (
	unknown payloadKind = iota // not looked at yet
	isJSON
	isPlain  // text that is not JSON
	isTooBig // to be decoded
	isAbsent // there is no message
)

// document is one payload, decoded on demand. It is used again for the next one:
// everything it gave away is copied.
type document struct {
	parser fastjson.Parser
	bytes  []byte
	kind   payloadKind
	value  *fastjson.Value
}

// load makes the document that of a payload.
func (d *document) load(payload []byte, there bool) {
	d.bytes, d.value, d.kind = payload, nil, unknown
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
		// The parser bounds the depth and is lenient; the validation is strict
		// and recurses.
		v, err := d.parser.ParseBytes(d.bytes)
		if err == nil && fastjson.ValidateBytes(d.bytes) == nil {
			d.kind, d.value = isJSON, v
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
func (d *document) find(path []step) *fastjson.Value {
	v := d.value
	for _, s := range path {
		if v == nil {
			return nil
		}
		if s.index >= 0 {
			list := v.GetArray()
			if s.index >= len(list) {
				return nil
			}
			v = list[s.index]
			continue
		}
		v = memberOf(v, s.key)
	}
	return v
}

// memberOf is the member of an object. Of several with the same key the last one
// counts, as it does for everybody else.
func memberOf(v *fastjson.Value, key string) *fastjson.Value {
	o := v.GetObject()
	if o == nil {
		return nil
	}
	var last *fastjson.Value
	o.Visit(func(k []byte, member *fastjson.Value) {
		if string(k) == key {
			last = member
		}
	})
	return last
}

// numbers remembers the digits that float64s were made of, so that a number which
// only passes through an expression comes out as it went in.
type numbers struct {
	seen   []numberText
	byBits map[uint64]string
	buf    []byte // for the digits at hand
}

type numberText struct {
	bits uint64
	text string
}

func (n *numbers) reset() {
	n.seen = n.seen[:0]
	clear(n.byBits)
}

func (n *numbers) add(f float64, text string) {
	n.seen = append(n.seen, numberText{math.Float64bits(f), text})
}

// text returns the digits of f, if there are any and there are no others.
func (n *numbers) text(f float64) string {
	if len(n.seen) > 0 && n.byBits == nil {
		n.byBits = make(map[uint64]string)
	}
	for _, s := range n.seen {
		if other, ok := n.byBits[s.bits]; ok && other != s.text {
			s.text = ""
		}
		n.byBits[s.bits] = s.text
	}
	n.seen = n.seen[:0]
	return n.byBits[math.Float64bits(f)]
}

// decode makes a value of expr of one of JSON.
func (n *numbers) decode(v *fastjson.Value) any {
	if v == nil {
		return nil
	}
	switch v.Type() {
	case fastjson.TypeTrue:
		return true
	case fastjson.TypeFalse:
		return false
	case fastjson.TypeString:
		return string(v.GetStringBytes())
	case fastjson.TypeNumber:
		return n.number(v)
	case fastjson.TypeArray:
		items := v.GetArray()
		list := make([]any, len(items))
		for i, item := range items {
			list[i] = n.decode(item)
		}
		return list
	case fastjson.TypeObject:
		object := make(map[string]any)
		v.GetObject().Visit(func(key []byte, member *fastjson.Value) {
			object[string(key)] = n.decode(member)
		})
		return object
	case fastjson.TypeNull:
	}
	return nil
}

// number decodes a whole number as int where that has 64 bits and holds it, and any
// other as float64: expr's integers are int, which must not overflow in silence on
// a machine of 32 bits.
func (n *numbers) number(v *fastjson.Value) any {
	digits := v.MarshalTo(n.buf[:0])
	n.buf = digits
	if strconv.IntSize == 64 {
		if i, ok := wholeNumber(digits); ok {
			return i
		}
	}
	text := string(digits)
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil // 1e999: no number that can be calculated with
	}
	n.add(f, text)
	return f
}

// float is a number as a float64; false if it is too large for one.
func (n *numbers) float(v *fastjson.Value) (float64, bool) {
	n.buf = v.MarshalTo(n.buf[:0])
	f, err := strconv.ParseFloat(string(n.buf), 64)
	return f, err == nil
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
func appendRaw(b []byte, v *fastjson.Value) []byte {
	if v == nil {
		return append(b, "null"...)
	}
	switch v.Type() {
	case fastjson.TypeString:
		return appendQuoted(b, v.GetStringBytes())
	case fastjson.TypeArray:
		b = append(b, '[')
		for i, item := range v.GetArray() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendRaw(b, item)
		}
		return append(b, ']')
	case fastjson.TypeObject:
		b = append(b, '{')
		first := true
		v.GetObject().Visit(func(key []byte, member *fastjson.Value) {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(appendQuoted(b, key), ':')
			b = appendRaw(b, member)
		})
		return append(b, '}')
	case fastjson.TypeNumber, fastjson.TypeTrue, fastjson.TypeFalse, fastjson.TypeNull:
	}
	return v.MarshalTo(b)
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
	if text := n.text(f); text != "" {
		return append(b, text...), nil
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
