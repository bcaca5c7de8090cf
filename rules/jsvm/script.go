package jsvm

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// script is one script in the worker: a runtime, the handlers and timers that it
// registered, and a copy of its state. One goroutine works with it.
type script struct {
	id       uint32
	name     string
	number   uint64 // of this run of the script, that no other has
	rt       *goja.Runtime
	watch    *watch
	patience int // how many deadlines of wall time an event may take
	modules  map[string]*moduleFile

	rules    []wireRule
	wanted   []wanted // by the top level
	waiting  map[string]waiting
	windows  []windowSpec
	paces    []paceSpec
	waits    map[paceKey]waitsWith // of debounces, while this runtime lasts
	sweeps   map[int]int64         // when the keys of a throttle are looked through next, by the steady time
	recall   *recall
	scratch  []point
	text     []byte                                              // in which JSON is made
	shares   []string                                            // keys of state that others may read
	uses     []string                                            // files whose state it reads
	rule     int                                                 // of the event in progress
	shadow   bool                                                // that rule is one
	explain  bool                                                // it is to tell its facts
	gateway  func(name string, args []byte) (*toldRecord, error) // calls a function of a plugin
	peers    []*script                                           // these, for the event in progress
	names    map[string]int                                      // how many rules wanted each name
	named    int                                                 // bytes of the rules' names and topic filters
	handlers []goja.Callable
	state    map[string][]byte
	size     int // of state, as rules.State counts it
	timers   map[string]*jsTimer
	timerSeq uint64
	places   map[string]int      // how many timers the top level made at one place
	start    []rules.TimerChange // one-shot timers of the top level
	rearmed  bool

	now    time.Time
	steady int64 // now, as windows, debounces and throttles go by it
	top    bool  // the top level runs
	// varies says that the top level asked for what may be another the next time.
	varies bool
	in     *effects // of the event in progress

	offers *offers
	// Builtins as they were before the script could change them.
	nothing   *goja.Program
	parseJSON goja.Callable
	newDate   *goja.Object
	newArray8 *goja.Object // nil: see setUpBytes
	newErr    *goja.Object
}

type jsTimer struct {
	call  goja.Callable
	args  []goja.Value
	every bool
}

// effects are what an event did so far. They come into force when it ends well.
type effects struct {
	filter   bool
	publish  []wireMessage
	output   int
	timers   []rules.TimerChange
	added    []string
	removed  map[string]*jsTimer
	state    map[string][]byte // nil: removed
	keys     int               // how many keys state adds
	size     int               // how many bytes state adds
	logs     []rules.LogLine
	requests []rules.Request
	adds     []added
	paced    pacing
	calls    int      // of functions of plugins
	waits    []string // requests that promises wait for
	facts    []rules.Fact
	undo     []func() // what takes back what it did to memory of ours
	quiet    bool     // too many lines were logged
	broken   []*goja.Promise
}

// load compiles the text and runs its top level. What that did is in the outcome;
// a script whose outcome has a fault is of no use.
func (s *script) load(l *loadRecord) wireOutcome {
	began := time.Now()
	s.recall = l.Recall
	s.setState(l.State)
	s.now, s.steady = l.Now, l.Steady
	s.patience = starved
	if anyText(l, usesRegexps) {
		s.patience = starvedRegexp
	}
	s.watch.begin(nil, loadFactor, starvedRegexp)
	prog, module, err := s.compileAll(l)
	s.watch.end()
	if err != nil {
		return wireOutcome{Fault: s.faultOf(err), Took: time.Since(began)}
	}
	s.setUp(anyText(l, reachesBytes))
	if !module { // whose variables are no globals
		s.offers.makeDeclared(string(l.Text))
	}
	s.top = true
	out := s.run(&effects{}, func() error { return s.runTop(prog, module) }, nil)
	s.top = false
	if missing := s.checkWanted(); missing != nil && out.Fault == nil {
		out = wireOutcome{Fault: missing, Logs: out.Logs}
	}
	for _, t := range out.Timers {
		if !t.Every && t.After > 0 && t.Name == "" {
			s.start = append(s.start, t)
		}
	}
	if !l.Fresh { // only the functions were wanted: the start was long ago
		s.setState(l.State)
		out = wireOutcome{Fault: out.Fault, Logs: nil, Took: out.Took}
	}
	if out.Fault == nil && l.Expect != 0 && l.Expect != fingerprint(s.rules, s.windows, s.paces, s.uses) {
		out.Fault = &fault{Msg: "its rules were not the same when it was run again: call on, filter and the like in the same order each time"}
	}
	out.Took = time.Since(began)
	return out
}

// anyText reports whether something is so of the script, or a file that it may require.
func anyText(l *loadRecord, is func(text string) bool) bool {
	return is(string(l.Text)) || slices.ContainsFunc(l.Files, func(f wireFile) bool { return is(string(f.Text)) })
}

// fingerprint tells lists of rules apart; it is never 0.
func fingerprint(list []wireRule, windows []windowSpec, paces []paceSpec, uses []string) uint64 {
	h := fnv.New64a()
	var w encoder
	for i := range list {
		w.rule(&list[i])
	}
	w.specs(windows)
	w.paceSpecs(paces)
	w.texts(uses)
	_, _ = h.Write(w.b) // a hash takes everything
	return h.Sum64() | 1
}

func (s *script) setState(values []rules.StateChange) {
	s.state, s.size = make(map[string][]byte, len(values)), 0
	for _, c := range values {
		s.state[c.Key] = c.Value
		s.size += len(c.Key) + len(c.Value)
	}
}

// call makes one call of a rule or a timer.
func (s *script) call(c *callRecord) wireOutcome {
	began := time.Now()
	s.now, s.steady, s.explain, s.rule = c.Now, c.Steady, c.Explain, c.Rule
	s.shadow = c.Rule < len(s.rules) && s.rules[c.Rule].Shadow
	var out wireOutcome
	switch {
	case c.Trigger == rules.OnTimer && c.Name != "":
		out = s.callNamed(c)
	case c.Trigger == rules.OnTimer:
		out = s.callTimer(c.Timer)
	case c.Trigger == rules.OnReply:
		out = s.callReply(c)
	case c.Trigger == rules.OnSchedule:
		out = s.callSchedule(c)
	case c.Trigger == rules.OnMessage && c.Rule < len(s.rules):
		out = s.callHandler(c)
	default:
		out = wireOutcome{Fault: &fault{Msg: fmt.Sprintf("no rule %d", c.Rule)}}
	}
	out.Took = time.Since(began)
	return out
}

func (s *script) callHandler(c *callRecord) wireOutcome {
	filter := s.rules[c.Rule].Stage == rules.Before
	if s.rules[c.Rule].Stage == rules.Watch {
		s.recall.hear(c.Message)
		return wireOutcome{Fired: true}
	}
	msg := s.rt.NewDynamicObject(&jsMessage{s: s, m: c.Message})
	var returned goja.Value
	var verdict message.Action
	var replaced *wireMessage
	out := s.run(&effects{filter: filter}, func() (err error) {
		returned, err = s.handlers[c.Rule](goja.Undefined(), msg)
		return err
	}, func() {
		if filter {
			verdict, replaced = s.judge(c.Message, returned)
		}
	})
	if out.Fault == nil {
		out.Fired, out.Verdict, out.Replace = true, verdict, replaced
	}
	return out
}

// judge reads what a filter returned.
func (s *script) judge(orig *wireMessage, v goja.Value) (message.Action, *wireMessage) {
	if p, ok := promiseOf(v); ok {
		if p.State() == goja.PromiseStatePending {
			panic(s.rt.NewTypeError("a filter cannot wait: its promise is still pending"))
		}
		v = p.Result() // a rejected one is an error already
	}
	if v == nil || goja.IsUndefined(v) {
		return message.Pass, nil
	}
	if b, ok := v.Export().(bool); ok {
		if b {
			return message.Pass, nil
		}
		return message.Drop, nil
	}
	o, ok := v.(*goja.Object)
	if !ok || o.ClassName() == "Array" || o.ClassName() == "Function" {
		panic(s.rt.NewTypeError("a filter must return nothing, true, false, or a message"))
	}
	return message.Replace, s.replacement(orig, o)
}

func promiseOf(v goja.Value) (*goja.Promise, bool) {
	o, ok := v.(*goja.Object)
	if !ok || o.ExportType() != typeOfPromise {
		return nil, false
	}
	p, ok := o.Export().(*goja.Promise)
	return p, ok
}

func (s *script) callTimer(id string) wireOutcome {
	t := s.timers[id]
	if t == nil {
		return s.lostTimer(id)
	}
	if !t.every {
		delete(s.timers, id)
	}
	out := s.run(&effects{}, func() error {
		_, err := t.call(goja.Undefined(), t.args...)
		return err
	}, nil)
	out.Fired = out.Fault == nil
	return out
}

// lostTimer answers for a timer that this run of the script did not set: one that
// was stopped just now, or one of a runtime that is gone. For the latter the top
// level's own timers are started again, once, so that a chain of them goes on.
func (s *script) lostTimer(id string) wireOutcome {
	stop := []rules.TimerChange{{ID: id}}
	if s.ownTimer(id) || s.rearmed {
		return wireOutcome{Timers: stop}
	}
	s.rearmed = true
	return wireOutcome{Timers: append(stop, s.start...)}
}

// run makes one event: f under the deadline, then after, which may throw as well.
// All of its effects come into force, or none but its log lines.
func (s *script) run(e *effects, f func() error, after func()) (out wireOutcome) {
	s.in = e
	s.watch.begin(s.rt, 1, s.patience)
	defer func() {
		if p := recover(); p != nil { // the runtime may be torn
			out = wireOutcome{Fault: s.panicFault(p), Logs: e.logs, Facts: e.facts}
			s.rollBack(e)
			s.rt = nil
		}
		s.watch.end()
		s.in = nil
	}()
	err := f()
	if err == nil {
		err = s.finish(e, after)
	}
	if s.watch.overran() && err == nil {
		err = errDeadline
	}
	if err != nil {
		out = wireOutcome{Fault: s.faultOf(err), Logs: e.logs, Facts: e.facts}
		s.letGo()
		s.rollBack(e) // what those two ran had effects, too
		return out
	}
	return s.commit(e)
}

// letGo runs nothing, after which the engine's stack is empty: when an event was
// interrupted, its values would stay there until the next one.
func (s *script) letGo() {
	if !s.watch.settle() {
		return
	}
	s.watch.begin(s.rt, 1, s.patience) // promises that are left run as well
	_, _ = s.rt.RunProgram(s.nothing)
}

// finish runs what follows a handler and looks for promises that nobody caught.
func (s *script) finish(e *effects, after func()) error {
	if ex := s.rt.Try(func() {
		for _, p := range e.broken {
			panic(p.Result())
		}
		if after != nil {
			after()
		}
	}); ex != nil {
		return ex
	}
	return nil
}

func (s *script) commit(e *effects) wireOutcome {
	out := wireOutcome{Publish: e.publish, Timers: e.timers, Logs: e.logs, Requests: e.requests, Adds: e.adds, Facts: e.facts}
	if !s.top { // what the top level adds counts with the start
		for _, a := range e.adds {
			s.recall.add(s.windows, a)
		}
	}
	s.commitPaced(e, &out)
	for _, key := range slices.Sorted(maps.Keys(e.state)) {
		v := e.state[key]
		out.State = append(out.State, rules.StateChange{Key: key, Value: v})
		if v == nil {
			delete(s.state, key)
		} else {
			s.state[key] = v
		}
	}
	s.size += e.size
	return out
}

func (s *script) rollBack(e *effects) {
	maps.Copy(s.timers, e.removed)
	for _, id := range e.added {
		delete(s.timers, id)
	}
	for _, id := range e.waits {
		delete(s.waiting, id)
	}
	for _, undo := range slices.Backward(e.undo) {
		undo()
	}
}
