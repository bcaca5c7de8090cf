package jsvm

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/dop251/goja"

	"github.com/gatehouse/gatehouse/rules"
)

// maxAdds bounds what an event puts into windows.
const maxAdds = 10_000

// jsWindow is window({last, over, name}): values by key, which survive as a state does.
func (s *script) jsWindow(call goja.FunctionCall) goja.Value {
	if !s.top {
		panic(s.rt.NewTypeError("window can only be called at the top level of a script"))
	}
	if len(s.windows) == maxWindows {
		panic(s.rt.NewTypeError("more than %d windows in a script", maxWindows))
	}
	w := windowSpec{Name: "#" + strconv.Itoa(len(s.windows)+1)}
	s.eachOption("window", call.Argument(0), func(key string, v goja.Value) bool {
		switch key {
		case "name":
			w.Name = s.nameOf("window", v)
		case "last":
			n := v.ToFloat()
			if !goja.IsNumber(v) || n != math.Trunc(n) || n < 1 || n > maxPoints {
				panic(s.rt.NewTypeError("last must be 1 to %d", maxPoints))
			}
			w.Last = int(n)
		case "over":
			if w.Over = s.durationOf(v, time.Millisecond); w.Over < time.Millisecond {
				panic(s.rt.NewTypeError("over must be at least 1 ms"))
			}
		default:
			return false
		}
		return true
	})
	if w.Last == 0 && w.Over == 0 {
		panic(s.rt.NewTypeError(`window needs how much it holds: { last: 10 } or { over: "5m" }`))
	}
	if slices.ContainsFunc(s.windows, func(o windowSpec) bool { return o.Name == w.Name }) {
		panic(s.rt.NewTypeError("there are two windows %s", strconv.Quote(w.Name)))
	}
	s.windows = append(s.windows, w)
	return s.windowObject(len(s.windows) - 1)
}

// windowObject is what the script gets of its window.
func (s *script) windowObject(window int) goja.Value {
	o := s.rt.NewObject()
	put := func(name string, f native) { _ = o.Set(name, s.varying(f)) } // a plain new object takes everything
	put("add", func(call goja.FunctionCall) goja.Value { return s.addPoint(window, call) })
	for name, f := range aggregates {
		put(name, func(call goja.FunctionCall) goja.Value {
			values := s.inWindow(window, s.pointKey(call.Argument(0)))
			if v, ok := f(values); ok {
				if s.explain {
					s.fact("window."+name, strconv.AppendFloat(nil, v, 'g', -1, 64))
				}
				return s.rt.ToValue(v)
			}
			return goja.Undefined()
		})
	}
	put("count", func(call goja.FunctionCall) goja.Value {
		return s.rt.ToValue(len(s.inWindow(window, s.pointKey(call.Argument(0)))))
	})
	put("values", func(call goja.FunctionCall) goja.Value {
		points := s.inWindow(window, s.pointKey(call.Argument(0)))
		items := make([]any, len(points))
		for i, p := range points {
			items[i] = p.Value
		}
		return s.rt.NewArray(items...)
	})
	return o
}

// addPoint is add([key], value).
func (s *script) addPoint(window int, call goja.FunctionCall) goja.Value {
	key, value := goja.Undefined(), call.Argument(0)
	if len(call.Arguments) > 1 {
		key, value = call.Argument(0), call.Argument(1)
	}
	f := value.ToFloat()
	if !goja.IsNumber(value) || math.IsNaN(f) || math.IsInf(f, 0) {
		panic(s.rt.NewTypeError("a window holds finite numbers, not %s", quoteTopic(value.String())))
	}
	if len(s.in.adds) == maxAdds {
		panic(s.rt.NewTypeError("an event may put at most %d values into windows", maxAdds))
	}
	k := s.pointKey(key)
	s.account(len(k))
	s.in.adds = append(s.in.adds, added{Window: window, Key: k, point: point{At: s.steady, Value: f}})
	return goja.Undefined()
}

func (s *script) pointKey(v goja.Value) string {
	if goja.IsUndefined(v) {
		return ""
	}
	key := v.String()
	if len(key) > maxPointKey {
		panic(s.rt.NewTypeError("a key of a window may have at most %d bytes", maxPointKey))
	}
	return key
}

// inWindow is what a window holds now, with what the event put into it. It is good until
// the next call.
func (s *script) inWindow(window int, key string) []point {
	if s.in == nil {
		return nil
	}
	s.scratch = append(s.scratch[:0], s.recall.pane(window, key)...)
	for i := range s.in.adds {
		if a := &s.in.adds[i]; a.Window == window && a.Key == key {
			s.scratch = append(s.scratch, a.point)
		}
	}
	s.scratch = s.windows[window].trim(s.scratch, s.steady)
	return s.scratch
}

// aggregates calculate over a window; false means that there is no result.
var aggregates = map[string]func([]point) (float64, bool){
	"sum":    func(p []point) (float64, bool) { return sum(p), true },
	"mean":   func(p []point) (float64, bool) { return sum(p) / float64(len(p)), len(p) > 0 },
	"min":    func(p []point) (float64, bool) { return extreme(p, func(a, b float64) bool { return a < b }) },
	"max":    func(p []point) (float64, bool) { return extreme(p, func(a, b float64) bool { return a > b }) },
	"first":  func(p []point) (float64, bool) { return at(p, 0) },
	"last":   func(p []point) (float64, bool) { return at(p, len(p)-1) },
	"median": median,
	"rate":   rate,
	"ema":    ema,
}

func sum(points []point) (s float64) {
	for _, p := range points {
		s += p.Value
	}
	return s
}

func at(points []point, i int) (float64, bool) {
	if i < 0 || i >= len(points) {
		return 0, false
	}
	return points[i].Value, true
}

func extreme(points []point, better func(a, b float64) bool) (v float64, ok bool) {
	for i, p := range points {
		if i == 0 || better(p.Value, v) {
			v = p.Value
		}
	}
	return v, len(points) > 0
}

// median is the middle value, or the mean of the two in the middle.
func median(points []point) (float64, bool) {
	if len(points) == 0 {
		return 0, false
	}
	values := make([]float64, len(points))
	for i, p := range points {
		values[i] = p.Value
	}
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half], true
	}
	return values[half-1]/2 + values[half]/2, true
}

// rate is how much the value grows a second between the first and the last one.
func rate(points []point) (float64, bool) {
	if len(points) < 2 {
		return 0, false
	}
	first, last := points[0], points[len(points)-1]
	if last.At <= first.At {
		return 0, false
	}
	return (last.Value - first.Value) * 1000 / float64(last.At-first.At), true
}

// ema is the exponential moving average with a weight of 2/(n+1).
func ema(points []point) (float64, bool) {
	if len(points) == 0 {
		return 0, false
	}
	weight, v := 2/float64(len(points)+1), points[0].Value
	for _, p := range points[1:] {
		v += weight * (p.Value - v)
	}
	return v, true
}

// jsWatch is watch(filter): last knows the messages on its topics.
func (s *script) jsWatch(call goja.FunctionCall) goja.Value {
	if !s.top {
		panic(s.rt.NewTypeError("watch can only be called at the top level of a script"))
	}
	if len(s.rules) == maxRules {
		panic(s.rt.NewTypeError("more than %d rules in a script", maxRules))
	}
	r := wireRule{Rule: rules.Rule{Stage: rules.Watch, Hidden: true, Filters: s.filtersOf("watch", call.Argument(0))}}
	r.Line, _ = s.line()
	s.nameRule("watch "+r.Filters[0], &r.Rule)
	s.nameCap(r.Name)
	s.rules = append(s.rules, r)
	s.handlers = append(s.handlers, nil)
	return goja.Undefined()
}

// jsLast is last(topic): the last message on a topic that is watched.
func (s *script) jsLast(call goja.FunctionCall) goja.Value {
	topic := call.Argument(0)
	if !goja.IsString(topic) || !s.watches(topic.String()) {
		panic(s.rt.NewTypeError("last(%s): the script has no watch(filter) at its top level that hears it", quoteTopic(topic.String())))
	}
	m := s.recall.last(topic.String())
	if m != nil {
		s.fact("last "+m.Topic, m.Payload)
	} else {
		return goja.Undefined()
	}
	return s.rt.NewDynamicObject(&jsMessage{s: s, m: m})
}

// watches reports whether a watch hears the topic.
func (s *script) watches(topic string) bool {
	for i := range s.rules {
		if s.rules[i].Stage == rules.Watch && slices.ContainsFunc(s.rules[i].Filters, func(f string) bool { return hears(f, topic) }) {
			return true
		}
	}
	return false
}
