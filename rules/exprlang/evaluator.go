package exprlang

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsonview"
)

// evaluator runs the expressions of one rule file on one message at a time. It is
// for one goroutine.
type evaluator struct {
	slots []slot
	vm    vm.VM
	env   map[string]any

	// The message at hand: gen counts them, and values and env are those of the
	// gen that is noted with them.
	gen         uint64
	msg, prev   *message.Message
	now         time.Time
	zone        *time.Location
	values      []any
	valueGen    []uint64
	envGen      []uint64
	payload     document
	before      document
	numbers     numbers
	splitTopic  []string
	splitTopics bool
	variable    document      // of vars
	named       document      // of a run's
	facts       *[]rules.Fact // nil: nobody wants to know
	topic       []byte        // for topicOf
	scope       *scope        // of the run whose step is done; nil is none
	locals      bool          // there are slots of such
	plugins     plugins

	// What messages are made in.
	room    []message.Message // for those of this Run
	left    int               // calls of this Run still to come
	subject []byte            // a topic
	body    []byte            // a payload
	word    []byte            // a text in it
}

func newEvaluator(t *table) *evaluator {
	e := &evaluator{
		slots:    t.slots,
		zone:     t.own.zone,
		vm:       vm.VM{MemoryBudget: memoryBudget},
		env:      make(map[string]any, len(t.slots)),
		values:   make([]any, len(t.slots)),
		valueGen: make([]uint64, len(t.slots)),
		envGen:   make([]uint64, len(t.slots)),
	}
	e.plugins = plugins{e: e, funcs: t.own.funcs}
	for i := range t.slots {
		e.locals = e.locals || t.slots[i].root == rootLocal
	}
	return e
}

// mostKept is how many bytes of memory for payloads are used again.
const mostKept = 64 << 10

// noMessage is what an expression sees when there is none: payload is nil, the texts
// are empty.
var noMessage message.Message

// load turns to the message of a call, unless it is at hand already.
func (e *evaluator) load(call *rules.Call) {
	msg := call.Message
	if msg == nil { // a schedule is due
		msg = &noMessage
	}
	if e.gen > 0 && e.msg == msg && e.prev == call.Prev && e.now.Equal(call.Now) {
		return
	}
	e.gen++
	e.msg, e.prev, e.now = msg, call.Prev, call.Now
	e.payload.load(msg.Payload, call.Message != nil)
	if call.Prev != nil {
		e.before.load(call.Prev.Payload, true)
	} else {
		e.before.load(nil, false)
	}
	e.numbers.reset()
	e.splitTopics = false
}

// unload forgets the messages.
func (e *evaluator) unload() {
	e.msg, e.prev, e.facts = nil, nil, nil
	e.gen++
	e.payload.load(nil, false)
	e.before.load(nil, false)
	e.named.load(nil, false)
	e.numbers.reset()
	clear(e.values)
	clear(e.env)
	clear(e.vm.Stack[:cap(e.vm.Stack)])
	clear(e.vm.Variables)
	e.scope, e.plugins.ctx = nil, nil
	e.plugins.begin()
	e.splitTopic, e.splitTopics = nil, false
	e.room = nil
	if cap(e.body)+cap(e.word) > mostKept {
		e.body, e.word = nil, nil
	}
}

// messages is memory for n messages. That of a Run is taken by the piece, since most
// rules publish one.
func (e *evaluator) messages(n int) []message.Message {
	const piece = 16
	at := len(e.room)
	if cap(e.room)-at < n {
		e.room, at = make([]message.Message, 0, max(n, min(piece, e.left))), 0
	}
	e.room = e.room[:at+n]
	return e.room[at : at+n : at+n]
}

// slot is the value of a slot, decoded once a message.
func (e *evaluator) slot(i int) any {
	if e.valueGen[i] == e.gen {
		return e.values[i]
	}
	s := &e.slots[i]
	if s.root == rootGiven {
		v := s.given.get(e, s.path)
		if s.given.fleeting {
			e.envGen[i] = 0
			return v
		}
		e.values[i], e.valueGen[i] = v, e.gen
		return v
	}
	v := e.decode(s)
	e.values[i], e.valueGen[i] = v, e.gen
	return v
}

func (e *evaluator) decode(s *slot) any {
	switch s.root {
	case rootPayload:
		return e.fromDocument(&e.payload, s)
	case rootPrev:
		return e.fromDocument(&e.before, s)
	case rootTopic:
		return e.msg.Topic
	case rootParts:
		if len(s.path) == 0 {
			return e.parts()
		}
		if text, ok := level(e.msg.Topic, s.path[0].index); ok {
			return text
		}
		return nil
	case rootText:
		return string(e.msg.Payload)
	case rootQoS:
		return int(e.msg.QoS)
	case rootRetain:
		return e.msg.Retain
	case rootOrigin:
		return e.msg.Origin
	case rootNow:
		return e.now.In(e.zone)
	case rootLocal:
		return e.numbers.decode(e.local(s))
	case rootGiven:
	}
	return nil
}

func (e *evaluator) fromDocument(d *document, s *slot) any {
	switch d.look() {
	case isJSON:
		return e.numbers.decode(d.find(s.path))
	case isPlain:
		if len(s.path) == 0 {
			return string(d.bytes)
		}
	case unknown, isTooBig, isMisencoded, isAbsent:
	}
	return nil
}

// enter makes the variables of a run those of the expressions.
func (e *evaluator) enter(s *scope) {
	if e.scope = s; e.locals {
		e.gen++
	}
}

// local is the JSON value below a variable of the run, nil if there is none.
func (e *evaluator) local(s *slot) jsonview.Value {
	if e.scope == nil {
		return nil
	}
	text := e.scope.value(s.path[0].key)
	if text == nil {
		return nil
	}
	d := &e.named
	d.load(text, true)
	if d.look() != isJSON {
		return nil
	}
	return d.find(s.path[1:])
}

func (e *evaluator) parts() []string {
	if !e.splitTopics {
		e.splitTopic, e.splitTopics = strings.Split(e.msg.Topic, "/"), true
	}
	return e.splitTopic
}

// level is one level of a topic; false if it has not that many.
func level(topic string, i int) (text string, ok bool) {
	from := 0
	for at := range len(topic) { // a call for each level would cost more than they are long
		if topic[at] != '/' {
			continue
		}
		if i == 0 {
			return topic[from:at], true
		}
		from, i = at+1, i-1
	}
	return topic[from:], i == 0
}

var (
	errTooBig  = &notEvaluated{reason: fmt.Sprintf("the payload has more than %d bytes", maxPayload)}
	errTooMuch = &notEvaluated{reason: fmt.Sprintf("what is published has more than %d bytes", maxPayload)}
)

// run evaluates an expression.
func (e *evaluator) run(x *expression) (any, error) {
	if err := e.ready(x); err != nil {
		return nil, err
	}
	if x.bare >= 0 {
		return e.slot(x.bare), e.unread(x)
	}
	for _, i := range x.slots {
		v := e.slot(i)
		if e.envGen[i] != e.gen {
			e.env[e.slots[i].name], e.envGen[i] = v, e.gen
		}
	}
	if err := e.unread(x); err != nil {
		return nil, err
	}
	v, err := e.vm.Run(x.prog, e.env)
	if err != nil {
		return nil, e.failure(err)
	}
	return v, nil
}

// ready finds out cheaply that an expression has not what it needs.
func (e *evaluator) ready(x *expression) error {
	for _, i := range x.strict {
		if e.slot(i) == nil {
			if e.payload.kind >= isTooBig {
				return e.payload.fault()
			}
			if e.before.kind >= isTooBig {
				return e.before.fault()
			}
			return e.slots[i].missing
		}
	}
	return nil
}

// condition evaluates a condition.
func (e *evaluator) condition(x *expression) (bool, error) {
	holds, err := e.holds(x)
	if e.facts != nil {
		e.tellCondition(x, holds, err)
	}
	return holds, err
}

func (e *evaluator) holds(x *expression) (bool, error) {
	sure := true
	for i := range x.tests {
		t := &x.tests[i]
		switch t.decide(e.slot(t.slot)) {
		case holds:
		case fails:
			return false, e.unread(x)
		case unsure:
			sure = false
		}
		if !sure {
			break
		}
	}
	if sure && x.all {
		err := e.unread(x)
		return err == nil, err
	}
	v, err := e.run(x)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok && v != nil {
		return false, &notEvaluated{reason: "the condition is " + typeName(v) + ", not true or false"}
	}
	return b, nil
}

// unread is why an expression that reads the payload cannot; nil if it can.
func (e *evaluator) unread(x *expression) error {
	if e.payload.kind >= isTooBig && x.payload {
		return e.payload.fault()
	}
	return nil
}

// raw is the JSON value of an expression that is just a place in a payload.
func (e *evaluator) raw(x *expression) (v jsonview.Value, ok bool) {
	if x.bare < 0 {
		return nil, false
	}
	s, d := &e.slots[x.bare], &e.payload
	switch s.root {
	case rootPayload:
	case rootPrev:
		d = &e.before
	case rootLocal:
		return e.local(s), true
	case rootTopic, rootParts, rootText, rootQoS, rootRetain, rootOrigin, rootNow, rootGiven:
		return nil, false
	}
	if d.look() != isJSON {
		return nil, false
	}
	return d.find(s.path), true
}

// ofTopic is the text of an expression that is just the topic, or a level of it.
func (e *evaluator) ofTopic(x *expression) (text string, ok bool) {
	if x.bare < 0 {
		return "", false
	}
	switch s := &e.slots[x.bare]; {
	case s.root == rootTopic:
		return e.msg.Topic, true
	case s.root == rootParts && len(s.path) > 0:
		return level(e.msg.Topic, s.path[0].index)
	}
	return "", false
}

// appendJSON writes the value of an expression as JSON; what only passes through is
// written as it came.
func (e *evaluator) appendJSON(b []byte, x *expression) ([]byte, error) {
	if len(b) > maxPayload {
		return b, errTooMuch
	}
	if v, ok := e.raw(x); ok {
		return appendRaw(b, v), nil
	}
	v, err := e.run(x)
	if err != nil {
		return b, err
	}
	return e.numbers.appendValue(b, v)
}

// appendText writes the value of an expression as text: a string as it is, anything
// else as JSON. isString tells which.
func (e *evaluator) appendText(b []byte, x *expression) (_ []byte, isString bool, err error) {
	if len(b) > maxPayload {
		return b, true, errTooMuch
	}
	if name, ok := e.ofTopic(x); ok {
		return append(b, name...), true, nil
	}
	if v, ok := e.raw(x); ok && v.Kind() > jsonview.Null {
		if v.Kind() == jsonview.String {
			return v.AppendText(b), true, nil
		}
		return appendRaw(b, v), false, nil
	}
	v, err := e.run(x)
	if err != nil {
		return b, false, err
	}
	if s, ok := v.(string); ok {
		return append(b, s...), true, nil
	}
	if t, ok := v.(time.Time); ok {
		return t.AppendFormat(b, time.RFC3339Nano), true, nil
	}
	b, err = e.numbers.appendValue(b, v)
	return b, false, err
}

// kindErrors is how the virtual machine says that a value is of the wrong kind; it is
// compiled when one is.
var kindErrors = sync.OnceValue(func() (e struct{ conversion, cast, operation *regexp.Regexp }) {
	e.conversion = regexp.MustCompile(`^interface conversion: interface \{\} is (.+), not (.+)$`)
	e.cast = regexp.MustCompile(`^invalid operation: (\w+)\((.+)\)$`)
	e.operation = regexp.MustCompile(`^invalid operation: (.+) ([^\w\s.]+) (.+)$`)
	return e
})

// failure turns an error of the virtual machine into ours.
func (e *evaluator) failure(err error) error {
	var refused *pluginError
	if errors.As(err, &refused) {
		return refused
	}
	var fe *file.Error
	msg := err.Error()
	if errors.As(err, &fe) {
		msg = fe.Message
	}
	return &notEvaluated{reason: plainWords(msg)}
}

// plainWords says what went wrong without the types of Go.
func plainWords(msg string) string {
	if m := kindErrors().conversion.FindStringSubmatch(msg); m != nil {
		msg = fmt.Sprintf("it wants %s, not %s", goName(m[2]), goName(m[1]))
	} else if m := kindErrors().cast.FindStringSubmatch(msg); m != nil {
		msg = fmt.Sprintf("it wants %s, not %s", goName(m[1]), goName(m[2]))
	} else if m := kindErrors().operation.FindStringSubmatch(msg); m != nil {
		msg = fmt.Sprintf("%s %s %s cannot be calculated", goName(m[1]), m[2], goName(m[3]))
	}
	if len(msg) > 200 {
		msg = msg[:200] + "..."
	}
	return strings.ToValidUTF8(msg, "\uFFFD")
}

// goName is what people call a type of Go.
func goName(s string) string {
	switch s {
	case "<nil>", "nil":
		return "nil"
	case "unknown":
		return "a value"
	case "bool":
		return "true or false"
	case "string":
		return "text"
	case "int", "float64":
		return "a number"
	case "map[string]interface", "map[string]interface {}":
		return "an object"
	case "[]interface", "[]interface {}":
		return "a list"
	}
	return s
}
