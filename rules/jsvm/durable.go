package jsvm

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of what outlives an event.
const (
	maxKept     = 64 << 10 // bytes of a timer or request with its name and data
	maxRequests = 100      // of an event
	maxWaiting  = 1000     // promises of a script that wait for a reply or a sleep
)

// awaited is the name of requests that a promise waits for: no other process or version
// can go on with them.
const awaited = "(await)"

// afterID is the identifier of a timer with a name.
func afterID(name, id string) string { return fmt.Sprintf("after %q %s", name, id) }

// jsAfter is after(interval, name, [data], [{id}]).
func (s *script) jsAfter(call goja.FunctionCall) goja.Value {
	e := s.effectsOf("after")
	d := max(s.durationOf(call.Argument(0), time.Millisecond), minTimeout)
	name := s.nameOf("after", call.Argument(1))
	s.needHandler("after", "timer", kindTimer, name)
	if len(e.timers) >= 2*maxTimers {
		panic(s.rt.NewTypeError("more than %d timers in an event", 2*maxTimers))
	}
	id := ""
	s.eachOption("after", call.Argument(3), func(key string, v goja.Value) bool {
		if key == "id" {
			id = s.idOf(v)
		}
		return key == "id"
	})
	t := rules.TimerChange{ID: afterID(name, id), After: d, Name: name, Data: s.dataOf("after", call.Argument(2))}
	s.keptCap("after", len(t.ID)+len(t.Name)+len(t.Data))
	s.fact(t.ID+" in "+d.String(), t.Data)
	if s.ofAnother(name) {
		s.fact("shadow", []byte("the timer is shown, not set: timer("+strconv.Quote(name)+") is no shadow"))
		return goja.Undefined()
	}
	e.timers = append(e.timers, t)
	return goja.Undefined()
}

// ofAnother reports whether a shadow rule asks for a timer that a rule handles which is
// none: its actions would be taken.
func (s *script) ofAnother(timer string) bool {
	if !s.shadow {
		return false
	}
	i, ok := s.handlerOf(kindTimer, timer)
	return !ok || !s.rules[i].Shadow
}

// jsCancel is cancel(name, [id]).
func (s *script) jsCancel(call goja.FunctionCall) goja.Value {
	e := s.effectsOf("cancel")
	name, id := s.nameOf("cancel", call.Argument(0)), ""
	if v := call.Argument(1); !goja.IsUndefined(v) {
		id = s.idOf(v)
	}
	if len(e.timers) >= 2*maxTimers {
		panic(s.rt.NewTypeError("more than %d timers in an event", 2*maxTimers))
	}
	s.fact("cancel "+afterID(name, id), nil)
	if s.ofAnother(name) {
		s.fact("shadow", []byte("this is shown, not done: timer("+strconv.Quote(name)+") is no shadow"))
		return goja.Undefined()
	}
	e.timers = append(e.timers, rules.TimerChange{ID: afterID(name, id), Name: name})
	return goja.Undefined()
}

// needHandler throws if nothing handles the name. The top level may still come to it.
func (s *script) needHandler(word, handler string, kind ruleKind, name string) {
	if _, ok := s.handlerOf(kind, name); ok {
		return
	}
	missing := fmt.Sprintf("%s(%s): the script has no %s(%s, handler) at its top level", word, strconv.Quote(name), handler, strconv.Quote(name))
	if !s.top {
		panic(s.rt.NewTypeError("%s", missing))
	}
	line, column := s.line()
	s.wanted = append(s.wanted, wanted{kind: kind, name: name, fault: fault{Line: line, Column: column, Msg: missing}})
}

// wanted is a handler that the top level needs before it ends.
type wanted struct {
	kind  ruleKind
	name  string
	fault fault
}

// checkWanted is the fault for a handler that was needed and did not come.
func (s *script) checkWanted() *fault {
	for i := range s.wanted {
		if _, ok := s.handlerOf(s.wanted[i].kind, s.wanted[i].name); !ok {
			return &s.wanted[i].fault
		}
	}
	s.wanted = nil
	return nil
}

func (s *script) idOf(v goja.Value) string {
	id := strings.ToValidUTF8(v.String(), "\uFFFD")
	if len(id) > maxKey {
		panic(s.rt.NewTypeError("an id may have at most %d bytes", maxKey))
	}
	return id
}

// dataOf is what a timer or a request carries, as JSON; nil if it is nothing.
func (s *script) dataOf(word string, v goja.Value) []byte {
	if v == nil || goja.IsUndefined(v) {
		return nil
	}
	b := s.encodeJSON(v)
	s.keptCap(word, len(b))
	s.capJSON(string(b)) // so that it can be read again
	return b
}

func (s *script) keptCap(word string, n int) {
	if n > maxKept {
		panic(s.rt.NewTypeError("%s: %d bytes of data are over the limit of %d", word, n, maxKept))
	}
	s.account(n)
}

// callNamed calls the handler of a timer with a name.
func (s *script) callNamed(c *callRecord) wireOutcome {
	if c.Rule >= len(s.rules) || s.rules[c.Rule].Kind != kindTimer {
		return wireOutcome{Fault: &fault{Msg: fmt.Sprintf("no timer %q", c.Name)}}
	}
	if p, ok := s.burstOf(c.Rule); ok {
		return s.callBurst(c, p)
	}
	id := strings.TrimPrefix(c.Timer, afterID(c.Name, ""))
	return s.callRule(c.Rule, func() []goja.Value {
		return []goja.Value{s.given(c.Data), s.info(map[string]any{"name": c.Name, "id": id, "late": c.Late.Milliseconds()})}
	})
}

// callSchedule calls the handler of a schedule or a start.
func (s *script) callSchedule(c *callRecord) wireOutcome {
	if c.Rule >= len(s.rules) {
		return wireOutcome{Fault: &fault{Msg: fmt.Sprintf("no rule %d", c.Rule)}}
	}
	return s.callRule(c.Rule, func() []goja.Value {
		return []goja.Value{s.info(map[string]any{"schedule": c.Schedule, "late": c.Late.Milliseconds()})}
	})
}

// callRule runs a handler as an event; args are made within it.
func (s *script) callRule(rule int, args func() []goja.Value) wireOutcome {
	out := s.run(&effects{}, func() error {
		var list []goja.Value
		if ex := s.rt.Try(func() { list = args() }); ex != nil {
			return ex
		}
		_, err := s.handlers[rule](goja.Undefined(), list...)
		return err
	}, nil)
	out.Fired = out.Fault == nil
	return out
}

// given is what was kept as JSON.
func (s *script) given(data []byte) goja.Value {
	if len(data) == 0 {
		return goja.Undefined()
	}
	return s.decode(data)
}

// info is an object of plain values.
func (s *script) info(fields map[string]any) goja.Value {
	o := s.rt.NewObject()
	for key, v := range fields {
		_ = o.Set(key, v) // a plain new object takes everything
	}
	return o
}

// jsSleep gives a promise that is kept after an interval.
func (s *script) jsSleep(call goja.FunctionCall) goja.Value {
	s.effectsOf("sleep")
	promise, resolve, _ := s.rt.NewPromise()
	wake := s.rt.ToValue(func(goja.FunctionCall) goja.Value {
		_ = resolve(goja.Undefined()) // what waits for it runs when this returns
		return goja.Undefined()
	})
	s.addTimer("sleep", wake, call.Argument(0), nil, false)
	return s.rt.ToValue(promise)
}
