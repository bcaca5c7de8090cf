package jsvm

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/rules"
)

// giveTimerUp is how long after its time the timer of a debounce is given up, in
// milliseconds: one that could not be set must not hold the function back for ever.
const giveTimerUp = 60_000

// pace is what debounce and throttle have in common.
type pace struct {
	paceSpec
	index int // in script.paces, if the top level made it
	call  goja.Callable
	key   goja.Callable // nil: all calls are of one key
	grace time.Duration
}

// pacing is what an event did to debounces and throttles.
type pacing struct {
	changes map[paceKey]*pacedNow
	order   []paceKey
	keys    map[int]int // how many more keys that gives each
	held    int         // and bytes
}

// pacedNow is a change, and, of a debounce, what only this runtime can have.
type pacedNow struct {
	paced
	after  time.Duration // when its timer is to be due; 0 leaves it as it is
	called bool          // with args
	args   []goja.Value
}

// waitsWith is what a debounce was called with at a time, as it was.
type waitsWith struct {
	at   int64
	args []goja.Value
}

// paceOf reads (interval, f, [{key, name, missed}]).
func (s *script) paceOf(word string, call goja.FunctionCall) *pace {
	p := &pace{paceSpec: paceSpec{Interval: s.durationOf(call.Argument(0), time.Millisecond), Throttle: word == "throttle"}}
	f := call.Argument(1)
	var ok bool
	if p.call, ok = goja.AssertFunction(f); !ok {
		panic(s.rt.NewTypeError("%s needs a time and a function", word))
	}
	s.eachOption(word, call.Argument(2), func(key string, v goja.Value) bool {
		switch {
		case key == "key":
			if p.key, ok = goja.AssertFunction(v); !ok {
				panic(s.rt.NewTypeError("key must be a function"))
			}
		case key == "name":
			p.Name = word + " " + s.nameOf(word, v)
		case key == "missed" && !p.Throttle:
			p.grace = s.missedOf(v)
		default:
			return false
		}
		return true
	})
	if s.top {
		s.keepPace(word, p, f)
	}
	return p
}

// keepPace has the script keep a debounce or throttle of the top level under its name: the
// one that it was given, that of its function, or what it is and which one of these.
func (s *script) keepPace(word string, p *pace, f goja.Value) {
	if len(s.paces) == maxPaces {
		panic(s.rt.NewTypeError("more than %d debounces and throttles in a script", maxPaces))
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(s.paces, func(o paceSpec) bool { return o.Name == name })
	}
	if p.Name != "" && taken(p.Name) {
		panic(s.rt.NewTypeError("there are two of the name %s", strconv.Quote(p.Name)))
	}
	if p.Name == "" {
		base := word + " " + p.Interval.String()
		if name := f.ToObject(s.rt).Get("name"); goja.IsString(name) && name.String() != "" && len(name.String()) <= maxNameBytes {
			base = word + " " + strings.ToValidUTF8(name.String(), "\uFFFD")
		}
		p.Name = base
		for n := 2; taken(p.Name); n++ {
			p.Name = base + " #" + strconv.Itoa(n)
		}
	}
	p.index = len(s.paces)
	s.nameCap(p.Name)
	s.paces = append(s.paces, p.paceSpec)
}

// keyOf is the key of a call.
func (s *script) keyOf(p *pace, call goja.FunctionCall) string {
	if p.key == nil {
		return ""
	}
	v, err := p.key(goja.Undefined(), call.Arguments...)
	if err != nil {
		panic(err)
	}
	return s.pointKey(v)
}

// jsDebounce makes a function that runs when it was not called for a time, with what it
// was called with last. Its timer is left as it is: when it is due, it looks whether that
// time is over. See [script.callBurst].
func (s *script) jsDebounce(call goja.FunctionCall) goja.Value {
	p := s.paceOf("debounce", call)
	passing := s.passingDebounce(p)
	if !s.top {
		return s.rt.ToValue(passing)
	}
	s.handleBursts(p)
	return s.rt.ToValue(func(call goja.FunctionCall) goja.Value {
		if s.shadow { // its timer is to be the rule's
			return passing(call)
		}
		e, key := s.effectsOf("a debounced function"), s.keyOf(p, call)
		was, waits := s.pauseOf(p.index, key)
		now := &pacedNow{called: true, args: slices.Clone(call.Arguments)}
		now.paced = paced{Pace: p.index, Key: key, pause: pause{At: s.steady, Due: was.Due, Args: s.keptArgs(call.Arguments)}}
		if !waits || s.steady > was.Due+giveTimerUp {
			now.Due, now.after = s.steady+p.milliseconds(), max(p.Interval, minTimeout)
		} else if c := e.paced.changes[paceKey{p.index, key}]; c != nil {
			now.after = c.after
		}
		s.setPaced(p, now)
		s.fact(p.Name+" waits for "+p.Interval.String(), nil)
		return goja.Undefined()
	})
}

// handleBursts makes the rule that a debounce is shown as.
func (s *script) handleBursts(p *pace) {
	if len(s.rules) == maxRules {
		panic(s.rt.NewTypeError("more than %d rules in a script", maxRules))
	}
	r := wireRule{Rule: rules.Rule{Grace: p.grace}, Named: p.timer(), Kind: kindTimer}
	r.Line, _ = s.line()
	s.nameRule(p.Name, &r.Rule)
	s.rules = append(s.rules, r)
	s.handlers = append(s.handlers, p.call)
}

// callBurst runs a debounced function after its timer, unless it was called meanwhile.
func (s *script) callBurst(c *callRecord, p int) wireOutcome {
	spec := &s.paces[p]
	key := paceKey{p, spec.timerKey(c.Timer)}
	was, waits := s.recall.pauses[key]
	if !waits {
		return wireOutcome{}
	}
	change := &pacedNow{paced: paced{Pace: p, Key: key.key, pause: was}}
	if left := was.At + spec.milliseconds() - s.steady; left > 0 {
		change.Due, change.after = s.steady+left, time.Duration(left)*time.Millisecond
		return s.run(&effects{}, func() error { s.setPaced(nil, change); return nil }, nil)
	}
	with := s.waits[key]
	change.Over = true
	out := s.callRule(c.Rule, func() []goja.Value {
		s.setPaced(nil, change)
		if with.at == was.At {
			return with.args
		}
		return s.givenArgs(spec, was.Args)
	})
	if out.Fault != nil { // for good, as its timer does not come back
		s.recall.setPause(change.paced)
		delete(s.waits, key)
	}
	return out
}

// burstOf is the debounce that a rule stands for.
func (s *script) burstOf(rule int) (p int, ok bool) {
	p = slices.IndexFunc(s.paces, func(o paceSpec) bool { return !o.Throttle && o.timer() == s.rules[rule].Named })
	return p, p >= 0
}

// jsThrottle makes a function that runs at most once in a time; calls in between do
// nothing.
func (s *script) jsThrottle(call goja.FunctionCall) goja.Value {
	p := s.paceOf("throttle", call)
	passing := s.passingThrottle(p)
	if !s.top {
		return s.rt.ToValue(passing)
	}
	return s.rt.ToValue(func(call goja.FunctionCall) goja.Value {
		if s.shadow { // it must not hold back what another rule does
			return passing(call)
		}
		s.vary()
		key := s.keyOf(p, call)
		if was, ran := s.pauseOf(p.index, key); ran && !p.over(was.At, s.steady) {
			return goja.Undefined()
		}
		s.sweep(p)
		s.setPaced(p, &pacedNow{paced: paced{Pace: p.index, Key: key, pause: pause{At: s.steady}}})
		return s.made(p, call)
	})
}

// made is what the function gives.
func (s *script) made(p *pace, call goja.FunctionCall) goja.Value {
	v, err := p.call(goja.Undefined(), call.Arguments...)
	if err != nil {
		panic(err)
	}
	return v
}

// over reports whether a throttle that ran at a time may run again.
func (p *paceSpec) over(at, now int64) bool { return now-at >= p.milliseconds() || now < at }

// pauseOf is what one knows of a key now.
func (s *script) pauseOf(p int, key string) (pause, bool) {
	if c := s.in.paced.changes[paceKey{p, key}]; c != nil {
		return c.pause, !c.Over
	}
	was, ok := s.recall.pauses[paceKey{p, key}]
	return was, ok
}

// setPaced notes a change. It throws if there are too many keys; p is nil for one that
// adds none.
func (s *script) setPaced(p *pace, now *pacedNow) {
	e, key := &s.in.paced, paceKey{now.Pace, now.Key}
	was, had := s.pauseOf(now.Pace, now.Key)
	if e.changes == nil {
		e.changes, e.keys = make(map[paceKey]*pacedNow), make(map[int]int)
	}
	if !had && !now.Over {
		s.roomFor(p)
		e.keys[now.Pace]++
		e.held += len(now.Key)
	}
	if had && now.Over {
		e.keys[now.Pace]--
		e.held -= len(now.Key)
		now.Args = nil
	}
	if e.held += len(now.Args) - len(was.Args); s.recall.held+e.held > maxPauseBytes {
		e.held -= len(now.Args)
		now.Args = nil
	}
	if e.changes[key] == nil {
		e.order = append(e.order, key)
	}
	e.changes[key] = now
}

// roomFor throws if there is none for another key.
func (s *script) roomFor(p *pace) {
	e := &s.in.paced
	if p.Throttle && s.recall.keys[p.index]+e.keys[p.index] >= maxPaceKeys {
		s.forgetOver(p)
	}
	all := len(s.recall.pauses)
	for _, n := range e.keys {
		all += n
	}
	if word, _, _ := strings.Cut(p.Name, " "); s.recall.keys[p.index]+e.keys[p.index] >= maxPaceKeys {
		panic(s.rt.NewTypeError("%s has more than %d keys at once", word, maxPaceKeys))
	} else if all >= maxPauses {
		panic(s.rt.NewTypeError("the debounces and throttles of the script have more than %d keys at once", maxPauses))
	}
}

// sweepEvery is how often, at most, the keys of a throttle are looked through, in
// milliseconds.
const sweepEvery = 10_000

// sweep forgets now and then the keys of a throttle that are over: they may never be used
// again.
func (s *script) sweep(p *pace) {
	if now := s.steady; now < s.sweeps[p.index] && s.sweeps[p.index]-now <= max(p.milliseconds(), sweepEvery) {
		return
	}
	if s.sweeps == nil {
		s.sweeps = make(map[int]int64)
	}
	s.sweeps[p.index] = s.steady + max(p.milliseconds(), sweepEvery)
	s.forgetOver(p)
}

// forgetOver forgets the keys of a throttle that are over.
func (s *script) forgetOver(p *pace) {
	for key, was := range s.recall.pauses {
		if key.pace == p.index && s.in.paced.changes[key] == nil && p.over(was.At, s.steady) {
			s.setPaced(nil, &pacedNow{paced: paced{Pace: key.pace, Key: key.key, Over: true}})
		}
	}
}

// commitPaced brings what an event did to them into force.
func (s *script) commitPaced(e *effects, out *wireOutcome) {
	for _, key := range e.paced.order {
		now := e.paced.changes[key]
		out.Paced = append(out.Paced, now.paced)
		if now.after > 0 && !now.Over {
			name := s.paces[key.pace].timer()
			out.Timers = append(out.Timers, rules.TimerChange{
				ID: afterID(name, key.key), After: now.after, Name: name, Data: burstData(&now.pause),
			})
		}
		if s.top {
			continue // what the top level does counts with the start
		}
		if s.recall.setPause(now.paced); now.Over {
			delete(s.waits, key)
		} else if now.called {
			if s.waits == nil {
				s.waits = make(map[paceKey]waitsWith)
			}
			s.waits[key] = waitsWith{at: now.At, args: now.args}
		}
	}
}
