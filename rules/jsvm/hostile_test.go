package jsvm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// hostile are handlers that want to do harm. In each, done says that it is enough
// for the event to end, with or without an error.
var hostile = []struct {
	behaviour string
	body      string
	payload   string
	want      string // in the error; "" for an event that ends well
}{
	{"an endless loop", `for (;;);`, ``, "did not return within "},
	{"an endless loop that catches", `for (;;) { try { for (;;); } catch (e) {} finally { continue } }`, ``, "did not return within "},
	{"an endless loop in a getter", `({ get x() { for (;;); } }).x`, ``, "did not return within "},
	{"an endless loop in toJSON", `publish('a', { toJSON() { for (;;); } })`, ``, "did not return within "},
	{"an endless chain of promises", `(function f() { return Promise.resolve().then(f) })()`, ``, "did not return within "},
	{"an endless generator", `[...(function* () { for (;;) yield 1 })()]`, ``, ""},
	{"a regular expression that backtracks", `if (/^(a+)+$(?!x)/.test('a'.repeat(40) + 'b') === false) publish('wrong', 1)`, ``, "did not return within "},
	{"a regular expression that backtracks in replace", `'a'.repeat(40).concat('!').replace(/(?=b|^)(a+)+$(?!x)/g, 'x'); publish('wrong', 1)`, ``, "did not return within "},
	{"a string without end", `'x'.repeat(2 ** 40)`, ``, "over the limit of 8388608"},
	{"padding without end", `'x'.padStart(2 ** 31)`, ``, "over the limit of 8388608"},
	{"replacing that multiplies", `'x'.repeat(1e6).replace(/x/g, 'y'.repeat(1e6))`, ``, "over the limit of 8388608"},
	{"doubling a string", `let s = 'x'; for (;;) s += s`, ``, ""},
	{"a long array", `new Array(4e9).fill(0)`, ``, "over the limit of 4194304"},
	{"a long array by its length", `const a = []; a.length = 4e9; a.fill(1)`, ``, "over the limit of 4194304"},
	{"joining nothing", `const a = []; a.length = 4294967295; a.join('x')`, ``, "over the limit of 4194304"},
	{"an array like a long one", `Array.from({ length: 1e12 })`, ``, "over the limit of 4194304"},
	{"a large buffer", `new ArrayBuffer(2 ** 33)`, ``, "over the limit of 4194304"},
	{"a large typed array", `new Float64Array(2 ** 31)`, ``, "over the limit of 4194304"},
	{"a large typed array by a calculated name", `new globalThis['Float64' + 'Array'](2 ** 31)`, ``, "over the limit of 4194304"},
	{"a large typed array by another way to the global object", `const g = (function () { return this })(); new g['Int8' + 'Array'](2 ** 31)`, ``, "over the limit of 4194304"},
	{"a large typed array by a getter that the global object inherits", `Object.defineProperty(Object.prototype, 'g', { get: Object.prototype.valueOf, configurable: true }); new g['Float64' + 'Array'](2 ** 31)`, ``, "g is not defined"},
	{"a large typed array by a name with an escape", `new Int8\u0041rray(2 ** 31)`, ``, "over the limit of 4194304"},
	{"a large typed array by the constructor of another", `new msg.bytes.constructor(2 ** 31)`, ``, "over the limit of 4194304"},
	{"a large buffer by the constructor of another", `new (new TextEncoder().encode('a').buffer.constructor)(2 ** 33)`, ``, "over the limit of 4194304"},
	{"a giant sort", `const a = []; for (let i = 0; i < 1e6; i++) a.push(i * 7919 % 1e6); for (;;) a.sort((x, y) => x - y)`, ``, "did not return within "},
	{"recursion", `(function f() { f() })()`, ``, "more than 1000 calls within each other"},
	{"recursion through a builtin", `(function f() { [1].forEach(f) })()`, ``, "calls within each other"},
	{"recursion by a proxy", `const p = new Proxy({}, { get: (t, k, r) => r[k] }); p.x`, ``, "calls within each other"},
	{"JSON that is deep", `msg.payload`, strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "is not JSON: it is nested deeper than 300"},
	{"JSON that is very deep, in parse", `JSON.parse('['.repeat(1000000))`, ``, "JSON nested deeper than 300"},
	{"JSON that is long, in parse", `JSON.parse('"' + 'x'.repeat(2e6) + '"')`, ``, "JSON of 2000002 bytes is over the limit"},
	{"JSON of many numbers", `msg.payload.x`, "[" + strings.Repeat("1,", 1<<19-8) + "1]", "is not JSON: it has more than 65536 values"},
	{"JSON of many objects, in parse", `JSON.parse(msg.text)`, "[" + strings.Repeat("{},", 1<<18) + "1]", "JSON of more than 65536 values"},
	{"state of many values", `state.set('a', new Array(70000).fill(0))`, ``, "JSON of more than 65536 values"},
	{"a text split into very many", `msg.text.split(',')`, strings.Repeat(",", 4<<20), "a text split into 4194305 pieces is over the limit of 262144"},
	{"a long text split by an expression", `msg.text.split(/,/)`, strings.Repeat(",", 4<<20), "is over the limit of 262144"},
	{"a publish of too much", `publish('a', 'x'.repeat(5e6))`, ``, "an event may publish at most 4194304 bytes"},
	{"too many publishes", `for (let i = 0; i < 2000; i++) publish('a', i)`, ``, "an event may publish at most 1000 messages"},
	{"too many timers", `for (let i = 0; i < 100000; i++) setTimeout(() => {}, 1e6)`, ``, "more than 1000 pending timers"},
	{"too many timers, set and stopped", `for (let i = 0; i < 100000; i++) clearTimeout(setTimeout(() => {}, 1e6))`, ``, "more than 1000 pending timers"},
	{"correlation data that no packet holds", `publish('a', 1, { correlationData: new Uint8Array(65536) })`, ``, "correlationData of 65536 bytes is over the limit of 65535"},
	{"text that no packet holds", `publish('a', 1, { contentType: 'a\0b' })`, ``, "contentType has a character U+0000"},
	{"an endless promise behind an endless error", `throw { toString() { Promise.resolve().then(() => { for (;;); }); for (;;); } }`, ``, "an error that cannot be shown"},
	{"too many lines", `for (let i = 0; i < 1000; i++) log('x'.repeat(5000))`, ``, ""},
	{"a broken Object.prototype", `Object.prototype.qos = 9; Object.prototype.topic = 'evil/#'; publish('a', { b: 1 }, {})`, ``, ""},
	{"a broken Array.prototype", `Array.prototype.map = Array.prototype.push = Array.prototype[Symbol.iterator] = null; publish('a', [1])`, ``, ""},
	{"other builtins", `JSON.parse = JSON.stringify = Date = Error = Uint8Array = Promise = null; publish('a', { b: msg.text, c: msg.at, d: msg.bytes.length }); state.set('x', { y: 1 }); state.get('x')`, ``, ""},
	{"other globals", `publish = on = state = log = undefined; globalThis.filter = 1`, ``, ""},
	{"an array with a throwing getter", `const a = [1]; Object.defineProperty(a, 0, { get() { throw new Error('got you') } }); publish('a', a)`, ``, "got you"},
	{"options with a throwing getter", `publish('a', 1, { get qos() { throw new Error('got you') } })`, ``, "got you"},
	{"a filter list that is endless", `const o = []; o[Symbol.iterator] = function* () { for (;;) yield ['k', 'v'] }; publish('a', 1, { userProperties: o })`, ``, "more than 64 user properties"},
	{"__proto__ in the payload", `const p = msg.payload; const q = {}; q.x = p.__proto__.polluted; publish('a', [({}).polluted === undefined])`, `{"__proto__":{"polluted":true}}`, ""},
	{"a payload written to at a far index", `msg.payload[4e9] = 1; msg.payload.length = 4e9`, `[1]`, ""},
	{"a detached runtime", `on.constructor('return process')()`, ``, "scripts cannot make code from text"},
}

// roomy gives a worker under the race detector room for what one script after another
// leaves behind.
func roomy(o *jsvm.Options) {
	if raceEnabled {
		o.Memory = 1 << 30
	}
}

func TestHostileScripts(t *testing.T) {
	const good = `let n = 0; on('a', () => publish('n', ++n))`
	hasty, slow := start(t, roomy), start(t, patient, roomy)
	bystanders := map[*suite]rules.Program{hasty: hasty.compile(t, "good.js", good), slow: slow.compile(t, "good.js", good)}
	for _, c := range hostile {
		t.Run(c.behaviour, func(t *testing.T) {
			s := slow // on a busy machine the deadline could come before another limit
			if c.want == "" || strings.Contains(c.want, "did not return") || strings.Contains(c.want, "cannot be shown") {
				s = hasty
			}
			bystander := bystanders[s]
			began := time.Now()
			p := s.compile(t, "bad.js", "on('a', (msg) => {\n"+c.body+"\n})\non('b', () => { if (typeof publish === 'function') publish('fine', 1) })")
			defer func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}()
			o := s.hear(t, p, 0, "a", c.payload)
			switch {
			case c.want == "" && len(o.Publish) == 1 && string(o.Publish[0].Payload) == "[false]":
				t.Error("the prototype of all objects was changed")
			case c.want != "" && (o.Err == nil || !strings.Contains(o.Err.Error(), c.want)):
				t.Errorf("want an error with %q: %s", c.want, show(o))
			}
			if o.Err != nil && len(o.Publish)+len(o.Timers)+len(o.State) > 0 {
				t.Errorf("an event with an error has effects: %.300s", show(o))
			}
			if o := s.hear(t, p, 1, "b", ""); o.Err != nil {
				t.Errorf("the script does not go on: %s", show(o))
			}
			if o := s.hear(t, bystander, 0, "a", ""); o.Err != nil || len(o.Publish) != 1 {
				t.Errorf("another script does not go on: %s", show(o))
			}
			t.Logf("%v: %.200s", time.Since(began).Round(time.Millisecond), show(o))
		})
	}
}

// TestHostileTopLevels are files that do harm when they are compiled.
func TestHostileTopLevels(t *testing.T) {
	cases := []struct{ behaviour, text, want string }{
		{"unary operators without end", strings.Repeat("!", 250_000) + "1", ""},
		{"conditions without end", strings.Repeat("1?1:", 60_000) + "1", ""},
		{"arrows without end", strings.Repeat("x=>", 80_000) + "1", ""},
		{"statements without end", strings.Repeat("if(1)", 50_000) + ";", ""},
		{"sums without end", strings.Repeat("1+", 120_000) + "1", ""},
		{"brackets behind strings", strings.Repeat("[(')]'),", 30_000), ""},
		{"memory at the top level", "const a = []; for (;;) a.push(new Array(1000).fill(1))", "x.js"},
		{"topic filters without end", "on(new Array(400).fill('x'.repeat(60000)), () => {})", "bytes of names and topic filters"},
		{"two hundred thousand rules", "for (let i = 0; i < 2e5; i++) on('a', () => {})", "more than 500 rules"},
	}
	s := start(t)
	bystander := s.compile(t, "good.js", `on('a', () => publish('n', 1))`)
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			p, err := s.lang.Compile(t.Context(), rules.Source{Name: "x.js", Text: []byte(c.text)})
			t.Logf("%.200v", err)
			if err == nil {
				_ = p.Close()
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if o := s.hear(t, bystander, 0, "a", ""); o.Err != nil || len(o.Publish) != 1 {
				t.Errorf("another script does not go on: %s", show(o))
			}
		})
	}
}
