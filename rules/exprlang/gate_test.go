package exprlang_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
)

// compileIn compiles a file of a folder.
func compileIn(folder fstest.MapFS, name string) (rules.Program, error) {
	return exprlang.New().Compile(context.Background(), rules.Source{
		Name: name, Text: folder[name].Data,
		Read: func(name string) ([]byte, error) { return fs.ReadFile(folder, name) },
	})
}

func filterRule(keys string) string {
	return "filters:\n  - name: f\n    on: '#'\n    " + strings.ReplaceAll(keys, "; ", "\n    ") + "\n"
}

// said is a verdict in a word.
func said(v message.Verdict) string {
	switch v.Action {
	case message.Drop:
		return "drop"
	case message.Reject:
		return fmt.Sprintf("reject 0x%02X", v.Reason)
	case message.Replace:
		return v.Message.Topic + " " + string(v.Message.Payload)
	case message.Pass:
	}
	return "pass"
}

const reading = `{type: object, required: [c], additionalProperties: false, properties: {c: {type: number, minimum: -60}, unit: {enum: [C, F]}, at: {type: string, format: date-time}}}`

func TestGates(t *testing.T) {
	for _, c := range []struct{ keys, payload, want string }{
		{"reject: payload.c > 1", `{"c":2}`, "reject 0x83"},
		{"reject: payload.c > 1", `{"c":1}`, "pass"},
		{"reject: payload.c > 1", `{}`, "?"},
		{"reject: payload.c > 1; reason: not_authorized", `{"c":2}`, "reject 0x87"},
		{"reject: payload.c > 1; reason: quota_exceeded", `{"c":2}`, "reject 0x97"},
		{"reject: payload.c > 1; reason: 0x90", `{"c":2}`, "reject 0x90"},
		{"reject: payload.c > 1; reason: 153", `{"c":2}`, "reject 0x99"},
		{"reject: payload.c > 1; drop: payload.c < 0", `{"c":-1}`, "drop"},
		{"reject: payload.c > 1; set: {d: payload.c}", `{"c":1}`, `a/b {"c":1,"d":1}`},
		{"reject: payload.c > 1; set: {d: payload.c}", `{"c":2}`, "reject 0x83"},
		{"schema: " + reading, `{"c":21.5}`, "pass"},
		{"schema: " + reading, `{"c":-61}`, "reject 0x99"},
		{"schema: " + reading, `{"c":"warm"}`, "reject 0x99"},
		{"schema: " + reading, `{}`, "reject 0x99"},
		{"schema: " + reading, `{"c":1,"unit":"K"}`, "reject 0x99"},
		{"schema: " + reading, `{"c":1,"x":1}`, "reject 0x99"},
		{"schema: " + reading, `{"c":1,"at":"yesterday"}`, "reject 0x99"},
		{"schema: " + reading, `{"c":1,"at":"2026-11-22T12:00:00Z","unit":"C"}`, "pass"},
		{"schema: " + reading, `21.5`, "reject 0x99"},
		{"schema: " + reading, `warm`, "reject 0x99"},
		{"schema: " + reading, ``, "reject 0x99"},
		{"schema: {type: number}", strings.Repeat(" ", 256<<10) + "1", "reject 0x99"},
		{"schema: {type: integer}", `1.0`, "pass"},
		{"schema: {type: number}", `1e999999999`, "reject 0x99"},
		{"schema: {multipleOf: 0.01}", `21.35`, "pass"},
		{"schema: {maxItems: 2, uniqueItems: true}", `[1,1]`, "reject 0x99"},
		{"schema: {pattern: '^(a+)+$'}", `"` + strings.Repeat("a", 5_000) + `b"`, "reject 0x99"},
		{"schema: {type: number}", strings.Repeat("[", 100_000), "reject 0x99"},
		{"schema: {$ref: '#/$defs/n', $defs: {n: {type: number}}}", `"x"`, "reject 0x99"},
		{"schema: " + reading + "; on_invalid: drop", `{}`, "drop"},
		{"schema: " + reading + "; on_invalid: reject; reason: quota_exceeded", `{}`, "reject 0x97"},
		{"schema: " + reading + "; reject: payload.c > 1", `{"c":2}`, "reject 0x83"},
		{"schema: " + reading + "; topic: clean/${topic}", `{"c":2}`, `clean/a/b {"c":2}`},
	} {
		t.Run(c.keys, func(t *testing.T) {
			out := ask(t, compile(t, filterRule(c.keys)), "a/b", c.payload, "-")
			got := said(out.Verdict)
			if verdict(out) == "?" {
				got = "?"
			}
			if got != c.want || out.Fired != (got != "pass" && got != "?") {
				t.Errorf("it came to %s (%v), fired %v, want %s", got, out.Err, out.Fired, c.want)
			}
		})
	}
}

func TestSchemasOfTheFolder(t *testing.T) {
	folder := fstest.MapFS{
		"house/f.yaml":               {Data: []byte(filterRule("schema: ./schemas/reading.json"))},
		"house/g.yaml":               {Data: []byte(filterRule("schema: house/schemas/reading.json"))},
		"house/h.yaml":               {Data: []byte(filterRule("schema: {$ref: schemas/reading.json}"))},
		"house/schemas/reading.json": {Data: []byte(`{"properties":{"c":{"$ref":"../../common.json#/$defs/celsius"}}}`)},
		"common.json":                {Data: []byte(`{"$defs":{"celsius":{"type":"number","maximum":150}}}`)},
	}
	for _, name := range []string{"house/f.yaml", "house/g.yaml", "house/h.yaml"} {
		p, err := compileIn(folder, name)
		if err != nil {
			t.Fatal(err)
		}
		if got := said(ask(t, p, "a", `{"c":151}`, "-").Verdict) + said(ask(t, p, "a", `{"c":150}`, "-").Verdict); got != "reject 0x99pass" {
			t.Errorf("%s came to %s", name, got)
		}
	}
}

func TestRefusedGates(t *testing.T) {
	folder := fstest.MapFS{
		"broken.json": {Data: []byte(`{"type":`)}, "wrong.json": {Data: []byte(`{"type":"numbr"}`)},
		"far.json": {Data: []byte(`{"$ref":"https://example.org/schema.json"}`)}, "out.json": {Data: []byte(`{"$ref":"../../etc/passwd"}`)},
		"file.json": {Data: []byte(`{"$ref":"file:///etc/passwd"}`)}, "regexp.json": {Data: []byte(`{"pattern":"("}`)},
	}
	for keys, want := range map[string]string{
		"reject: payload.c > 1; reason: banned": `5:13: a message can be refused with the reasons unspecified_error`,
		"reject: payload.c > 1; reason: 0x10":   "a message can be refused with the reasons",
		"reject: payload.c > 1; reason: 0x8A":   "a message can be refused with the reasons",
		"drop: payload.c > 1; reason: banned":   "a reason is for reject and schema",
		"drop: payload.c > 1; on_invalid: drop": "5:5: on_invalid is for a schema",
		"schema: {}; on_invalid: pass":          "on_invalid must be reject or drop",
		"reject: paylod.c > 1":                  `unknown name "paylod"`,
		"reject: 5":                             "a condition is true or false",
		"drop: true; priority: high":            "5:15: priority is a whole number from -1000 to 1000",
		"drop: true; priority: 1001":            "priority is a whole number from -1000 to 1000",
		"drop: true; enabled: perhaps":          "enabled must be true or false",
		"priority: 1":                           "the filter does nothing: it wants schema, reject, drop, topic or set",
		"schema: nothing.json":                  `4:13: the schema cannot be used: `,
		"schema: broken.json":                   "the schema cannot be used",
		"schema: wrong.json":                    `"wrong.json" is not a JSON Schema: at '/type'`,
		"schema: regexp.json":                   `"regexp.json" is not a JSON Schema: at '/pattern'`,
		"schema: far.json":                      `"https://example.org/schema.json" is not in the folder of rules`,
		"schema: file.json":                     `"file:///etc/passwd" is not in the folder of rules`,
		"schema: out.json":                      "the schema cannot be used",
		"schema: ../x.json":                     `"../x.json" is no file in the folder of rules`,
		"schema: /etc/passwd":                   `"/etc/passwd" is no file in the folder of rules`,
		"schema: ''":                            "is no file in the folder of rules",
		"schema: [1]":                           `"schema" must be text, not a list`,
		"schema: {type: numbr}":                 "4:13: the schema cannot be used: it is not a JSON Schema: at '/type'",
		"schema: {minimum: }":                   "the value is missing",
	} {
		folder["f.yaml"] = &fstest.MapFile{Data: []byte(filterRule(keys))}
		if _, err := compileIn(folder, "f.yaml"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %s", keys, err, want)
		} else if !strings.Contains(err.Error(), "f.yaml:") {
			t.Errorf("%.80s: without its place: %v", keys, err)
		}
	}
	if _, err := compileOnly(filterRule("schema: a.json")); err == nil || !strings.Contains(err.Error(), "there is no folder") {
		t.Errorf("without a folder: %v", err)
	}
}

func TestFiltersThatAreOff(t *testing.T) {
	p := compile(t, `
filters:
  - {name: a, on: x, drop: true, enabled: false}
  - {name: b, on: x, drop: true, enabled: true, priority: 7}
`)
	all := p.Rules()
	if len(all) != 2 || len(all[0].Filters) > 0 || len(all[1].Filters) != 1 {
		t.Errorf("the rules are %+v", all)
	}
	if diff := cmp.Diff([]int{0, 7}, []int{all[0].Priority, all[1].Priority}); diff != "" {
		t.Error(diff)
	}
}
