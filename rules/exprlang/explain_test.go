package exprlang_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// Facts tell what each condition came to, and what it read.
func TestFactsOfConditions(t *testing.T) {
	const values = `
rules:
  - name: r
    on: "#"
    if: payload.c > 30 && not prev.on and state("a/" + parts[1]).open
    do: [{publish: out}]
`
	for _, c := range []struct{ name, source, payload, want string }{
		{"not fired", values, `{"c":20.50}`, `if payload.c > 30 && not prev.on and state("a/" + parts[1]).open = false; payload.c = 20.50; prev.on = nil; state("a/" + parts[1]).open = nil`},
		{"fired", ruleIf("payload.c > 30"), `{"c":31}`, `if payload.c > 30 = true; payload.c = 31; publish out = `},
		{"not evaluated", ruleIf("payload.c > 30"), `{}`, `if payload.c > 30 = not evaluated: payload.c is absent; payload.c = nil`},
		{"texts", ruleIf("payload.s == 'x' || topic == 'y'"), `{"s":"` + strings.Repeat("x", 300) + `"}`, `if payload.s == 'x' || topic == 'y' = false; payload.s = "` + strings.Repeat("x", 119) + `...; topic = "a/b"`},
		{"functions", ruleIf(`between("22:00", "06:00")`), ``, `if between("22:00", "06:00") = false; between("22:00", "06:00") = false`},
		{"an edge", edgeRule("on: '#'; value: payload.c; above: payload.limit; hysteresis: 5; if: edge == 'falling'"), `{"c":31,"limit":30}`, `value payload.c = 31; above payload.limit = 30; edge = rising; if edge == 'falling' = false; edge = "rising"`},
		{"no edge", edgeRule("on: '#'; value: payload.c; above: 30"), `{"c":29}`, `value payload.c = 29; above 30 = 30; edge = none`},
		{"no value", edgeRule("on: '#'; value: payload.c; changed: true"), `{"c":29}`, `value payload.c = 29; edge = none`},
		{"windows", "rules:\n  - {name: r, on: '#', windows: {w: {sum: payload.c}}, if: windows.w > 5, do: [{publish: y}]}\n", `{"c":4.5}`, `if windows.w > 5 = false; windows.w = 4.5`},
		{"a filter", filterRule("drop: payload.c > 30"), `{"c":31}`, `drop payload.c > 30 = true; payload.c = 31`},
		{"a schema", filterRule("schema: {properties: {c: {type: string}}}; reject: payload.c > 30"), `{"c":31}`, `schema = at '/c': got number, want string`},
		{"a schema that is followed", filterRule("schema: {properties: {c: {type: number}}}; reject: payload.c > 30"), `{"c":31}`, `schema = followed; reject payload.c > 30 = true; payload.c = 31`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := compile(t, c.source)
			call := rules.Call{Message: &message.Message{Topic: "a/b", Payload: []byte(c.payload)}, Explain: true, Now: noon}
			out := p.Run(t.Context(), []rules.Call{call})[0]
			var got []string
			for _, f := range out.Facts {
				got = append(got, f.What+" = "+f.Value)
			}
			if diff := cmp.Diff(c.want, strings.Join(got, "; ")); diff != "" {
				t.Error(diff)
			}
			call.Explain = false
			if out := p.Run(t.Context(), []rules.Call{call})[0]; len(out.Facts) > 0 {
				t.Errorf("unasked it tells %v", out.Facts)
			}
		})
	}
}

func TestFactsAreBounded(t *testing.T) {
	var condition strings.Builder
	for i := range 100 {
		fmt.Fprintf(&condition, "payload.f%d == nil and ", i)
	}
	p := compile(t, ruleIf(condition.String()+"true"))
	out := p.Run(t.Context(), []rules.Call{{Message: &message.Message{Topic: "a"}, Explain: true, Now: noon}})[0]
	if n := len(out.Facts); n < 60 || n > 70 {
		t.Errorf("%d facts", n)
	}
	for _, f := range out.Facts {
		if len(f.What) > 210 || len(f.Value) > 210 {
			t.Errorf("a fact is as long as %q", f.What)
		}
	}
}

// A rule that does not fire costs no memory but the outcomes, however often it is asked.
func TestUnexplainedConditionsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := compile(t, ruleIf("payload.open == true && payload.n == 3"))
	calls := make([]rules.Call, 64)
	for i := range calls {
		calls[i] = rules.Call{Message: &message.Message{Topic: "a", Payload: []byte(`{"open":true,"n":1}`)}, Now: noon}
	}
	p.Run(t.Context(), calls)
	most := 4.0
	if strconv.IntSize == 32 { // where a number of 64 bits does not fit into an interface
		most += 64
	}
	if n := testing.AllocsPerRun(20, func() { p.Run(t.Context(), calls) }); n > most {
		t.Errorf("%v allocations for 64 messages", n)
	}
}
