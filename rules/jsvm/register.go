package jsvm

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/schedule"
)

// wireRule is a rule as the worker knows it.
type wireRule struct {
	rules.Rule
	Times []wireTime // its schedules, which the gateway compiles: the zone and the place are there
	// Named is what it handles: a timer or a reply of that name. Else it is empty.
	Named string
	Kind  ruleKind
}

// wireTime is a schedule in words.
type wireTime struct{ Word, Text string }

// ruleKind says what a rule with a name handles.
type ruleKind byte

const (
	kindPlain ruleKind = iota
	kindTimer
	kindReply
)

// The options of the words that make rules.
const (
	optName     = "name"
	optQoS      = "qos"
	optRetained = "retained"
	optShadow   = "shadow"
	optEnabled  = "enabled"
	optMissed   = "missed"
	optOnError  = "on_error"
)

var ruleOptions = map[string][]string{
	"on":     {optName, optQoS, optRetained, optShadow, optEnabled},
	"filter": {optName, optOnError, optEnabled},
	"cron":   {optName, optMissed, optShadow, optEnabled},
	"at":     {optName, optMissed, optShadow, optEnabled},
	"sun":    {optName, optMissed, optShadow, optEnabled},
	"start":  {optName, optShadow, optEnabled},
	"hook":   {optName, optShadow, optEnabled},
	"timer":  {optMissed, optShadow},
	"reply":  {optShadow},
}

func (s *script) jsOn(call goja.FunctionCall) goja.Value {
	return s.register("on", rules.After, call, s.takeFilters("on"))
}

func (s *script) jsFilter(call goja.FunctionCall) goja.Value {
	return s.register("filter", rules.Before, call, s.takeFilters("filter"))
}

func (s *script) takeFilters(word string) func(*wireRule, goja.Value) string {
	return func(r *wireRule, v goja.Value) string {
		r.Filters = s.filtersOf(word, v)
		return r.Filters[0]
	}
}

// scheduled makes the function cron, at or sun.
func (s *script) scheduled(word string) native {
	return func(call goja.FunctionCall) goja.Value {
		return s.register(word, rules.After, call, func(r *wireRule, v goja.Value) string {
			r.Times = s.timesOf(word, v)
			return r.Times[0].Text
		})
	}
}

func (s *script) jsStart(call goja.FunctionCall) goja.Value {
	call.Arguments = append([]goja.Value{goja.Undefined()}, call.Arguments...)
	return s.register("start", rules.After, call, func(r *wireRule, _ goja.Value) string {
		r.Start = true
		return ""
	})
}

// hookLetters are what the name of a webhook is made of.
const hookLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func (s *script) jsHook(call goja.FunctionCall) goja.Value {
	return s.register("hook", rules.After, call, func(r *wireRule, v goja.Value) string {
		name := s.nameOf("hook", v)
		if len(name) > 64 || strings.Trim(name, hookLetters) != "" {
			panic(s.rt.NewTypeError("the name of a webhook is letters, digits, - and _, at most 64, not %s", strconv.Quote(name)))
		}
		r.Hooks = []string{name}
		return name
	})
}

// handles makes the function timer or reply.
func (s *script) handles(word string, kind ruleKind) native {
	return func(call goja.FunctionCall) goja.Value {
		return s.register(word, rules.After, call, func(r *wireRule, v goja.Value) string {
			r.Named, r.Kind = s.nameOf(word, v), kind
			if _, ok := s.handlerOf(kind, r.Named); ok {
				panic(s.rt.NewTypeError("there are two %s(%s)", word, strconv.Quote(r.Named)))
			}
			return r.Named
		})
	}
}

// handlerOf is the rule that handles a timer or reply of that name.
func (s *script) handlerOf(kind ruleKind, name string) (index int, ok bool) {
	for i := range s.rules {
		if s.rules[i].Kind == kind && s.rules[i].Named == name && kind != kindPlain {
			return i, true
		}
	}
	return 0, false
}

// register takes word(what, [options], handler); take reads what, and gives the end of
// the rule's name.
func (s *script) register(word string, at rules.Stage, call goja.FunctionCall, take func(*wireRule, goja.Value) string) goja.Value {
	if !s.top {
		panic(s.rt.NewTypeError("%s can only be called at the top level of a script, not by a handler or a timer", word))
	}
	if len(s.rules) == maxRules {
		panic(s.rt.NewTypeError("more than %d rules in a script", maxRules))
	}
	r, enabled := wireRule{Rule: rules.Rule{Stage: at}}, true
	handler := call.Argument(1)
	if len(call.Arguments) > 2 {
		handler = call.Argument(2)
		s.eachOption(word, call.Argument(1), func(key string, v goja.Value) bool {
			for _, known := range ruleOptions[word] {
				if key == known {
					s.ruleOption(&r, &enabled, key, v)
					return true
				}
			}
			return false
		})
	}
	f, ok := goja.AssertFunction(handler)
	if !ok {
		panic(s.rt.NewTypeError("the last argument of %s must be a function", word))
	}
	what := take(&r, call.Argument(0))
	if !enabled {
		return goja.Undefined()
	}
	r.Line, _ = s.line()
	s.nameRule(strings.TrimSpace(word+" "+what), &r.Rule)
	s.nameCap(r.Name)
	s.rules = append(s.rules, r)
	s.handlers = append(s.handlers, f)
	return goja.Undefined()
}

func (s *script) ruleOption(r *wireRule, enabled *bool, key string, v goja.Value) {
	switch key {
	case optName:
		r.Name = cut(s.textOption(key, v), 200)
	case optQoS:
		r.QoS = s.qosOf(v)
	case optRetained:
		r.Retained = s.boolOption(key, v)
	case optShadow:
		r.Shadow = s.boolOption(key, v)
	case optEnabled:
		*enabled = s.boolOption(key, v)
	case optMissed:
		r.Grace = s.missedOf(v)
	case optOnError:
		switch v.String() {
		case "reject":
			r.OnError = rules.RejectOnError
		case "pass":
			r.OnError = rules.PassOnError
		default:
			panic(s.rt.NewTypeError("on_error must be \"reject\" or \"pass\""))
		}
	}
}

// boolOption is strict: "false" would be true.
func (s *script) boolOption(key string, v goja.Value) bool {
	b, ok := v.Export().(bool)
	if !ok {
		panic(s.rt.NewTypeError("%s must be true or false", key))
	}
	return b
}

// missedOf reads what becomes of what was due while the gateway was off, as Rule.Grace
// says it.
func (s *script) missedOf(v goja.Value) time.Duration {
	switch v.String() {
	case "run":
		return math.MaxInt64
	case "skip":
		return -1
	}
	d := s.durationOf(v, time.Millisecond)
	if d == 0 {
		panic(s.rt.NewTypeError("missed must be \"run\", \"skip\", or how late it may be, such as \"2h\""))
	}
	return d
}

// maxNameBytes bounds what timers, replies and webhooks are called.
const maxNameBytes = 200

// nameOf reads the name of a timer, a reply or a webhook.
func (s *script) nameOf(word string, v goja.Value) string {
	if !goja.IsString(v) || v.String() == "" || len(v.String()) > maxNameBytes {
		panic(s.rt.NewTypeError("%s needs a name of 1 to %d bytes", word, maxNameBytes))
	}
	return strings.ToValidUTF8(v.String(), "\uFFFD")
}

// maxTimes bounds the schedules of a rule.
const maxTimes = 100

// timesOf reads one schedule of a kind, or a list of them.
func (s *script) timesOf(word string, v goja.Value) []wireTime {
	var list []wireTime
	add := func(v goja.Value) {
		if !goja.IsString(v) {
			panic(s.rt.NewTypeError("%s needs text", word))
		}
		if len(list) == maxTimes {
			panic(s.rt.NewTypeError("more than %d times in a rule", maxTimes))
		}
		t := wireTime{Word: word, Text: cut(v.String(), maxNameBytes)}
		if _, err := t.schedule(time.UTC, &rules.Place{}); err != nil {
			panic(s.rt.NewTypeError("%v", err))
		}
		s.nameCap(t.Text)
		list = append(list, t)
	}
	if o, ok := v.(*goja.Object); ok && o.ClassName() == "Array" {
		s.rt.ForOf(o, func(v goja.Value) bool { add(v); return true })
	} else {
		add(v)
	}
	if len(list) == 0 {
		panic(s.rt.NewTypeError("%s needs at least one time", word))
	}
	return list
}

// schedule compiles the time.
func (t *wireTime) schedule(zone *time.Location, place *rules.Place) (rules.Schedule, error) {
	switch t.Word {
	case "cron":
		return schedule.Cron(t.Text, zone)
	case "at":
		return schedule.At(t.Text, zone)
	default:
		if place == nil {
			return nil, errNoPlace
		}
		return schedule.Sun(t.Text, place.Latitude, place.Longitude, zone)
	}
}

func (w *encoder) rule(ru *wireRule) {
	w.text(ru.Name)
	w.count(ru.Line)
	w.byte(byte(ru.Stage))
	w.byte(byte(ru.QoS))
	w.byte(byte(ru.OnError))
	w.texts(ru.Filters)
	w.count(len(ru.Times))
	for _, t := range ru.Times {
		w.text(t.Word)
		w.text(t.Text)
	}
	w.texts(ru.Hooks)
	w.text(ru.Named)
	w.byte(byte(ru.Kind))
	w.span(ru.Grace)
	w.bool(ru.Start)
	w.bool(ru.Retained)
	w.bool(ru.Shadow)
	w.bool(ru.Hidden)
}

// minRule is the least that a rule takes on the pipe.
const minRule = 15

func (r *decoder) rule(ru *wireRule) {
	ru.Name, ru.Line = r.text(), r.small()
	ru.Stage = rules.Stage(r.enum(byte(rules.Watch)))
	ru.QoS = message.QoS(r.enum(byte(message.ExactlyOnce)))
	ru.OnError = rules.OnError(r.enum(byte(rules.PassOnError)))
	ru.Filters = r.texts()
	for range r.count(2) {
		ru.Times = append(ru.Times, wireTime{Word: r.text(), Text: r.text()})
	}
	ru.Hooks = r.texts()
	ru.Named, ru.Kind = r.text(), ruleKind(r.enum(byte(kindReply)))
	ru.Grace = r.span()
	ru.Start, ru.Retained, ru.Shadow, ru.Hidden = r.bool(), r.bool(), r.bool(), r.bool()
}

func (w *encoder) texts(list []string) {
	w.count(len(list))
	for _, t := range list {
		w.text(t)
	}
}

func (r *decoder) texts() []string {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.text()
	}
	return list
}
