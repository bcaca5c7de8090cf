package jsvm

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/broker/message"
)

// What a debounce waits with is kept as JSON: messages as what they are, the rest as
// JSON.stringify has it.

// keptArg is one argument; nothing at all is undefined.
type keptArg struct {
	Message *keptMessage    `json:"m,omitempty"`
	Value   json.RawMessage `json:"v,omitempty"`
}

// keptMessage is a message as it is kept.
type keptMessage struct {
	Topic         string             `json:"topic"`
	Text          string             `json:"text,omitempty"`
	Bytes         []byte             `json:"bytes,omitempty"` // instead of Text, if that is not UTF-8
	QoS           message.QoS        `json:"qos,omitempty"`
	Retain        bool               `json:"retain,omitempty"`
	UTF8          bool               `json:"utf8,omitempty"`
	ContentType   string             `json:"type,omitempty"`
	ResponseTopic string             `json:"response,omitempty"`
	Correlation   []byte             `json:"correlation,omitempty"`
	User          []message.Property `json:"user,omitempty"`
	Expiry        time.Duration      `json:"expiry,omitempty"`
	Origin        string             `json:"origin,omitempty"`
	At            time.Time          `json:"at,omitzero"`
}

// keptArgs is what a function was called with, nil if that cannot be kept: it has no
// form in JSON, or is too much.
func (s *script) keptArgs(args []goja.Value) (kept []byte) {
	ex := s.rt.Try(func() {
		list := make([]keptArg, len(args))
		for i, v := range args {
			if goja.IsUndefined(v) {
				continue
			}
			if o, ok := v.(*goja.Object); ok && o.ExportType() == typeOfMessage {
				j, _ := o.Export().(*jsMessage)
				list[i].Message = s.keptMessage(j)
			} else {
				list[i].Value = s.encodeJSON(v)
			}
		}
		kept, _ = json.Marshal(list) // nil, if what toJSON gave is none
	})
	if ex != nil || len(kept) > maxPauseArgs {
		return nil
	}
	return kept
}

// keptMessage is a message as the script has made it.
func (s *script) keptMessage(j *jsMessage) *keptMessage {
	m := *j.m
	if payload, changed := j.newPayload(); changed {
		m.Payload = payload
	}
	for _, key := range []string{"topic", "qos", "retain", "properties"} {
		if v := j.fields.get(key); v != nil {
			s.replaceField(&m, key, v)
		}
	}
	k := &keptMessage{
		Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, UTF8: m.UTF8,
		ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, Correlation: m.CorrelationData, User: m.UserProperties,
		Expiry: m.Expiry, Origin: m.Origin, At: m.At.UTC(),
	}
	if utf8.Valid(m.Payload) {
		k.Text = string(m.Payload)
	} else {
		k.Bytes = m.Payload
	}
	return k
}

// message is what was kept.
func (k *keptMessage) message() *wireMessage {
	m := &wireMessage{Message: message.Message{
		Topic: k.Topic, Payload: k.Bytes, QoS: k.QoS, Retain: k.Retain, UTF8: k.UTF8,
		ContentType: k.ContentType, ResponseTopic: k.ResponseTopic, CorrelationData: k.Correlation, UserProperties: k.User,
		Origin: k.Origin, At: k.At,
	}, Expiry: k.Expiry}
	if k.Bytes == nil {
		m.Payload = []byte(k.Text)
	}
	return m
}

// givenArgs is what a debounce was called with in another runtime.
func (s *script) givenArgs(p *paceSpec, kept []byte) []goja.Value {
	var list []keptArg
	if len(kept) == 0 || json.Unmarshal(kept, &list) != nil {
		panic(s.rt.NewTypeError("%s: what it was called with could not be kept: it has no form in JSON, or is longer than %d bytes", p.Name, maxPauseArgs))
	}
	args := make([]goja.Value, len(list))
	for i, a := range list {
		switch {
		case a.Message != nil:
			args[i] = s.rt.NewDynamicObject(&jsMessage{s: s, m: a.Message.message()})
		default:
			args[i] = s.given(a.Value)
		}
	}
	return args
}

// keptBurst is the data of a debounce's timer.
type keptBurst struct {
	At   int64           `json:"at"`
	Args json.RawMessage `json:"args,omitempty"`
}

func burstData(p *pause) []byte {
	b, err := json.Marshal(keptBurst{At: p.At, Args: p.Args})
	if err != nil {
		return []byte("null") // Args are JSON
	}
	return b
}

// timerKey takes the identifier of a debounce's timer apart.
func (p *paceSpec) timerKey(id string) string { return strings.TrimPrefix(id, afterID(p.timer(), "")) }
