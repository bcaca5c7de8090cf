package exprlang_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

const motion = `
inputs:
  room: {type: text, description: which room}
  limit: {type: number, default: 5}
  topics: {type: list, default: [a/x, b/x]}
  text: {default: plain}
  on: {type: boolean, default: true}
  thing: {type: object, default: {b: 1.50, a: [x, null]}}
  free:
rules:
  - name: light of $(room)
    on: home/$(room)/motion
    if: payload.n > $(limit) && payload.room == "$(room)"
    do:
      - publish: home/$(room)/light/set
        payload: {on: $(on), text: $(text), limit: $(limit), "n of $(room)": "${payload.n} $$(room) $$x", thing: $(thing), free: $(free)}
        retain: $(on)
  - name: all of $(room)
    on: $(topics)
    do: [{publish: "out/$(room)", payload: "${payload.n * $(limit)}"}]
filters:
  - name: f of $(room)
    on: home/$(room)/#
    drop: payload.n < -$(limit)
`

func TestDaysOfBlueprintsAndWindows(t *testing.T) {
	folder := fstest.MapFS{
		"b.yaml": {Data: []byte(`
inputs:
  span: {type: duration, default: 7d}
rules:
  - name: r
    on: a
    windows: {n: {count: "true", over: $(span)}}
    do: [{wait: $(span)}, {publish: b, payload: "${windows.n}"}]
`)},
		"t.yaml": {Data: []byte("rules:\n  - {use: b.yaml, with: {span: 2d}}\n")},
	}
	for _, name := range []string{"b.yaml", "t.yaml"} {
		if _, err := compileIn(folder, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBlueprints(t *testing.T) {
	folder := fstest.MapFS{
		"blueprints/motion.yaml": {Data: []byte(motion)},
		"house.yaml": {Data: []byte(`
rules:
  - use: blueprints/motion.yaml
    with: {room: hall, free: "${topic}"}
  - {name: mine, on: x, do: [{publish: y}]}
  - use: ./blueprints/motion.yaml
    with: {room: "12", limit: 7, topics: c/x, on: false, text: "quote \" $(room) ${1 + 1}", free: null}
`)},
	}
	// A list is wanted, and text was given.
	if _, err := compileIn(folder, "house.yaml"); err == nil || !strings.Contains(err.Error(), "house.yaml:7:42: topics must be a list") {
		t.Fatal(err)
	}
	folder["house.yaml"].Data = []byte(strings.Replace(string(folder["house.yaml"].Data), "topics: c/x", "topics: [c/x]", 1))
	p, err := compileIn(folder, "house.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range p.Rules() {
		got = append(got, fmt.Sprint(r.Name, " ", r.Line, " ", r.Filters))
	}
	want := []string{
		"light of hall 3 [home/hall/motion]", "all of hall 3 [a/x b/x]", "f of hall 3 [home/hall/#]", "mine 5 [x]",
		"light of 12 6 [home/12/motion]", "all of 12 6 [c/x]", "f of 12 6 [home/12/#]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct {
		rule    int
		payload string
		want    string
	}{
		{0, `{"n":6,"room":"hall"}`, `true home/hall/light/set {"on":true,"text":"plain","limit":5,"n of hall":"6 $(room) $$x","thing":{"a":["x",null],"b":1.50},"free":"t/opic"}`},
		{0, `{"n":5,"room":"hall"}`, ``},
		{0, `{"n":6,"room":"attic"}`, ``},
		{4, `{"n":8,"room":"12"}`, `false home/12/light/set {"on":false,"text":"quote \" $(room) 2","limit":7,"n of 12":"8 $(room) $$x","thing":{"a":["x",null],"b":1.50},"free":null}`},
		{5, `{"n":2}`, `false out/12 14`},
	} {
		out := p.Run(t.Context(), []rules.Call{{Rule: c.rule, Message: &message.Message{Topic: "t/opic", Payload: []byte(c.payload)}, Now: noon}})[0]
		got := ""
		for _, m := range out.Publish {
			got += fmt.Sprint(m.Retain, " ", m.Topic, " ", string(m.Payload))
		}
		if out.Err != nil || got != c.want {
			t.Errorf("rule %d came to %s (%v), want %s", c.rule, got, out.Err, c.want)
		}
	}
	if own, err := compileIn(folder, "blueprints/motion.yaml"); err != nil || len(own.Rules()) > 0 {
		t.Errorf("by itself it has the rules %v (%v)", own, err)
	}
}

// A name keeps several uses apart; the rules of one may call each other.
func TestBlueprintsWithNames(t *testing.T) {
	folder := fstest.MapFS{
		"b.yaml": {Data: []byte("inputs: {t: }\nrules:\n  - {name: r, on: $(t), do: [{publish: y}]}\n")},
		"f.yaml": {Data: []byte("rules:\n  - {use: b.yaml, with: {t: a}, name: one}\n  - {use: b.yaml, with: {t: b}, name: two}\n")},
	}
	p, err := compileIn(folder, "f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Rules(); r[0].Name != "one: r" || r[1].Name != "two: r" || r[1].Filters[0] != "b" {
		t.Errorf("the rules are %+v", r)
	}
}

func TestRefusedBlueprints(t *testing.T) {
	const use = "rules:\n  - use: b.yaml\n    with: {room: hall}\n"
	rule := func(keys string) string {
		return "inputs:\n  room: {type: text}\n  n: {default: 1}\nrules:\n  - name: r $(room)\n    on: home/$(room)/x\n    " + keys + "\n    do: [{publish: y}]\n"
	}
	for _, c := range []struct{ name, blueprint, file, want string }{
		{"an error inside", rule("if: 'payload.a && paylod.b'"), use, "b.yaml:7:23: unknown name \"paylod\""},
		{"that names its use", rule("if: 'payload.a && paylod.b'"), use, "(used by f.yaml:2:5)"},
		{"an error in what was put in", rule(`if: "payload.$(room) > paylod"`), use, `b.yaml:7:9: unknown name "paylod"`},
		{"an error in what stands alone", rule("value: $(room)\n    above: 5"), use, `b.yaml:7:12: unknown name "hall"`},
		{"a name that is none of its inputs", rule("if: payload.$(rom)"), use, "b.yaml:7:9: $(rom) is no input: the inputs are room, n"},
		{"one that stands alone", rule("if: $(rom)"), use, "b.yaml:7:9: $(rom) is no input"},
		{"one in a key", rule("x$(rom): 1"), use, "b.yaml:7:5: $(rom) is no input"},
		{"an open one", rule("if: payload.$(room"), use, `b.yaml:7:9: "$(" wants the name of an input`},
		{"one without a name", rule("if: payload.$()"), use, `b.yaml:7:9: "$(" wants the name of an input`},
		{"a list in a text", rule("if: payload.$(n)"), strings.Replace(use, "hall", "hall, n: [1]", 1), "b.yaml:7:9: $(n) is a list, so it cannot be a part of a text"},
		{"a missing value", rule("if: true"), "rules:\n  - use: b.yaml\n", "f.yaml:2:5: the blueprint wants \"room\" under \"with\""},
		{"a value too many", rule("if: true"), strings.Replace(use, "hall", "hall, x: 1", 1), "f.yaml:3:24: the blueprint has no input \"x\": it has room, n"},
		{"a value of another type", rule("if: true"), strings.Replace(use, "hall", "5", 1), "f.yaml:3:18: room must be text"},
		{"no such file", rule("if: true"), strings.Replace(use, "b.yaml", "c.yaml", 1), "f.yaml:2:10: the blueprint cannot be used: "},
		{"outside of the folder", rule("if: true"), strings.Replace(use, "b.yaml", "../c.yaml", 1), "f.yaml:2:10: the blueprint cannot be used: "},
		{"no blueprint", "rules: []\n", use, `f.yaml:2:5: "b.yaml" is no blueprint`},
		{"an empty one", "# nothing\n", use, `f.yaml:2:5: "b.yaml" is empty`},
		{"no YAML", "inputs: [\n", use, "b.yaml:1:9: "},
		{"of itself", "inputs: {room: }\nrules:\n  - use: b.yaml\n    with: {room: x}\n", use, "b.yaml:3:5: a blueprint cannot use another one (used by f.yaml:2:5)"},
		{"another key", rule("if: true"), "rules:\n  - use: b.yaml\n    on: x\n", `f.yaml:3:5: unknown key "on": a blueprint is used with`},
		{"the same twice", rule("if: true"), use + use[7:], `b.yaml:5:11: the name "r hall" is taken by the rule or filter in line 5 (used by f.yaml:4:5)`},
		{"what is missing in a rule", "inputs: {room: }\nrules:\n  - {on: x, do: [{publish: y}]}\n", use, `b.yaml:3:5: the rule has no "name" (used by`},
		{"a rule that never runs", "inputs: {room: }\nrules:\n  - {name: x, do: [{publish: y}]}\n", use, "f.yaml:2:5: the rule never runs"},
		{"a call of nobody", rule("if: true")[:len(rule("if: true"))-len("[{publish: y}]\n")] + "[{call: nobody}]\n", use, "b.yaml:8:"},
		{"a type that is none", "inputs: {room: {type: string}}\n", use, "b.yaml:1:23: the type of an input is any, text"},
		{"a default of another type", "inputs: {room: {type: number, default: x}}\n", use, `b.yaml:1:10: the default of "room" must be a number`},
		{"an input with another key", "inputs: {room: {typ: number}}\n", use, `b.yaml:1:17: unknown key "typ"`},
		{"a name of two words", "inputs: {a room: }\n", use, "b.yaml:1:10: the name of an input is one word"},
		{"too often", rule("if: true"), "rules:\n" + strings.Repeat("  - {use: b.yaml}\n", 501), "f.yaml:2:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := fstest.MapFS{"b.yaml": {Data: []byte(c.blueprint)}, "f.yaml": {Data: []byte(c.file)}}
			_, err := compileIn(folder, "f.yaml")
			var e *rules.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || e.Snippet == "" {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// What is wrong with a blueprint is told even if nobody uses it.
func TestBlueprintsByThemselves(t *testing.T) {
	for source, want := range map[string]string{
		"inputs: {a: {default: 1}}\nrules:\n  - {name: r, on: x, if: payload.n > $(a), do: [{publish: y}]}\n":       "",
		"inputs: {a: {default: 1}}\nrules:\n  - {name: r, on: x, if: paylod.n > $(a), do: [{publish: y}]}\n":        `t.yaml:3:26: unknown name "paylod"`,
		"inputs: {a: {default: 1}}\nrules:\n  - {name: r, on: x, if: paylod.n > $(b), do: [{publish: y}]}\n":        "$(b) is no input",
		"inputs: {a: }\nrules:\n  - {name: r, on: x, if: payload.n > $(a), do: [{publish: \"${state('a').b}\"}]}\n": "",
		"inputs: {a: }\nrules:\n  - {name: r, on: x, if: payload.n > $(b), do: [{publish: y}]}\n":                   "$(b) is no input",
		"inputs: {a: }\nrule: []\n": `unknown key "rule"`,
	} {
		p, err := compileOnly(source)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
		if err == nil && len(p.Rules()) > 0 {
			t.Errorf("%s makes rules", source)
		}
	}
}
