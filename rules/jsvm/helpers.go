package jsvm

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/dop251/goja"
)

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
