package jsvm_test

import (
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// TestMemoryOfARuntime is that of scripts that do not reach for binary data, and of those
// that do.
func TestMemoryOfARuntime(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes bool
		most  int64
	}{{"plain", false, 80 << 10}, {"with bytes", true, 120 << 10}} {
		took := jsvm.RuntimeBytes(c.bytes)
		t.Logf("%s: %d bytes", c.name, took)
		if took > c.most {
			t.Errorf("a runtime %s takes %d bytes, want %d at most", c.name, took, c.most)
		}
	}
}

// TestGlobalsAreMadeWhenRead looks at globals of ours in all the ways that there are.
func TestGlobalsAreMadeWhenRead(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
on('a', () => {
  const seen = []
  for (const name of ['publish', 'log', 'state', 'http', 'window', 'atob', 'TextDecoder', 'nothing'])
    seen.push(name in globalThis, typeof globalThis[name], Object.hasOwn(globalThis, name))
  publish('seen', seen.join(' '))
})
on('b', () => {
  sleep
  delete globalThis.sleep
  cancel = 1
  globalThis.every = 2
  publish('changed', [typeof sleep, 'sleep' in globalThis, cancel, every].join(' '))
})
on('c', () => publish('same', [log === log, log.warn === console.warn, http.later.name.length > 0, typeof console.log, typeof state.get].join(' ')))
on('d', () => neverHeardOf)`)
	for i, want := range []string{
		`publish seen "true function true true function true true object true true function true true function true true function true true function true false undefined false" q0`,
		`publish changed "undefined false 1 2" q0`,
	} {
		if got := show(s.hear(t, p, i, string(rune('a'+i)), "")); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := show(s.hear(t, p, 2, "c", "")); got != `publish same "true false true function function" q0` {
		t.Error(got)
	}
	if o := s.hear(t, p, 3, "d", ""); o.Err == nil {
		t.Error("a name that is none is no error")
	}
}

// TestGlobalsThatAreDeclaredAgain stay what they are, as any global does.
func TestGlobalsThatAreDeclaredAgain(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
var console = console || { log() { throw new Error('not ours') } }
var publish
on('a', () => { console.log('x'); publish('seen', typeof console.warn) })`)
	if got := show(s.hear(t, p, 0, "a", "")); !strings.Contains(got, `publish seen "function" q0`) {
		t.Error(got)
	}
}
