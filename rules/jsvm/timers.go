package jsvm

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/rules"
)

// The shortest times, below which a request is raised to them.
const (
	minTimeout  = time.Millisecond
	minInterval = 10 * time.Millisecond
)

// Timers of the top level are named by what they are and where they stand, so that
// they are the same ones when the script is run again in a new worker, even if their
// time was reckoned anew; those of handlers by the number of the run.
const (
	topTimer     = "top/"
	handlerTimer = "run/"
)

// shadowMark and the index of a rule end the name of a timer that a shadow rule set: what
// the timer does is the rule's, and shown only.
const shadowMark = "@"

// shadowOf is the shadow rule of a timer, if it has one.
func shadowOf(id string) (rule int, ok bool) {
	_, after, ok := strings.Cut(id, shadowMark)
	if !ok || !strings.HasPrefix(id, handlerTimer) {
		return 0, false
	}
	rule, err := strconv.Atoi(after)
	return rule, err == nil
}

func (s *script) jsSetTimeout(call goja.FunctionCall) goja.Value {
	return s.addTimer("setTimeout", call.Argument(0), call.Argument(1), call.Arguments, false)
}

func (s *script) jsSetInterval(call goja.FunctionCall) goja.Value {
	return s.addTimer("setInterval", call.Argument(0), call.Argument(1), call.Arguments, true)
}

func (s *script) jsEvery(call goja.FunctionCall) goja.Value {
	return s.addTimer("every", call.Argument(1), call.Argument(0), call.Arguments, true)
}

func (s *script) addTimer(word string, f, after goja.Value, args []goja.Value, every bool) goja.Value {
	e := s.effectsOf(word)
	call, ok := goja.AssertFunction(f)
	if !ok {
		panic(s.rt.NewTypeError("%s needs a function", word))
	}
	if len(s.timers) >= maxTimers || len(e.timers) >= 2*maxTimers {
		panic(s.rt.NewTypeError("more than %d pending timers", maxTimers))
	}
	d := minTimeout
	if !goja.IsUndefined(after) {
		d = s.durationOf(after, time.Millisecond)
	}
	d = max(d, minTimeout)
	if every {
		d = max(d, minInterval)
	}
	t := &jsTimer{call: call, every: every}
	if len(args) > 2 {
		t.args = append(t.args, args[2:]...)
	}
	if s.explain {
		s.fact(word+" "+d.String(), nil)
	}
	id := s.timerID(every)
	s.timers[id] = t
	e.added = append(e.added, id)
	e.timers = append(e.timers, rules.TimerChange{ID: id, After: d, Every: every})
	return s.rt.ToValue(id)
}

func (s *script) timerID(every bool) string {
	if !s.top {
		s.timerSeq++
		id := fmt.Sprintf("%s%d.%d", handlerTimer, s.number, s.timerSeq)
		if s.shadow {
			id += shadowMark + strconv.Itoa(s.rule)
		}
		return id
	}
	line, column := s.line()
	kind := "once"
	if every {
		kind = "every"
	}
	place := fmt.Sprintf("%s%d:%d/%s/", topTimer, line, column, kind)
	if s.places == nil {
		s.places = make(map[string]int)
	}
	s.places[place]++
	return place + strconv.Itoa(s.places[place])
}

// ownTimer reports whether this run of the script made the id.
func (s *script) ownTimer(id string) bool {
	return strings.HasPrefix(id, topTimer) || strings.HasPrefix(id, fmt.Sprintf("%s%d.", handlerTimer, s.number))
}

func (s *script) jsClearTimer(call goja.FunctionCall) goja.Value {
	if s.in.filter {
		panic(s.rt.NewTypeError("timers cannot be stopped in a filter: use on"))
	}
	if !goja.IsString(call.Argument(0)) {
		return goja.Undefined()
	}
	s.stopTimer(call.Argument(0).String())
	return goja.Undefined()
}

// stopTimer stops a timer if it stands.
func (s *script) stopTimer(id string) {
	t := s.timers[id]
	if t == nil {
		return
	}
	delete(s.timers, id)
	if s.in.removed == nil {
		s.in.removed = make(map[string]*jsTimer)
	}
	s.in.removed[id] = t
	s.in.timers = append(s.in.timers, rules.TimerChange{ID: id})
}
