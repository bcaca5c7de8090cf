package jsvm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/broker/message"
)

var (
	typeOfJSONObject  = reflect.TypeFor[*jsonObject]()
	typeOfJSONArray   = reflect.TypeFor[*jsonArray]()
	typeOfMessage     = reflect.TypeFor[*jsMessage]()
	typeOfPromise     = reflect.TypeFor[*goja.Promise]()
	typeOfBytes       = reflect.TypeFor[[]byte]()
	typeOfArrayBuffer = reflect.TypeFor[goja.ArrayBuffer]()
)

// payloadOf turns what a script publishes into bytes: a string as it is, bytes as
// they are, everything else as JSON.
func (s *script) payloadOf(v goja.Value) []byte {
	if text, ok := v.(goja.String); ok {
		if text.Length() > maxOutput { // before it is copied
			s.account(text.Length())
		}
		return []byte(text.String())
	}
	if b, ok := bytesOf(v); ok {
		return b
	}
	return s.encodeJSON(v)
}

// bytesOf copies the bytes of a Uint8Array or an ArrayBuffer.
func bytesOf(v goja.Value) ([]byte, bool) {
	o, ok := v.(*goja.Object)
	if !ok {
		return nil, false
	}
	switch o.ExportType() {
	case typeOfBytes:
		b, isBytes := o.Export().([]byte)
		return append([]byte{}, b...), isBytes
	case typeOfArrayBuffer:
		b, isBuffer := o.Export().(goja.ArrayBuffer)
		if !isBuffer || b.Detached() {
			return nil, false
		}
		return append([]byte{}, b.Bytes()...), true
	default:
		return nil, false
	}
}

// encodeJSON writes v as JSON.stringify would, and throws where that would give
// undefined. A payload that was not changed keeps its bytes, so that its numbers
// stay as they were written.
func (s *script) encodeJSON(v goja.Value) []byte {
	switch {
	case v == nil, goja.IsUndefined(v):
		panic(s.rt.NewTypeError("undefined is not a value that can be published or kept"))
	case goja.IsNull(v):
		return []byte("null")
	case goja.IsString(v):
		return quoteJSON(v.String())
	case goja.IsNumber(v):
		return appendNumber(nil, v)
	case goja.IsBigInt(v):
		panic(s.rt.NewTypeError("a BigInt has no JSON form: convert it with String() or Number()"))
	}
	o, ok := v.(*goja.Object)
	if !ok { // a boolean, or a symbol
		if b, isBool := v.Export().(bool); isBool {
			return strconv.AppendBool(nil, b)
		}
		panic(s.rt.NewTypeError("a symbol has no JSON form"))
	}
	if raw := s.untouched(o); raw != nil {
		return raw
	}
	if b := s.plainJSON(o); b != nil {
		return b
	}
	if _, isFunc := goja.AssertFunction(o); isFunc {
		panic(s.rt.NewTypeError("a function has no JSON form"))
	}
	b, err := o.MarshalJSON()
	if err != nil {
		panic(err) // a *goja.Exception, thrown on
	}
	return b
}

// untouched gives the bytes of a payload that o is the root of and that nobody
// changed, or nil.
func (s *script) untouched(o *goja.Object) []byte {
	switch o.ExportType() {
	case typeOfJSONObject:
		if j, ok := o.Export().(*jsonObject); ok && !j.doc.dirty && j.doc.root == o {
			return j.doc.raw
		}
	case typeOfJSONArray:
		if j, ok := o.Export().(*jsonArray); ok && !j.doc.dirty && j.doc.root == o {
			return j.doc.raw
		}
	}
	return nil
}

// quoteJSON writes text as JSON.stringify does.
func quoteJSON(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // neither a string nor a buffer can fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func appendNumber(b []byte, v goja.Value) []byte {
	if f := v.ToFloat(); math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	return append(b, v.String()...)
}

// decode turns JSON that was kept as state into values of the script's own.
func (s *script) decode(raw []byte) goja.Value {
	if len(raw) <= 15 {
		if n, ok := smallInt(raw); ok {
			return s.rt.ToValue(n)
		}
	}
	v, err := s.parseJSON(goja.Undefined(), s.rt.ToValue(string(raw)))
	if err != nil {
		panic(err)
	}
	return v
}

// properties are the options of a publish, and the fields of a message that a
// filter may set. Nil means not given.
type properties struct {
	qos             *message.QoS
	retain          *bool
	contentType     *string
	responseTopic   *string
	correlationData *[]byte
	userProperties  *[]message.Property
	expiry          *time.Duration
}

func (p *properties) apply(m *wireMessage) {
	set(&m.QoS, p.qos)
	set(&m.Retain, p.retain)
	set(&m.ContentType, p.contentType)
	set(&m.ResponseTopic, p.responseTopic)
	set(&m.CorrelationData, p.correlationData)
	set(&m.UserProperties, p.userProperties)
	set(&m.Expiry, p.expiry)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// readOption takes one option over; false means that there is none of that name.
func (s *script) readOption(p *properties, key string, v goja.Value) bool {
	switch key {
	case "qos":
		q := s.qosOf(v)
		p.qos = &q
	case "retain":
		r := v.ToBoolean()
		p.retain = &r
	case "contentType":
		t := s.textOption(key, v)
		p.contentType = &t
	case "responseTopic":
		t := s.textOption(key, v)
		if t != "" && !validName(t) {
			panic(s.rt.NewTypeError("responseTopic %s is not a topic name", strconv.Quote(t)))
		}
		p.responseTopic = &t
	case "correlationData":
		b, ok := bytesOf(v)
		if !ok {
			b = []byte(s.textOption(key, v))
		}
		s.fieldCap(key, len(b))
		p.correlationData = &b
	case "userProperties":
		u := s.userProperties(v)
		p.userProperties = &u
	case "expiry":
		d := s.durationOf(v, time.Second)
		p.expiry = &d
	default:
		return false
	}
	return true
}

// readOptions reads an options object strictly; nil and undefined are empty.
func (s *script) readOptions(what string, v goja.Value) properties {
	var p properties
	s.eachOption(what, v, func(key string, value goja.Value) bool { return s.readOption(&p, key, value) })
	return p
}

// eachOption hands the options that are not undefined to take, and throws for one
// that it does not know.
func (s *script) eachOption(what string, v goja.Value, take func(key string, v goja.Value) bool) {
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return
	}
	o, ok := v.(*goja.Object)
	if !ok {
		panic(s.rt.NewTypeError("the options of %s must be an object", what))
	}
	for _, key := range o.Keys() {
		value := o.Get(key)
		if value == nil || goja.IsUndefined(value) {
			continue
		}
		if !take(key, value) {
			panic(s.rt.NewTypeError("%s has no option %s", what, strconv.Quote(key)))
		}
	}
}

func (s *script) qosOf(v goja.Value) message.QoS {
	if goja.IsNumber(v) {
		switch v.ToFloat() {
		case 0:
			return message.AtMostOnce
		case 1:
			return message.AtLeastOnce
		case 2:
			return message.ExactlyOnce
		}
	}
	panic(s.rt.NewTypeError("qos must be 0, 1 or 2"))
}

func (s *script) textOption(key string, v goja.Value) string {
	if !goja.IsString(v) {
		panic(s.rt.NewTypeError("%s must be a string", key))
	}
	t := v.String()
	s.fieldCap(key, len(t))
	if strings.IndexByte(t, 0) >= 0 {
		panic(s.rt.NewTypeError("%s has a character U+0000, which no text of a packet may have", key))
	}
	return t
}

// fieldCap refuses what is longer than a field of a packet (MQTT 5.0 §1.5).
func (s *script) fieldCap(key string, n int) {
	if n > 65535 {
		panic(s.rt.NewTypeError("%s of %d bytes is over the limit of 65535", key, n))
	}
}

// userProperties reads an object, or an array of pairs, whose names may repeat.
func (s *script) userProperties(v goja.Value) []message.Property {
	o, ok := v.(*goja.Object)
	if !ok {
		panic(s.rt.NewTypeError("userProperties must be an object or an array of [name, value]"))
	}
	var props []message.Property
	add := func(key string, value goja.Value) {
		if len(props) == maxProperties {
			panic(s.rt.NewTypeError("more than %d user properties", maxProperties))
		}
		props = append(props, message.Property{
			Key:   s.textOption("the name of a user property", s.rt.ToValue(key)),
			Value: s.textOption("the value of a user property", s.rt.ToValue(value.String())),
		})
	}
	if o.ClassName() != "Array" {
		for _, key := range o.Keys() {
			add(key, o.Get(key))
		}
		return props
	}
	s.rt.ForOf(o, func(pair goja.Value) bool {
		p, isObject := pair.(*goja.Object)
		if !isObject || p.Get("0") == nil || p.Get("1") == nil {
			panic(s.rt.NewTypeError("userProperties must be an object or an array of [name, value]"))
		}
		add(p.Get("0").String(), p.Get("1"))
		return true
	})
	return props
}

// longest is the longest time that a timer or an expiry may take.
const longest = 10 * 365 * 24 * time.Hour

// durationOf reads a number of units, or text such as "10s" or "1h30m".
func (s *script) durationOf(v goja.Value, unit time.Duration) time.Duration {
	var d time.Duration
	switch {
	case goja.IsString(v):
		var err error
		if d, err = time.ParseDuration(strings.TrimSpace(v.String())); err != nil {
			panic(s.rt.NewTypeError("%s is not a duration such as \"10s\" or \"1h30m\"", strconv.Quote(v.String())))
		}
	case goja.IsNumber(v):
		f := v.ToFloat() * float64(unit)
		if math.IsNaN(f) || math.Abs(f) > float64(longest) {
			panic(s.rt.NewTypeError("%s is not a duration", v.String()))
		}
		d = time.Duration(f)
	default:
		panic(s.rt.NewTypeError("a duration must be a number or a string such as \"10s\""))
	}
	if d < 0 || d > longest {
		panic(s.rt.NewTypeError("the duration %s is out of range", v.String()))
	}
	return d
}

// validName reports whether s can be published to (MQTT 5.0 §4.7): 1 to 65,535
// bytes of UTF-8 and at most 128 levels, without NUL or wildcard.
func validName(s string) bool {
	return len(s) > 0 && len(s) <= 65535 && utf8.ValidString(s) && !strings.ContainsAny(s, "+#\x00") && strings.Count(s, "/") < 128
}

// validFilter reports whether s is a topic filter (MQTT 5.0 §4.7.1).
func validFilter(s string) bool {
	plain := strings.NewReplacer("+", "x", "#", "x").Replace(s)
	if !validName(plain) {
		return false
	}
	levels := strings.Split(s, "/")
	for i, level := range levels {
		if level == "#" && i == len(levels)-1 || level == "+" {
			continue
		}
		if strings.ContainsAny(level, "+#") {
			return false
		}
	}
	return true
}

// hears reports whether a topic filter matches a topic name (MQTT 5.0 §4.7).
func hears(filter, name string) bool {
	if strings.HasPrefix(name, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		f, restFilter, moreFilter := strings.Cut(filter, "/")
		n, restName, moreName := strings.Cut(name, "/")
		switch {
		case f == "#":
			return true
		case f != "+" && f != n:
			return false
		case !moreName:
			return !moreFilter || restFilter == "#"
		case !moreFilter:
			return false
		}
		filter, name = restFilter, restName
	}
}

// quoteTopic shows a topic in a message, cut where it gets long.
func quoteTopic(s string) string {
	const shown = 100
	if len(s) > shown {
		return fmt.Sprintf("%.*q...", shown, s)
	}
	return strconv.Quote(s)
}
