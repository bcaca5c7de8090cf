package exprlang

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsonview"
	"github.com/gatehouse/gatehouse/rules/pieces"
)

// Bounds of the windows of one rule.
const (
	maxWindows    = 32
	maxWindowKeys = 1_000 // a window
	maxWindowAll  = 100_000
	// aggregateValues is how many values an aggregate counts as: what it takes when it is kept.
	aggregateValues = 3
	shortestSpan    = 100 * time.Millisecond
	longestSpan     = 366 * 24 * time.Hour
)

// windowFunction is what a window calculates.
type windowFunction uint8

const (
	fnAvg windowFunction = iota
	fnMin
	fnMax
	fnSum
	fnCount
	fnRate
	fnEMA
	fnMedian
)

var windowFunctions = map[string]windowFunction{
	"avg": fnAvg, "min": fnMin, "max": fnMax, "sum": fnSum, "count": fnCount, "rate": fnRate, "ema": fnEMA, "median": fnMedian,
}

// extent is how far a window goes.
type extent uint8

const (
	extentAll   extent = iota
	extentLast         // so many points
	extentOver         // so long
	extentEvery        // one after the other, each so long
	extentPer          // one after the other, each of so many points
)

// window is one entry under "windows".
type window struct {
	name     string
	shape    string // what has another one starts anew
	function windowFunction
	of       *expression
	by       *expression // nil: all messages of the rule together
	extent   extent
	points   int   // of extentLast and extentPer
	span     int64 // of extentOver and extentEvery, in milliseconds
	alpha    float64
	zone     *time.Location
	steady   *steady
	panes    *keyed[pane]
	layout   pieces.Layout // of what is kept of a key; zero if that is one record
	// pieceName is the name of the record of a piece.
	pieceName func(slot int, key string) string
	key       []byte

	// The pane that a message was pushed to last.
	evaluator *evaluator
	gen       uint64
	last      *cell[pane]
}

// windowsOf reads what stands under "windows".
func (f *ruleFile) windowsOf(r *compiled, p pair) {
	pairs, ok := f.mapping(p.value, `"windows"`)
	if ok && len(pairs) > maxWindows {
		f.errorf(p.at, "%d windows are more than %d", len(pairs), maxWindows)
		return
	}
	for _, one := range pairs {
		if !isWord(one.key) || len(one.key) > 64 {
			f.errorf(one.at, "the name of a window is one word of at most 64 bytes")
			continue
		}
		entries, ok := f.mapping(one.value, "a window")
		if !ok {
			continue
		}
		if w := f.window(one, entries); w != nil {
			r.windows = append(r.windows, w)
		}
	}
}

func (f *ruleFile) window(at pair, pairs []pair) *window {
	since := len(f.errs)
	w := &window{name: at.key, zone: f.zone, steady: f.table.own.steady}
	var calculates, extends string
	for _, p := range pairs {
		function, is := windowFunctions[p.key]
		switch {
		case is && calculates != "":
			f.errorf(p.at, "the window has %q already: another window is for %q", calculates, p.key)
		case is:
			calculates, w.function = p.key, function
			w.of = f.valueOf(p, function == fnCount)
		case p.key == "by":
			w.by = f.valueOf(p, false)
		case p.key == "alpha":
			w.alpha = f.alpha(p.value)
		case p.key == "last" || p.key == "over" || p.key == "every" || p.key == "per":
			if extends != "" {
				f.errorf(p.at, "the window has %q already: it cannot have %q, too", extends, p.key)
				continue
			}
			extends = p.key
			f.extent(w, p)
		default:
			f.errorf(p.at, "unknown key %q: a window has one of avg, min, max, sum, count, rate, ema and median; one of last, over, every and per; by; and alpha", p.key)
		}
	}
	switch {
	case len(f.errs) > since:
	case calculates == "":
		f.errorf(at.at, "the window calculates nothing: it wants one of avg, min, max, sum, count, rate, ema and median")
	case w.function == fnEMA && (w.alpha == 0 || extends != ""):
		f.errorf(at.at, "ema wants alpha, above 0 and at most 1, and none of last, over, every and per")
	case w.function != fnEMA && w.alpha != 0:
		f.errorf(at.at, "alpha is for ema")
	case extends == "" && w.function != fnEMA && w.function != fnCount && w.function != fnSum:
		f.errorf(at.at, "the window has no end: it wants one of last, over, every and per")
	case w.function == fnRate && w.extent == extentLast && w.points < 2:
		f.errorf(at.at, "a rate wants two points at least")
	}
	if len(f.errs) > since || w.of == nil {
		return nil
	}
	w.shape = shapeOf(pairs)
	return w
}

// shapeOf is how a mapping is written, for comparison with other versions.
func shapeOf(pairs []pair) string {
	all := make([]string, 0, len(pairs))
	for _, p := range pairs {
		all = append(all, p.key+": "+strings.Join(strings.Fields(p.value.String()), " "))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// valueOf compiles the expression of a key.
func (f *ruleFile) valueOf(p pair, condition bool) *expression {
	s, ok := f.scalar(p.value, strconv.Quote(p.key))
	if !ok {
		return nil
	}
	x, _ := f.expression(s, p.key, condition)
	return x
}

func (f *ruleFile) alpha(n ast.Node) float64 {
	s, ok := f.scalar(n, `"alpha"`)
	if !ok {
		return 0
	}
	alpha, err := strconv.ParseFloat(s.value, 64)
	if err != nil || !(alpha > 0 && alpha <= 1) {
		f.errorf(f.start(n), "alpha is a number above 0 and at most 1")
		return 0
	}
	return alpha
}

func (f *ruleFile) extent(w *window, p pair) {
	s, ok := f.scalar(p.value, strconv.Quote(p.key))
	if !ok {
		return
	}
	switch p.key {
	case "last", "per":
		n, err := strconv.Atoi(s.value)
		if err != nil || n < 1 || p.key == "last" && n > maxWindowPoints || n > 1_000_000 {
			f.errorf(f.start(p.value), "%s is a number of messages, 1 to %d", p.key, map[string]int{"last": maxWindowPoints, "per": 1_000_000}[p.key])
		}
		w.points, w.extent = n, map[string]extent{"last": extentLast, "per": extentPer}[p.key]
	default:
		d, err := parseDuration(s.value, longestSpan)
		if err != nil || d < shortestSpan {
			f.errorf(f.start(p.value), "%s is a duration from %v to %v, such as 5m", p.key, shortestSpan, longestSpan)
		}
		w.span, w.extent = d.Milliseconds(), map[string]extent{"over": extentOver, "every": extentEvery}[p.key]
	}
}

// prefix is what the keys of what a rule saves begin with.
func savePrefix(kind, rule, name string) string {
	return kind + "\x00" + rule + "\x00" + name + "\x00"
}

// ready is called once the rule has its name.
func (w *window) ready(rule string) {
	each := 1
	switch {
	case w.extent == extentLast:
		each = w.points
	case w.function == fnMedian:
		each = maxWindowPoints
	case w.extent == extentOver:
		each = aggregateValues * maxWindowPanes
	}
	w.panes = newKeyed[pane](savePrefix("w", rule, w.name), min(maxWindowKeys, max(1, maxWindowAll/each)))
	w.layOut(rule)
}

// keyOf is the key of the message at hand; false if it has none.
func (w *window) keyOf(e *evaluator) ([]byte, bool) {
	if w.by == nil {
		return nil, true
	}
	key, err := e.appendWord(w.key[:0], w.by)
	w.key = key[:0]
	return key, err == nil
}

// hear adds the message at hand, if it has the key and the number.
func (w *window) hear(e *evaluator) {
	key, ok := w.keyOf(e)
	if !ok {
		return
	}
	v, ok := w.number(e)
	if !ok {
		return
	}
	c := w.panes.use(key)
	if c == nil {
		return
	}
	at, number := w.times(e)
	w.push(&c.value, v, at, number)
	w.evaluator, w.gen, w.last = e, e.gen, c
}

// number is the value to add.
func (w *window) number(e *evaluator) (float64, bool) {
	if w.function == fnCount {
		holds, err := e.condition(w.of)
		if holds {
			return 1, err == nil
		}
		return 0, err == nil
	}
	if v, ok := e.raw(w.of); ok && v.Kind() == jsonview.Number {
		f, err := strconv.ParseFloat(string(v), 64)
		return f, err == nil
	}
	v, err := e.run(w.of)
	if err != nil {
		return 0, false
	}
	f, ok := toFloat(v)
	return f, ok && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// times are the steady time in milliseconds, and the number of the window of every that
// it is in, by the clock on the wall.
func (w *window) times(e *evaluator) (at, number int64) {
	at = w.steady.milliseconds(e.now)
	if w.extent == extentEvery {
		_, offset := e.now.In(w.zone).Zone()
		number = (e.now.UnixMilli() + int64(offset)*1000) / w.span
	}
	return at, number
}

// get is the result for the message at hand.
func (w *window) get(e *evaluator) any {
	c := w.last
	if w.evaluator != e || w.gen != e.gen {
		key, ok := w.keyOf(e)
		if !ok {
			return nil
		}
		c = w.panes.find(key)
	}
	at, number := w.times(e)
	if c == nil {
		var empty pane
		return w.value(&empty, at, number)
	}
	return w.value(&c.value, at, number)
}

// windowValue is what a window of the rule comes to for the message at hand.
func (r *compiled) windowValue(e *evaluator, path []step) any {
	for _, w := range r.windows {
		if len(path) > 0 && w.name == path[0].key {
			return w.get(e)
		}
	}
	return nil
}

func (w *window) each(visit func(*expression)) {
	visit(w.of)
	if w.by != nil {
		visit(w.by)
	}
}

// steady is a time that goes on whatever the clock on the wall is set to, and over a
// restart with the keeper's timeline.
type steady struct {
	first time.Time
	base  int64 // of first, in milliseconds
}

// start has it go on from another version, or process.
func (s *steady) start(call *rules.Call) {
	if call.Timeline != nil {
		s.first, s.base = call.Now, call.Timeline.Keep(call.Now).UnixMilli()
	}
}

func (s *steady) milliseconds(now time.Time) int64 {
	if s.first.IsZero() {
		s.first, s.base = now, now.UnixMilli()
	}
	return s.base + now.Sub(s.first).Milliseconds()
}
