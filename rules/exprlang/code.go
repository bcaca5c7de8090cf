package exprlang

import (
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"time"
)

// instr is one instruction that the steps of a rule become. Calls are written out in
// their places, so that a run is a few numbers, which go into the store.
type instr struct {
	op   op
	line int
	plan *plan
	to   int // where a jump goes
	next int // behind the step, for an error that is passed over
	// depth and loops are how many calls and repeats stand around it.
	depth, loops int

	publish  *publish
	x        *expression
	text     *template
	level    slog.Level
	set      []setField
	wait     *waitStep
	hidden   int // the rule that hears for a wait
	http     *httpStep
	branches []int
}

type op uint8

const (
	opPublish op = iota
	opSet
	opLog
	opWait
	opUntil
	opHTTP
	opUnless // jumps if the condition does not hold
	opJump
	opLoop // begins a repeat
	opTurn // begins a turn, or leaves
	opNext // ends a turn
	opFork
	opEnd // of a branch, or the whole
	opEnter
	opLeave
	opStop
)

// plan is what becomes of an error.
type plan struct {
	retry int
	pause time.Duration
	kind  planKind
	to    int // of planDo
}

const (
	maxCode      = 2_000
	maxCallDepth = 8
	maxLoopDepth = 16
)

// coder writes the code of one rule.
type coder struct {
	f      *ruleFile
	rule   *compiled
	code   []instr
	calls  []string
	loops  int
	plan   *plan
	failed bool
}

// link gives each rule its code, once all are known, and the rules that hear for them.
func (f *ruleFile) link() {
	called := make(map[string]bool)
	listed := f.rules
	for i, r := range listed {
		if r.flow == nil {
			continue
		}
		r.flow.index = i
		back := f.enter(r.origin)
		c := &coder{f: f, rule: r, calls: []string{r.Name}}
		c.planned(r.plan, func() { c.steps(r.steps) })
		c.emit(instr{op: opEnd, line: r.Line})
		for _, name := range append(f.callsIn(r.steps), f.callsIn(r.plan.steps())...) {
			called[name] = true
		}
		r.flow.code = c.code
		r.flow.shape = shapeOfCode(c.code)
		if s := r.flow.silent; s != nil && len(s.filters) > 0 {
			f.hear(r, s.filters, nil)
		}
		r.Prev = f.readsPrev(r)
		f.simplify(r)
		back()
	}
	for _, r := range listed {
		r.steps, r.plan, r.Called = nil, nil, r.idle // the code has all that is needed
		if r.idle && !called[r.Name] {
			f.errorf(position{r.Line, r.column}, "the rule never runs: it wants on, every, cron, at, sun, start, hook, offline, online or silent, or another rule that calls it")
		}
	}
}

// simplify takes the flow from a rule that only publishes at once.
func (f *ruleFile) simplify(r *compiled) {
	w := r.flow
	last := len(w.code) - 1
	plain := true
	for i := range w.code {
		in := &w.code[i]
		w.waits = w.waits || in.op == opWait || in.op == opUntil || in.op == opHTTP || in.plan != nil && in.plan.retry > 0
		plain = plain && (i == last || in.op == opPublish && in.plan == nil)
	}
	if !plain || w.timed() {
		return
	}
	for i := range w.code[:last] {
		r.do = append(r.do, *w.code[i].publish)
	}
	r.flow = nil
}

// callsIn are the names of the rules that steps call.
func (f *ruleFile) callsIn(steps []*action) []string {
	var all []string
	for _, s := range steps {
		if s.kind == stepCall {
			if r := f.calleeOf(s); r != nil {
				all = append(all, r.Name)
			}
		}
		for _, body := range s.bodies {
			all = append(all, f.callsIn(body)...)
		}
		all = append(all, f.callsIn(s.plan.steps())...)
	}
	return all
}

// steps are those of a plan, which may be nil.
func (p *planStep) steps() []*action {
	if p == nil {
		return nil
	}
	return p.do
}

// emit appends an instruction and returns its place.
func (c *coder) emit(in instr) int {
	if len(c.code) >= maxCode {
		if !c.failed {
			c.f.errorf(position{c.rule.Line, c.rule.column}, "the rule has more than %d steps, with those of the rules that it calls", maxCode)
		}
		c.failed = true
		c.code = c.code[:maxCode-1] // its end goes on being written over
	}
	in.plan, in.depth, in.loops = c.plan, len(c.calls)-1, c.loops
	c.code = append(c.code, in)
	c.code[len(c.code)-1].next = len(c.code)
	return len(c.code) - 1
}

func (c *coder) steps(steps []*action) {
	for _, s := range steps {
		if c.failed {
			return
		}
		c.planned(s.plan, func() { c.step(s) })
	}
}

// planned writes steps and, behind them, what is done if one fails.
func (c *coder) planned(ps *planStep, write func()) {
	if ps == nil {
		write()
		return
	}
	outer, own := c.plan, &plan{retry: ps.retry, pause: ps.pause, kind: ps.kind}
	c.plan = own
	write()
	c.plan = outer
	if ps.kind != planDo {
		return
	}
	jump := c.emit(instr{op: opJump})
	own.to = len(c.code)
	c.steps(ps.do)
	c.code[jump].to = len(c.code)
}

func (c *coder) step(s *action) {
	line := s.at.line
	switch s.kind {
	case stepPublish:
		c.emit(instr{op: opPublish, line: line, publish: &s.publish})
	case stepWait:
		c.emit(instr{op: opWait, line: line, text: s.text})
	case stepUntil:
		c.emit(instr{op: opUntil, line: line, wait: s.wait, hidden: c.f.hear(c.rule, s.wait.filters, s.wait)})
	case stepHTTP:
		c.emit(instr{op: opHTTP, line: line, http: s.http})
	case stepLog:
		c.emit(instr{op: opLog, line: line, text: s.text, level: s.level})
	case stepSet:
		c.emit(instr{op: opSet, line: line, set: s.set})
	case stepStop:
		c.emit(instr{op: opStop, line: line, text: s.text})
	case stepChoose:
		c.choose(s)
	case stepRepeat:
		c.repeat(s)
	case stepParallel:
		c.parallel(s)
	case stepCall:
		c.call(s)
	}
}

func (c *coder) choose(s *action) {
	var ends, tests []int
	for i, x := range s.cases {
		if i >= len(s.bodies) {
			break
		}
		test := -1
		if x != nil {
			test = c.emit(instr{op: opUnless, line: s.at.line, x: x})
			tests = append(tests, test)
		}
		c.steps(s.bodies[i])
		ends = append(ends, c.emit(instr{op: opJump}))
		if test >= 0 {
			c.code[test].to = len(c.code)
		}
	}
	for _, i := range ends {
		c.code[i].to = len(c.code)
	}
	for _, i := range tests {
		c.code[i].next = len(c.code)
	}
}

func (c *coder) repeat(s *action) {
	if len(s.bodies) == 0 { // it cannot be read, which has been told
		return
	}
	if c.loops >= maxLoopDepth {
		c.f.errorf(s.at, "repeats are nested deeper than %d levels", maxLoopDepth)
		return
	}
	begin := c.emit(instr{op: opLoop, line: s.at.line, text: s.text})
	c.loops++
	turn := instr{op: opTurn, line: s.at.line}
	if !s.after {
		turn.x = s.x
	}
	top := c.emit(turn)
	c.steps(s.bodies[0])
	next := instr{op: opNext, line: s.at.line, to: top}
	if s.after {
		next.x = s.x
	}
	bottom := c.emit(next)
	c.loops--
	for _, i := range []int{begin, top, bottom} {
		c.code[i].next = len(c.code)
	}
}

func (c *coder) parallel(s *action) {
	fork := c.emit(instr{op: opFork, line: s.at.line})
	var starts []int
	for _, body := range s.bodies {
		starts = append(starts, len(c.code))
		c.steps(body)
		c.emit(instr{op: opEnd})
	}
	c.code[fork].branches, c.code[fork].to, c.code[fork].next = starts, len(c.code), len(c.code)
}

// calleeOf is the rule that a step calls: of the same use of a blueprint, or of the file;
// nil if there is none.
func (f *ruleFile) calleeOf(s *action) (callee *compiled) {
	for _, r := range f.rules {
		if r.steps == nil {
			continue
		}
		if r.Name == s.prefix+s.callee.value {
			return r
		}
		if r.Name == s.callee.value {
			callee = r
		}
	}
	return callee
}

func (c *coder) call(s *action) {
	callee := c.f.calleeOf(s)
	if callee == nil {
		if s.callee.value != "" {
			s.callee.errorf(0, "there is no rule %q in this file to call", s.callee.value)
		}
		c.failed = true
		return
	}
	for _, name := range c.calls {
		if name == callee.Name {
			s.callee.errorf(0, "the rule %q calls itself in the end", name)
			c.failed = true
			return
		}
	}
	if len(c.calls) > maxCallDepth {
		s.callee.errorf(0, "calls are nested deeper than %d", maxCallDepth)
		c.failed = true
		return
	}
	enter := c.emit(instr{op: opEnter, line: s.at.line, set: s.set})
	loops := c.loops
	c.calls = append(c.calls, callee.Name)
	test := -1
	if callee.when != nil {
		test = c.emit(instr{op: opUnless, line: callee.Line, x: callee.when})
	}
	c.planned(callee.plan, func() { c.steps(callee.steps) })
	leave := c.emit(instr{op: opLeave})
	if test >= 0 {
		c.code[test].to, c.code[test].next = leave, leave
	}
	c.calls, c.loops = c.calls[:len(c.calls)-1], loops
	c.code[enter].next = len(c.code)
}

// shapeOfCode is a short word that is the same for code of which runs may go on: the kinds
// of its steps and how they lie, not what they say.
func shapeOfCode(code []instr) string {
	var b []byte
	for i := range code {
		in := &code[i]
		b = fmt.Appendf(b, "%d,%d,%d,%d,%v", in.op, in.to, in.depth, in.loops, in.branches)
		if in.http != nil {
			b = append(b, in.http.as...)
		}
		b = append(b, ';')
	}
	return hashOf(b)
}

// hashOf is a short word for a text.
func hashOf(text []byte) string {
	h := fnv.New64a()
	_, _ = h.Write(text) // which never fails
	return strconv.FormatUint(h.Sum64(), 36)
}

// each visits the expressions of code.
func (in *instr) each(visit func(*expression)) {
	one := func(x *expression) {
		if x != nil {
			visit(x)
		}
	}
	one(in.x)
	in.text.each(visit)
	if in.publish != nil {
		in.publish.topic.each(visit)
		in.publish.payload.each(visit)
		in.publish.more.each(visit)
	}
	for i := range in.set {
		one(in.set[i].x)
	}
	if in.wait != nil {
		one(in.wait.until)
		in.wait.timeout.each(visit)
	}
	if in.http != nil {
		in.http.url.each(visit)
		in.http.body.each(visit)
		for i := range in.http.header {
			in.http.header[i].value.each(visit)
		}
	}
}
