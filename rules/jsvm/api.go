package jsvm

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// setUp makes the runtime and everything that a script can reach; bytes says that it
// reaches the constructors of binary data.
func (s *script) setUp(bytes bool) {
	rt := goja.New()
	s.rt, s.timers = rt, make(map[string]*jsTimer)
	rt.SetMaxCallStackSize(maxStack)
	rt.SetTimeSource(func() time.Time { s.vary(); return s.now })
	rt.SetRandSource(func() float64 { s.vary(); return rand.Float64() }) //nolint:gosec // as JavaScript has it: for no secrets
	rt.SetPromiseRejectionTracker(s.trackRejection)
	s.newDate = rt.Get("Date").ToObject(rt)
	s.newErr = rt.Get("Error").ToObject(rt)
	s.nothing = goja.MustCompile("", "", false)
	s.capBuiltins()
	if bytes {
		s.setUpBytes()
	}

	s.offer("require", s.requireFrom(s.name))
	s.offer("on", s.jsOn)
	s.offer("filter", s.jsFilter)
	for _, word := range []string{"cron", "at", "sun"} {
		s.offer(word, s.scheduled(word))
	}
	s.offer("start", s.jsStart)
	s.offer("hook", s.jsHook)
	s.offer("timer", s.handles("timer", kindTimer))
	s.offer("reply", s.handles("reply", kindReply))
	s.offer("after", s.jsAfter)
	s.offer("cancel", s.jsCancel)
	s.offer("sleep", s.jsSleep)
	s.offer("window", s.jsWindow)
	s.offer("watch", s.jsWatch)
	s.offer("last", s.varying(s.jsLast))
	s.offer("shared", s.jsShared)
	s.offer("publish", s.jsPublish)
	s.offer("setTimeout", s.jsSetTimeout)
	s.offer("setInterval", s.jsSetInterval)
	s.offer("every", s.jsEvery)
	s.offer("clearTimeout", s.jsClearTimer)
	s.offer("clearInterval", s.jsClearTimer)
	s.setUpState()
	s.setUpLog()
	s.setUpHTTP()
	s.offer("plugin", s.jsPlugin)
	s.setUpHelpers()
	s.offerAll(bytes)
}

type native = func(goja.FunctionCall) goja.Value

// vary notes that the script asks for what may be another the next time.
func (s *script) vary() { s.varies = s.varies || s.top }

// varying is f, which gives what may be another the next time.
func (s *script) varying(f native) native {
	return func(call goja.FunctionCall) goja.Value {
		s.vary()
		return f(call)
	}
}

func (s *script) global(name string, f any) {
	if err := s.rt.Set(name, f); err != nil {
		panic(fmt.Sprintf("jsvm: cannot set %s: %v", name, err)) // a new runtime takes everything
	}
}

func (s *script) setUpState() {
	s.object("state", map[string]native{
		"get": s.varying(s.jsStateGet), "set": s.varying(s.jsStateSet), "delete": s.varying(s.jsStateDelete),
		"keys": s.varying(s.jsStateKeys), "update": s.varying(s.jsStateUpdate), "share": s.jsStateShare,
	})
}

func (s *script) setUpLog() {
	levels := map[string]native{
		"debug": s.logger(slog.LevelDebug), "info": s.logger(slog.LevelInfo),
		"warn": s.logger(slog.LevelWarn), "error": s.logger(slog.LevelError),
	}
	s.offer("log", func() goja.Value { return s.with(s.rt.ToValue(s.logger(slog.LevelInfo)), levels) })
	console := maps.Clone(levels)
	console["log"] = levels["info"]
	s.object("console", console)
}

func (s *script) object(name string, members map[string]native) {
	s.offer(name, func() goja.Value { return s.with(s.rt.NewObject(), members) })
}

// with gives an object members.
func (s *script) with(v goja.Value, members map[string]native) goja.Value {
	o := v.ToObject(s.rt)
	for key, f := range members {
		_ = o.Set(key, f) // a new object, or function, of ours takes properties
	}
	return o
}

// newError is a plain Error, to be thrown by panic.
func (s *script) newError(format string, args ...any) goja.Value {
	e, err := s.rt.New(s.newErr, s.rt.ToValue(fmt.Sprintf(format, args...)))
	if err != nil {
		panic(err)
	}
	return e
}

func (s *script) newBytes(b []byte) goja.Value {
	s.setUpBytes()
	buffer := s.rt.NewArrayBuffer(append([]byte{}, b...))
	array, err := s.rt.New(s.newArray8, s.rt.ToValue(buffer))
	if err != nil {
		panic(err)
	}
	return array
}

func (s *script) trackRejection(p *goja.Promise, op goja.PromiseRejectionOperation) {
	if s.in == nil {
		return
	}
	if op == goja.PromiseRejectionReject {
		s.in.broken = append(s.in.broken, p)
		return
	}
	s.in.broken = slices.DeleteFunc(s.in.broken, func(b *goja.Promise) bool { return b == p })
}

// line is where in the script the function in progress was called.
func (s *script) line() (line, column int) {
	for _, f := range s.rt.CaptureCallStack(8, nil) {
		if f.SrcName() == s.name {
			p := f.Position()
			return p.Line, p.Column
		}
	}
	return 0, 0
}

// nameRule gives the rule a name that no other has: its option name, or what it is.
func (s *script) nameRule(what string, r *rules.Rule) {
	if r.Name == "" {
		r.Name = what
	}
	if s.names == nil {
		s.names = make(map[string]int)
	}
	for base := r.Name; ; {
		s.names[base]++
		if n := s.names[base]; n > 1 {
			r.Name = base + " #" + strconv.Itoa(n)
		}
		if r.Name == base || s.names[r.Name] == 0 {
			s.names[r.Name] = max(s.names[r.Name], 1)
			return
		}
	}
}

// nameCap counts the names and topic filters of all rules, which are one answer.
func (s *script) nameCap(name string) {
	s.named += len(name)
	if s.named > maxNames {
		panic(s.rt.NewTypeError("more than %d bytes of names and topic filters in a script", maxNames))
	}
}

func (s *script) filtersOf(word string, v goja.Value) []string {
	var list []string
	add := func(f goja.Value) {
		if !goja.IsString(f) || !validFilter(f.String()) {
			panic(s.rt.NewTypeError("%s is not a topic filter", quoteTopic(f.String())))
		}
		if len(list) == maxFilters {
			panic(s.rt.NewTypeError("more than %d topic filters in a rule", maxFilters))
		}
		s.nameCap(f.String())
		list = append(list, f.String())
	}
	if o, ok := v.(*goja.Object); ok && o.ClassName() == "Array" {
		s.rt.ForOf(o, func(f goja.Value) bool { add(f); return true })
	} else {
		add(v)
	}
	if len(list) == 0 {
		panic(s.rt.NewTypeError("%s needs at least one topic filter", word))
	}
	return list
}

// account counts what an event gives out, which is bounded.
func (s *script) account(bytes int) {
	s.in.output += bytes
	if s.in.output > maxOutput {
		panic(s.rt.NewTypeError("an event may publish at most %d bytes", maxOutput))
	}
}

// effectsOf gives the event in progress, for functions that a filter may not call.
func (s *script) effectsOf(word string) *effects {
	if s.in.filter {
		panic(s.rt.NewTypeError("%s cannot be called in a filter: use on", word))
	}
	return s.in
}

func (s *script) jsPublish(call goja.FunctionCall) goja.Value {
	e := s.effectsOf("publish")
	topic := call.Argument(0)
	if !goja.IsString(topic) || !validName(topic.String()) {
		panic(s.rt.NewTypeError("cannot publish to %s: not a topic name", quoteTopic(topic.String())))
	}
	if err := rules.CheckTopic(topic.String()); err != nil {
		panic(s.rt.NewTypeError("cannot publish: %v", err))
	}
	if len(call.Arguments) < 2 {
		panic(s.rt.NewTypeError("publish needs a topic and a value"))
	}
	if len(e.publish) == maxPublish {
		panic(s.rt.NewTypeError("an event may publish at most %d messages", maxPublish))
	}
	m := wireMessage{Message: message.Message{Topic: topic.String(), Payload: s.payloadOf(call.Argument(1))}}
	p := s.readOptions("publish", call.Argument(2))
	p.apply(&m)
	s.account(m.Size())
	s.fact("publish "+m.Topic, m.Payload)
	e.publish = append(e.publish, m)
	return goja.Undefined()
}

func (s *script) logger(level slog.Level) native {
	return func(call goja.FunctionCall) goja.Value {
		e := s.in
		switch {
		case len(e.logs) < maxLogs:
			line := rules.LogLine{Level: level, Text: s.logText(call.Arguments)}
			s.fact("log", []byte(line.Text))
			e.logs = append(e.logs, line)
		case !e.quiet:
			e.quiet = true
			e.logs = append(e.logs, rules.LogLine{Level: slog.LevelWarn, Text: fmt.Sprintf("more than %d lines: the rest is dropped", maxLogs)})
		}
		return goja.Undefined()
	}
}

func (s *script) logText(args []goja.Value) string {
	var b strings.Builder
	for i, v := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s.shown(v))
		if b.Len() > maxLogLine {
			break
		}
	}
	return cut(strings.ToValidUTF8(b.String(), "\uFFFD"), maxLogLine)
}

// shown is a value as a log line shows it: objects as JSON, errors as their text.
func (s *script) shown(v goja.Value) string {
	o, ok := v.(*goja.Object)
	if !ok || o.ClassName() == "Error" || o.ClassName() == "Function" {
		return v.String()
	}
	if raw := s.untouched(o); raw != nil {
		return string(raw)
	}
	b, err := o.MarshalJSON()
	if err != nil {
		return v.String()
	}
	return string(b)
}

func (s *script) jsStateGet(call goja.FunctionCall) goja.Value {
	key := s.stateKey(call.Argument(0))
	raw, changed := s.in.state[key]
	if !changed {
		raw = s.state[key]
	}
	s.fact("state.get "+key, raw)
	if raw == nil {
		return goja.Undefined()
	}
	return s.decode(raw)
}

func (s *script) jsStateSet(call goja.FunctionCall) goja.Value {
	key := s.stateKey(call.Argument(0))
	if v := call.Argument(1); goja.IsUndefined(v) {
		s.changeState(key, nil)
	} else {
		text := s.encodeJSON(v)
		s.capJSON(string(text)) // so that get can read it
		s.changeState(key, text)
	}
	return goja.Undefined()
}

func (s *script) jsStateDelete(call goja.FunctionCall) goja.Value {
	s.changeState(s.stateKey(call.Argument(0)), nil)
	return goja.Undefined()
}

func (s *script) jsStateKeys(goja.FunctionCall) goja.Value {
	keys := make(map[string]struct{}, len(s.state))
	for k := range s.state {
		keys[k] = struct{}{}
	}
	for k, v := range s.in.state {
		if v == nil {
			delete(keys, k)
		} else {
			keys[k] = struct{}{}
		}
	}
	items := make([]any, 0, len(keys))
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		items = append(items, k)
	}
	return s.rt.NewArray(items...)
}

func (s *script) stateKey(v goja.Value) string {
	if !goja.IsString(v) || v.String() == "" {
		panic(s.rt.NewTypeError("a key of state must be a string that is not empty"))
	}
	key := v.String()
	if len(key) > maxKey {
		panic(s.rt.NewTypeError("a key of state may have at most %d bytes", maxKey))
	}
	return key
}

// changeState keeps the books as rules.State does, so that it refuses here what
// would be refused there.
func (s *script) changeState(key string, value []byte) {
	e := s.in
	old, changed := e.state[key]
	if !changed {
		old = s.state[key]
	}
	keys, size := e.keys, e.size
	if old != nil {
		keys--
		size -= len(key) + len(old)
	}
	if value != nil {
		keys++
		size += len(key) + len(value)
	}
	if value != nil && (len(s.state)+keys > rules.MaxStateKeys || s.size+size > rules.MaxStateBytes) {
		panic(s.rt.NewTypeError("state is over its limit of %d keys and %d bytes", rules.MaxStateKeys, rules.MaxStateBytes))
	}
	if e.state == nil {
		e.state = make(map[string][]byte)
	}
	e.keys, e.size = keys, size
	if value == nil {
		s.fact("state.delete "+key, nil)
	} else {
		s.fact("state.set "+key, value)
	}
	if value == nil && s.state[key] == nil {
		delete(e.state, key) // it was not there before the event, either
	} else {
		e.state[key] = value
	}
}
