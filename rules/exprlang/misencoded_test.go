package exprlang_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// A payload that would be JSON, had it not a string that is not UTF-8, is an error of what
// reads it, whatever it reads; its text can be read.
func TestPayloadsThatAreNotUTF8(t *testing.T) {
	const (
		bad  = "{\"a\":\"\xff\xfe\",\"n\":1}"
		want = "not evaluated: the payload is not JSON: a string in it is not UTF-8 (byte 7)"
	)
	for _, c := range []struct{ condition, want string }{
		{`payload.n == 1`, "?"},
		{`payload.n != 1`, "?"},
		{`payload.n > 0`, "?"},
		{`payload.n + 1 == 2`, "?"},
		{`payload.none == nil`, "?"},
		{`(payload.n ?? 7) == 7`, "?"},
		{`payload == nil`, "?"},
		{`not payload.n`, "?"},
		{`topic == "a" && payload.n == 1`, "?"},
		{`topic == "b" && payload.n == 1`, "no"},
		{`topic == "a" || payload.n == 1`, "?"},
		{`text contains '"n":1'`, "yes"},
		{`topic == "a"`, "yes"},
	} {
		out := ask(t, compile(t, ruleIf(c.condition)), "a", bad, "-")
		if got := verdict(out); got != c.want || got == "?" && out.Err.Error() != want {
			t.Errorf("%s: %q (%v), want %q", c.condition, got, out.Err, c.want)
		}
	}
	for _, payload := range []string{`"${payload}"`, `"${payload.a}"`, `{v: "${payload.n}"}`, `"x ${payload.a}"`} {
		out := ask(t, compile(t, "rules:\n  - {name: r, on: '#', do: [{publish: out, payload: "+payload+"}]}\n"), "a", bad, "-")
		if out.Err == nil || out.Err.Error() != want || len(out.Publish) > 0 {
			t.Errorf("%s: %v, %v", payload, out.Err, out.Publish)
		}
	}
	out := ask(t, compile(t, "rules:\n  - {name: r, on: '#', do: [{publish: out, payload: '${text}'}]}\n"), "a", bad, "-")
	if out.Err != nil || string(out.Publish[0].Payload) != bad {
		t.Errorf("its text: %v, %v", out.Err, out.Publish)
	}
}

// Bytes that would be no JSON either way are text, as ever.
func TestBytesThatAreNoJSON(t *testing.T) {
	for _, payload := range []string{"\xff\xfe", "1\xff", "{\xff", "\"\xff", "{\"a\":\"\xff\"}x"} {
		out := ask(t, compile(t, ruleIf(`payload.a == nil && len(payload) > 1`)), "a", payload, "-")
		if got := verdict(out); got != "yes" {
			t.Errorf("%q: %q (%v)", payload, got, out.Err)
		}
	}
}

// That one expression has read the payload is nothing to the next one, which does not.
func TestWhoDoesNotReadThePayload(t *testing.T) {
	out := compile(t, "rules:\n  - {name: a, on: '#', if: payload.n == 1, do: [{publish: out}]}\n  - {name: b, on: '#', if: topic == \"b\", do: [{publish: out}]}\n").Run(t.Context(), func() []rules.Call {
		m := &message.Message{Topic: "a", Payload: []byte("{\"n\":\"\xff\"}")}
		return []rules.Call{{Message: m, Now: noon}, {Rule: 1, Message: m, Now: noon}}
	}())
	if !errors.Is(out[0].Err, rules.ErrNotEvaluated) || out[1].Err != nil || out[1].Fired {
		t.Errorf("want an error of the first only, got %v and %v", out[0].Err, out[1].Err)
	}
}

// Of many rules behind a sieve each tells it; a schema refuses it; a wait that hears it goes
// on, and its topic is there.
func TestMisencodedInTheEngine(t *testing.T) {
	var list strings.Builder
	for i := range 6 {
		fmt.Fprintf(&list, "  - {name: r%d, on: in, if: payload.k == \"%d\", do: [{publish: out}]}\n", i, i)
	}
	file := "filters:\n  - {name: f, on: checked, schema: {type: object}}\nrules:\n" + list.String() + `  - name: w
    on: begin
    do:
      - wait: {on: in, until: topic == "in" && trigger.topic == "begin"}
      - publish: heard
        payload: ${heard.topic}
`
	bad := []byte("{\"k\":\"1\",\"s\":\"\xff\"}")
	playFile(t, file, func(ctx context.Context, w *trial.World) {
		if v := put(ctx, t, w, message.Message{Topic: "checked", Payload: bad}); v.Action != message.Reject {
			t.Errorf("the schema: %+v", v)
		}
		put(ctx, t, w, message.Message{Topic: "begin", Payload: bad})
		put(ctx, t, w, message.Message{Topic: "in", Payload: bad})
		if got := published(w); len(got) != 1 || got[0].Topic != "heard" || string(got[0].Payload) != "in" {
			t.Errorf("published: %+v", got)
		}
		for _, r := range w.Status()[0].Rules {
			if !strings.HasPrefix(r.Name, "r") {
				continue
			}
			if len(r.Trace) != 1 || r.Trace[0].Outcome != rules.RanNotEvaluated || !strings.Contains(r.Trace[0].Why, "not UTF-8 (byte 15)") {
				t.Errorf("%s: %+v", r.Name, r.Trace)
			}
		}
	})
}
