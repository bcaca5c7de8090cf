package jsvm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
)

func TestCompileErrors(t *testing.T) {
	cases := []struct {
		behaviour string
		text      string
		want      string
	}{
		{"a syntax error", "on('a', (m) => {\n  if (m.x {\n})", "x.js:2:11: unexpected token {\n  |   if (m.x {\n  |           ^"},
		{"a file that ends early", "on('a', (m) => {", "x.js:1:17: unexpected end of input\n  | on('a', (m) => {\n  |                 ^"},
		{"a name declared twice", "let a\nlet a", "x.js:2:5: identifier 'a' has already been declared\n  | let a\n  |     ^"},
		{"a regular expression that is none", "const a = /(/", "x.js:1:11: "},
		{"an import", "import x from 'fs'\nx()", "x.js:1:15: cannot require \"fs\": only files of the rules folder can be required"},
		{"a require", "\n  const fs = require('fs')", "x.js:2:21: cannot require \"fs\": only files of the rules folder can be required, by a path that begins with \"./\" or \"../\"\n  |   const fs = require('fs')\n  |                     ^"},
		{"a throw at the top level", "\nthrow new Error('no')", "x.js:2:7: no\n  | throw new Error('no')\n  |       ^"},
		{"a throw of what has no text", "throw { toString() { throw 1 } }", "x.js:1:1: an error that cannot be shown"},
		{"a filter that is none", "on('a/#/b', () => {})", "x.js:1:3: TypeError: \"a/#/b\" is not a topic filter"},
		{"no filter", "on([], () => {})", "x.js:1:3: TypeError: on needs at least one topic filter"},
		{"no handler", "on('a')", "x.js:1:3: TypeError: the last argument of on must be a function"},
		{"an unknown option", "on('a', { Qos: 1 }, () => {})", "x.js:1:3: TypeError: on has no option \"Qos\""},
		{"an option of the other kind", "filter('a', { qos: 1 }, () => {})", "x.js:1:7: TypeError: filter has no option \"qos\""},
		{"a level that there is not", "on('a', { qos: 3 }, () => {})", "x.js:1:3: TypeError: qos must be 0, 1 or 2"},
		{"on_error of another word", "filter('a', { on_error: 'drop' }, () => {})", "x.js:1:7: TypeError: on_error must be \"reject\" or \"pass\""},
		{"an endless top level", "for (;;);", "x.js:1:1: did not return within "},
		{"a rejected promise", "async function f() {\n  throw new Error('late')\n}\nf()", "x.js:2:9: late\n  |   throw new Error('late')\n  |         ^"},
		{"nesting", strings.Repeat("(", 300) + "1", "x.js:1:257: brackets are nested deeper than 256"},
		{"size", "//" + strings.Repeat("x", 256<<10), "x.js: the script has 262146 bytes; at most 262144 are allowed"},
		{"bytes that are no text", "on('\xff', () => {})", "x.js: the script is not UTF-8 text"},
		{"code from text", "new Function('return 1')", "x.js:1:1: TypeError: scripts cannot make code from text"},
		{"code from text by the back door", "(() => {}).constructor('return 1')()", "x.js:1:23: TypeError: scripts cannot make code from text"},
		{"eval", "eval('1')", "x.js:1:5: TypeError: scripts cannot make code from text"},
	}
	s := start(t)
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			_, err := s.lang.Compile(t.Context(), rules.Source{Name: "x.js", Text: []byte(c.text)})
			var place *rules.Error
			if !errors.As(err, &place) {
				t.Fatalf("error %v (%T)", err, err)
			}
			if place.File != "x.js" || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error (-want +got):\n%s", cmp.Diff(c.want, err.Error()))
			}
		})
	}
}

func TestScanKnowsWhatIsNoBracket(t *testing.T) {
	const deep = "[[[[[[[[[[" // ten
	many := strings.Repeat(deep, 30)
	texts := map[string]string{
		"a string":                          "const a = '" + many + "', b = \"" + many + "\"",
		"an escaped quote":                  `const a = '\'` + many + "'",
		"a template":                        "const a = `" + many + "${1 + '" + many + "'.length}" + many + "`",
		"a comment":                         "// " + many + "\n/* " + many + "\n */",
		"a regular expression":              "const a = /[" + many + "]/, b = 4 / 2 / 1",
		"a regular expression after return": "function f() { return /[" + many + "]/ }",
		"many side by side":                 strings.Repeat("[1];\n", 1000),
		"templates within templates":        "const a = " + strings.Repeat("`${", 20) + "1" + strings.Repeat("}`", 20),
	}
	s := start(t)
	for behaviour, text := range texts {
		t.Run(behaviour, func(t *testing.T) { s.compile(t, "x.js", text) })
	}
}

func TestRunTimeErrors(t *testing.T) {
	cases := []struct {
		behaviour string
		body      string
		payload   string
		want      string
	}{
		{"a payload that is not JSON", "publish('a', msg.payload.x)", "noise", "x.js:2:18: payload of topic \"home/x\" is not JSON: invalid character 'o' in literal null (expecting 'u') (byte 2)"},
		{"a payload that is not UTF-8", "msg.payload.a", "{\"a\":\"\xff\xfe\"}", "x.js:2:5: payload of topic \"home/x\" is not JSON: a string in it is not UTF-8 (byte 7)"},
		{"an empty payload", "msg.payload.x", "", "x.js:2:5: payload of topic \"home/x\" is not JSON: it is empty"},
		{"a payload of lax JSON", "msg.payload", "01", "x.js:2:5: payload of topic \"home/x\" is not JSON: invalid character '1' after top-level value (byte 2)"},
		{"a field of nothing", "msg.payload.a.b", `{}`, "x.js:2:15: TypeError: Cannot read property 'b' of undefined"},
		{"a place in another function", "deep(msg)", `{}`, "x.js:5:30: too deep"},
		{"a place below a builtin", "[1].forEach(() => { nothing() })", `{}`, "x.js:2:28: ReferenceError: nothing is not defined"},
		{"a topic with a wildcard", "publish('a/+', 1)", `{}`, "x.js:2:8: TypeError: cannot publish to \"a/+\": not a topic name"},
		{"a topic of the broker", "publish('$SYS/broker/version', 'x', { retain: true })", `{}`, "x.js:2:8: TypeError: cannot publish: topic \"$SYS/broker/version\" belongs to the broker: a rule cannot publish to $SYS"},
		{"no topic", "publish('', 1)", `{}`, "x.js:2:8: TypeError: cannot publish to \"\": not a topic name"},
		{"no value", "publish('a')", `{}`, "x.js:2:8: TypeError: publish needs a topic and a value"},
		{"a value that is nothing", "publish('a', msg.payload.x)", `{}`, "x.js:2:8: TypeError: undefined is not a value"},
		{"a function as value", "publish('a', () => {})", `{}`, "x.js:2:8: TypeError: a function has no JSON form"},
		{"a circle", "const o = {}; o.o = o; publish('a', o)", `{}`, "x.js:2:31: TypeError: Converting circular structure"},
		{"a BigInt", "publish('a', 1n)", `{}`, "x.js:2:8: TypeError: a BigInt has no JSON form"},
		{"an unknown option", "publish('a', 1, { retained: true })", `{}`, "x.js:2:8: TypeError: publish has no option \"retained\""},
		{"a rule made too late", "on('b', () => {})", `{}`, "x.js:2:3: TypeError: on can only be called at the top level"},
		{"a rejected promise", "return (async () => { await null; throw new Error('late') })()", `{}`, "x.js:2:41: late"},
		{"a promise that nobody holds", "Promise.reject(new RangeError('lost'))", `{}`, "x.js:2:16: RangeError: lost"},
		{"a thrown text", "throw 'plain'", `{}`, "x.js:2:1: plain"},
		{"a thrown object with a getter that throws", "throw { get toString() { throw 1 } }", `{}`, "x.js:2:1: an error that cannot be shown"},
		{"an error whose text does not end", "throw { toString() { for (;;); } }", `{}`, "x.js:2:1: an error that cannot be shown"},
	}
	s := start(t)
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			p := s.compile(t, "x.js", "on('home/x', (msg) => {\n"+c.body+"\n})\non('ok', (msg) => { publish('ok', 1) })\nfunction deep(msg) { { throw new Error('too deep') } }")
			o := s.hear(t, p, 0, "home/x", c.payload)
			if o.Fired || len(o.Publish)+len(o.State)+len(o.Timers) > 0 {
				t.Errorf("the event had effects: %s", show(o))
			}
			var place *rules.Error
			if !errors.As(o.Err, &place) || !strings.HasPrefix(o.Err.Error(), c.want) {
				t.Errorf("error (-want +got):\n%s", cmp.Diff(c.want, show(o)))
			}
			if o := s.hear(t, p, 1, "ok", ""); len(o.Publish) != 1 {
				t.Errorf("the script does not go on: %s", show(o))
			}
		})
	}
}
