package jsvm_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
)

// folder is what a script can read.
type folder map[string]string

func (f folder) read(name string) ([]byte, error) {
	text, ok := f[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return []byte(text), nil
}

func (s *suite) compileIn(t testing.TB, name string, files folder) (rules.Program, error) {
	t.Helper()
	return s.lang.Compile(t.Context(), rules.Source{
		Name: name, Text: []byte(files[name]), State: rules.NewState(nil), Read: files.read,
	})
}

func TestModules(t *testing.T) {
	cases := []struct {
		behaviour, name string
		files           folder
		want            string
	}{
		{"TypeScript", "a.ts", folder{"a.ts": `
interface Door { open: boolean }
enum Word { Yes = 'yes' }
on('x', (msg: Message): void => { const d = msg.payload as Door; publish('a', d.open ? Word.Yes : 'no') })`}, `publish a "yes" q0`},
		{"newer syntax than the engine has", "a.ts", folder{"a.ts": `
class A { #n = 1; static s = 2; get n() { return this.#n ?? 0 } }
on('x', async (msg) => { for await (const v of [1]) publish('a', new A().n + A.s + v) })`}, `publish a "4" q0`},
		{"require of a file", "house/a.js", folder{
			"house/a.js": `const { twice } = require('../lib/math'); on('x', () => publish('a', twice(4)))`,
			"lib/math.js": `const n = 2
exports.twice = (v) => v * n`,
		}, `publish a "8" q0`},
		{"import of TypeScript by what it would become", "a.js", folder{
			"a.js":          "import twice, { n as two } from './lib/math.js'\nimport * as all from './lib'\non('x', () => publish('a', [twice(4), two, all.x]))",
			"lib/math.ts":   "export const n: number = 2\nexport default function twice(v: number) { return v * n }",
			"lib/index.ts":  "export { x } from './deep/x'",
			"lib/deep/x.js": "module.exports = { x: 'deep' }",
		}, `publish a "[8,2,\"deep\"]" q0`},
		{"JSON", "a.ts", folder{
			"a.ts":          "import rooms from './_rooms.json'\non('x', () => publish('a', rooms.list))",
			"_rooms.json":   `{"list": ["hall"]}`,
			"lib/unused.js": "throw 1",
		}, `publish a "[\"hall\"]" q0`},
		{"a module that two require runs once", "a.js", folder{
			"a.js":       "const b = require('./_b'), c = require('./_c'); on('x', () => publish('a', [b.n, c.n, b.once === c.once]))",
			"_b.js":      "const o = require('./_once'); exports.once = o; exports.n = ++o.n",
			"_c.js":      "const o = require('./_once'); exports.once = o; exports.n = ++o.n",
			"_once.js":   "exports.n = 0",
			"_nobody.js": "x",
		}, `publish a "[1,2,true]" q0`},
		{"modules in a circle", "a.js", folder{
			"a.js":  "const b = require('./_b'); on('x', () => publish('a', b.get()))",
			"_b.js": "exports.early = 1; const c = require('./_c'); exports.get = () => c.seen",
			"_c.js": "exports.seen = require('./_b').early",
		}, `publish a "1" q0`},
		{"a type that is only imported", "a.ts", folder{
			"a.ts": "import type { Door } from './types'\non('x', (m) => publish('a', (m.payload as Door).open))",
		}, `publish a "true" q0`},
		{"a rule made by a module", "a.js", folder{
			"a.js":          "require('./lib/helper').rule('x')",
			"lib/helper.ts": "export const rule = (f: string) => on(f, () => publish('a', 'made'))",
		}, `publish a "made" q0`},
	}
	s := start(t)
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			p, err := s.compileIn(t, c.name, c.files)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, show(s.hear(t, p, 0, "x", `{"open":true}`))); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

func TestModulesAfterARestart(t *testing.T) {
	s := start(t)
	p, err := s.compileIn(t, "a.ts", folder{"a.ts": "import { n } from './lib/b'\non('x', (m: Message) => publish('a', n))", "lib/b.ts": "export const n: number = 7"})
	if err != nil {
		t.Fatal(err)
	}
	s.killWorker(t)
	if got := show(s.hear(t, p, 0, "x", "")); got != `publish a "7" q0` {
		t.Errorf("outcome %s", got)
	}
}

func TestModuleErrors(t *testing.T) {
	many := folder{"a.js": ""}
	for i := range 65 {
		many[fmt.Sprintf("_%d.js", i)] = ""
		many["a.js"] += fmt.Sprintf("require('./_%d')\n", i)
	}
	cases := []struct {
		behaviour, name string
		files           folder
		want            string
	}{
		{"TypeScript that is none", "a.ts", folder{"a.ts": "const a = 1\n  const ä: = 2"}, "a.ts:2:12: unexpected \"=\"\n  |   const ä: = 2\n  |            ^"},
		{"an error at the top level", "a.ts", folder{"a.ts": "type A = {\n  a: number }\n\n  const f = (): void => { null!.x }\n\nf()"}, "a.ts:4:33: TypeError: Cannot read property 'x' of undefined"},
		{"an error in a module", "a.js", folder{
			"a.js":     "\nconst b = require('./lib/b')",
			"lib/b.ts": "interface B {}\n\nexport function f(n: number) {\n  if (n > 1) throw new Error('no')\n}\nf(2)",
		}, "lib/b.ts:4:20: no\n  |   if (n > 1) throw new Error('no')\n  |                    ^"},
		{"a module that cannot be read", "a.js", folder{"a.js": "require('./_b')", "_b.js": "let a\nlet a"}, "_b.js:2:5: the symbol \"a\" has already been declared\n  | let a\n  |     ^"},
		{"a module that is not there", "a.js", folder{"a.js": "\n require('./lib/b')"}, "a.js:2:9: cannot require \"./lib/b\": there is no lib/b.ts, lib/b.js, lib/b.json, lib/b/index.ts, lib/b/index.js; the path must be written out as plain text"},
		{"a file of the machine", "a.js", folder{"a.js": "require('/etc/passwd')"}, "a.js:1:8: cannot require \"/etc/passwd\": only files of the rules folder can be required"},
		{"a file outside of the folder", "a/b.ts", folder{"a/b.ts": "import x from '../../etc/passwd'\nx()"}, "a/b.ts:1:15: cannot require \"../../etc/passwd\": it is outside of the rules folder"},
		{"a package", "a.ts", folder{"a.ts": "\nimport { readFileSync } from 'fs'\nreadFileSync('/etc/passwd')"}, "a.ts:2:30: cannot require \"fs\": only files of the rules folder can be required, by a path"},
		{"itself", "a.js", folder{"a.js": "require('./a')"}, "a.js:1:8: cannot require \"./a\": it is the script itself"},
		{"nothing", "a.js", folder{"a.js": "require()"}, "a.js:1:8: TypeError: require needs a path"},
		{"too many", "a.js", many, "a.js: it requires more than 64 files or 1048576 bytes"},
		{"JSON that is none", "a.js", folder{"a.js": "require('./_b.json')", "_b.json": "{a}"}, "a.js:1:8: cannot require \"_b.json\": SyntaxError"},
		{"a module nested too deeply", "a.js", folder{"a.js": "require('./_b')", "_b.js": strings.Repeat("(", 300)}, "_b.js:1:257: brackets are nested deeper than 256"},
		{"a module that does not end", "a.js", folder{"a.js": "require('./_b')", "_b.js": "for (;;);"}, "_b.js:1:2: did not return within "},
		{"a file that cannot be read", "a.js", folder{"a.js": "require('./_b')", "_b.js": "\xff"}, "_b.js: the script is not UTF-8 text"},
		{"await at the top level", "a.ts", folder{"a.ts": "await 1\nexport {}"}, "a.ts:1:1: await stands in no async function\n  | await 1\n  | ^"},
	}
	s := start(t)
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			_, err := s.compileIn(t, c.name, c.files)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error (-want +got):\n%s", cmp.Diff(c.want, fmt.Sprint(err)))
			}
		})
	}
}

func TestPlacesInTypeScript(t *testing.T) {
	s := start(t)
	p, err := s.compileIn(t, "house/a.ts", folder{
		"house/a.ts": `import { deep } from '../lib/b'

on('x', (msg: Message) => {
  const é = 'é'; deep(msg)
})
on('stack', () => { try { deep(null as any) } catch (e: any) { publish('stack', e.stack) } })`,
		"lib/b.ts": "export const one = 1\ntype T = number\nexport function deep(m: Message) {\n\n  /* é */ null!.nothing\n}",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Rules()[1].Line; got != 6 {
		t.Errorf("the second rule is at line %d", got)
	}
	const want = "error lib/b.ts:5:17: TypeError: Cannot read property 'nothing' of undefined\n  |   /* é */ null!.nothing\n  |                 ^"
	if diff := cmp.Diff(want, show(s.hear(t, p, 0, "x", `{}`))); diff != "" {
		t.Errorf("place (-want +got):\n%s", diff)
	}
	o := s.hear(t, p, 1, "stack", ``)
	for _, place := range []string{"lib/b.ts:5:17", "house/a.ts:6:27"} {
		if len(o.Publish) != 1 || !strings.Contains(string(o.Publish[0].Payload), place) {
			t.Errorf("the stack does not name %s: %s", place, show(o))
		}
	}
}

func TestFilesThatAreModules(t *testing.T) {
	s := start(t)
	for name, want := range map[string]bool{
		"a.js": false, "lib.js": false, "house/a.ts": false, "a_b.ts": false,
		"lib/a.js": true, "house/lib/deep/a.ts": true, "_a.js": true, "_old/a.js": true,
	} {
		if got := s.lang.Skips(name); got != want {
			t.Errorf("Skips(%q) = %v", name, got)
		}
	}
}
