package jsvm

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/rules"
)

// jsMessage is the msg that a handler gets: a view of the message that makes each
// field a JavaScript value when the script first asks for it.
type jsMessage struct {
	s      *script
	m      *wireMessage
	what   string    // whose payload it is, if not the topic's
	fields fields    // made, or set by the script
	doc    *document // the payload, once it was read
	given  bool      // the script set the field "payload"
	raw    bool      // the script set text or bytes: m.Payload is new
}

// Get implements goja.DynamicObject.
func (j *jsMessage) Get(key string) goja.Value {
	if v := j.fields.get(key); v != nil {
		return v
	}
	v := j.make(key)
	if v != nil {
		j.fields.put(key, v)
	}
	return v
}

func (j *jsMessage) make(key string) goja.Value {
	rt := j.s.rt
	switch key {
	case "topic":
		return rt.ToValue(j.m.Topic)
	case "payload":
		return j.payload()
	case "text":
		return rt.ToValue(strings.ToValidUTF8(string(j.m.Payload), "\uFFFD"))
	case "bytes":
		return j.s.newBytes(j.m.Payload)
	case "parts":
		levels := strings.Split(j.m.Topic, "/")
		items := make([]any, len(levels))
		for i, l := range levels {
			items[i] = l
		}
		return rt.NewArray(items...)
	case "qos":
		return rt.ToValue(int(j.m.QoS))
	case "retain":
		return rt.ToValue(j.m.Retain)
	case "origin":
		return rt.ToValue(j.m.Origin)
	case "at":
		return j.date(j.m.At)
	case "properties":
		return j.properties()
	default:
		return nil
	}
}

func (j *jsMessage) date(t time.Time) goja.Value {
	if t.IsZero() {
		t = j.s.now
	}
	d, err := j.s.rt.New(j.s.newDate, j.s.rt.ToValue(t.UnixMilli()))
	if err != nil {
		panic(err)
	}
	return d
}

func (j *jsMessage) payload() goja.Value {
	doc, err := parseDocument(j.s.rt, j.m.Payload)
	if err != nil {
		what := j.what
		if what == "" {
			what = "topic " + quoteTopic(j.m.Topic)
		}
		panic(j.s.newError("payload of %s is not JSON: %v", what, err))
	}
	j.doc = doc
	return doc.root
}

func (j *jsMessage) properties() goja.Value {
	o := j.s.rt.NewObject()
	put := func(key string, v any) { _ = o.Set(key, v) } // a plain new object takes everything
	if j.m.ContentType != "" {
		put("contentType", j.m.ContentType)
	}
	if j.m.ResponseTopic != "" {
		put("responseTopic", j.m.ResponseTopic)
	}
	if len(j.m.CorrelationData) > 0 {
		put("correlationData", j.s.newBytes(j.m.CorrelationData))
	}
	pairs := make([]any, len(j.m.UserProperties))
	for i, p := range j.m.UserProperties {
		pairs[i] = j.s.rt.NewArray(p.Key, p.Value)
	}
	put("userProperties", j.s.rt.NewArray(pairs...))
	if j.m.Expiry > 0 {
		put("expiry", j.m.Expiry.Seconds())
	}
	return o
}

// Set implements goja.DynamicObject.
func (j *jsMessage) Set(key string, v goja.Value) bool {
	switch key {
	case "text":
		j.replaceRaw([]byte(v.String()))
	case "bytes":
		b, ok := bytesOf(v)
		if !ok {
			panic(j.s.rt.NewTypeError("bytes must be a Uint8Array or an ArrayBuffer"))
		}
		j.replaceRaw(b)
	case "payload":
		j.given = true
		j.fields.put(key, v)
	default:
		j.fields.put(key, v)
	}
	return true
}

func (j *jsMessage) replaceRaw(b []byte) {
	for _, key := range []string{"payload", "text", "bytes"} {
		j.fields.drop(key)
	}
	j.doc, j.given, j.raw = nil, false, true
	m := *j.m // the original stays: it is what a filter's result is compared with
	m.Payload = b
	j.m = &m
}

// Has implements goja.DynamicObject.
func (j *jsMessage) Has(key string) bool {
	switch key {
	case "topic", "payload", "text", "bytes", "parts", "qos", "retain", "origin", "at", "properties":
		return true
	}
	return j.fields.get(key) != nil
}

// Delete implements goja.DynamicObject.
func (j *jsMessage) Delete(string) bool { return false }

// Keys implements goja.DynamicObject. The payload is among them only if it is JSON,
// so that {...msg} does not throw; text and bytes never are.
func (j *jsMessage) Keys() []string {
	keys := []string{"topic", "parts"}
	if j.fields.get("payload") != nil || j.isJSON() {
		keys = append(keys, "payload")
	}
	return append(keys, "qos", "retain", "properties", "origin", "at")
}

func (j *jsMessage) isJSON() bool {
	if j.doc == nil {
		doc, err := parseDocument(j.s.rt, j.m.Payload)
		if err != nil {
			return false
		}
		j.doc = doc
		j.fields.put("payload", doc.root)
	}
	return true
}

// newPayload is what the message's payload became, and whether it changed.
func (j *jsMessage) newPayload() ([]byte, bool) {
	switch {
	case j.given:
		return j.s.payloadOf(j.fields.get("payload")), true
	case j.doc != nil && j.doc.dirty:
		return j.s.encodeJSON(j.doc.root), true
	case j.raw:
		return j.m.Payload, true
	default:
		return nil, false
	}
}

// replacement makes the message that a filter returned: msg itself, changed, or an
// object with some of its fields. What it does not name stays.
func (s *script) replacement(orig *wireMessage, o *goja.Object) *wireMessage {
	m := *orig
	payload, changed := []byte(nil), false
	if o.ExportType() == typeOfMessage {
		j, _ := o.Export().(*jsMessage)
		payload, changed = j.newPayload()
		for _, key := range []string{"topic", "qos", "retain", "properties"} {
			if v := j.fields.get(key); v != nil {
				s.replaceField(&m, key, v)
			}
		}
	} else {
		payload, changed = s.replaceFields(&m, o)
	}
	if changed {
		m.Payload = payload
		m.UTF8 = m.UTF8 && utf8.Valid(payload)
	}
	if !validName(m.Topic) {
		panic(s.rt.NewTypeError("cannot send the message on to %s: not a topic name", quoteTopic(m.Topic)))
	}
	if err := rules.CheckTopic(m.Topic); err != nil {
		panic(s.rt.NewTypeError("cannot send the message on: %v", err))
	}
	s.account(len(m.Topic) + len(m.Payload))
	return &m
}

func (s *script) replaceField(m *wireMessage, key string, v goja.Value) bool {
	switch key {
	case "topic":
		m.Topic = v.String()
		return true
	case "properties":
		p := s.readOptions("properties", v)
		p.apply(m)
		return true
	default:
		var p properties
		known := s.readOption(&p, key, v)
		p.apply(m)
		return known
	}
}

// replaceFields reads a plain object. bytes and text win over payload, which
// {...msg} carries along.
func (s *script) replaceFields(m *wireMessage, o *goja.Object) (payload []byte, changed bool) {
	var rank int
	take := func(r int, b []byte) {
		if r > rank {
			rank, payload, changed = r, b, true
		}
	}
	s.eachOption("the result of a filter", o, func(key string, v goja.Value) bool {
		switch key {
		case "payload":
			take(1, s.payloadOf(v))
		case "text":
			take(2, []byte(v.String()))
		case "bytes":
			b, ok := bytesOf(v)
			if !ok {
				panic(s.rt.NewTypeError("bytes must be a Uint8Array or an ArrayBuffer"))
			}
			take(3, b)
		case "parts", "origin", "at": // as {...msg} carries them along
		default:
			return s.replaceField(m, key, v)
		}
		return true
	})
	return payload, changed
}
