package jsvm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// show writes what an outcome says, a line each.
func show(o rules.Outcome) string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if o.Err != nil {
		add("error %v", o.Err)
	}
	switch o.Verdict.Action {
	case message.Replace:
		add("replace %s", showMessage(o.Verdict.Message))
	case message.Drop:
		add("drop")
	case message.Reject:
		add("reject")
	case message.Pass:
	}
	for i := range o.Publish {
		add("publish %s", showMessage(&o.Publish[i]))
	}
	for _, t := range o.Timers {
		if t.Name != "" {
			add("keep %s %v %s", t.ID, t.After, t.Data)
			continue
		}
		add("timer %s %v %v", t.ID, t.After, t.Every)
	}
	for i := range o.Requests {
		q := &o.Requests[i]
		add("%s %s %s %q %v retries=%d for %s %s", q.Method, q.URL, q.Header, q.Body, q.Timeout, q.Retries, q.Name, q.Data)
	}
	if o.Missed {
		add("missed")
	}
	for _, c := range o.State {
		add("state %s=%s", c.Key, c.Value)
	}
	for _, l := range o.Logs {
		add("%v %s", l.Level, l.Text)
	}
	return strings.Join(lines, "\n")
}

func showMessage(m *message.Message) string {
	s := fmt.Sprintf("%s %q q%d", m.Topic, m.Payload, m.QoS)
	if m.Retain {
		s += " retain"
	}
	if m.ContentType != "" {
		s += " type=" + m.ContentType
	}
	if m.ResponseTopic != "" {
		s += " response=" + m.ResponseTopic
	}
	if m.CorrelationData != nil {
		s += fmt.Sprintf(" correlation=%q", m.CorrelationData)
	}
	for _, p := range m.UserProperties {
		s += " " + p.Key + ":" + p.Value
	}
	if !m.Expires.IsZero() {
		s += " expires=" + m.Expires.UTC().Format("15:04:05")
	}
	return s
}

func TestHandler(t *testing.T) {
	const open = `{"open":true,"at":12345678901234567890,"list":[1,2.5,"x",null],"deep":{"a":{"b":1}}}`
	cases := []struct {
		behaviour string
		body      string // of a handler of "home/#"
		payload   string
		want      string
	}{
		{"publishes an object as JSON", `publish('a/b', { on: true, n: 1.5, s: "é\n", z: null, l: [1, 'x'] })`, open, `publish a/b "{\"on\":true,\"n\":1.5,\"s\":\"é\\n\",\"z\":null,\"l\":[1,\"x\"]}" q0`},
		{"publishes a string as it is", `publish('a', 'on')`, open, `publish a "on" q0`},
		{"publishes an empty string as no payload", `publish('a', '', { retain: true })`, open, `publish a "" q0 retain`},
		{"publishes bytes as they are", `publish('a', new Uint8Array([1, 255])); publish('b', new Uint8Array([7]).buffer)`, open, "publish a \"\\x01\\xff\" q0\npublish b \"\\a\" q0"},
		{"publishes numbers and booleans as JSON", `publish('a', 21); publish('b', 0.1 + 0.2); publish('c', true); publish('d', null); publish('e', NaN)`, open, "publish a \"21\" q0\npublish b \"0.30000000000000004\" q0\npublish c \"true\" q0\npublish d \"null\" q0\npublish e \"null\" q0"},
		{"publishes a date as JSON does", `publish('a', { at: new Date(0) })`, open, `publish a "{\"at\":\"1970-01-01T00:00:00.000Z\"}" q0`},
		{"passes an unchanged payload on byte by byte", `publish('a', msg.payload)`, open, fmt.Sprintf("publish a %q q0", open)},
		{"reads fields of the payload", `publish('a', [msg.payload.open, msg.payload.list.length, msg.payload.deep.a.b, msg.payload.none === undefined])`, open, `publish a "[true,4,1,true]" q0`},
		{"changes the payload like an object", `const p = msg.payload; p.deep.a.b++; p.list.push(9); delete p.at; p.x = 'y'; publish('a', p)`, open, `publish a "{\"open\":true,\"list\":[1,2.5,\"x\",null,9],\"deep\":{\"a\":{\"b\":2}},\"x\":\"y\"}" q0`},
		{"spreads the payload", `publish('a', { ...msg.payload.deep, f: 1 })`, open, `publish a "{\"a\":{\"b\":1},\"f\":1}" q0`},
		{"loops over payload arrays and keys", `publish('a', msg.payload.list.map((v) => typeof v)); publish('b', Object.keys(msg.payload)); let n = 0; for (const v of msg.payload.list) n++; publish('c', n)`, open, "publish a \"[\\\"number\\\",\\\"number\\\",\\\"string\\\",\\\"object\\\"]\" q0\npublish b \"[\\\"open\\\",\\\"at\\\",\\\"list\\\",\\\"deep\\\"]\" q0\npublish c \"4\" q0"},
		{"takes the last of two equal keys", `publish('a', msg.payload.c)`, `{"c":1,"c":1000}`, `publish a "1000" q0`},
		{"reads a payload that is a plain value", `publish('a', msg.payload + 1)`, `21.5`, `publish a "22.5" q0`},
		{"reads small and large numbers exactly", `publish('a', [msg.payload[0], msg.payload[1], Object.is(msg.payload[2], -0), msg.payload[3]])`, `[0.3, 123456789012345, -0, 1e-7]`, `publish a "[0.3,123456789012345,true,1e-7]" q0`},
		{"gives the topic and its parts", `publish('a', [msg.topic, msg.parts, msg.parts[1]])`, open, `publish a "[\"home/hall/客厅\",[\"home\",\"hall\",\"客厅\"],\"hall\"]" q0`},
		{"gives text and bytes", `publish('a', msg.text + '!'); publish('b', msg.bytes.length)`, "é", "publish a \"é!\" q0\npublish b \"2\" q0"},
		{"gives text and bytes of what is no UTF-8", `publish('a', msg.text); publish('b', msg.bytes)`, "{\"a\":\"\xff\"}", "publish a \"{\\\"a\\\":\\\"\uFFFD\\\"}\" q0\npublish b \"{\\\"a\\\":\\\"\\xff\\\"}\" q0"},
		{"gives properties", `publish('a', msg.properties); publish('b', msg.properties.correlationData)`, open, "publish a \"{\\\"contentType\\\":\\\"text/x\\\",\\\"responseTopic\\\":\\\"re/ply\\\",\\\"correlationData\\\":{\\\"0\\\":1,\\\"1\\\":2},\\\"userProperties\\\":[[\\\"k\\\",\\\"v\\\"],[\\\"k\\\",\\\"w\\\"]],\\\"expiry\\\":30}\" q0\npublish b \"\\x01\\x02\" q0"},
		{"gives qos, retain, origin and at", `publish('a', [msg.qos, msg.retain, msg.origin, msg.at.toISOString(), msg.at instanceof Date])`, open, `publish a "[1,true,\"client/test\",\"2026-11-22T08:00:00.000Z\",true]" q0`},
		{"sets every option of a publish", `publish('a', 1, { qos: 2, retain: true, contentType: 'application/json', responseTopic: 'r', correlationData: 'id', userProperties: { k: 'v' }, expiry: 60 })`, open, `publish a "1" q2 retain type=application/json response=r correlation="id" k:v expires=08:01:00`},
		{"takes user properties as pairs and expiry as text", `publish('a', 1, { userProperties: [['k', 'v'], ['k', 2]], expiry: '1m30s' })`, open, `publish a "1" q0 k:v k:2 expires=08:01:30`},
		{"logs at levels", `log('x', 1, { a: [1] }, null, undefined); log.warn('w'); log.error(new TypeError('bad')); log.debug(msg.payload); console.log('c'); console.error('e')`, `{"a":1}`, "INFO x 1 {\"a\":[1]} null undefined\nWARN w\nERROR TypeError: bad\nDEBUG {\"a\":1}\nINFO c\nERROR e"},
		{"keeps the clock of the event", `publish('a', new Date().toISOString()); publish('b', Date.now())`, open, "publish a \"2026-11-22T08:00:00.000Z\" q0\npublish b \"1795334400000\" q0"},
		{"awaits what is ready", `return (async () => { const v = await Promise.resolve(7); publish('a', v) })()`, open, `publish a "7" q0`},
		{"shows that nothing else is there", `publish('a', ['exports', 'process', 'fetch', 'module', 'Deno', 'Go'].map((n) => typeof globalThis[n]))`, open, `publish a "[\"undefined\",\"undefined\",\"undefined\",\"undefined\",\"undefined\",\"undefined\"]" q0`},
		{"lists its fields", `publish('a', Object.keys(msg)); publish('b', 'text' in msg)`, open, "publish a \"[\\\"topic\\\",\\\"parts\\\",\\\"payload\\\",\\\"qos\\\",\\\"retain\\\",\\\"properties\\\",\\\"origin\\\",\\\"at\\\"]\" q0\npublish b \"true\" q0"},
		{"gives the same object each time", `publish('a', [msg.payload === msg.payload, msg.payload.deep === msg.payload.deep, msg.payload.list === msg.payload.list])`, open, `publish a "[true,true,true]" q0`},
	}
	s := start(t)
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			p := s.compile(t, "t.js", "on('home/#', (msg) => { "+c.body+" })")
			call := s.call(0, "home/hall/客厅", c.payload)
			m := call.Message
			m.QoS, m.Retain, m.ContentType, m.ResponseTopic = 1, true, "text/x", "re/ply"
			m.CorrelationData, m.UserProperties = []byte{1, 2}, []message.Property{{Key: "k", Value: "v"}, {Key: "k", Value: "w"}}
			m.Expires = s.now.Add(30 * time.Second)
			o := s.run(t, p, call)
			if diff := cmp.Diff(c.want, show(o)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if !o.Fired {
				t.Error("the handler did not fire")
			}
		})
	}
}

func TestFilter(t *testing.T) {
	cases := []struct {
		behaviour string
		body      string
		want      string
	}{
		{"passes when it returns nothing", ``, ``},
		{"passes when it returns true", `return true`, ``},
		{"drops when it returns false", `return false`, `drop`},
		{"sends on elsewhere", `return { topic: 'clean/x' }`, `replace clean/x "{\"c\":20,\"big\":12345678901234567890}" q1 type=text/x k:v expires=08:00:30`},
		{"changes the message in place", `msg.payload.f = 68; msg.topic = 'clean/' + msg.parts[1]; return msg`, `replace clean/1 "{\"c\":20,\"big\":12345678901234567000,\"f\":68}" q1 type=text/x k:v expires=08:00:30`},
		{"leaves the bytes of a returned message that did not change", `return msg`, `replace raw/1/temp "{\"c\":20,\"big\":12345678901234567890}" q1 type=text/x k:v expires=08:00:30`},
		{"replaces the payload", `return { payload: { f: 1 } }`, `replace raw/1/temp "{\"f\":1}" q1 type=text/x k:v expires=08:00:30`},
		{"spreads the message", `return { ...msg, payload: { ...msg.payload, f: 1 }, qos: 0 }`, `replace raw/1/temp "{\"c\":20,\"big\":12345678901234567000,\"f\":1}" q0 type=text/x k:v expires=08:00:30`},
		{"spreads the message with text", `return { ...msg, text: 'x' }`, `replace raw/1/temp "x" q1 type=text/x k:v expires=08:00:30`},
		{"sets text and bytes", `msg.text = 'ab'; msg.bytes = new Uint8Array([msg.bytes[0], 99]); return msg`, `replace raw/1/temp "ac" q1 type=text/x k:v expires=08:00:30`},
		{"sets properties", `return { retain: true, contentType: 'b', userProperties: {}, expiry: '2m' }`, `replace raw/1/temp "{\"c\":20,\"big\":12345678901234567890}" q1 retain type=b expires=08:02:00`},
		{"changes properties in place", `msg.properties.contentType = 'z'; return msg`, `replace raw/1/temp "{\"c\":20,\"big\":12345678901234567890}" q1 type=z k:v expires=08:00:30`},
		{"keeps state", `state.set('n', (state.get('n') || 0) + 1)`, `state n=1`},
		{"may be async", `return Promise.resolve(false)`, `drop`},
		{"rejects when it throws", `throw new Error('no')`, "error f.js:2:7: no\n  | throw new Error('no')\n  |       ^\nreject"},
		{"rejects what it cannot read", `return 7`, "error f.js:1: TypeError: a filter must return nothing, true, false, or a message\n  | filter(['raw/+/temp'], (msg) => {\nreject"},
		{"rejects an unknown field", `return { payloda: 1 }`, "error f.js:1: TypeError: the result of a filter has no option \"payloda\"\n  | filter(['raw/+/temp'], (msg) => {\nreject"},
		{"rejects a topic of the broker", `return { topic: '$SYS/x' }`, "error f.js:1: TypeError: cannot send the message on: topic \"$SYS/x\" belongs to the broker: a rule cannot publish to $SYS\n  | filter(['raw/+/temp'], (msg) => {\nreject"},
		{"rejects a topic that cannot be", `return { topic: 'a/#' }`, "error f.js:1: TypeError: cannot send the message on to \"a/#\": not a topic name\n  | filter(['raw/+/temp'], (msg) => {\nreject"},
		{"does not publish", `publish('a', 1)`, "error f.js:2:8: TypeError: publish cannot be called in a filter: use on\n  | publish('a', 1)\n  |        ^\nreject"},
		{"does not set timers", `setTimeout(() => 1, 1)`, "error f.js:2:11: TypeError: setTimeout cannot be called in a filter: use on\n  | setTimeout(() => 1, 1)\n  |           ^\nreject"},
		{"does not wait", `return new Promise(() => {})`, "error f.js:1: TypeError: a filter cannot wait: its promise is still pending\n  | filter(['raw/+/temp'], (msg) => {\nreject"},
	}
	s := start(t)
	for _, c := range cases {
		t.Run(c.behaviour, func(t *testing.T) {
			p := s.compile(t, "f.js", "filter(['raw/+/temp'], (msg) => {\n"+c.body+"\n})")
			call := s.call(0, "raw/1/temp", `{"c":20,"big":12345678901234567890}`)
			m := call.Message
			m.QoS, m.ContentType, m.UserProperties = 1, "text/x", []message.Property{{Key: "k", Value: "v"}}
			m.Expires = s.now.Add(30 * time.Second)
			before := *m
			if diff := cmp.Diff(c.want, show(s.run(t, p, call))); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, *m); diff != "" {
				t.Errorf("the message itself was changed:\n%s", diff)
			}
		})
	}
}

func TestFilterThatPassesOnError(t *testing.T) {
	s := start(t)
	p := s.compile(t, "f.js", `filter('a', { on_error: 'pass' }, () => { throw 'x' })`)
	if got := p.Rules()[0].OnError; got != rules.PassOnError {
		t.Errorf("the rule says %v on an error", got)
	}
	o := s.hear(t, p, 0, "a", "")
	if o.Err == nil || o.Verdict.Action != message.Pass {
		t.Errorf("outcome %s", show(o))
	}
}

func TestRules(t *testing.T) {
	s := start(t)
	p := s.compile(t, "r.js", `
on('a', () => {})
on(['a', 'b/+/#'], { qos: 2, name: 'both' }, function handler() {})

on('a', () => {})
filter('devices/light/客厅', { on_error: 'pass' }, () => true)`)
	want := []rules.Rule{
		{Name: "on a", Line: 2, Filters: []string{"a"}},
		{Name: "both", Line: 3, Filters: []string{"a", "b/+/#"}, QoS: 2},
		{Name: "on a #2", Line: 5, Filters: []string{"a"}},
		{Name: "filter devices/light/客厅", Line: 6, Stage: rules.Before, Filters: []string{"devices/light/客厅"}, OnError: rules.PassOnError},
	}
	if diff := cmp.Diff(want, p.Rules()); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

func TestStartHoldsWhatTheTopLevelDid(t *testing.T) {
	s := start(t)
	state := rules.NewState(map[string][]byte{"n": []byte("41")})
	p := s.compileWith(t, "s.js", `
const n = state.get('n') + 1
state.set('n', n)
publish('up', { n }, { retain: true })
every('10s', () => publish('tick', state.get('n')))
setTimeout(() => publish('once', 1), 1500)
log('hello')`, state)
	if got := string(state.Snapshot()["n"]); got != "41" {
		t.Errorf("the top level changed the state to %s before the start", got)
	}
	got := show(s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now}))
	const want = "publish up \"{\\\"n\\\":42}\" q0 retain\ntimer top/5:6/every/1 10s true\ntimer top/6:11/once/1 1.5s false\nstate n=42\nINFO hello"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("start (-want +got):\n%s", diff)
	}
	if got := string(state.Snapshot()["n"]); got != "42" {
		t.Errorf("the state is %s after the start", got)
	}
	got = show(s.run(t, p, rules.Call{Trigger: rules.OnTimer, Timer: "top/5:6/every/1", Now: s.now}))
	if diff := cmp.Diff(`publish tick "42" q0`, got); diff != "" {
		t.Errorf("timer (-want +got):\n%s", diff)
	}
}

func TestStartRunsTheTopLevelAgainWhenTheStateMoved(t *testing.T) {
	s := start(t)
	state := rules.NewState(nil)
	const text = `
let n = (state.get('n') || 0) + 1
state.set('n', n)
on('a', () => { n++; state.set('n', n); publish('n', n) })`
	old := s.compileWith(t, "s.js", text, state)
	s.run(t, old, rules.Call{Trigger: rules.OnStart, Now: s.now})
	next := s.compileWith(t, "s.js", text, state)
	s.hear(t, old, 0, "a", "") // the old version goes on until the swap
	if got := show(s.run(t, next, rules.Call{Trigger: rules.OnStart, Now: s.now})); got != "state n=3" {
		t.Errorf("start of the next version: %s", got)
	}
	if got := show(s.hear(t, next, 0, "a", "")); got != "publish n \"4\" q0\nstate n=4" {
		t.Errorf("next version: %s", got)
	}
}

func TestStateKeepsAnyText(t *testing.T) {
	s := start(t)
	state := rules.NewState(nil)
	p := s.compileWith(t, "s.js", `
const texts = ['', '"\\', 'a\u001b[0m\u0000\u0007\u000b', '\u007f"', '<é客\u{1f600}>&\n"', '\u{e0001}"', '\u2028"']
on('set', () => texts.forEach((t, i) => state.set('k' + i, t)))
on('get', () => publish('same', texts.map((t, i) => state.get('k' + i) === t)))`, state)
	if o := s.hear(t, p, 0, "x", ""); o.Err != nil {
		t.Fatal(o.Err)
	}
	if got := show(s.hear(t, p, 1, "x", "")); got != `publish same "[true,true,true,true,true,true,true]" q0` {
		t.Error(got)
	}
	for key, value := range state.Snapshot() {
		if !json.Valid(value) {
			t.Errorf("%s is not JSON: %q", key, value)
		}
	}
	if got := string(state.Value("k4")); got != `"<é客😀>&\n\""` {
		t.Errorf("a text is kept as %s", got)
	}
}

func TestState(t *testing.T) {
	s := start(t)
	state := rules.NewState(map[string][]byte{"old": []byte(`{"a":[1,2]}`)})
	p := s.compileWith(t, "s.js", `
on('set', (m) => { state.set('a', { n: 1 }); state.set('b', 'x'); state.delete('old'); publish('k', state.keys()); publish('o', [state.get('a'), state.get('old') === undefined]) })
on('get', (m) => { const v = state.get('a'); v.n = 99; publish('a', state.get('a')); publish('b', state.get('b')) })
on('fail', (m) => { state.set('a', 2); publish('x', 1); setTimeout(() => {}, 5); throw new Error('on purpose') })
on('gone', (m) => { state.set('a', undefined); publish('k', state.keys()) })`, state)
	steps := []struct {
		behaviour string
		rule      int
		want      string
	}{
		{"a handler sees its own changes", 0, "publish k \"[\\\"a\\\",\\\"b\\\"]\" q0\npublish o \"[{\\\"n\\\":1},true]\" q0\nstate a={\"n\":1}\nstate b=\"x\"\nstate old="},
		{"values are copies", 1, "publish a \"{\\\"n\\\":1}\" q0\npublish b \"x\" q0"},
		{"a handler that throws changes nothing", 2, "error s.js:4:88: on purpose\n  | on('fail', (m) => { state.set('a', 2); publish('x', 1); setTimeout(() => {}, 5); throw new Error('on purpose') })\n  | " + strings.Repeat(" ", 87) + "^"},
		{"nothing was changed", 1, "publish a \"{\\\"n\\\":1}\" q0\npublish b \"x\" q0"},
		{"undefined removes", 3, "publish k \"[\\\"b\\\"]\" q0\nstate a="},
	}
	for _, step := range steps {
		if diff := cmp.Diff(step.want, show(s.hear(t, p, step.rule, "x", ""))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.behaviour, diff)
		}
	}
	if diff := cmp.Diff(map[string][]byte{"b": []byte(`"x"`)}, state.Snapshot()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func TestStateIsBounded(t *testing.T) {
	s := start(t)
	p := s.compile(t, "s.js", `
on('bytes', () => { for (let i = 0; i < 3; i++) state.set('k' + i, 'x'.repeat(400000)) })
on('keys', () => { for (let i = 0; i < 10001; i++) state.set('k' + i, 1) })
on('fits', () => { state.set('k', 'x'.repeat(1000000)) })
on('key', () => { state.set('', 1) })`)
	for rule, want := range []string{"state is over its limit", "state is over its limit", "", "must be a string that is not empty"} {
		o := s.hear(t, p, rule, "x", "")
		if want == "" && o.Err == nil && len(o.State) == 1 {
			continue
		}
		if want == "" || o.Err == nil || !strings.Contains(o.Err.Error(), want) {
			t.Errorf("rule %d: error %v, want %q", rule, o.Err, want)
		}
	}
}

func TestTimers(t *testing.T) {
	s := start(t)
	p := s.compile(t, "t.js", `
let id
on('set', () => { id = setTimeout((a, b) => publish('late', [a, b]), 100, 'x', 2) })
on('clear', () => { clearTimeout(id); clearInterval(undefined) })
on('every', () => { id = setInterval(() => { clearInterval(id); publish('i', 1) }, 1) })
on('fail', () => { clearInterval(id); setTimeout(() => {}, 1); throw 1 })
on('bad', () => every('soon', () => {}))
on('bad', () => setTimeout('alert(1)', 5))
on('words', () => every('1h30m', () => {}))`)
	timer := func(id string) string {
		t.Helper()
		return show(s.run(t, p, rules.Call{Trigger: rules.OnTimer, Timer: id, Now: s.now}))
	}
	check := func(behaviour, got, want string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", behaviour, diff)
		}
	}
	hear := func(rule int) string { t.Helper(); return show(s.hear(t, p, rule, "x", "")) }
	check("sets a timeout", hear(0), "timer run/1.1 100ms false")
	check("calls it with its arguments", timer("run/1.1"), `publish late "[\"x\",2]" q0`)
	check("calls it once", timer("run/1.1"), "timer run/1.1 0s false")
	hear(0)
	check("stops it", hear(1), "timer run/1.2 0s false")
	check("does not call it then", timer("run/1.2"), "timer run/1.2 0s false")
	check("sets an interval of at least 10 ms", hear(2), "timer run/1.3 10ms true")
	if got := hear(3); !strings.Contains(got, "error t.js:6") || strings.Contains(got, "timer") {
		t.Errorf("a handler that throws: %s", got)
	}
	check("keeps what a failed handler had stopped, and stops it from within", timer("run/1.3"), "publish i \"1\" q0\ntimer run/1.3 0s false")
	if got := hear(4); !strings.Contains(got, `"soon" is not a duration`) {
		t.Errorf("a bad interval: %s", got)
	}
	if got := hear(5); !strings.Contains(got, "setTimeout needs a function") {
		t.Errorf("a timeout of text: %s", got)
	}
	if got := hear(6); !strings.HasSuffix(got, " 1h30m0s true") {
		t.Errorf("an interval in words: %s", got)
	}
}
