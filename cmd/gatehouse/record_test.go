package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What comes in is recorded as it comes, and rules that are replayed over it do what they
// did.
func TestRecordAndReplay(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/door.yaml": `rules:
  - name: light
    on: home/+/door
    if: payload.open
    do: [{publish: "home/${parts[1]}/light", payload: "on", qos: 1}]
filters:
  - name: mad
    on: raw/#
    drop: payload.c > 100
`,
		"new/door.yaml": "rules: []\n",
	})
	g.again(t)
	data, file := filepath.Join(g.dir, "data"), filepath.Join(g.dir, "day.jsonl")
	config := filepath.Join(g.dir, "gatehouse.yaml")
	pub := func(args ...string) {
		t.Helper()
		if out, code := run(t, "", binary, append([]string{"pub", "--data", data}, args...)...); code != 0 {
			t.Fatal(out)
		}
	}
	pub("--retain", "home/target", "21")
	record := start(t, binary, "record", "--data", data, "--out", file, "--filter", "home/#", "--filter", "raw/#")
	record.says(t, "recording to ")
	out := subscribe(t, g, "home/+/light")
	pub("elsewhere", "1")
	pub("-q", "1", "home/hall/door", `{"open": true}`)
	out.says(t, "home/hall/light on")
	pub("raw/temp", `{"c": 999}`)
	pub("-q", "1", "home/attic/door", `{"open": true}`)
	out.says(t, "home/attic/light on")
	eventually(t, "all is recorded", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), "home/attic/light")
	})
	if err := record.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := record.ended(t); code != 0 {
		t.Errorf("record ended with %d: %s", code, record.output())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	shows(t, string(text), `^\{"at":"[^"]+","recording":1,"filters":\["home/#","raw/#"\]\}\n`,
		`"was":true,"topic":"home/target","payload":"21","retain":true`, `"topic":"raw/temp","payload":"\{\\"c\\": 999\}"`,
		`"topic":"home/hall/light","payload":"on","qos":1,"origin":"rule/light","hops":1\}`, `"end":true\}\n$`)
	if strings.Contains(string(text), "elsewhere") {
		t.Error("what nobody asked for is recorded")
	}
	same, code := run(t, "", binary, "replay", file, "--config", config, "--rules", filepath.Join(g.dir, "scripts"))
	shows(t, same, `^5 messages in \S+: 3 actions of the old rules, 3 of the new ones, 0 differences\n$`)
	other, codeOther := run(t, "", binary, "replay", file, "--config", config, "--rules", filepath.Join(g.dir, "new"))
	shows(t, other, `(?m)^- \S+ home/hall/light on qos 1 \(rule/light\)$`, `(?m)^- \S+ dropped by mad: raw/temp \{"c": 999\} \(client/.+\)$`)
	if code != 0 || codeOther != 1 {
		t.Errorf("the exit codes are %d and %d", code, codeOther)
	}
	said{"replay /dev/null --config " + config + " --rules " + filepath.Join(g.dir, "new"), false, "/dev/null is read twice: it must be a file"}.check(t)

	// It has its size, and no file is written over.
	small := filepath.Join(g.dir, "small.jsonl")
	record = start(t, binary, "record", "--data", data, "--out", small, "--size", "400")
	record.says(t, "recording to ")
	for range 5 {
		pub("-q", "1", "home/hall/x", strings.Repeat("x", 50))
	}
	if code := record.ended(t); code != 0 {
		t.Errorf("record ended with %d: %s", code, record.output())
	}
	if out, code := run(t, "", binary, "record", "--data", data, "--out", small); code != 1 || !strings.Contains(out, "exists") {
		t.Errorf("it ended with %d: %s", code, out)
	}

	// A gateway that stops does not wait for who records.
	record = start(t, binary, "record", "--data", data, "--out", filepath.Join(g.dir, "last.jsonl"))
	record.says(t, "recording to ")
	g.stop(t)
	if code := record.ended(t); code != 1 {
		t.Errorf("record ended with %d: %s", code, record.output())
	}
	record.says(t, "the gateway ended the recording")
}
