package exprlang

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/rules"
)

// flow is what a rule has that does not publish at once, and no more: its steps, when
// it runs, and how many of its runs are on their way. What is standing is that of the
// program's machine.
type flow struct {
	rule  *compiled
	index int
	code  []instr
	shape string
	waits bool // a run may have to wait

	mode     mode
	most     int         // runs at once; for queued, those that wait, too
	key      *expression // nil: for modes one for all, otherwise the topic
	hold     time.Duration
	debounce time.Duration
	throttle time.Duration
	once     string // what the rule says, as a hash
	silent   *silentStep
	late     time.Duration // of waits: 0 is an hour, below 0 never
	rate     rate

	runs   []*run // in the order in which they were begun
	holds  map[string]*parked
	bursts map[string]*parked
	heard  map[string]*lastHeard
	passed map[string]time.Time // when throttle last let one pass
	passes []passage            // the same in their order, and some that are over
	notes  [3]notes             // of heard, passed and bursts
	tokens float64
	filled time.Time
	alarm  time.Time // when the timer of silent is due; zero is never
}

type mode uint8

const (
	modeSingle mode = iota
	modeRestart
	modeQueued
	modeParallel
)

var modes = map[string]mode{"single": modeSingle, "restart": modeRestart, "queued": modeQueued, "parallel": modeParallel}

func (m mode) String() string { return [...]string{"single", "restart", "queued", "parallel"}[m] }

// rate is a limit of runs; the zero value is none.
type rate struct {
	most   float64 // at once
	second float64 // that come back in a second
}

// silentStep is what stands under "silent".
type silentStep struct {
	filters []string // empty: those of the rule, which then hear for it only
	after   time.Duration
	literal []string // topics that are expected from the start
}

// part is what a hidden rule hears for: a wait of a run, or silent.
type part struct {
	owner *compiled
	wait  *waitStep // nil is silent
}

// Bounds of what a rule keeps in mind.
const (
	defaultMost   = 10
	mostRuns      = 500
	maxStanding   = 900 // runs, holds and bursts of a file; each has a timer of the engine
	maxKeys       = 10_000
	defaultLate   = time.Hour
	longestRule   = 366 * 24 * time.Hour
	longestUntil  = 24 * time.Hour // of a wait that names no timeout
	continueBytes = 63 << 10       // the engine takes 64 KiB, with what it adds
)

// each visits the expressions of the rule's runs.
func (w *flow) each(visit func(*expression)) {
	if w.key != nil {
		visit(w.key)
	}
	for i := range w.code {
		w.code[i].each(visit)
	}
}

// timed reports whether the rule is more than its steps.
func (w *flow) timed() bool {
	return w.hold > 0 || w.debounce > 0 || w.throttle > 0 || w.once != "" || w.silent != nil || w.rate.most > 0
}

// flowKeys are the keys of a rule that flowKey reads.
const flowKeys = "mode, max, key, for, debounce, throttle, once, silent, rate, missed, shadow, enabled, on_error"

// flowKey reads a key of a rule that is about its runs and time. It reports false if
// there is none such.
func (f *ruleFile) flowKey(r *compiled, p pair) bool {
	w := r.flow
	switch p.key {
	case "mode":
		s, ok := f.scalar(p.value, `"mode"`)
		m, known := modes[s.value]
		if w.mode = m; ok && !known {
			f.errorf(f.start(p.value), "mode must be single, restart, queued or parallel")
		}
	case "max":
		w.most = f.integer(p, 1, mostRuns)
	case "key":
		if s, ok := f.scalar(p.value, `"key"`); ok {
			w.key, _ = f.expression(s, "", false)
		}
	case "for":
		w.hold = f.duration(p, longestRule)
	case "debounce":
		w.debounce = f.duration(p, longestRule)
	case "throttle":
		w.throttle = f.duration(p, longestRule)
	case "once":
		if f.boolean(p) {
			w.once = "yes"
		}
	case "silent":
		w.silent = f.silence(p)
	case "rate":
		w.rate = f.rate(p)
	case "missed":
		w.late = f.missed(p)
		r.Grace = w.late
	case "shadow":
		r.Shadow = f.boolean(p)
	case "enabled":
		r.disabled = !f.boolean(p) && f.plain(p.value)
	case "on_error":
		r.plan = f.plan(p)
	default:
		return false
	}
	return true
}

// finish checks what the keys of a rule are together.
func (f *ruleFile) finish(r *compiled, at position, pairs []pair) {
	w := r.flow
	for _, p := range pairs {
		switch p.key {
		case "max":
			if w.mode != modeQueued && w.mode != modeParallel {
				f.errorf(p.at, "max is for the modes queued and parallel")
			}
		case "debounce":
			if w.hold > 0 {
				f.errorf(p.at, "for and debounce exclude each other")
			}
		case "for":
			if w.silent != nil {
				f.errorf(p.at, "silent has a \"for\" of its own: {on: ..., for: 10m}")
			}
			if r.trigger != nil {
				f.errorf(p.at, "for wants what must hold so long in \"if\", not as a value that changes")
			}
			if r.when == nil {
				f.errorf(p.at, "for wants an \"if\" that must hold so long")
			}
		}
	}
	if w.most == 0 {
		w.most = defaultMost
	}
	if w.mode == modeSingle || w.mode == modeRestart {
		w.most = 1
	}
	if w.once != "" {
		w.once = fingerprint(pairs)
	}
	if w.silent != nil {
		f.finishSilence(r, at)
	}
	if r.disabled {
		r.Filters, r.Schedules, r.Start, r.Retained, r.Hooks, w.silent = nil, nil, false, false, nil, nil
	}
}

func (f *ruleFile) finishSilence(r *compiled, at position) {
	s := r.flow.silent
	filters := s.filters
	if len(filters) == 0 {
		filters = r.Filters
	}
	if len(filters) == 0 {
		f.errorf(at, "silent wants topics whose silence counts: silent: {on: ..., for: 10m}, or on beside it")
	}
	for _, filter := range filters {
		if !strings.ContainsAny(filter, "+#") {
			s.literal = append(s.literal, filter)
		}
	}
}

// fingerprint is a word for what a rule says.
func fingerprint(pairs []pair) string {
	var b []byte
	for _, p := range pairs {
		b = fmt.Appendf(b, "%s=%s;", p.key, p.value.String())
	}
	return hashOf(b)
}

func (f *ruleFile) silence(p pair) *silentStep {
	s := &silentStep{}
	switch p.value.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		s.after = f.duration(p, longestRule)
		return s
	}
	pairs, _ := f.mapping(p.value, `"silent"`)
	for _, q := range pairs {
		switch q.key {
		case "on":
			s.filters = f.filters(q.value)
		case "for":
			s.after = f.duration(q, longestRule)
		default:
			f.errorf(q.at, "unknown key %q: silent has on and for", q.key)
		}
	}
	if s.after == 0 && len(f.errs) == 0 {
		f.errorf(p.at, "silent has no \"for\"")
	}
	return s
}

// missed reads what becomes of what was due while the gateway was off.
func (f *ruleFile) missed(p pair) time.Duration {
	s, ok := f.scalar(p.value, `"missed"`)
	switch {
	case !ok:
		return 0
	case s.value == "run":
		return 1<<63 - 1
	case s.value == "skip":
		return -1
	}
	d, err := parseDuration(s.value, longestRule)
	if err != nil || d == 0 {
		f.errorf(f.start(p.value), "missed must be run, skip, or how late it may be, such as 2h")
	}
	return d
}

// rate reads "100/s".
func (f *ruleFile) rate(p pair) rate {
	s, ok := f.scalar(p.value, `"rate"`)
	if !ok {
		return rate{}
	}
	number, unit, _ := strings.Cut(s.value, "/")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	seconds := map[string]float64{"s": 1, "m": 60, "h": 3600}[strings.TrimSpace(unit)]
	if err != nil || seconds == 0 || !(n >= 1 && n <= 1e6) {
		f.errorf(f.start(p.value), "rate must be so many runs a second, minute or hour: 100/s, 5/m, 10/h")
		return rate{}
	}
	return rate{most: n, second: n / seconds}
}

// hear makes a hidden rule that hears for a wait of r, and returns its place.
func (f *ruleFile) hear(r *compiled, filters []string, wait *waitStep) int {
	at, what := position{r.Line, r.column}, "silent"
	if wait != nil {
		at, what = wait.at, "wait"
	}
	if len(filters) == 0 {
		filters = r.Filters
	}
	if len(filters) == 0 && !r.disabled {
		f.errorf(at, "the rule %q hears no topics by itself, so the wait must say \"on\"", r.Name)
	}
	name := fmt.Sprintf("%s (%s in line %d, %d)", r.Name, what, at.line, len(f.rules))
	hidden := &compiled{
		Rule: rules.Rule{Name: name, Line: at.line, Filters: filters, QoS: r.QoS, Hidden: true},
		part: &part{owner: r, wait: wait},
	}
	if wait != nil && wait.until != nil {
		hidden.Prev = f.reads(wait.until, rootPrev)
	}
	f.rules = append(f.rules, hidden)
	return len(f.rules) - 1
}
