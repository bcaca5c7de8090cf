package exprlang_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// edgeRule is a rule that publishes its edge; keys are separated by "; ".
func edgeRule(keys string) string {
	return "rules:\n  - name: r\n    " + strings.ReplaceAll(keys, "; ", "\n    ") + "\n    do: [{publish: out, payload: '${edge}'}]\n"
}

func TestEdges(t *testing.T) {
	const value = "on: a/+; value: payload.c; "
	for _, c := range []struct{ keys, steps string }{
		// topic value = result
		{value + "above: 60", "x 50 = -, x 61 = rising, x 62 = -, x 60 = -, x 61 = rising, y 70 = rising, y 71 = -"},
		{value + "above: 60", "x 61 = rising"}, // nothing is known before: it is news
		{value + "above: 60; hysteresis: 5", "x 61 = rising, x 59 = -, x 61 = -, x 55 = -, x 59 = -, x 61 = rising"},
		{value + "above: 60; hysteresis: 5; edge: both", "x 50 = -, x 61 = rising, x 56 = -, x 55 = falling, x 61 = rising"},
		{value + "above: 60; edge: falling", "x 50 = -, x 61 = -, x 62 = -, x 60 = falling, x 50 = -"},
		{value + "below: 5", "x 50 = -, x 4 = rising, x 3 = -, x 5 = -, x 4.9 = rising"},
		{value + "below: 5; hysteresis: 2; edge: both", "x 4 = rising, x 6 = -, x 7 = falling, x 5 = -, x 4 = rising"},
		{value + "above: 60; below: 5; hysteresis: 1; edge: both", "x 61 = rising, x 4 = -, x 5 = -, x 6 = falling, x 59 = -, x 4 = rising, x 61 = -, x 30 = falling"},
		{value + "above: payload.limit", "x 50 = ?, x 10,\"limit\":20 = -, x 30,\"limit\":20 = rising, x 30,\"limit\":40 = -, x 30,\"limit\":20 = rising"},
		{value + "above: 60; by: payload.k", "x 61,\"k\":1 = rising, y 61,\"k\":1 = -, y 61,\"k\":2 = rising, y 61 = ?"},
		{value + "above: 60", "x null = ?, x \"warm\" = ?, x 61 = rising, x null = ?, x 62 = -"},
		{value + "above: 60; if: payload.on", "x 61 = -, x 50 = -, x 61,\"on\":true = rising"},
		{value + "changed: true", "x 1 = -, x 1 = -, x 2 = changed, x 2 = -, x \"a\" = changed, x \"a\" = -, x null = changed, x 1 = changed, y 1 = -"},
		{value + "changed: true", "x 1.0 = -, x 1 = -, x {\"a\":1} = changed, x {\"a\":1} = -, x {\"a\":2} = changed"},
		{value + "changed: true", "x 9007199254740993 = -, x 9007199254740992 = changed, x 9007199254740992 = -, x 9007199254740993 = changed"},
		{value + "changed: 0.5", "x 1 = -, x 1.5 = -, x 1.6 = changed, x 1.2 = -, x 1 = changed, x \"a\" = ?, x 3 = changed"},
	} {
		t.Run(c.keys+"/"+c.steps, func(t *testing.T) {
			through, restarted := compile(t, edgeRule(c.keys)), compile(t, edgeRule(c.keys))
			kept := make(map[string][]byte)
			for i, step := range strings.Split(c.steps, ", ") {
				said, want, _ := strings.Cut(step, " = ")
				topic, value, _ := strings.Cut(said, " ")
				payload := `{"c":` + value + `}`
				if got := hear(t, through, 0, "a/"+topic, payload); got != want {
					t.Fatalf("step %d, %s, came to %s", i, step, got)
				}
				fresh := compile(t, edgeRule(c.keys))
				restart(t, restarted, fresh, kept, 0)
				restarted = fresh
				if got := hear(t, restarted, 0, "a/"+topic, payload); got != want {
					t.Fatalf("step %d, %s, came to %s after a restart", i, step, got)
				}
			}
		})
	}
}

func TestDevicesThatGo(t *testing.T) {
	const online, offline = "online", "offline"
	for _, c := range []struct{ keys, steps string }{
		{"offline: boiler", "boiler/status offline = offline, boiler/status offline = -, boiler/status online = -, boiler/status offline = offline, boiler/status what = -"},
		{"online: boiler", "boiler/status online = online, boiler/status offline = -, boiler/status online = online"},
		{"offline: boiler; online: [boiler, plant/pump]", "boiler/status offline = offline, boiler/status online = online, plant/pump/status offline = -, plant/pump/status online = online"},
		{"offline: +", "boiler/status offline = offline, pump/status offline = offline, pump/status offline = -"},
		{"offline: boiler; on: x", "x anything = null, boiler/status online = -, boiler/status offline = offline"},
		{"offline: boiler; on: x; value: payload; above: 5", "x 6 = rising, x 7 = -, boiler/status offline = offline"},
	} {
		t.Run(c.keys, func(t *testing.T) {
			p := compile(t, edgeRule(c.keys))
			for i, step := range strings.Split(c.steps, ", ") {
				said, want, _ := strings.Cut(step, " = ")
				topic, payload, _ := strings.Cut(said, " ")
				if got := hear(t, p, 0, topic, payload); got != want {
					t.Errorf("step %d, %s, came to %s", i, step, got)
				}
			}
		})
	}
	r := compile(t, edgeRule("offline: [boiler, plant/+]; on: x")).Rules()[0]
	if diff := cmp.Diff([]string{"x", "boiler/status", "plant/+/status"}, r.Filters); diff != "" {
		t.Error(diff)
	}
	p := compile(t, edgeRule("offline: boiler"))
	hear(t, p, 0, "boiler/status", offline)
	kept := make(map[string][]byte)
	fresh := compile(t, edgeRule("offline: boiler"))
	restart(t, p, fresh, kept, 0)
	if got := hear(t, fresh, 0, "boiler/status", offline); got != "-" {
		t.Errorf("after a restart it is news: %s", got)
	}
	if got := hear(t, fresh, 0, "boiler/status", online); got != "-" {
		t.Error("it came, which nobody asked for")
	}
}

func TestEdgesAreBounded(t *testing.T) {
	p := compile(t, edgeRule("on: a/+; value: payload; above: 60"))
	for i := range 10_001 {
		hear(t, p, 0, fmt.Sprint("a/", i), "61")
	}
	if got := hear(t, p, 0, "a/10000", "61") + hear(t, p, 0, "a/1", "61") + hear(t, p, 0, "a/0", "61"); got != "--rising" {
		t.Errorf("it came to %s", got)
	}
	if got := hear(t, p, 0, "a/"+strings.Repeat("x", 300), "61"); got != "?" {
		t.Errorf("a key that is too long came to %s", got)
	}
	p = compile(t, edgeRule("on: a/+; value: payload; changed: true"))
	if got := hear(t, p, 0, "a/b", strings.Repeat("x", 5_000)); got != "?" {
		t.Errorf("a value that is too long came to %s", got)
	}
}

func TestTriggersOfTheEngine(t *testing.T) {
	p := compile(t, `
rules:
  - {name: a, on: x, retained: true, do: [{publish: y}]}
  - {name: b, hook: [front-door, "2"], do: [{publish: y, payload: "${topic} ${payload.n}"}]}
  - {name: c, on: x, hook: pump, value: payload.n, above: 3, do: [{publish: y}]}
`)
	all := p.Rules()
	if !all[0].Retained || all[1].Retained || len(all[0].Hooks) > 0 {
		t.Errorf("the rules are %+v", all)
	}
	if diff := cmp.Diff([]string{"front-door", "2"}, all[1].Hooks); diff != "" {
		t.Error(diff)
	}
	call := rules.Call{Rule: 1, Message: &message.Message{Topic: "$hook/2", Payload: []byte(`{"n":7}`)}, Now: noon}
	if out := p.Run(t.Context(), []rules.Call{call})[0]; !out.Fired || string(out.Publish[0].Payload) != "$hook/2 7" {
		t.Errorf("it came to %+v", out)
	}
	call.Rule = 2
	for _, want := range []bool{true, false} {
		if out := p.Run(t.Context(), []rules.Call{call})[0]; out.Fired != want {
			t.Errorf("it came to %+v", out)
		}
	}
}

// By the clock a rule with a value runs whatever the value is; there is no edge.
func TestEdgesByTheClock(t *testing.T) {
	p := compile(t, edgeRule("on: a/+; value: payload.c; above: 60; every: 10s"))
	hear(t, p, 0, "a/b", `{"c":61}`)
	out := p.Run(t.Context(), []rules.Call{{Trigger: rules.OnSchedule, Now: noon.Add(time.Second)}})[0]
	if !out.Fired || string(out.Publish[0].Payload) != "null" {
		t.Errorf("it came to %+v", out)
	}
}

func TestRefusedTriggers(t *testing.T) {
	for keys, want := range map[string]string{
		"on: a; value: payload":                                      "4:5: the rule has a value, and not what is to become of it",
		"on: a; above: 5":                                            `the rule has no "value"`,
		"on: a; edge: both":                                          `the rule has no "value"`,
		"on: a; by: topic":                                           `the rule has no "value"`,
		"value: payload; above: 5; every: 1s":                        "a value is that of a message: the rule wants on",
		"on: a; value: payload; above: 5; edge: up":                  "6:11: edge is rising, falling or both",
		"on: a; value: payload; above: 5; hysteresis: -1":            "hysteresis is a number, 0 or above",
		"on: a; value: payload; above: 5; hysteresis: x":             "hysteresis is a number, 0 or above",
		"on: a; value: payload; above: five":                         `unknown name "five"`,
		"on: a; value: payload; changed: maybe":                      "changed is a number, 0 or above, or true",
		"on: a; value: payload; changed: true; above: 5":             "changed goes without",
		"on: a; value: payload; changed: 1; hysteresis: 5":           "changed goes without",
		"on: a; value: paylod; changed: 1":                           `unknown name "paylod"`,
		"offline: a/#":                                               `3:14: "a/#" is not the topic of a device`,
		"offline: ''":                                                "is not the topic of a device",
		"offline: []":                                                "the list of devices is empty",
		"hook: a/b":                                                  "3:11: the name of a webhook is letters",
		"hook: [ok, '']":                                             "the name of a webhook is letters",
		"on: a; retained: often":                                     "retained must be true or false",
		"on: a; if: edge == 'rising'":                                "edge is that of a rule with",
		"if: true":                                                   "the rule never runs",
		"on: a; value: payload; above: 5; if: edge.x()":              "has no functions",
		"on: a; windows: {w: {sum: payload}}; value: windows.x":      `windows has no "x"`,
		"on: a; windows: {w: {sum: payload}}; value: windows.w":      "not what is to become of it",
		"on: a; value: payload; above: 5; below: 9; whatever: broke": `unknown key "whatever"`,
	} {
		source := strings.Replace(edgeRule(keys), "'${edge}'", "x", 1)
		if _, err := compileOnly(source); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "t.yaml:") {
			t.Errorf("%s: %v, want %s", keys, err, want)
		}
	}
}
