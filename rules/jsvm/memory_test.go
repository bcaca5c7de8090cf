package jsvm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
)

func TestWatch(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
watch(['home/+/door', 'plain'])
on('ask', (m) => { const d = last(m.text); publish('door', d ? [d.payload.open, d.topic, d.retain, d.at.getTime()] : 'none') })
on('other', () => last('home/hall/light'))
filter('f', () => last('home/hall/door').payload.open)
on('change', () => { const d = last('home/hall/door'); d.payload.open = 5; d.text = 'x' })`)
	r := p.Rules()[0]
	if r.Stage != rules.Watch || !r.Hidden || len(r.Filters) != 2 || r.Name != "watch home/+/door" {
		t.Fatalf("rule %+v", r)
	}
	ask := func(topic, want string) {
		t.Helper()
		if got := show(s.hear(t, p, 1, "ask", topic)); got != want {
			t.Errorf("%s: %s, want %s", topic, got, want)
		}
	}
	ask("home/hall/door", `publish door "none" q0`)
	if o := s.hear(t, p, 0, "home/hall/door", `{"open":true}`); o.Err != nil || len(show(o)) > 0 {
		t.Errorf("watching: %s", show(o))
	}
	const open = `publish door "[true,\"home/hall/door\",false,1795334400000]" q0`
	ask("home/hall/door", open)
	ask("home/bath/door", `publish door "none" q0`)
	s.hear(t, p, 4, "change", "")
	ask("home/hall/door", open)
	s.killWorker(t)
	ask("home/hall/door", open)
	if got := show(s.hear(t, p, 3, "f", "")); got != "" {
		t.Errorf("a filter: %s", got)
	}
	s.hear(t, p, 0, "home/hall/door", "")
	ask("home/hall/door", `publish door "none" q0`)
	if got := show(s.hear(t, p, 2, "other", "")); !strings.Contains(got, `a.js:4:23: TypeError: last("home/hall/light"): the script has no watch(filter)`) {
		t.Errorf("a topic that is not watched: %s", got)
	}
}

// TestWatchOverVersions: what was heard goes over to a new version that watches it, even
// if the one before is closed by then.
func TestWatchOverVersions(t *testing.T) {
	s := start(t)
	state := rules.NewState(nil)
	old := s.compileWith(t, "a.js", `watch('#')`, state)
	s.run(t, old, rules.Call{Trigger: rules.OnStart, Now: s.now})
	s.hear(t, old, 0, "a", "1")
	s.hear(t, old, 0, "b", "1")
	next := s.compileWith(t, "a.js", `watch('a'); on('ask', () => publish('a', last('a')?.payload ?? 'none')); on('ask', () => last('b'))`, state)
	s.hear(t, old, 0, "a", "2")
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	s.run(t, next, rules.Call{Trigger: rules.OnStart, Now: s.now})
	if got := show(s.hear(t, next, 1, "ask", "")); got != `publish a "2" q0` {
		t.Errorf("the new version sees %s", got)
	}
	if o := s.hear(t, next, 2, "ask", ""); o.Err == nil {
		t.Error("it sees what it does not watch")
	}
}

// TestWatchOutOfOrder: what is told out of order does not take the place of what came later,
// nor of what took it away, neither here nor in the worker, nor in another one or a new version.
func TestWatchOutOfOrder(t *testing.T) {
	s := start(t)
	const text = `watch('a'); on('ask', () => publish('a', last('a')?.text ?? 'none'))`
	state := rules.NewState(nil)
	p := s.compileWith(t, "a.js", text, state)
	s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now})
	hear := func(payload string, order uint64) rules.Call {
		call := s.call(0, "a", payload)
		call.Message.Order = order
		return call
	}
	ask := func(what, want string) {
		t.Helper()
		if got, want := show(s.hear(t, p, 1, "ask", "")), fmt.Sprintf("publish a %q q0", want); got != want {
			t.Errorf("after %s: %s, want %s", what, got, want)
		}
	}
	for _, c := range []struct {
		payload string
		order   uint64
		want    string
	}{
		{"unknown", 0, "unknown"},
		{"another", 0, "another"},
		{"new", 5, "new"},
		{"old", 4, "new"},
		{"unknown", 0, "new"},
		{"later", 7, "later"},
		{"between", 6, "later"},
		{"", 9, "none"},
		{"before", 8, "none"},
	} {
		s.run(t, p, hear(c.payload, c.order))
		ask(fmt.Sprintf("%q of order %d", c.payload, c.order), c.want)
	}
	s.killWorker(t)
	s.run(t, p, hear("before", 8))
	ask("one that was before, in another worker", "none")
	p.Run(t.Context(), []rules.Call{hear("twelve", 12), hear("eleven", 11)})
	ask("two at once", "twelve")
	s.killWorker(t)
	ask("two at once, in another worker", "twelve")
	s.run(t, p, hear("", 13))
	p = s.compileWith(t, "a.js", text+"\n// another version", state)
	s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now})
	s.run(t, p, hear("twelve", 12))
	ask("one that was before, in a new version", "none")
}

// TestWatchIsBounded: what was heard longest ago goes first, in the worker and here.
func TestWatchIsBounded(t *testing.T) {
	s := start(t, patient)
	p := s.compile(t, "a.js", `
watch('t/#')
on('count', () => { let n = 0; for (let i = 0; i < 5000; i++) if (last('t/' + i)) n++; publish('n', [n, !!last('t/0'), !!last('t/4999')]) })`)
	calls := make([]rules.Call, 5000)
	for i := range calls {
		calls[i] = s.call(0, fmt.Sprintf("t/%d", i), "1")
	}
	p.Run(t.Context(), calls)
	for _, life := range []string{"first", "second"} {
		if got := show(s.hear(t, p, 1, "count", "")); got != `publish n "[4000,false,true]" q0` {
			t.Errorf("%s: %s", life, got)
		}
		s.killWorker(t)
	}
	p.Run(t.Context(), []rules.Call{s.call(0, "t/large", strings.Repeat("x", 1<<20-100))})
	if got := show(s.hear(t, p, 1, "count", "")); strings.Contains(got, "4000") {
		t.Errorf("with a large one: %s", got)
	}
}

const windowed = `
const ten = window({ last: 3, name: 'ten' }), recent = window({ over: '5m' })
on('add', (m) => { ten.add(m.topic, m.payload); recent.add(m.payload); publish('mean', [ten.mean(m.topic), ten.count(m.topic), recent.sum()]) })
on('all', () => publish('all', ['sum', 'mean', 'min', 'max', 'first', 'last', 'median', 'rate', 'ema', 'count'].map((f) => ten[f]('add') ?? null).concat(recent.values())))
on('fail', () => { ten.add('add', 1000); throw new Error('no') })
on('empty', () => publish('empty', ['sum', 'mean', 'min', 'max', 'first', 'last', 'median', 'rate', 'ema', 'count'].map((f) => ten[f]('x') ?? null)))`

func TestWindowsAndAClockThatWasWrong(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `const w = window({ over: '5m' })
on('add', (m) => { w.add(m.payload); publish('sum', w.sum()) })`)
	const years = 50 * 365 * 24 * time.Hour
	for i, step := range []struct {
		after   time.Duration
		payload string
		want    string
	}{
		{0, "1", "1"},
		{years, "2", "2"},
		{-years, "4", "6"}, // what was of the future is of now
		{4 * time.Minute, "8", "14"},
		{2 * time.Minute, "16", "24"},
	} {
		s.now = s.now.Add(step.after)
		if i == 4 {
			s.killWorker(t)
		}
		if got, want := show(s.hear(t, p, 0, "add", step.payload)), `publish sum "`+step.want+`" q0`; got != want {
			t.Errorf("step %d: %s, not %s", i, got, want)
		}
	}
}

func TestWindows(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", windowed)
	step := func(rule int, after time.Duration, payload, want string) {
		t.Helper()
		s.now = s.now.Add(after)
		if diff := cmp.Diff(want, show(s.hear(t, p, rule, "add", payload))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	step(0, 0, "1", `publish mean "[1,1,1]" q0`)
	step(0, time.Second, "2", `publish mean "[1.5,2,3]" q0`)
	step(0, time.Second, "6", `publish mean "[3,3,9]" q0`)
	s.hear(t, p, 2, "fail", "")
	step(0, 2*time.Second, "7", `publish mean "[5,3,16]" q0`)
	const all = `publish all "[15,5,2,7,2,7,6,1.6666666666666667,5.5,3,%s]" q0`
	step(1, 0, "", fmt.Sprintf(all, "1,2,6,7"))
	s.killWorker(t)
	step(1, 5*time.Minute-4*time.Second, "", fmt.Sprintf(all, "2,6,7"))
	step(3, 0, "", `publish empty "[0,null,null,null,null,null,null,null,null,0]" q0`)
	if got := show(s.hear(t, p, 0, "add", `"x"`)); !strings.Contains(got, `a window holds finite numbers, not "x"`) {
		t.Errorf("a text: %s", got)
	}

	kept := map[string][]byte{"window/4/gonekey": []byte("[[1,1]]"), "window/3/tenbad": []byte("x")}
	save := func(p rules.Program) (changed int) {
		saveTo(t, p, false, func(key string, value []byte) {
			changed++
			if value == nil {
				delete(kept, key)
			} else {
				kept[key] = append([]byte(nil), value...)
			}
		})
		return changed
	}
	if n := save(p); n != 2 {
		t.Errorf("%d windows have changed: %q", n, kept)
	}
	if n := save(p); n != 0 {
		t.Errorf("%d windows have changed since", n)
	}
	p = s.compile(t, "a.js", windowed+"\n// another version")
	s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now, Kept: kept})
	step(1, 0, "", fmt.Sprintf(all, "2,6,7"))
	save(p)
	if len(kept) != 2 {
		t.Errorf("what nobody has a use for is kept: %q", kept)
	}
	step(0, 0, "9", `publish mean "[7.333333333333333,3,24]" q0`)
	if n := save(p); n != 2 {
		t.Errorf("%d windows have changed after the restart", n)
	}
}

func TestWindowErrors(t *testing.T) {
	cases := map[string]string{
		"window()":               "window needs how much it holds",
		"window({ last: 0 })":    "last must be 1 to 1000",
		"window({ last: 1001 })": "last must be 1 to 1000",
		"window({ over: 0 })":    "over must be at least 1 ms",
		"window({ most: 1 })":    `window has no option "most"`,
		"window({ last: 1, name: 'a' }); window({ last: 1, name: 'a' })": `there are two windows "a"`,
		"for (let i = 0; i < 51; i++) window({ last: 1 })":               "more than 50 windows",
		"watch('a/#/b')":                       "is not a topic filter",
		"shared('x.js')":                       "shared needs the path of another script",
		"shared()":                             "shared needs the path of another script",
		"shared('y.js').get('a')":              "not at the top level",
		"debounce('1s')":                       "debounce needs a time and a function",
		"throttle('1s', () => {}, { key: 1 })": "key must be a function",
	}
	s := start(t)
	for text, want := range cases {
		_, err := s.lang.Compile(t.Context(), rules.Source{Name: "x.js", Text: []byte(text)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestSharedState(t *testing.T) {
	s := start(t)
	const owner = `
state.share('door', 'room/*')
on('set', (m) => { state.set(m.text, (state.get(m.text) || 0) + 1) })`
	p := s.compile(t, "reader.js", `
const door = shared('house/door.js'), none = shared('none.js')
on('get', (m) => publish('got', [door.get(m.text) ?? null, door.keys(), none.get('x') ?? null, none.keys()]))`)
	get := func(key, want string) {
		t.Helper()
		if got := show(s.hear(t, p, 0, "get", key)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	get("door", `publish got "[null,[],null,[]]" q0`)
	state := rules.NewState(map[string][]byte{"secret": []byte("7")})
	q := s.compileWith(t, "house/door.js", owner, state)
	get("door", `publish got "[null,[],null,[]]" q0`) // not in force
	s.run(t, q, rules.Call{Trigger: rules.OnStart, Now: s.now})
	s.hear(t, q, 0, "set", "door")
	s.hear(t, q, 0, "set", "room/a")
	get("door", `publish got "[1,[\"door\",\"room/a\"],null,[]]" q0`)
	s.killWorker(t)
	get("room/a", `publish got "[1,[\"door\",\"room/a\"],null,[]]" q0`)
	get("secret", `error reader.js:3:`)
	next := s.compileWith(t, "house/door.js", owner, state)
	s.hear(t, q, 0, "set", "door") // the version before goes on until the other is in force
	get("door", `publish got "[2,`)
	s.run(t, next, rules.Call{Trigger: rules.OnStart, Now: s.now})
	s.hear(t, next, 0, "set", "door")
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	get("door", `publish got "[3,`)
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	get("door", `publish got "[null,[],null,[]]" q0`)
}

func TestStateUpdate(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
on('a', () => publish('n', state.update('n', (n = 0) => n + 1)))
on('b', () => state.update('n', async () => 1))
on('c', () => state.update('n', () => { throw new Error('no') }))`)
	s.hear(t, p, 0, "a", "")
	if got := show(s.hear(t, p, 0, "a", "")); got != "publish n \"2\" q0\nstate n=2" {
		t.Error(got)
	}
	for rule, want := range []string{"", "cannot be async", "no"} {
		if got := show(s.hear(t, p, rule, "a", "")); !strings.Contains(got, want) || rule > 0 && strings.Contains(got, "state n=") {
			t.Errorf("rule %d: %s", rule, got)
		}
	}
}

func TestBytes(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
on('a', (m) => {
  publish('b64', [btoa('é\u0000x'), atob('6QB4') === 'é\u0000x', atob(' 6Q==\n').charCodeAt(0)])
  publish('enc', new TextEncoder().encode('é'))
  publish('dec', [new TextDecoder().decode(m.bytes), new TextDecoder('latin1').decode(m.bytes), new TextDecoder().decode(m.bytes.buffer), new TextDecoder().decode()])
  publish('num', new DataView(m.bytes.buffer).getUint16(0))
})
on('bad', (m) => ({ a: () => btoa('€'), b: () => atob('#'), c: () => new TextDecoder('koi8-r'), d: () => new TextDecoder().decode('x') })[m.text]())`)
	const want = "publish b64 \"[\\\"6QB4\\\",true,233]\" q0\npublish enc \"é\" q0\npublish dec \"[\\\"é\\\",\\\"Ã©\\\",\\\"é\\\",\\\"\\\"]\" q0\npublish num \"50089\" q0"
	if diff := cmp.Diff(want, show(s.hear(t, p, 0, "a", "é"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for which, want := range map[string]string{"a": "btoa takes characters up to", "b": "is not base 64", "c": "it knows utf-8 and latin1", "d": "decode needs a Uint8Array"} {
		if got := show(s.hear(t, p, 1, "bad", which)); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", which, got, want)
		}
	}
}

func TestFacts(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
watch('w/#')
const w = window({ last: 3 })
timer('t', () => {})
on('a', (m) => {
  log('x', 1)
  w.add(5)
  state.set('n', (state.get('n') || 0) + w.mean())
  last('w/a'); state.delete('old')
  publish('out/a', { a: 'y'.repeat(300) })
  after('5m', 't', { d: 1 }); cancel('t'); setTimeout(() => {}, 100)
  http('https://example.org/', { body: 'b' })
  if (m.text) throw new Error('no')
})
filter('f', () => false)
filter('f', () => ({ topic: 'g' }))`)
	explain := func(rule int, payload string) string {
		t.Helper()
		c := s.call(rule, "a", payload)
		c.Explain = true
		var lines []string
		for _, f := range s.run(t, p, c).Facts {
			lines = append(lines, f.What+" = "+f.Value)
		}
		return strings.Join(lines, "\n")
	}
	did := `log = x 1
state.get n = 
window.mean = 5
state.set n = 5
state.delete old = 
publish out/a = {"a":"` + strings.Repeat("y", 194) + `...
after "t"  in 5m0s = {"d":1}
cancel after "t"  = 
setTimeout 100ms = 
http POST https://example.org/ = b`
	if diff := cmp.Diff(did, explain(2, "")); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	again := strings.NewReplacer("get n = ", "get n = 5", "set n = 5", "set n = 10").Replace(did)
	if diff := cmp.Diff(again+"\nthrew at a.js:13:21 = no", explain(2, "x")); diff != "" {
		t.Errorf("facts of an event that throws (-want +got):\n%s", diff)
	}
	if got := explain(3, ""); got != "return false = dropped" {
		t.Errorf("a filter that drops: %s", got)
	}
	if got := explain(4, "p"); got != "return g = p" {
		t.Errorf("a filter that redirects: %s", got)
	}
	if o := s.hear(t, p, 2, "a", ""); o.Facts != nil {
		t.Errorf("facts that nobody asked for: %v", o.Facts)
	}
}

// A shadow rule neither sets nor stops a timer whose handler would act, which it tells.
func TestFactsOfAShadowTimer(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `timer('real', () => publish('real', 1)); timer('shown', { shadow: true }, () => publish('shown', 1))
on('a', { shadow: true }, () => { after('1m', 'real', 1); cancel('real'); after('1m', 'shown', 2) })
on('a', () => after('1m', 'real', 3))`)
	for rule, want := range map[int]struct {
		facts  []rules.Fact
		timers int
	}{
		2: {[]rules.Fact{
			{What: `after "real"  in 1m0s`, Value: "1"},
			{What: "shadow", Value: `the timer is shown, not set: timer("real") is no shadow`},
			{What: `cancel after "real" `},
			{What: "shadow", Value: `this is shown, not done: timer("real") is no shadow`},
			{What: `after "shown"  in 1m0s`, Value: "2"},
		}, 1},
		3: {[]rules.Fact{{What: `after "real"  in 1m0s`, Value: "3"}}, 1},
	} {
		c := s.call(rule, "a", "")
		c.Explain = true
		out := s.run(t, p, c)
		if diff := cmp.Diff(want.facts, out.Facts); diff != "" || out.Err != nil || len(out.Timers) != want.timers {
			t.Errorf("rule %d came to %v: %s", rule, show(out), diff)
		}
	}
}

// The reply of a request that a shadow rule shows is handled by nobody, which it tells.
func TestFactsOfAShadowRequest(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `reply('r', () => publish('real', 1)); on('a', { shadow: true }, () => http.later('http://x/', { name: 'r' }))`)
	c := s.call(1, "a", "")
	c.Explain = true
	out := s.run(t, p, c)
	want := []rules.Fact{{What: "http GET http://x/"}, {What: "shadow", Value: `the request is shown, not sent, and reply("r") is not called`}}
	if diff := cmp.Diff(want, out.Facts); diff != "" || out.Err != nil || len(out.Requests) != 1 {
		t.Errorf("it came to %v: %s", show(out), diff)
	}
}
