package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../../.."

func TestEveryStatementIsKeptAndShown(t *testing.T) {
	text, missing, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range missing {
		t.Error(m)
	}
	got, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, text) {
		t.Errorf("%s is out of date; make generate writes it anew", document)
	}
}

// The numbers of statements in appendix B of each standard, so that none is left out
// by mistake.
func TestNoStatementIsLeftOut(t *testing.T) {
	all, err := statements()
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for i := range all {
		count[all[i].version]++
	}
	if count["5.0"] != 251 || count["3.1.1"] != 141 {
		t.Errorf("got %v", count)
	}
	last := make(map[string]string) // the numbers of a section follow one another
	for i := range all {
		at := strings.LastIndexByte(all[i].tag, '-')
		last[all[i].tag[:at]] = all[i].tag[at+1:]
	}
	if last["MQTT-3.1.2"] != "30" || last["MQTT-4.3.3"] != "13" || last["MQTT3-3.1.2"] != "24" {
		t.Errorf("got %v", last)
	}
}

func TestCheck(t *testing.T) {
	all := []statement{
		{tag: "MQTT-1.0.0-1", text: "kept and shown"},
		{tag: "MQTT-1.0.0-2", text: "kept only"},
		{tag: "MQTT-1.0.0-3", text: "shown only"},
		{tag: "MQTT-1.0.0-4", whom: "open", text: "open"},
		{tag: "MQTT-1.0.0-5", whom: "open", text: "done"},
	}
	found := &tags{
		code:  map[string][]string{"MQTT-1.0.0-1": {"a"}, "MQTT-1.0.0-2": {"a"}, "MQTT-1.0.0-5": {"a"}, "MQTT-9.9.9-9": {"a"}},
		tests: map[string][]string{"MQTT-1.0.0-1": {"b"}, "MQTT-1.0.0-3": {"b"}, "MQTT-1.0.0-5": {"b"}},
	}
	got := strings.Join(check(all, found), "\n")
	for _, want := range []string{"1.0.0-2] is shown by no test", "1.0.0-3] is kept nowhere", "1.0.0-5] is kept and shown", "9.9.9-9] is no statement"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if strings.Count(got, "\n") != 3 {
		t.Errorf("got %q", got)
	}
}

func TestScanNamesFunctions(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"code.go":          "package b\n\n// f does ([MQTT-1.0.0-1]).\nfunc f() {\n\tg() // [MQTT3-1.0.0-2]\n}\n\nfunc (c *conn) g() {} // [MQTT-1.0.0-3]\n\nconst (\n\tx = 1\n\ty = 2 // [MQTT-1.0.0-4]\n)\n",
		"code_test.go":     "package b\n\n// TestF shows [MQTT-1.0.0-1].\nfunc TestF() {}\n",
		"testdata/s.txtar": "It shows [MQTT3-1.0.0-2].\n-- script --\n# not [MQTT-1.0.0-3]\n",
	} {
		path := filepath.Join(dir, "broker", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]string{
		"MQTT-1.0.0-1": "code.go f|code_test.go TestF", "MQTT3-1.0.0-2": "code.go f|s",
		"MQTT-1.0.0-3": "code.go conn.g|", "MQTT-1.0.0-4": "code.go y|",
	} {
		if got := strings.Join(found.code[tag], ",") + "|" + strings.Join(found.tests[tag], ","); got != want {
			t.Errorf("%s: got %q, want %q", tag, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, file := range []string{"3.1.2 | no number", "3.1.2-1 nobody | text", "3.1.2-1 moot | text", "3.1.2-1 |", "3.1.2-1 | a\n3.1.2-1 | b"} {
		if all, err := parse("5.0", "MQTT-", file); err == nil {
			t.Errorf("%q: got %v", file, all)
		}
	}
}
