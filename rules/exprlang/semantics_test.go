package exprlang_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// wide finds literals that need 64 bits.
var wide = regexp.MustCompile(`\d{11}\d*($|[^.\d])`)

func compileOnly(source string) (rules.Program, error) {
	return exprlang.New().Compile(context.Background(), rules.Source{Name: "t.yaml", Text: []byte(source)})
}

func compile(t testing.TB, source string) rules.Program {
	t.Helper()
	p, err := compileOnly(source)
	if err != nil {
		t.Fatalf("%s\n%v", source, err)
	}
	return p
}

// ask judges one message with the first rule; a prev of "-" is none.
func ask(t testing.TB, p rules.Program, topic, payload, prev string) rules.Outcome {
	t.Helper()
	call := rules.Call{Message: &message.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Origin: "client/x"}, Now: noon}
	if prev != "-" {
		call.Prev = &message.Message{Topic: topic, Payload: []byte(prev)}
	}
	outs := p.Run(context.Background(), []rules.Call{call})
	if len(outs) != 1 {
		t.Fatalf("%d outcomes", len(outs))
	}
	return outs[0]
}

func ruleIf(condition string) string {
	return "rules:\n  - name: r\n    on: '#'\n    if: |\n      " + condition + "\n    do:\n      - publish: out\n"
}

// verdict says in one word what a condition came to.
func verdict(o rules.Outcome) string {
	switch {
	case errors.Is(o.Err, rules.ErrNotEvaluated):
		return "?"
	case o.Err != nil:
		return "error: " + o.Err.Error()
	case o.Fired:
		return "yes"
	}
	return "no"
}

// What a condition makes of a payload and its previous one.
var conditions = []struct{ condition, payload, prev, want string }{
	// nil is false
	{"payload.open && not prev.open", `{"open":true}`, "-", "yes"},
	{"payload.open && not prev.open", `{"open":true}`, `{"open":false}`, "yes"},
	{"payload.open && not prev.open", `{"open":true}`, `{"open":true}`, "no"},
	{"payload.open && not prev.open", `{"open":true}`, `{}`, "yes"},
	{"payload.open && not prev.open", `{"open":true}`, `not JSON`, "yes"},
	{"payload.open && not prev.open", `{}`, `{"open":false}`, "no"},
	{"payload.open && not prev.open", `{"open":null}`, "-", "no"},
	{"payload.open", `{}`, "-", "no"},
	{"payload.open", `[1]`, "-", "no"},
	{"payload.open", `text`, "-", "no"},
	{"payload.open", ``, "-", "no"},
	{"not payload.open", `{}`, "-", "yes"},
	{"!payload.a.b.c", `{"a":1}`, "-", "yes"},
	{"payload.a || payload.b", `{"b":true}`, "-", "yes"},
	{"payload.a || payload.b", `{}`, "-", "no"},
	{"payload.a and payload.b", `{"a":true}`, "-", "no"},
	{"payload.a ? payload.b : payload.c", `{"c":true}`, "-", "yes"},
	{"payload.a ? payload.b : payload.c", `{}`, "-", "no"},
	{"any(payload.list, .open)", `{"list":[{},{"open":true}]}`, "-", "yes"},
	{"all(payload.list, .open)", `{"list":[{},{"open":true}]}`, "-", "no"},
	{"any(payload.list, not .open)", `{"list":[{}]}`, "-", "yes"},
	{"let o = payload.open; not o", `{}`, "-", "yes"},
	{"nil", `{}`, "-", "no"},
	{"payload.x == nil", `{}`, "-", "yes"},
	{"payload.x != nil", `{"x":0}`, "-", "yes"},
	{"prev == nil", `{}`, "-", "yes"},
	{"prev == nil", `{}`, "1", "no"},
	{"payload.x == 1", `{}`, "-", "no"},
	{"payload.x != 1", `{}`, "-", "yes"},
	{"payload.x in ['a', 'b']", `{}`, "-", "no"},
	{"payload.x in ['a', 'b']", `{"x":"b"}`, "-", "yes"},
	{"payload?.a?.b == 1", `{"a":{"b":1}}`, "-", "yes"},
	{"(payload.x ?? 5) > 4", `{}`, "-", "yes"},
	{"payload.list[0].a == 1", `{"list":[{"a":1}]}`, "-", "yes"},
	{"payload.list[7].a == 1", `{"list":[{"a":1}]}`, "-", "no"},
	{`payload["a b"] == 1`, `{"a b":1}`, "-", "yes"},
	{"payload.list[payload.i].a == 2", `{"list":[{"a":1},{"a":2}],"i":1}`, "-", "yes"},
	// calculating with nil, or comparing it by order
	{"payload.c > 1", `{}`, "-", "?"},
	{"payload.c > 1", `text`, "-", "?"},
	{"payload.c < -60 || payload.c > 150", `{}`, "-", "?"},
	{"payload.c < -60 || payload.c > 150", `{"c":151}`, "-", "yes"},
	{"payload.c < -60 || payload.c > 150", `{"c":20}`, "-", "no"},
	{"payload.a + 1 == 2", `{}`, "-", "?"},
	{"payload.a % 2 == 0", `{}`, "-", "?"},
	{"-payload.a == 2", `{}`, "-", "?"},
	{"payload.a + payload.b > 0", `{"a":1}`, "-", "?"},
	{"payload.on && payload.c > 1", `{"on":false}`, "-", "no"},
	{"payload.on && payload.c > 1", `{"on":true}`, "-", "?"},
	{"payload.c > prev.c + 5", `{"c":20}`, "-", "?"},
	{"payload.c > prev.c + 5", `{"c":20}`, `{"c":14}`, "yes"},
	{"payload > 60 && (prev == nil || prev <= 60)", "61", "-", "yes"},
	{"payload > 60 && (prev == nil || prev <= 60)", "62", "61", "no"},
	{"payload > 60 && (prev == nil || prev <= 60)", "61.5", "60", "yes"},
	// values of another kind
	{"payload.open", `{"open":"yes"}`, "-", "?"},
	{"payload.open", `{"open":1}`, "-", "?"},
	{"not payload.open", `{"open":0}`, "-", "?"},
	{"payload.c > 1", `{"c":"2"}`, "-", "?"},
	{"payload.c == 1", `{"c":"1"}`, "-", "no"},
	{"payload.c == true", `{"c":1}`, "-", "no"},
	{"payload.s contains 'b'", `{"s":"abc"}`, "-", "yes"},
	{"payload.s contains 'b'", `{"s":1}`, "-", "?"},
	{"payload.list[payload.i] == 1", `{"list":[1],"i":4}`, "-", "?"},
	// payloads that are not objects
	{"payload == 'ON'", `ON`, "-", "yes"},
	{"payload == 'ON'", `"ON"`, "-", "yes"},
	{"payload == '192.168.0.1'", `192.168.0.1`, "-", "yes"},
	{"payload == '2026-11-22'", `2026-11-22`, "-", "yes"},
	{"payload == 'nan'", `nan`, "-", "yes"},
	{"payload == 'true!'", `true!`, "-", "yes"},
	{"payload == ''", ``, "-", "yes"},
	{"payload == true", ` true `, "-", "yes"},
	{"payload == nil", `null`, "-", "yes"},
	{"payload == 1.5", `1.5`, "-", "yes"},
	{"payload.a == 2", `{"a":1,"a":2}`, "-", "yes"}, // the last one counts
	{"text == '{ }'", `{ }`, "-", "yes"},
	// the other variables
	{"topic == 'home/hall/door'", ``, "-", "yes"},
	{"parts[1] == 'hall' && len(parts) == 3", ``, "-", "yes"},
	{"parts[9] == nil", ``, "-", "yes"},
	{"qos == 1 && not retain && origin == 'client/x'", ``, "-", "yes"},
	{"now().Year() == 2026 && now().Hour() == 12", ``, "-", "yes"},
	// whole numbers
	{"payload.n == 9007199254740993", `{"n":9007199254740993}`, "-", "yes"},
	{"payload.n % 2 == 1", `{"n":25}`, "-", "yes"},
	{"payload.n % 2 == 1", `{"n":25.0}`, "-", "yes"},
	{"payload.n % 2 == 1", `{"n":2.5}`, "-", "?"},
	{"payload.n % payload.z == 1", `{"n":2, "z":0}`, "-", "?"},
	{"payload.a * payload.b == 10000000000", `{"a":100000,"b":100000}`, "-", "yes"},
	{"payload.n > 12345678901234000000.0", `{"n":12345678901234567890}`, "-", "yes"},
	{"payload.n > 1", `{"n":1e999}`, "-", "?"},
}

func TestConditions(t *testing.T) {
	for _, c := range conditions {
		t.Run(fmt.Sprintf("%s/%s/%s", c.condition, c.payload, c.prev), func(t *testing.T) {
			if strconv.IntSize == 32 && wide.MatchString(c.condition) {
				// The literal is refused there, never miscalculated.
				if _, err := compileOnly(ruleIf(c.condition)); err == nil {
					t.Error("it compiles where int has 32 bits")
				}
				return
			}
			out := ask(t, compile(t, ruleIf(c.condition)), "home/hall/door", c.payload, c.prev)
			if got := verdict(out); got != c.want {
				t.Errorf("it came to %q (%v), want %q", got, out.Err, c.want)
			}
		})
	}
}

// The simple parts of conditions are judged without the virtual machine: it must
// come to the same.
func TestShortcutsAgree(t *testing.T) {
	payloads := []string{
		`{}`, `{"a":true,"b":true}`, `{"a":false}`, `{"a":null,"b":1}`, `{"a":1}`, `{"a":2.5,"b":"x"}`, `{"a":"x"}`,
		`{"a":[1]}`, `{"a":{}}`, `{"a":-1,"b":false}`, `{"a":9007199254740993}`, `text`, `7`, ``, `null`,
	}
	operands := []string{"1", "2.5", "'x'", "true", "-1", "nil"}
	var all []string
	for _, op := range []string{"==", "!=", "<", "<=", ">", ">="} {
		for _, o := range operands {
			if o == "nil" && op != "==" && op != "!=" || o == "true" && op[0] != '=' && op[0] != '!' {
				continue // does not compile
			}
			all = append(all, "payload.a "+op+" "+o, o+" "+op+" payload.a")
		}
	}
	all = append(all, "payload.a", "not payload.a", "payload.a && payload.b", "not payload.a && payload.b == 1", "payload.a == 1 && payload.b > 0")
	for _, condition := range all {
		fast, slow := compile(t, ruleIf(condition)), compile(t, ruleIf("true && ("+condition+")"))
		for _, payload := range payloads {
			a, b := ask(t, fast, "t", payload, "-"), ask(t, slow, "t", payload, "-")
			if verdict(a) != verdict(b) {
				t.Errorf("%s of %s: %s without the machine, %s with it", condition, payload, verdict(a), verdict(b))
			}
		}
	}
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct{ name, payload, message, want string }{
		{"no payload", ``, `{}`, ``},
		{"text", `payload: on`, `{}`, `on`},
		{"quoted text", `payload: "on"`, `{}`, `on`},
		{"text around an expression", `payload: "door ${payload.n} of ${topic}"`, `{"n":3}`, `door 3 of home/hall/door`},
		{"a plain dollar", `payload: "$${payload.n} costs $5 ${payload.n}"`, `{"n":3}`, `${payload.n} costs $5 3`},
		{"braces inside", `payload: "${ {'a': payload.n, \"b\": '}'} }"`, `{"n":3}`, `{"a":3,"b":"}"}`},
		{"true", `payload: true`, `{}`, `true`},
		{"null", `payload: null`, `{}`, `null`},
		{"empty text", `payload: ""`, `{}`, ``},
		{"one expression, text", `payload: ${payload.s}`, `{"s":"a\"b"}`, `a"b`},
		{"one expression, bool", `payload: ${payload.s}`, `{"s":false}`, `false`},
		{"one expression, absent", `payload: ${payload.s}`, `{}`, `null`},
		{"one expression, object", `payload: ${payload.s}`, `{"s": {"b": 1.0, "a": [1, "x\ny"]}}`, `{"b":1.0,"a":[1,"x\u000ay"]}`},
		{"whole payload", `payload: ${payload}`, `{"b":1,"a":2}`, `{"b":1,"a":2}`},
		{"whole payload, plain", `payload: ${payload}`, `ON`, `ON`},
		{"a tree", `payload: {on: true, n: 1, x: [a, "${payload.n}", {y: "${qos}"}], z: null, s: "n=${payload.n}"}`, `{"n":1.50}`, `{"on":true,"n":1,"x":["a",1.50,{"y":1}],"z":null,"s":"n=1.50"}`},
		{"order of keys", `payload: {b: 1, a: 2}`, `{}`, `{"b":1,"a":2}`},
		{"an empty object", `payload: {}`, `{}`, `{}`},
		{"an empty list", `payload: []`, `{}`, `[]`},
		{"UTF-8", `payload: {客厅: "灯 ${parts[1]}"}`, `{}`, `{"客厅":"灯 hall"}`},
		{"text that is not UTF-8", `payload: {s: "${payload}"}`, "a\xffb", "{\"s\":\"a\uFFFDb\"}"},
		{"control characters", `payload: {s: "${payload.s}"}`, `{"s":"\u0001\u007f\u00a0"}`, "{\"s\":\"\\u0001\u007f\u00a0\"}"},
		{"a time", `payload: {at: "${now()}"}`, `{}`, `{"at":"2026-11-22T12:00:00Z"}`},
		{"a block", "payload: |\n          line ${payload.n}\n          end\n", `{"n":1}`, "line 1\nend\n"},
		{"a folded block", "payload: >-\n          line ${payload.n}\n          end\n", `{"n":1}`, "line 1 end"},
		{"a conversion", `payload: {n: "${int(payload.s) + 1}"}`, `{"s":"41"}`, `{"n":42}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := compile(t, "rules:\n  - name: r\n    on: '#'\n    do:\n      - publish: out\n        "+c.payload+"\n")
			out := ask(t, p, "home/hall/door", c.message, "-")
			if out.Err != nil || len(out.Publish) != 1 {
				t.Fatalf("the outcome is %+v", out)
			}
			if diff := cmp.Diff(c.want, string(out.Publish[0].Payload)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTemplatesNotEvaluated(t *testing.T) {
	for name, do := range map[string]string{
		"nil in a text":       `[{publish: out, payload: "n=${payload.n}"}]`,
		"nil in a topic":      `[{publish: "out/${payload.n}"}]`,
		"nil is the topic":    `[{publish: "${payload.n}"}]`,
		"nil is calculated":   `[{publish: out, payload: {a: "${payload.n + 1}"}}]`,
		"a level that is not": `[{publish: "out/${parts[7]}"}]`,
		"not a number":        `[{publish: out, payload: {a: "${0 / 0}"}}]`,
		"the second of two":   `[{publish: out}, {publish: "out/${payload.n}"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			out := ask(t, compile(t, "rules:\n  - name: r\n    on: '#'\n    do: "+do+"\n"), "a/b", `{}`, "-")
			if !errors.Is(out.Err, rules.ErrNotEvaluated) || out.Fired || len(out.Publish) > 0 {
				t.Errorf("the outcome is %+v", out)
			}
		})
	}
}

func TestTopicsThatCannotBePublishedTo(t *testing.T) {
	p := compile(t, "rules:\n  - name: r\n    on: '#'\n    do:\n      - publish: out/${payload.t}\n")
	for _, bad := range []string{`{"t":"a+b"}`, `{"t":"#"}`, `{"t":"a\u0000"}`} {
		out := ask(t, p, "a", bad, "-")
		if out.Err == nil || errors.Is(out.Err, rules.ErrNotEvaluated) || len(out.Publish) > 0 {
			t.Errorf("%s: the outcome is %+v", bad, out)
		}
	}
}

func TestNumbersKeepTheirDigits(t *testing.T) {
	digits := []string{
		"0", "-0", "7", "-7", "12345678", "9007199254740993", "9223372036854775807", "-9223372036854775808",
		"9223372036854775808", "18446744073709551615", "123456789012345678901234567890", "1.0", "1.10", "21.50", "-0.0",
		"0.1", "0.30000000000000004", "1e3", "1E3", "1e-7", "1.5e300", "0.000001", "3.141592653589793238462643",
	}
	for _, through := range []struct{ name, template string }{
		{"a path", `"${payload.n}"`},
		{"a text", `"n=${payload.n}"`},
		{"an object", `{n: "${payload.n}"}`},
		{"an expression", `{n: "${payload.on ? payload.n : 0}"}`},
		{"an expression's list", `"${[payload.n]}"`},
		{"a closure", `"${map(payload.list, #)}"`},
		{"a default", `{n: "${payload.x ?? payload.n}"}`},
		{"the previous message", `{n: "${prev.n}"}`},
	} {
		p := compile(t, "rules:\n  - name: r\n    on: '#'\n    do:\n      - publish: out\n        payload: "+through.template+"\n")
		for _, d := range digits {
			payload := fmt.Sprintf(`{"on":true,"n":%s,"list":[%s]}`, d, d)
			out := ask(t, p, "a", payload, payload)
			if out.Err != nil || len(out.Publish) != 1 {
				t.Fatalf("%s through %s: %+v", d, through.name, out)
			}
			if got := strings.Trim(string(out.Publish[0].Payload), `{}[]"n:=`); got != d {
				t.Errorf("%s through %s came out as %s", d, through.name, got)
			}
		}
	}
}

func TestLiteralNumbersKeepTheirDigits(t *testing.T) {
	for written, want := range map[string]string{
		"12345678": "12345678", "21.50": "21.50", "1e3": "1e3", "-0": "-0", "12345678901234567890123": "12345678901234567890123",
		"0x1f": "31", "1_000": "1000", "+5": "5", ".5": "0.5", "'5'": `"5"`,
	} {
		p := compile(t, "rules:\n  - name: r\n    on: '#'\n    do:\n      - publish: out\n        payload: ["+written+"]\n")
		if got := string(ask(t, p, "a", "", "-").Publish[0].Payload); got != "["+want+"]" {
			t.Errorf("%s is %s, want [%s]", written, got, want)
		}
	}
}

func TestFilters(t *testing.T) {
	const source = "filters:\n  - name: f\n    on: '#'\n    "
	for _, c := range []struct{ name, filter, payload, want string }{
		{"set a new field", `set: {f: payload.c * 1.8 + 32}`, `{"c":10, "x":1.50}`, `a/b {"c":10,"x":1.50,"f":50}`},
		{"set a field in its place", `set: {c: payload.c + 1}`, `{"a":1,"c":1,"b":2}`, `a/b {"a":1,"c":2,"b":2}`},
		{"set one that is there twice", `set: {c: 0}`, `{"c":1,"c":2}`, `a/b {"c":0}`},
		{"set in an empty object", `set: {a: 1, b: "'x'", t: "now()"}`, `{}`, `a/b {"a":1,"b":"x","t":"2026-11-22T12:00:00Z"}`},
		{"set to nil", `set: {a: payload.no}`, `{}`, `a/b {"a":null}`},
		{"set reads what came", `set: {a: payload.b, b: payload.a}`, `{"a":1,"b":2}`, `a/b {"a":2,"b":1}`},
		{"redirect", `topic: new/${parts[1]}`, `x`, `new/b x`},
		{"drop", `drop: payload.c > 1`, `{"c":2}`, `drop`},
		{"do not drop", `drop: payload.c > 1`, `{"c":1}`, `pass`},
		{"drop comes first", "drop: payload.c > 1\n    set: {d: payload.no + 1}", `{"c":2}`, `drop`},
		{"drop cannot be judged", `drop: payload.c > 1`, `{}`, `?`},
		{"set cannot be judged", `set: {a: payload.no + 1}`, `{}`, `?`},
		{"set in what is no object", `set: {a: 1}`, `[1]`, `?`},
		{"set in what is no JSON", `set: {a: 1}`, `{"a":`, `?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := ask(t, compile(t, source+c.filter+"\n"), "a/b", c.payload, "-")
			got := map[message.Action]string{message.Pass: "pass", message.Drop: "drop"}[out.Verdict.Action]
			if m := out.Verdict.Message; m != nil {
				got = m.Topic + " " + string(m.Payload)
				if m.QoS != 1 || m.Origin != "client/x" {
					t.Errorf("the rest of the message is lost: %+v", m)
				}
			}
			if errors.Is(out.Err, rules.ErrNotEvaluated) {
				got = "?"
			}
			if got != c.want {
				t.Errorf("it came to %s (%v), want %s", got, out.Err, c.want)
			}
		})
	}
}

func TestReasonsAreInPlainWords(t *testing.T) {
	for condition, want := range map[string]string{
		"payload.c > 1":         "not evaluated: payload.c is absent",
		"payload.s > 1":         "not evaluated: text > a number cannot be calculated",
		"payload.s && true":     "not evaluated: it wants true or false, not text",
		"payload.o + 1 == 2":    "not evaluated: an object + a number cannot be calculated",
		"payload['a b'][0] < 1": `not evaluated: payload["a b"][0] is absent`,
	} {
		out := ask(t, compile(t, ruleIf(condition)), "a", `{"s":"x","o":{}}`, "-")
		if out.Err == nil || out.Err.Error() != want {
			t.Errorf("%s: %v, want %s", condition, out.Err, want)
		}
	}
}

func TestPrevIsAskedForOnlyWhenRead(t *testing.T) {
	p := compile(t, `
rules:
  - {name: a, on: x, if: payload.a, do: [{publish: y}]}
  - {name: b, on: x, if: prev == nil, do: [{publish: y}]}
  - {name: c, on: x, do: [{publish: y, payload: {a: ["${prev.x}"]}}]}
  - {name: d, on: x, do: [{publish: "y/${prev.x}"}]}
filters:
  - {name: e, on: x, set: {d: payload.n - prev.n}}
  - {name: f, on: x, topic: "${parts[0]}/y"}
`)
	var got []string
	for _, r := range p.Rules() {
		if r.Prev {
			got = append(got, r.Name)
		}
	}
	if diff := cmp.Diff([]string{"b", "c", "d", "e"}, got); diff != "" {
		t.Error(diff)
	}
}

// A topic that turns out to be one of the broker's is refused when it is made.
func TestTopicsOfTheBroker(t *testing.T) {
	const rule = "rules:\n  - {name: r, on: '#', do: [{publish: '${payload.t}/x', retain: true}]}\n"
	const filter = "filters:\n  - {name: f, on: '#', topic: '${payload.t}/x'}\n"
	for _, source := range []string{rule, filter} {
		p := compile(t, source)
		if out := ask(t, p, "a", `{"t":"$SYS"}`, "-"); out.Err == nil || !strings.Contains(out.Err.Error(), "belongs to the broker") || out.Fired {
			t.Errorf("%s came to %+v", source, out)
		}
		if out := ask(t, p, "a", `{"t":"SYS"}`, "-"); out.Err != nil {
			t.Errorf("%s: %v", source, out.Err)
		}
	}
}

// A rule by the clock has no message: its fields are nil, its texts empty.
func TestRuleByTheClock(t *testing.T) {
	source := `
rules:
  - name: r
    on: home/door
    every: 10s
    cron: ["*/5 * * * *", "@daily"]
    at: "07:30"
    sun: [sunrise, sunset - 30m]
    start: true
    if: payload.open || topic == ""
    do:
      - publish: out
        payload: {open: "${payload.open}", at: "${now()}", from: "<${topic}>"}
`
	p, err := exprlang.New().Compile(t.Context(), rules.Source{
		Name: "t.yaml", Text: []byte(source), Place: &rules.Place{Latitude: 52, Longitude: 13}, Zone: time.UTC,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := p.Rules()[0]
	var texts []string
	for _, s := range r.Schedules {
		texts = append(texts, fmt.Sprint(s))
		if next := s.Next(noon); !next.After(noon) || next.After(noon.Add(24*time.Hour)) {
			t.Errorf("%v is next due at %v", s, next)
		}
	}
	if want := "every 10s, cron */5 * * * *, cron @daily, at 07:30, sunrise, sunset - 30m"; strings.Join(texts, ", ") != want || !r.Start {
		t.Errorf("got %q, start %v", texts, r.Start)
	}
	outs := p.Run(t.Context(), []rules.Call{
		{Trigger: rules.OnSchedule, Schedule: "at 07:30", Now: noon},
		{Message: &message.Message{Topic: "home/door", Payload: []byte(`{"open":false}`)}, Now: noon},
		{Trigger: rules.OnTimer, Now: noon},
	})
	if !outs[0].Fired || len(outs[0].Publish) != 1 || !strings.Contains(string(outs[0].Publish[0].Payload), `"from":"<>"`) ||
		!strings.HasPrefix(string(outs[0].Publish[0].Payload), `{"open":null`) {
		t.Errorf("by the clock: %+v", outs[0])
	}
	if outs[1].Fired || outs[2].Fired {
		t.Errorf("by a message %+v, by a timer %+v", outs[1], outs[2])
	}
}
