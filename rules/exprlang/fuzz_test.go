package exprlang_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// FuzzCompile: whatever the file, the compiler gives a program that can be run, or
// errors with their places.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	shipped, err := filepath.Glob("../../scripts/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, shipped...) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	for _, c := range conditions {
		f.Add(ruleIf(c.condition))
	}
	for _, source := range []string{
		motion, windowRule("avg: payload.c, last: 3, by: parts[1]"), windowRule("median: payload.c, every: 5m"), windowRule("ema: payload, alpha: 0.1"),
		edgeRule("on: a/+; value: payload.c; above: 60; hysteresis: 5; edge: both"), edgeRule("offline: [a, +/b]; on: x; value: payload; changed: 0.5"),
		filterRule("schema: " + reading + "; on_invalid: drop"), filterRule("reject: payload.c > 1; reason: not_authorized; priority: 7"),
		ruleIf(`state("a/" + parts[0] + "/b").c && between("22:00", "06:00") && vars.x == time.hour`),
	} {
		f.Add(source)
	}
	for _, c := range stepScenarios {
		f.Add("rules:\n  - name: r" + c.rule + "\n")
	}
	f.Fuzz(func(t *testing.T, source string) {
		p, err := compileOnly(source)
		if err != nil {
			var e *rules.Error
			if !errors.As(err, &e) || e.Msg == "" || !utf8.ValidString(e.Msg) {
				t.Fatalf("the error is %q", err)
			}
			return
		}
		for i, r := range p.Rules() {
			call := rules.Call{Rule: i, Now: noon, Message: &message.Message{Topic: "a/b", Payload: []byte(`{"a":[1,"x",{"b":null}],"c":2.50,"open":true}`)}}
			call.Prev = call.Message
			out := p.Run(t.Context(), []rules.Call{call})[0]
			for _, m := range out.Publish {
				if err := rules.CheckTopic(m.Topic); err != nil {
					t.Errorf("rule %q publishes to a bad topic: %v", r.Name, err)
				}
			}
		}
	})
}

// FuzzPayload: whatever the payload, what rules make of it is JSON, and says the
// same.
func FuzzPayload(f *testing.F) {
	for _, c := range conditions {
		f.Add([]byte(c.payload))
	}
	for _, seed := range []string{`{"a":{"a":1e400}}`, `"\ud800"`, `"\u0000\u001f\u007f"`, `{"\"":1}`, "\xff", `[1.0,-0,1E5]`, `{"v":1,"v":2}`, "nan", "-inf", "1.2.3", `[nan]`} {
		f.Add([]byte(seed))
	}
	p := compile(f, `
rules:
  - {name: raw, on: "#", do: [{publish: out, payload: {v: "${payload}"}}]}
  - {name: calculated, on: "#", do: [{publish: out, payload: {v: "${true ? payload : nil}", t: "t ${text}"}}]}
filters:
  - {name: set, on: "#", set: {v: payload.a, "x\"y": text}}
`)
	f.Fuzz(func(t *testing.T, payload []byte) {
		m := &message.Message{Topic: "a", Payload: payload}
		outs := p.Run(t.Context(), []rules.Call{{Rule: 0, Message: m}, {Rule: 1, Message: m}, {Rule: 2, Message: m}})
		var made [][]byte
		for _, o := range outs {
			for _, m := range o.Publish {
				made = append(made, m.Payload)
			}
			if o.Verdict.Message != nil {
				made = append(made, o.Verdict.Message.Payload)
			}
		}
		for _, b := range made {
			if !json.Valid(b) {
				t.Errorf("of %q came %q, which is not JSON", payload, b)
			}
		}
		if len(outs[0].Publish) == 1 && json.Valid(payload) && len(payload) < 1<<20 {
			sameJSON(t, payload, outs[0].Publish[0].Payload)
		}
	})
}

// sameJSON checks that made is {"v":...} with the value of payload, digit for digit.
func sameJSON(t *testing.T, payload, made []byte) {
	t.Helper()
	var want any
	var got struct{ V any }
	for text, into := range map[*[]byte]any{&payload: &want, &made: &got} {
		d := json.NewDecoder(bytes.NewReader(*text))
		d.UseNumber()
		if err := d.Decode(into); err != nil {
			return // nested deeper than we go
		}
	}
	if bytes.Contains(bytes.ToLower(payload), []byte(`\ud`)) {
		return // half of a surrogate pair is no text: it stays as it is written, escape and all
	}
	if s, isText := got.V.(string); isText && s == string(payload) {
		return // ours is stricter, or goes less deep
	}
	if diff := cmp.Diff(want, got.V); diff != "" {
		t.Errorf("%q came out as %q: %s", payload, made, diff)
	}
}

// FuzzContinuation: whatever the store gives back of a run, the program goes on with it or
// drops it.
func FuzzContinuation(f *testing.F) {
	const source = `
rules:
  - name: r
    on: in/+
    mode: parallel
    do:
      - repeat:
          times: 2
          do:
            - parallel:
                - [{wait: 1s}, {call: c, with: {x: turn}}]
                - [{wait: {until: payload == trigger.payload, on: answer, timeout: 2s, else: continue}}, {http: {url: "http://h/"}, on_error: {retry: 2, pause: 1s, then: continue}}]
      - publish: out
        payload: ${turn ?? 0} ${reply.status ?? 0}
  - {name: c, do: [{wait: 1s}, {publish: "c/${with.x}"}]}
  - {name: held, on: h, if: payload, for: 5s, do: [{publish: x}]}
  - {name: burst, on: h, debounce: 5s, do: [{publish: x}]}
  - {name: quiet, on: h, silent: 5s, do: [{publish: x}]}
`
	names := make(map[string]string)
	s := newStandIn(f, source)
	note := func() {
		for _, timer := range s.timers {
			names[timer.ID] = timer.Name
			f.Add(timer.ID, timer.Data, []byte("{}"))
		}
		s.save()
		for key, value := range s.kept {
			f.Add(key, []byte("null"), value)
		}
	}
	s.hear("in/a 1")
	s.hear("h true")
	for range 6 {
		note()
		s.advance(700 * time.Millisecond)
	}
	name := names["do/1"]
	for _, damaged := range []string{
		`{"t":[{"i":0,"u":-1,"p":2,"k":4,"l":[{"n":0,"m":2}]}]}`, `{"t":[{"i":0,"u":-1,"p":6,"k":1,"t":-5,"l":[{"n":0,"m":2}]}]}`, `{"t":[null]}`,
		`{"t":[{"i":0,"u":1,"p":7,"k":4,"n":1,"l":[{"n":0,"m":2}]},{"i":1,"u":0,"p":7,"k":4,"n":1,"l":[{"n":0,"m":2}]}]}`, `{"t":[]}`,
		`{"t":[{"i":0,"u":-1,"p":7,"k":4,"n":1,"l":[{"n":0,"m":2}]},{"i":1,"u":1,"p":3,"k":1,"l":[{"n":0,"m":2}]}]}`,
	} {
		f.Add("do/9", []byte(damaged), []byte("{}"))
	}
	f.Fuzz(func(t *testing.T, id string, data, kept []byte) {
		known, ok := names[id]
		if !ok {
			known = name
		}
		s := newStandIn(t, source)
		s.kept[id] = kept
		s.timers[id] = standingTimer{TimerChange: rules.TimerChange{ID: id, Name: known, Data: data, After: time.Second}, due: noon.Add(time.Second)}
		s.begin()
		s.hear("in/a 1", "answer 1", "h false")
		s.save()
		s.advance(time.Minute)
		for n := 0; n < 20 && len(s.timers) > 0; n++ {
			for len(s.asked) > 0 {
				s.reply(rules.Reply{Status: 200})
			}
			s.advance(time.Hour)
		}
		if len(s.timers) > 0 {
			t.Errorf("timers stand for ever: %v", s.timers)
		}
	})
}
