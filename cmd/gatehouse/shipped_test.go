package main_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// The rules that are shipped do what their tests say, and every one of them has a test
// in which it fires.
func TestShippedRulesPassTheirTests(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), binary, "test", "--cover", "../../scripts").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// What the shipped scripts declare is known without the worker; with GENERATE=1 it is
// written anew.
func TestShippedScriptsAreKnown(t *testing.T) {
	const file = "shipped.txt"
	lang, err := jsvm.New(jsvm.Options{Command: []string{binary, "worker"}, Deadline: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lang.Close() }()
	folder := os.DirFS("../../scripts")
	names, err := fs.Glob(folder, "*.[jt]s")
	if err != nil {
		t.Fatal(err)
	}
	var scripts []rules.Source
	for _, name := range names {
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, ".d.ts") {
			scripts = append(scripts, rules.Source{Name: name, Text: text, Read: func(name string) ([]byte, error) { return fs.ReadFile(folder, name) }})
		}
	}
	declared, err := lang.Declared(t.Context(), scripts)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(declared, []byte("\n")); n != len(scripts) || n == 0 {
		t.Errorf("%d of %d scripts declare the same each time", n, len(scripts))
	}
	if os.Getenv("GENERATE") != "" {
		if err := os.WriteFile(file, declared, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if known, err := os.ReadFile(file); err != nil || !bytes.Equal(known, declared) {
		t.Errorf("%s is not what the scripts declare: run `make generate` (%v)", file, err)
	}
}

// A script that declares something else than it did in the process before, though nothing
// of it has changed, is put right.
func TestAScriptThatDeclaresSomethingElse(t *testing.T) {
	g := startGateway(t, map[string]string{"scripts/zone.js": `
const hour = new Date(0).getHours()
on('in/' + hour, (msg) => publish('out', hour))`})
	in := func(zone string) {
		t.Setenv("TZ", zone)
		g.again(t)
	}
	in("UTC")
	g.stop(t) // which keeps what it declares
	in("Etc/GMT-5")
	out := subscribe(t, g, "out")
	eventually(t, "the rule is that of the new zone", func() bool {
		g.publish(t, "in/5", "")
		return strings.Contains(out.output(), "out 5")
	})
	g.publish(t, "in/0", "")
	g.publish(t, "in/5", "")
	eventually(t, "the last is heard", func() bool { return strings.Count(out.output(), "out 5") > 1 })
	if strings.Contains(out.output(), "out 0") {
		t.Error("the rule of the old zone is in force, too")
	}
}
