package trial_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/trial"
)

const doorFile = `
rules:
  - name: light
    on: home/+/door
    if: payload.open
    do:
      - {publish: "home/${parts[1]}/light/set", payload: {on: true, level: 0.30000000000000004, n: 9007199254740993}, qos: 1, retain: true}
  - name: hourly
    every: 1h
    do: [{publish: tick}]
filters:
  - name: far
    on: raw/#
    drop: payload.c > 100
    topic: clean/${parts[1]}
    on_error: reject
`

// play plays the steps of one test and returns its failure.
func play(t *testing.T, steps string) *trial.Failure {
	t.Helper()
	text := "tests:\n  - name: t\n    steps:\n" + steps
	f, err := trial.Parse("door.test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o := trial.Options{Folder: folder("door.yaml", doorFile), Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}}
	return f.Run(t.Context(), o, &f.Tests[0]).Failure
}

const opened = `
      - {publish: home/hall/door, payload: {open: true}}
`

func TestStepsThatHold(t *testing.T) {
	for name, steps := range map[string]string{
		"a payload":               opened + "      - {expect: home/hall/light/set, payload: {on: true, level: 0.3, n: 9007199254740993}, qos: 1, retain: true, from: rule/light}",
		"a part of it":            opened + "      - {expect: home/+/light/set, contains: {on: true}}",
		"any payload":             opened + "      - expect: home/#",
		"none":                    "\n      - {publish: home/hall/door, payload: {open: false}}\n      - expect none: \"#\"",
		"only what is new":        opened + "      - expect: home/#\n      - expect none: \"#\"",
		"several":                 opened + opened + "      - {expect: home/#, count: 2}",
		"time":                    "\n      - advance: 59m59s\n      - expect none: tick\n      - advance: 1s\n      - {expect: tick, payload: \"\"}",
		"days":                    "\n      - advance: 1d1h\n      - {expect: tick, count: 25}",
		"a verdict":               "\n      - {publish: raw/a, payload: {c: 101}, is: dropped}\n      - {publish: raw/a, payload: x, is: rejected, reason: 0x83}\n      - {publish: x, is: passed}",
		"what a filter made":      "\n      - {publish: raw/a, payload: {c: 1}, is: changed}\n      - {expect: clean/a, payload: {c: 1}}",
		"text as it is":           "\n      - {publish: raw/a, payload: '{\"c\": 1}'}\n      - {expect: clean/a, payload: {c: 1.0}}",
		"properties":              "\n      - {publish: raw/a, payload: {c: 1}, content_type: t, response_topic: r, correlation_data: d, user_properties: {a: b, c: d}}\n      - {expect: clean/a, content_type: t, response_topic: r, correlation_data: d, user_properties: {c: d}}",
		"a restart":               "\n      - advance: 30m\n      - {restart: true, down: 10m}\n      - advance: 1h\n      - expect: tick",
		"a restart without clock": "\n      - {restart: true, clock: \"1970-01-01T00:00:00Z\"}\n      - set clock: 2026-01-01T00:00:00Z\n      - advance: 1h\n      - expect: tick",
	} {
		t.Run(name, func(t *testing.T) {
			if f := play(t, steps); f != nil {
				t.Errorf("%v\n%s", f, f.Text)
			}
		})
	}
}

func TestStepsThatDoNotHold(t *testing.T) {
	for name, c := range map[string]struct{ steps, want string }{
		"another payload": {opened + "      - {expect: home/hall/light/set, payload: {on: false}}", "door.test.yaml:6: expect home/hall/light/set: the payload on home/hall/light/set is another one"},
		"a key too few":   {opened + "      - {expect: home/hall/light/set, payload: {on: true}}", "is another one"},
		"a long number":   {opened + "      - {expect: home/hall/light/set, contains: {n: 9007199254740992}}", "is another one"},
		"another qos":     {opened + "      - {expect: home/#, qos: 0}", "QoS 1, not 0"},
		"another retain":  {opened + "      - {expect: home/#, retain: false}", "retain true, not false"},
		"another rule":    {opened + "      - {expect: home/#, from: rule/x}", `from "rule/light", not "rule/x"`},
		"another type":    {opened + "      - {expect: home/#, content_type: text/plain}", `the content_type "", not "text/plain"`},
		"another user":    {opened + "      - {expect: home/#, user_properties: {a: b}}", `the user property a "", not "b"`},
		"too many":        {opened + opened + "      - expect: home/#", "2 messages on home/# came, not 1"},
		"nothing":         {opened + "      - expect: garden/#", "no message on garden/# came, not 1"},
		"something":       {opened + "      - expect none: home/#", "1 message on home/# came"},
		"not dropped":     {"\n      - {publish: x, is: dropped}", "the message is passed, not dropped"},
		"another reason":  {"\n      - {publish: raw/a, payload: x, is: rejected, reason: 0x87}", "0x83, not 0x87"},
	} {
		t.Run(name, func(t *testing.T) {
			f := play(t, c.steps)
			if f == nil || !strings.Contains(f.Error(), c.want) {
				t.Errorf("it is %v", f)
			}
			if f != nil && !strings.Contains(strings.Join(f.Timeline, "\n"), "door.yaml:3: light: ") {
				t.Errorf("the timeline is %q", f.Timeline)
			}
		})
	}
}

// A test that cannot be run has no step to tell of, and nothing has happened.
func TestATestThatCannotBegin(t *testing.T) {
	f, err := trial.Parse("x.test.yaml", []byte("tests:\n  - name: t\n    rules: [y.yaml]\n    steps:\n      - publish: x\n"))
	if err != nil {
		t.Fatal(err)
	}
	o := trial.Options{Folder: folder("door.yaml", doorFile), Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}}
	failure := f.Run(t.Context(), o, &f.Tests[0]).Failure
	if failure == nil || failure.Error() != `x.test.yaml:2: there is no rule file "y.yaml"` || failure.Timeline != nil {
		t.Errorf("it is %+v", failure)
	}
}

func TestWhatIsWrongWithATestFileHasAPlace(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "t.test.yaml:1:1: the file is empty",
		"tests: []":               "t.test.yaml:1:1: there is no test",
		"tests: 1":                "t.test.yaml:1:8: tests must be a list",
		"test: []":                `t.test.yaml:1:1: unknown key "test"`,
		"a: [":                    "t.test.yaml:1:4: ",
		"\xff":                    "t.test.yaml:1:1: the file is not UTF-8 text",
		strings.Repeat("[", 1000): "t.test.yaml:1:1: the file is nested deeper than 200 levels",
		strings.Repeat("- ", 900): "t.test.yaml:1:1: the file is nested deeper than 200 levels",
		"tests:\n- steps: []":     "t.test.yaml:2:3: the test has no name",
		"tests:\n- {name: a}":     "t.test.yaml:2:3: the test has no steps",
		"tests:\n- name: a\n  steps:\n  - advance: 1s\n- name: a\n  steps:\n  - advance: 1s": `t.test.yaml:5:1: two tests are named "a"`,
		"tests:\n- name: a\n  clock: noon\n  steps:\n  - advance: 1s":                        `t.test.yaml:3:10: "noon" is not a time`,
		"tests:\n- name: a\n  rules: [../../x]\n  steps:\n  - advance: 1s":                   "t.test.yaml:3:11: the rule file is not in the folder",
	} {
		check(t, text, want)
	}
	for step, want := range map[string]string{
		"wait: 1s":                               "5:7: the step has none of publish, expect, expect none, ",
		"{advance: 1s, expect: a}":               `5:8: a step does one thing, and "advance" is a second one`,
		"{expect: a, paylod: 1}":                 `5:19: unknown key "paylod" of the step "expect a"`,
		"{publish: a, payload: !x 1}":            "5:29: a value is what JSON can hold",
		"publish: a/+":                           `5:16: "a/+" is not a topic to publish to`,
		"expect: a/#/b":                          "5:15: topic filter \"a/#/b\" is not valid",
		"{publish: a, qos: 3}":                   "5:25: qos is a number from 0 to 2",
		"{publish: a, retain: yes}":              "5:28: retain is true or false",
		"{publish: a, is: lost}":                 "5:24: is says what filters make of the message",
		"{publish: a, reason: 1}":                "5:7: a reason goes with",
		"advance: -1s":                           `5:16: "-1s" is not a duration`,
		"advance: 20y":                           `5:16: "20y" is not a duration`,
		"set clock: 1800-01-01T00:00:00Z":        "5:18: the clock cannot show the year 1800",
		"restart: 10m":                           "5:16: write \"restart: true\"",
		"{expect: a, payload: 1, payloads: [1]}": "of payload, payloads and contains a step has one",
		"{expect: a, count: 0}":                  "count is a number above 0",
		"{expect: a, payloads: []}":              `no payload is given`,
	} {
		check(t, "tests:\n- name: a\n  steps:\n  - advance: 1s\n  -   "+step, want)
	}
}

func check(t *testing.T, text, want string) {
	t.Helper()
	_, err := trial.Parse("t.test.yaml", []byte(text))
	var at *rules.Error
	if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &at) {
		t.Errorf("%.100q: the error is\n%v\nnot\n%s", text, err, want)
	}
}

func TestATestIsAboutTheFilesBesideIt(t *testing.T) {
	const step = "\n    steps: [{publish: in}, {expect: out/#, payloads: [%s]}]\n"
	rule := func(name string) string {
		return "rules:\n  - name: r\n    on: in\n    do: [{publish: out/" + name + ", payload: " + name + "}]\n"
	}
	fsys := folder("a.yaml", rule("a"), "a.b.yaml", rule("ab"), "ab.yaml", rule("b"), "sub/a.yaml", rule("c"), "a.txt", "")
	o := trial.Options{Folder: fsys, Engine: rules.Options{Languages: []rules.Language{exprlang.New()}}}
	for _, c := range []struct{ file, rules, want, fails string }{
		{file: "a.test.yaml", want: "a"},
		{file: "a.b.test.yaml", want: "ab"},
		{file: "sub/a.test.yaml", want: "c"},
		{file: "sub/a.test.yaml", rules: "[../ab.yaml]", want: "b"},
		{file: "a.test.yaml", rules: "all", want: "ab, a, b, c"},
		{file: "c.test.yaml", fails: `no rule file "c.*" beside the test`},
		{file: "a.test.yaml", rules: "[x.yaml]", fails: `no rule file "x.yaml"`},
		{file: "a.test.yaml", rules: "[a.txt]", fails: "no language knows"},
	} {
		text := "tests:\n  - name: t\n"
		if c.rules != "" {
			text += "    rules: " + c.rules + "\n"
		}
		text += "    " + strings.TrimSpace(strings.Replace(step, "%s", c.want, 1))
		if c.want == "" {
			text = strings.Replace(text, "payloads: []", "count: 1", 1)
		}
		f, err := trial.Parse(c.file, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if failure := f.Run(t.Context(), o, &f.Tests[0]).Failure; failure != nil {
			got = failure.Text
		}
		if (got == "") != (c.fails == "") || !strings.Contains(got, c.fails) {
			t.Errorf("%s with %q: %s", c.file, c.rules, got)
		}
	}
}

func TestFindTests(t *testing.T) {
	fsys := folder("a.test.yaml", "", "b.yaml", "", "c/d.test.yaml", "", ".git/e.test.yaml", "", ".f.test.yaml", "")
	got, err := trial.Find(fsys)
	if diff := cmp.Diff([]string{"a.test.yaml", "c/d.test.yaml"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := trial.Find(folder("b.yaml", "")); err == nil {
		t.Error("no error without tests")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("tests:\n  - name: t\n    clock: 2026-11-25T18:00:00+01:00\n    rules: all\n    steps:\n" + opened)
	f.Add("tests:\n- name: a\n  steps:\n  - {expect: a, payload: [1, 1.5, x, null, {a: b}]}\n  - advance: 1d2h\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := trial.Parse("t.test.yaml", []byte(text))
		if (file == nil) == (err == nil) {
			t.Errorf("the file is %v, the error %v", file, err)
		}
	})
}
