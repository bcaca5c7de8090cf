package jsvm

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"
)

// maxPaceKeys is how many keys a debounce or throttle has at once.
const maxPaceKeys = 1000

func (s *script) setUpHelpers() {
	s.offer("debounce", s.jsDebounce)
	s.offer("throttle", s.jsThrottle)
	s.offer("atob", s.jsAtob)
	s.offer("btoa", s.jsBtoa)
	s.offer("TextEncoder", func(call goja.ConstructorCall) *goja.Object {
		_ = call.This.Set("encoding", "utf-8") // a plain new object takes everything
		_ = call.This.Set("encode", s.jsEncode)
		return nil
	})
	s.offer("TextDecoder", s.newDecoder)
}

// pace is what debounce and throttle have in common.
type pace struct {
	interval time.Duration
	call     goja.Callable
	key      goja.Callable // nil: all calls are of one key
}

// paceOf reads (interval, f, [{key}]).
func (s *script) paceOf(word string, call goja.FunctionCall) *pace {
	p := &pace{interval: s.durationOf(call.Argument(0), time.Millisecond)}
	var ok bool
	if p.call, ok = goja.AssertFunction(call.Argument(1)); !ok {
		panic(s.rt.NewTypeError("%s needs a time and a function", word))
	}
	s.eachOption(word, call.Argument(2), func(key string, v goja.Value) bool {
		if p.key, ok = goja.AssertFunction(v); key == "key" && !ok {
			panic(s.rt.NewTypeError("key must be a function"))
		}
		return key == "key"
	})
	return p
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
// was called with last.
func (s *script) jsDebounce(call goja.FunctionCall) goja.Value {
	p, waits := s.paceOf("debounce", call), make(map[string]goja.Value)
	return s.rt.ToValue(func(call goja.FunctionCall) goja.Value {
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
			v, err := p.call(goja.Undefined(), args...)
			if err != nil {
				panic(err)
			}
			return v
		})
		waits[key] = s.addTimer("debounce", f, s.rt.ToValue(float64(p.interval)/float64(time.Millisecond)), nil, false)
		e.undo = append(e.undo, func() {
			if delete(waits, key); standing {
				waits[key] = was
			}
		})
		return goja.Undefined()
	})
}

// jsThrottle makes a function that runs at most once in a time; calls in between do
// nothing.
func (s *script) jsThrottle(call goja.FunctionCall) goja.Value {
	p, ran := s.paceOf("throttle", call), make(map[string]time.Time)
	over := func(at time.Time) bool { since := s.now.Sub(at); return since >= p.interval || since < 0 }
	return s.rt.ToValue(func(call goja.FunctionCall) goja.Value {
		key := s.keyOf(p, call)
		was, before := ran[key]
		if before && !over(was) {
			return goja.Undefined()
		}
		if !before && len(ran) >= maxPaceKeys {
			for k, at := range ran {
				if over(at) {
					delete(ran, k)
				}
			}
			if len(ran) >= maxPaceKeys {
				panic(s.rt.NewTypeError("throttle has more than %d keys at once", maxPaceKeys))
			}
		}
		ran[key] = s.now
		s.in.undo = append(s.in.undo, func() {
			if delete(ran, key); before {
				ran[key] = was
			}
		})
		v, err := p.call(goja.Undefined(), call.Arguments...)
		if err != nil {
			panic(err)
		}
		return v
	})
}

func (s *script) jsEncode(call goja.FunctionCall) goja.Value {
	text := ""
	if v := call.Argument(0); !goja.IsUndefined(v) {
		text = v.String()
	}
	return s.newBytes([]byte(text))
}

// newDecoder is TextDecoder for the two encodings that devices speak.
func (s *script) newDecoder(call goja.ConstructorCall) *goja.Object {
	label := "utf-8"
	if v := call.Argument(0); !goja.IsUndefined(v) {
		label = strings.ToLower(strings.TrimSpace(v.String()))
	}
	latin := slices.Contains([]string{"latin1", "iso-8859-1", "ascii"}, label)
	if !latin && label != "utf-8" && label != "utf8" {
		panic(s.rangeError("TextDecoder does not know %s: it knows utf-8 and latin1", quoteTopic(label)))
	}
	_ = call.This.Set("encoding", label) // a plain new object takes everything
	_ = call.This.Set("decode", func(call goja.FunctionCall) goja.Value {
		b, ok := bytesOf(call.Argument(0))
		switch {
		case goja.IsUndefined(call.Argument(0)):
		case !ok:
			panic(s.rt.NewTypeError("decode needs a Uint8Array or an ArrayBuffer"))
		case latin:
			return s.rt.ToValue(fromLatin(b))
		}
		return s.rt.ToValue(strings.ToValidUTF8(string(b), "\uFFFD"))
	})
	return nil
}

func fromLatin(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}

// jsAtob reads base 64 into a text whose characters are bytes.
func (s *script) jsAtob(call goja.FunctionCall) goja.Value {
	text := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\n\f\r", r) {
			return -1
		}
		return r
	}, call.Argument(0).String())
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		panic(s.newError("%s is not base 64", quoteTopic(text)))
	}
	s.textCap(float64(len(b)))
	return s.rt.ToValue(fromLatin(b))
}

// jsBtoa writes a text whose characters are bytes as base 64.
func (s *script) jsBtoa(call goja.FunctionCall) goja.Value {
	text := call.Argument(0).String()
	b := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 255 {
			panic(s.newError("btoa takes characters up to U+00FF, not %s", strconv.QuoteRune(r)))
		}
		b = append(b, byte(r))
	}
	s.textCap(float64(len(b)) * 4 / 3)
	return s.rt.ToValue(base64.StdEncoding.EncodeToString(b))
}
