package jsvm

import (
	"slices"
	"time"

	"github.com/dop251/goja"
)

// passingDebounce makes a debounced function that lasts as long as the runtime: one that a
// handler makes, which no other run could find again, and one that a shadow rule calls.
func (s *script) passingDebounce(p *pace) native {
	waits := make(map[string]goja.Value)
	return func(call goja.FunctionCall) goja.Value {
		e, key := s.effectsOf("a debounced function"), s.keyOf(p, call)
		was, standing := waits[key]
		if standing {
			s.stopTimer(was.String())
		} else if len(waits) >= maxPaceKeys {
			panic(s.rt.NewTypeError("debounce has more than %d keys at once", maxPaceKeys))
		}
		args := slices.Clone(call.Arguments)
		f := s.rt.ToValue(func(goja.FunctionCall) goja.Value {
			delete(waits, key) // for good: its timer does not come back if this fails
			return s.made(p, goja.FunctionCall{Arguments: args})
		})
		waits[key] = s.addTimer("debounce", f, s.rt.ToValue(float64(p.Interval)/float64(time.Millisecond)), nil, false)
		e.undo = append(e.undo, func() {
			if delete(waits, key); standing {
				waits[key] = was
			}
		})
		return goja.Undefined()
	}
}

// passingThrottle is the same for throttle: a shadow rule goes by its own.
func (s *script) passingThrottle(p *pace) native {
	ran := make(map[string]int64)
	return func(call goja.FunctionCall) goja.Value {
		key := s.keyOf(p, call)
		was, before := ran[key]
		if before && !p.over(was, s.steady) {
			return goja.Undefined()
		}
		if !before && len(ran) >= maxPaceKeys {
			for k, at := range ran {
				if p.over(at, s.steady) {
					delete(ran, k)
				}
			}
			if len(ran) >= maxPaceKeys {
				panic(s.rt.NewTypeError("throttle has more than %d keys at once", maxPaceKeys))
			}
		}
		ran[key] = s.steady
		s.in.undo = append(s.in.undo, func() {
			if delete(ran, key); before {
				ran[key] = was
			}
		})
		return s.made(p, call)
	}
}
