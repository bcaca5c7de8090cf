package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

// guides are the documents whose examples are tried.
var guides = []string{"README.md", "docs/rules.md", "docs/devices.md", "docs/plugins.md", "docs/operate.md"}

// example is one of a guide.
type example struct {
	guide    string
	line     int // of its first line
	language string
	text     string // without the indentation of the fence
}

// examples are what stands between the fences of a guide.
func examples(t *testing.T, guide string) (all []example) {
	t.Helper()
	text, err := os.ReadFile("../../" + guide)
	if err != nil {
		t.Fatal(err)
	}
	var (
		open   *example
		indent string
	)
	for i, line := range strings.Split(string(text), "\n") {
		at := strings.Index(line, "```")
		fence := at >= 0 && strings.TrimSpace(line[:at]) == ""
		switch {
		case fence && open == nil:
			indent = line[:at]
			open = &example{guide: guide, line: i + 2, language: line[at+3:]}
		case fence:
			all, open = append(all, *open), nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	if open != nil || len(all) == 0 {
		t.Fatalf("%s: want examples between fences, got %d, and one that is not closed: %v", guide, len(all), open)
	}
	return all
}

// placed is the example behind what goes before it, its lines counted as in the guide.
func (e *example) placed(before string) string {
	return before + strings.Repeat("\n", e.line-1-strings.Count(before, "\n")) + e.text
}

// What an example is for.
type purpose int

const (
	forPeople purpose = iota
	forRules
	forTests
	forDevices
	forConfiguration
	forACL
)

// purpose tells by what the example says, and what stands before it if it is part of a file.
func (e *example) purpose(t *testing.T) (what purpose, before string) {
	t.Helper()
	switch e.language {
	case "js", "ts":
		return forRules, ""
	case "yaml":
	default:
		return forPeople, ""
	}
	switch first, _, _ := strings.Cut(e.text, "\n"); {
	case strings.HasPrefix(first, "  - name: "):
		return forRules, "rules:\n"
	case strings.HasPrefix(first, `    - {address: `):
		return forConfiguration, "broker:\n  listeners:\n"
	case strings.HasPrefix(first, "points:"): // of the example before
		return forDevices, "driver: host\n"
	case strings.HasPrefix(first, "# in a device file"):
		return forDevices, "driver: sim\npoints: {a: {initial: 1}}\n"
	}
	var keys map[string]any
	if err := yaml.Unmarshal([]byte(e.text), &keys); err != nil {
		t.Fatalf("%s:%d: %v", e.guide, e.line, err)
	}
	_, list := keys["rules"].([]any)
	switch {
	case keys["groups"] != nil:
		return forACL, ""
	case list || keys["filters"] != nil || keys["inputs"] != nil:
		return forRules, ""
	case keys["tests"] != nil:
		return forTests, ""
	case keys["driver"] != nil:
		return forDevices, ""
	}
	return forConfiguration, ""
}

// examplesFor are those of the guides that are for something.
func examplesFor(t *testing.T, what purpose, do func(t *testing.T, e *example, before string)) {
	t.Helper()
	n := 0
	for _, guide := range guides {
		for _, e := range examples(t, guide) {
			if is, before := e.purpose(t); is == what {
				n++
				do(t, &e, before)
			}
		}
	}
	if n < 2 && what != forACL && what != forTests || n == 0 {
		t.Errorf("the guides have %d such examples", n)
	}
}

// accepted has the program check the folder, and tells what is wrong with an example by
// its place in the guide.
func accepted(t *testing.T, dir, file string, e *example) {
	t.Helper()
	out, code := run(t, "", binary, "check", "--config", filepath.Join(dir, "gatehouse.yaml"))
	if code != 0 {
		t.Errorf("an example of %s, line %d on, is refused:\n%s", e.guide, e.line, strings.ReplaceAll(out, file+":", e.guide+":"))
	}
}

// recordedMeter is the recording that an example names, beside the example.
const recordedMeter = `{"recording":"gatehouse wire 1","program":"gatehouse","device":"meter","protocol":"modbus-rtu","place":"serial /dev/ttyUSB0 9600 8E1","unit":1,"at":"2026-01-02T03:04:05Z"}
{"at":"2026-01-02T03:04:06Z","sent":true,"hex":"010300000001840a"}
{"at":"2026-01-02T03:04:06.02Z","sent":false,"hex":"0103020007f986"}
`

// Who copies an example to the devices has a device.
func TestDevicesOfTheGuidesAreAccepted(t *testing.T) {
	examplesFor(t, forDevices, func(t *testing.T, e *example, before string) {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "gatehouse.yaml"), testConfig)
		writeFile(t, filepath.Join(dir, "devices/meter.jsonl"), recordedMeter)
		writeFile(t, filepath.Join(dir, "devices/example.yaml"), e.placed(before))
		accepted(t, dir, "example.yaml", e)
	})
}

// Who copies an example to the configuration can start the gateway.
func TestConfigurationsOfTheGuidesAreAccepted(t *testing.T) {
	examplesFor(t, forConfiguration, func(t *testing.T, e *example, before string) {
		if _, err := config.Parse(e.guide, []byte(e.placed(before)), nil); err != nil {
			t.Errorf("an example of %s, line %d on, is refused:\n%v", e.guide, e.line, err)
		}
	})
	examplesFor(t, forACL, func(t *testing.T, e *example, before string) {
		if _, err := config.ParseACL(e.guide, []byte(e.placed(before))); err != nil {
			t.Errorf("an example of %s, line %d on, is refused:\n%v", e.guide, e.line, err)
		}
	})
}

// What the README calls the defaults is what counts without a file.
func TestTheConfigurationOfTheReadmeIsTheDefault(t *testing.T) {
	for _, e := range examples(t, "README.md") {
		if !strings.Contains(e.text, "these are the defaults") {
			continue
		}
		got, err := config.Parse("README.md", []byte(e.text), nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := config.Parse("README.md", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(want) {
			t.Errorf("README.md, line %d on (- what counts, + what stands there):\n%s", e.line, cmp.Diff(yamlOf(t, want), yamlOf(t, got)))
		}
		return
	}
	t.Error("the README has no defaults")
}

func yamlOf(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// played are the examples of rules, by what only they contain: the file in which they are
// put, beside which testdata/guide has a test of what the guide says of them.
var played = []struct{ contains, file string }{
	{"name: bell", "my-first.yaml"},
	{"name: shutters", "first-page.yaml"},
	{"name: too hot", "too-hot.yaml"},
	{"name: mean of a room", "mean.yaml"},
	{"name: light of $(room)", "blueprints/motion.yaml"},
	{"use: blueprints/motion.yaml", "house.yaml"},
	{"name: light on the stairs", "stairs.yaml"},
	{"name: not at night", "refuse.yaml"},
	{"name: what is the mode", "answer.yaml"},
	{"msg.payload.open) publish(", "door.js"},
	{"timer('off'", "off.ts"},
	{"name: light follows the door\n    on: home/+/door\n    if: payload.open && not prev.open        #", "light.yaml"}, // of the README
	{"name: damp walls", "damp.yaml"},
	{"plugin('dew_point'", "dew.js"},
}

// fileOf is where an example of rules is put.
func fileOf(e *example) string {
	for _, p := range played {
		if strings.Contains(e.text, p.contains) {
			return p.file
		}
	}
	return ""
}

// Who copies an example to the rules has what the guide says of it, by a test of testdata/guide.
func TestRulesOfTheGuidesDoWhatTheySay(t *testing.T) {
	folders := make(map[string]string) // of a guide
	files := make(map[string]*example)
	examplesFor(t, forRules, func(t *testing.T, e *example, before string) {
		file := fileOf(e)
		if file == "" {
			t.Errorf("%s:%d: no test knows the example that begins %.40q", e.guide, e.line, e.text)
			return
		}
		dir := folders[e.guide]
		if dir == "" {
			dir = t.TempDir()
			folders[e.guide] = dir
			writeFile(t, filepath.Join(dir, "gatehouse.yaml"), "rules: {folder: scripts, place: {latitude: 52.52, longitude: 13.40}, timezone: Europe/Berlin}\n")
			copyFile(t, "testdata/guide/reading.json", filepath.Join(dir, "scripts/schemas/reading.json"))
		}
		name := filepath.Join(dir, "scripts", file)
		if files[name] != nil {
			t.Errorf("%s:%d: another example is %s, too", e.guide, e.line, file)
		}
		files[name] = e
		writeFile(t, name, e.placed(before))
		if test := strings.TrimSuffix(file, filepath.Ext(file)) + ".test.yaml"; !strings.HasPrefix(file, "blueprints/") {
			copyFile(t, "testdata/guide/"+test, filepath.Join(dir, "scripts", test))
		}
	})
	for guide, dir := range folders {
		config := filepath.Join(dir, "gatehouse.yaml")
		for _, args := range [][]string{{"check", "--config", config}, {"test", "--config", config, "--cover", filepath.Join(dir, "scripts")}} {
			out, code := run(t, "", binary, args...)
			for name, e := range files {
				file, _ := filepath.Rel(filepath.Join(dir, "scripts"), name)
				out = strings.ReplaceAll(strings.ReplaceAll(out, name+":", e.guide+":"), file+":", e.guide+":")
			}
			if code != 0 || args[0] == "test" && !regexp.MustCompile(`coverage: 100.0% of rules fired`).MatchString(out) {
				t.Errorf("the examples of %s: %s ended with %d:\n%s", guide, args[0], code, out)
			}
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, string(text))
}

// The tests of the guides pass beside the rules that are shipped.
func TestTestsOfTheGuidesPass(t *testing.T) {
	examplesFor(t, forTests, func(t *testing.T, e *example, before string) {
		dir := t.TempDir()
		shipped, err := filepath.Glob("../../scripts/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range shipped {
			copyFile(t, name, filepath.Join(dir, filepath.Base(name)))
		}
		name := filepath.Join(dir, "guide.test.yaml")
		writeFile(t, name, e.placed(before))
		if out, code := run(t, "", binary, "test", name); code != 0 {
			t.Errorf("%s, line %d on:\n%s", e.guide, e.line, strings.ReplaceAll(out, name, e.guide))
		}
	})
}

// What the guide shows of a test that fails is what the program says, but for how long it took.
func TestTheFailureOfTheGuideIsThatOfTheProgram(t *testing.T) {
	took := regexp.MustCompile(`\d+\.\d{3}s`)
	for _, e := range examples(t, "docs/rules.md") {
		want, found := strings.CutPrefix(e.text, "$ gatehouse test scripts/\n")
		if !found {
			continue
		}
		dir := t.TempDir()
		for _, name := range []string{"door-light.yaml", "door-light.test.yaml", "light-off.js", "over-temperature.yaml"} {
			copyFile(t, "../../scripts/"+name, filepath.Join(dir, "scripts", name))
		}
		writeFile(t, filepath.Join(dir, "scripts/over-temperature.test.yaml"), `tests:
  - name: the fan goes on
    steps:
      - {publish: plant/press/temperature, payload: 60}
      - {expect: plant/press/fan/set, payload: true}
`)
		got, code := run(t, "cd "+dir+" && exec "+binary+" test scripts/\n", "sh")
		if diff := cmp.Diff(took.ReplaceAllString(want, "0s"), took.ReplaceAllString(got, "0s")); diff != "" || code != 1 {
			t.Errorf("%s, line %d on (- what it says, + the program), exit code %d:\n%s", e.guide, e.line, code, diff)
		}
		return
	}
	t.Error("the guide shows no test that fails")
}

// The program has each command and flag that the guides name.
func TestCommandsOfTheGuidesExist(t *testing.T) {
	spoken := regexp.MustCompile("`gatehouse ([a-z][^`]*)`")
	n := 0
	for _, guide := range guides {
		text, err := os.ReadFile("../../" + guide)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			var all []string
			for _, m := range spoken.FindAllStringSubmatch(line, -1) {
				all = append(all, m[1])
			}
			typed := strings.TrimPrefix(strings.TrimSpace(line), "$ ")
			for _, program := range []string{"gatehouse ", "bin/gatehouse ", "./gatehouse "} {
				if args, found := strings.CutPrefix(typed, program); found && regexp.MustCompile(`^[a-z]+( |$)`).MatchString(args) {
					all = append(all, args)
				}
			}
			for _, command := range all {
				n++
				knows(t, guide, i+1, command)
			}
		}
	}
	if n < 40 {
		t.Errorf("the guides name %d commands", n)
	}
}

// helps are what commands say of themselves.
var helps = make(map[string]string)

func help(t *testing.T, words []string) string {
	t.Helper()
	key := strings.Join(words, " ")
	if helps[key] == "" {
		helps[key], _ = run(t, "", binary, append(slices.Clone(words), "--help")...)
	}
	return helps[key]
}

// knows looks for a command as it is written in a guide.
func knows(t *testing.T, guide string, line int, command string) {
	t.Helper()
	command, _, _ = strings.Cut(command, " #")
	var words []string
	args := strings.Fields(command)
	for len(args) > 0 && regexp.MustCompile(`(?m)^  `+regexp.QuoteMeta(args[0])+` +[A-Z]`).MatchString(help(t, words)) {
		words, args = append(words, args[0]), args[1:]
	}
	if len(words) == 0 {
		t.Errorf("%s:%d: the program has no command %q", guide, line, command)
		return
	}
	if len(args) > 0 && regexp.MustCompile(`(?m)^Available Commands:`).MatchString(help(t, words)) {
		t.Errorf("%s:%d: %q has no command %q", guide, line, "gatehouse "+strings.Join(words, " "), args[0])
	}
	flag := regexp.MustCompile(`^(--[a-z-]+|-[a-z])(=|$)`)
	for _, arg := range args {
		m := flag.FindStringSubmatch(arg)
		if m != nil && !regexp.MustCompile(`(?m)^ +(-[a-z], )?`+m[1]+`[, ]`).MatchString(help(t, words)) {
			t.Errorf("%s:%d: %q has no flag %s", guide, line, "gatehouse "+strings.Join(words, " "), m[1])
		}
	}
}

// Who types what the guide to plugins says has the plugin, and it answers as is said there.
func TestThePluginOfTheGuide(t *testing.T) {
	var script, session, program string
	for _, e := range examples(t, "docs/plugins.md") {
		switch e.language {
		case "sh":
			script = e.text
		case "":
			session = e.text
		case "go":
			program = e.text
		}
	}
	source, err := os.ReadFile("../../plugins/examples/thermostat/main.go")
	if err != nil || program == "" || !strings.Contains(string(source), program) {
		t.Errorf("the example's main.go is not what the guide says, %v:\n%s", err, program)
	}
	home := t.TempDir()
	for _, here := range [][2]string{{"make build && ", ""}, {"cp bin/gatehouse ", "cp " + binary + " "}, {" && ./gatehouse run", ""}} {
		if !strings.Contains(script, here[0]) {
			t.Fatalf("the guide does not say %q", here[0])
		}
		script = strings.Replace(script, here[0], here[1], 1)
	}
	script = "export GOCACHE=$(go env GOCACHE) GOPATH=$(go env GOPATH) HOME=" + home + "; cd ../..\n" + script
	if out, code := run(t, script, "bash", "-eu"); code != 0 || !strings.HasSuffix(out, "ok\n") {
		t.Fatalf("what the guide says ended with %d: %s", code, out)
	}
	g := &gatewayProcess{dir: filepath.Join(home, "house")}
	g.write(t, "gatehouse.yaml", "plugins: {folder: plugins}\n"+testConfig)
	g.program = start(t, binary, "run", "--config", filepath.Join(g.dir, "gatehouse.yaml"), "--data", filepath.Join(g.dir, "data"))
	g.says(t, `"gateway is up"`)
	g.mqtt = attribute(t, g.says(t, `"protocol":"mqtt"`), "address")
	g.console = attribute(t, g.says(t, `"msg":"console"`), "url")
	g.online(t, "living")
	typed, told, _ := strings.Cut(session, "pub ")
	args, told, _ := strings.Cut(told, "\n")
	sub := subscribe(t, g, strings.Trim(strings.Fields(typed)[3], "'"))
	topic, payload, _ := strings.Cut(args, " ")
	g.publish(t, topic, payload)
	for line := range strings.Lines(told) {
		sub.says(t, strings.TrimSuffix(line, "\n"))
	}
	g.stop(t)
}
