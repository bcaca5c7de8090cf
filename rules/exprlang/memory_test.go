package exprlang_test

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// TestMessagesOfARunAreTheirOwn has many calls in one Run, and another after it: what is
// made in memory that is used again must not be that of another message.
func TestMessagesOfARunAreTheirOwn(t *testing.T) {
	p := compile(t, `rules:
  - name: r
    on: in/+
    do:
      - publish: out/${parts[1]}
        payload: {n: "${payload.n}", text: "it is ${payload.n}!"}
      - publish: constant
        payload: {a: 1}
`)
	run := func(from int) []rules.Outcome {
		calls := make([]rules.Call, 40)
		for i := range calls {
			calls[i] = rules.Call{Message: &message.Message{Topic: fmt.Sprintf("in/%d", from+i), Payload: fmt.Appendf(nil, `{"n":%d}`, from+i)}, Now: noon}
		}
		return p.Run(t.Context(), calls)
	}
	first, second := run(0), run(1000)
	check := func(outs []rules.Outcome, from int) {
		for i, out := range outs {
			if out.Err != nil || len(out.Publish) != 2 {
				t.Fatalf("call %d: %v, %d messages", i, out.Err, len(out.Publish))
			}
			n := from + i
			want := fmt.Sprintf(`out/%d {"n":%d,"text":"it is %d!"} constant {"a":1}`, n, n, n)
			a, b := out.Publish[0], out.Publish[1]
			if got := fmt.Sprintf("%s %s %s %s", a.Topic, a.Payload, b.Topic, b.Payload); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	}
	check(first, 0)
	check(second, 1000)
}

// TestMembersOfAPayload looks into payloads of few members, of many, and of one twice.
func TestMembersOfAPayload(t *testing.T) {
	p := compile(t, "rules:\n  - name: r\n    on: in\n    if: payload.k3 == 3\n    do: [{publish: out, payload: \"${payload.k5} ${payload.k3} ${payload.deep.x}\"}]\n")
	for _, n := range []int{6, 31, 32, 33, 100} {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"k%d":%d`, i, i))
		}
		for twice, want := range map[string]string{"": "5 3 7", `,"k5":55`: "55 3 7"} {
			payload := "{" + strings.Join(members, ",") + `,"deep":{"x":7}` + twice + "}"
			out := p.Run(t.Context(), []rules.Call{{Message: &message.Message{Topic: "in", Payload: []byte(payload)}, Now: noon}})[0]
			if out.Err != nil || len(out.Publish) != 1 || string(out.Publish[0].Payload) != want {
				t.Errorf("%d members%s: %v %v, want %s", n, twice, out.Err, out.Publish, want)
			}
		}
	}
}

func TestARuleThatFiresAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := compile(t, "rules:\n  - name: r\n    on: home/+/door\n    if: payload.open == true\n    do:\n      - publish: home/${parts[1]}/light/set\n        payload: {on: true, since: \"${payload.at}\"}\n")
	const batch = 32
	calls := make([]rules.Call, batch)
	for i := range calls {
		calls[i] = rules.Call{Message: &message.Message{Topic: "home/hall/door", Payload: []byte(`{"open":true,"at":1732280400,"battery":88}`)}, Now: noon}
	}
	run := func() { p.(rules.Reuser).Reuse(p.Run(t.Context(), calls)) }
	run()
	each := testing.AllocsPerRun(100, run) / batch
	if each > 1.5 { // the topic with the payload, and a share of what a batch takes
		t.Errorf("%.1f allocations a message", each)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		run()
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / (100 * batch); each > 150 { // an outcome and a message would be 500
		t.Errorf("%d bytes a message", each)
	}
}

// TestNothingOfFormerOutcomesIsLeft has a program work in the memory of outcomes that said
// more than the next ones.
func TestNothingOfFormerOutcomesIsLeft(t *testing.T) {
	const source = "rules:\n" +
		"  - {name: says, on: says, if: payload.ok, do: [{publish: 'a/${payload.to}', payload: '${payload.text}', qos: 1, retain: true}, {publish: 'b', payload: x}]}\n" +
		"  - {name: bare, on: bare, if: payload.ok, do: [{publish: b}]}\n" +
		"  - {name: steps, on: steps, do: [{publish: c, payload: 1}, {log: said}, {publish: 'd/${payload.to}', payload: 2, retain: true}]}\n"
	call := func(rule int, payload string) rules.Call {
		topic := []string{"says", "bare", "steps"}[rule]
		return rules.Call{Rule: rule, Message: &message.Message{Topic: topic, Payload: []byte(payload)}, Now: noon}
	}
	full := []rules.Call{call(0, `{"ok":true,"to":"x","text":"t"}`), call(2, `{"to":"y"}`), call(2, `{"to":"+"}`), call(0, `{"ok":true,"to":"#","text":"t"}`)}
	for _, next := range [][]rules.Call{
		{call(1, `{"ok":true}`), call(1, `{"ok":true}`), call(1, `{"ok":true}`), call(1, `{"ok":true}`)},
		{call(1, `{"ok":false}`), call(1, `{"ok":false}`), call(1, `[`)},
		{call(2, `{"to":"z"}`), call(0, `{"ok":true,"to":"z","text":""}`), call(1, `{"ok":true}`), call(1, `{"ok":true}`)},
	} {
		want := compile(t, source).Run(t.Context(), next)
		p := compile(t, source)
		first := p.Run(t.Context(), full)
		kept := first[0].Publish[0]
		p.(rules.Reuser).Reuse(first)
		got := p.Run(t.Context(), next)
		for i := range next {
			want[i].Took, got[i].Took = 0, 0
			if want, got := fmt.Sprintf("%+v", want[i]), fmt.Sprintf("%+v", got[i]); got != want {
				t.Errorf("in memory that is used again it is\n%s, want\n%s", got, want)
			}
		}
		if kept.Topic != "a/x" || string(kept.Payload) != "t" {
			t.Errorf("a message that was copied has become %+v", kept)
		}
	}
}

// TestMemoryOfRules compiles a thousand rules as a gateway does, and looks at what stays:
// rules that differ in their topics only share their expressions, and no program keeps the
// text, the tree and the places that it was compiled from.
func TestMemoryOfRules(t *testing.T) {
	for _, c := range []struct {
		name, rule string
		most       int64 // bytes a rule
	}{
		{"alike", "{name: door N, on: home/N/door, if: payload.open == true && payload.battery > 20, do: [{publish: home/N/light/set, payload: {on: true, since: \"${payload.at}\"}}]}", 1300},
		{"different", "{name: door N, on: home/N/door, if: payload.open == true && payload.battery > N, do: [{publish: home/N/light/set, payload: {on: true, since: \"${payload.at + N}\"}}]}", 2600},
	} {
		t.Run(c.name, func(t *testing.T) {
			const files, each = 10, 100
			before := liveBytes()
			var kept []rules.Program
			for file := range files {
				text := "rules:\n"
				for i := range each {
					text += "  - " + strings.ReplaceAll(c.rule, "N", strconv.Itoa(file*each+i)) + "\n"
				}
				kept = append(kept, compile(t, text))
			}
			rule := (liveBytes() - before) / (files * each)
			runtime.KeepAlive(kept)
			t.Logf("%d bytes a rule", rule)
			if rule > c.most {
				t.Errorf("a rule takes %d bytes, want %d at most", rule, c.most)
			}
		})
	}
}

// liveBytes is how much memory is in use by what can be reached.
func liveBytes() int64 {
	var m runtime.MemStats
	for range 3 { // what pools hold goes in two
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestRulesThatAreSpelledAlike have their own windows and edges, their own keys in what is
// explained, and share nothing that they change.
func TestRulesThatAreSpelledAlike(t *testing.T) {
	const rule = "  - name: %s\n    on: %[1]s\n    windows: {w: {sum: payload, last: 10}}\n    if: windows.w > 5\n    do: [{publish: out/%[1]s, payload: \"${windows.w}\"}]\n"
	p := compile(t, "rules:\n"+fmt.Sprintf(rule, "a")+fmt.Sprintf(rule, "b")+
		"  - {name: c, on: c, if: payload == 7, do: [{if: payload == 7, then: [{publish: out/c, payload: \"${payload == 7}\"}]}]}\n"+
		"  - {name: d, on: c, if: payload == 7, do: [{publish: out/d}]}\n")
	call := func(rule int, payload string) rules.Outcome {
		topics := []string{"a", "b", "c", "c"}
		return p.Run(t.Context(), []rules.Call{{Rule: rule, Message: &message.Message{Topic: topics[rule], Payload: []byte(payload)}, Now: noon, Explain: true}})[0]
	}
	for _, s := range []struct {
		rule    int
		payload string
		want    string
	}{{0, "4", ""}, {0, "3", "out/a 7"}, {1, "5", ""}, {1, "1", "out/b 6"}, {0, "1", "out/a 8"}, {2, "7", "out/c true"}, {3, "7", "out/d "}, {3, "8", ""}} {
		out, got := call(s.rule, s.payload), ""
		if len(out.Publish) == 1 {
			got = out.Publish[0].Topic + " " + string(out.Publish[0].Payload)
		}
		if out.Err != nil || got != s.want {
			t.Errorf("rule %d on %s: %q, %v; want %q", s.rule, s.payload, got, out.Err, s.want)
		}
		if s.rule == 3 && (len(out.Facts) == 0 || out.Facts[0].What != "if payload == 7") {
			t.Errorf("facts %v, want that of the \"if\"", out.Facts)
		}
	}
	_, err := compileOnly("rules:\n" + fmt.Sprintf(rule, "a") + "  - {name: b, on: b, if: windows.w > 5, do: [{publish: x}]}\n")
	if err == nil || !strings.Contains(err.Error(), "t.yaml:7:") || !strings.Contains(err.Error(), "windows") {
		t.Errorf("the window of another rule: %v", err)
	}
}
