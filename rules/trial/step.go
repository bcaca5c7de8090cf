package trial

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/rules"
)

// verbs are the keys of which each step has one, and what reads it.
var verbs = []struct {
	key  string
	read func(r *reader, s *stepReader) action
}{
	{"publish", readPublish},
	{"expect", readExpect},
	{"expect none", readExpectNone},
	{"advance", readAdvance},
	{"restart", readRestart},
	{"set clock", readSetClock},
	{"hook", readHook},
	{"reply", readReply},
	{"function", readFunction},
	{"expect request", readExpectRequest},
}

// stepReader is a step while it is read: its keys are taken one by one.
type stepReader struct {
	*reader
	node   ast.Node // of the step
	verb   field
	fields []field
}

// step reads one step: a verb and what belongs to it.
func (r *reader) step(n ast.Node) step {
	st := step{}
	st.line, _ = place(n)
	fields, ok := r.fields(n, "a step")
	if !ok {
		return st
	}
	var known []string
	for _, v := range verbs {
		known = append(known, v.key)
		for i, f := range fields {
			if f.key != v.key {
				continue
			}
			if st.do != nil {
				r.errorf(f.node, "a step does one thing, and %q is a second one", f.key)
				return st
			}
			s := &stepReader{reader: r, node: n, verb: f}
			s.fields = append(append(s.fields, fields[:i]...), fields[i+1:]...)
			st.what = v.key + " " + shown(f.value)
			st.do = v.read(r, s)
			fields = s.fields
			break
		}
	}
	if st.do == nil {
		r.errorf(n, "the step has none of %s", strings.Join(known, ", "))
		return st
	}
	for _, f := range fields {
		r.errorf(f.node, "unknown key %q of the step %q", f.key, st.what)
	}
	return st
}

// shown is a scalar as it stands in the file, abridged.
func shown(n ast.Node) string {
	tk := n.GetToken()
	if tk == nil {
		return ""
	}
	text := strings.TrimSpace(tk.Value)
	if runes := []rune(text); len(runes) > 100 {
		text = string(runes[:100]) + "..."
	}
	return text
}

// take takes a key of the step; found is false if it has none of that name.
func (s *stepReader) take(key string) (value ast.Node, found bool) {
	for i, f := range s.fields {
		if f.key == key {
			s.fields = append(s.fields[:i:i], s.fields[i+1:]...)
			return f.value, true
		}
	}
	return nil, false
}

func (s *stepReader) takeText(key string) string {
	if n, found := s.take(key); found {
		return s.text(n, key)
	}
	return ""
}

// takeNumber takes a number from 0 to most, or -1 if there is none.
func (s *stepReader) takeNumber(key string, most int) int {
	n, found := s.take(key)
	if !found {
		return -1
	}
	v, err := strconv.ParseInt(s.text(n, key), 0, 32)
	if err != nil || v < 0 || int(v) > most {
		s.errorf(n, "%s is a number from 0 to %d", key, most)
		return -1
	}
	return int(v)
}

// takeBool takes true or false; found is false if there is neither.
func (s *stepReader) takeBool(key string) (value, found bool) {
	n, found := s.take(key)
	if !found {
		return false, false
	}
	b, ok := n.(*ast.BoolNode)
	if !ok {
		s.errorf(n, "%s is true or false", key)
		return false, false
	}
	return b.Value, true
}

// payload takes a key that holds a payload.
func (s *stepReader) payload(key string) (value any, found bool) {
	n, found := s.take(key)
	if !found {
		return nil, false
	}
	return s.value(n), true
}

func readPublish(r *reader, s *stepReader) action {
	p := &publish{msg: message.Message{Topic: r.text(s.verb.value, "publish")}, reason: -1}
	if !topic.ValidName(p.msg.Topic) {
		r.errorf(s.verb.value, "%q is not a topic to publish to", p.msg.Topic)
	}
	if value, found := s.payload("payload"); found {
		p.msg.Payload = encode(value)
	}
	p.msg.QoS = message.QoS(max(0, s.takeNumber("qos", 2)))
	p.msg.Retain, _ = s.takeBool("retain")
	for _, field := range s.properties() {
		field.set(&p.msg)
	}
	p.msg.Origin = s.takeText("from")
	if n, found := s.take("is"); found {
		action, known := becomes[r.text(n, "is")]
		if !known {
			r.errorf(n, "is says what filters make of the message: passed, changed, dropped or rejected")
		}
		p.becomes = &action
	}
	p.reason = s.takeNumber("reason", 0xff)
	if p.reason >= 0 && (p.becomes == nil || *p.becomes != message.Reject) {
		r.errorf(s.node, `a reason goes with "is: rejected"`)
	}
	return p
}

// becomes is what may become of a message.
var becomes = map[string]message.Action{
	"passed": message.Pass, "changed": message.Replace, "dropped": message.Drop, "rejected": message.Reject,
}

func (r *reader) filter(n ast.Node) string {
	filter := r.text(n, "a topic")
	if err := rules.CheckFilter(filter); err != nil {
		r.errorf(n, "%s", err)
	}
	return filter
}

func readExpect(r *reader, s *stepReader) action {
	e := &expect{filter: r.filter(s.verb.value), count: 1, qos: s.takeNumber("qos", 2), origin: s.takeText("from")}
	e.retain, e.retainGiven = s.takeBool("retain")
	e.properties = s.properties()
	given := 0
	if value, found := s.payload("payload"); found {
		e.payloads = []any{value}
		given++
	}
	if value, found := s.payload("contains"); found {
		e.payloads, e.part = []any{value}, true
		given++
	}
	if n, found := s.take("payloads"); found {
		given++
		for _, entry := range r.list(n, "payloads") {
			e.payloads = append(e.payloads, r.value(entry))
		}
		if e.count = len(e.payloads); e.count == 0 {
			r.errorf(n, `no payload is given: that nothing comes is the step "expect none"`)
		}
	}
	if n := s.takeNumber("count", maxRouted); n >= 0 {
		if e.count = n; n == 0 || given > 0 {
			r.errorf(s.node, `count is a number above 0 of messages whose payload does not matter; that none comes is the step "expect none"`)
		}
	}
	if given > 1 {
		r.errorf(s.node, "of payload, payloads and contains a step has one")
	}
	return e
}

func readExpectNone(r *reader, s *stepReader) action {
	return &expectNone{filter: r.filter(s.verb.value)}
}

func readAdvance(r *reader, s *stepReader) action { return &advance{by: r.duration(s.verb.value)} }

func readSetClock(r *reader, s *stepReader) action { return &setClock{to: r.time(s.verb.value)} }

func readRestart(r *reader, s *stepReader) action {
	b, ok := s.verb.value.(*ast.BoolNode)
	if !ok || !b.Value {
		r.errorf(s.verb.value, `write "restart: true", and "down: 10m" or "clock: TIME" beside it`)
	}
	a := &restart{}
	if n, found := s.take("down"); found {
		a.down = r.duration(n)
	}
	if n, found := s.take("clock"); found {
		a.clock = r.time(n)
	}
	return a
}

func readHook(r *reader, s *stepReader) action {
	h := &hook{name: r.text(s.verb.value, "hook")}
	if value, found := s.payload("payload"); found {
		h.msg.Payload = encode(value)
	}
	return h
}

// readReply reads what requests to a URL get from now on.
func readReply(r *reader, s *stepReader) action {
	a := &reply{answer{url: r.text(s.verb.value, "reply"), times: s.takeNumber("times", maxRouted)}}
	if a.reply.Status = s.takeNumber("status", 999); a.reply.Status < 0 {
		a.reply.Status = http.StatusOK
	}
	if value, found := s.payload("body"); found {
		a.reply.Body = encode(value)
	}
	if n, found := s.take("header"); found {
		a.reply.Header = make(map[string]string)
		fields, _ := r.fields(n, "header")
		for _, f := range fields {
			a.reply.Header[http.CanonicalHeaderKey(f.key)] = r.text(f.value, "a header")
		}
	}
	a.reply.Err = s.takeText("error")
	return a
}

func readExpectRequest(r *reader, s *stepReader) action {
	e := &expectRequest{url: r.text(s.verb.value, "a URL"), method: s.takeText("method")}
	if e.count = s.takeNumber("count", maxRouted); e.count < 0 {
		e.count = 1
	}
	e.body, e.bodyGiven = s.payload("body")
	return e
}
