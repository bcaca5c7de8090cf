package plugins_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/plugins"
)

const pin = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"

// good is a manifest with all keys but the last.
const good = `name: p
command: bin/p
args: [-v, "two words"]
env: [HTTP_PROXY]
sha256: ` + pin + `
drivers: [one, two.three]
`

func TestParseManifest(t *testing.T) {
	got, err := plugins.ParseManifest("p", "p/plugin.yaml", []byte(good))
	must(t, err)
	want := plugins.Manifest{
		Name: "p", Command: "bin/p", Args: []string{"-v", "two words"}, Env: []string{"HTTP_PROXY"},
		Drivers: []string{"one", "two.three"}, Enabled: true,
	}
	if _, err := hex.Decode(want.SHA256[:], []byte(pin)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifest differs:\n%s", diff)
	}
	off, err := plugins.ParseManifest("p", "f", []byte(good+"enabled: false\n"))
	must(t, err)
	if off.Enabled {
		t.Error("it is enabled")
	}
}

// brokenManifests are texts and what their errors begin with.
var brokenManifests = []struct {
	name, text, want string
}{
	{"empty", "", "f:1:1: "},
	{"a list", "- a\n", "f:1:1: "},
	{"not YAML", "name: [\n", "f:1:"},
	{"two documents", good + "---\n" + good, "f:8:1: a manifest is one YAML document"},
	{"a tag", strings.Replace(good, "name: p", "name: !x p", 1), "f:1:7: "},
	{"an unknown key", good + "colour: red\n", `f:7:1: unknown field "colour"`},
	{"a key twice", good + "name: p\n", `f:7:1: mapping key "name" already defined at [1:1]`},
	{"a list for a text", strings.Replace(good, "command: bin/p", "command: [a]", 1), "f:2:10: "},
	{"no name", strings.Replace(good, "name: p\n", "", 1), `f:1:1: "name" is missing`},
	{"a name of capitals", strings.Replace(good, "name: p", "name: P", 1), `f:1:7: name "P" has characters`},
	{"a name that is not the folder's", strings.Replace(good, "name: p", "name: q", 1), `f:1:7: name "q" is not that of its folder, "p"`},
	{"no command", strings.Replace(good, "command: bin/p\n", "", 1), `f:1:1: "command" is missing`},
	{"a command above", strings.Replace(good, "bin/p", "../p", 1), `f:2:10: command "../p" is not a path inside`},
	{"a command above by a way round", strings.Replace(good, "bin/p", "bin/../../p", 1), "f:2:10: "},
	{"a command from the root", strings.Replace(good, "bin/p", "/bin/sh", 1), `f:2:10: command "/bin/sh" is not a path inside`},
	{"a command that is the folder", strings.Replace(good, "bin/p", "bin/..", 1), "f:2:10: "},
	{"a zero byte in the command", strings.Replace(good, "bin/p", `"a\0b"`, 1), "f:2:10: command has a zero byte"},
	{"a zero byte in an argument", strings.Replace(good, "-v", `"a\0b"`, 1), "f:3:8: argument has a zero byte"},
	{"no pin", strings.Replace(good, "sha256: "+pin+"\n", "", 1), `f:1:1: "sha256" is missing: run "sha256sum bin/p"`},
	{"a short pin", strings.Replace(good, pin, pin[:63], 1), "f:5:9: sha256 is not 64"},
	{"a pin of other letters", strings.Replace(good, pin, "x"+pin[1:], 1), "f:5:9: sha256 is not 64"},
	{"a value in env", strings.Replace(good, "HTTP_PROXY", "A=b", 1), `f:4:7: "A=b" is not the name`},
	{"a reserved variable", strings.Replace(good, "HTTP_PROXY", "PLUGIN_CLIENT_CERT", 1), `f:4:7: variable "PLUGIN_CLIENT_CERT" is reserved`},
	{"no drivers", strings.Replace(good, "drivers: [one, two.three]\n", "", 1), `f:1:1: "drivers" and "functions" are missing`},
	{"bad function", strings.Replace(good, "drivers: [one, two.three]", "functions: [one, two three]", 1), `f:6:18: function "two three" has characters`},
	{"function twice", strings.Replace(good, "drivers: [one, two.three]", "functions: [one, one]", 1), `f:6:18: function "one" is listed twice`},
	{"a driver of spaces", strings.Replace(good, "one", `"a b"`, 1), `f:6:11: driver "a b" has characters`},
	{"a driver twice", strings.Replace(good, "two.three", "one", 1), `f:6:16: driver "one" is listed twice`},
	{"enabled as a text", good + "enabled: perhaps\n", "f:7:10: "},
}

func TestBrokenManifests(t *testing.T) {
	for _, tt := range brokenManifests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := plugins.ParseManifest("p", "f", []byte(tt.text))
			var at *plugins.ManifestError
			if !errors.As(err, &at) {
				t.Fatalf("error is %T: %v", err, err)
			}
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error is\n%v\nwant %q...", err, tt.want)
			}
			if at.Line > 1 && !strings.Contains(at.Snippet, "^") {
				t.Errorf("there is no caret in\n%v", err)
			}
		})
	}
}

func TestReadManifests(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	lines := strings.Split(strings.TrimSpace(good), "\n")
	manifest(t, dir, "p", lines...)
	manifest(t, dir, "q", "name: q", "command: q", lines[4], "drivers: [other, one]")
	manifest(t, dir, "r", "name: r", "command: r", lines[4], "drivers: [r]")
	manifest(t, dir, ".git", "nonsense")
	manifest(t, outside, "s", "name: s", "command: s", lines[4], "drivers: [s]")
	must(t, os.Symlink(filepath.Join(outside, "s"), filepath.Join(dir, "s")))
	must(t, os.Mkdir(filepath.Join(dir, "t"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "u", "plugin.yaml"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "README"), nil, 0o644))
	manifest(t, dir, "v", strings.Repeat("# long\n", 20000))

	all, err := plugins.ReadManifests(dir)
	var names []string
	for _, m := range all {
		names = append(names, m.Name)
	}
	if diff := cmp.Diff([]string{"p", "r"}, names); diff != "" {
		t.Errorf("manifests differ:\n%s", diff)
	}
	if all[0].Folder != filepath.Join(dir, "p") || all[0].File != filepath.Join(dir, "p", "plugin.yaml") {
		t.Errorf("folder %q, file %q", all[0].Folder, all[0].File)
	}
	for _, want := range []string{
		"q/plugin.yaml:4:18: driver \"one\" is offered by plugin \"p\" already",
		"s/plugin.yaml: cannot read the manifest: ",
		"path escapes from parent",
		"t/plugin.yaml: cannot read the manifest: ",
		"u/plugin.yaml: cannot read the manifest: ",
		"v/plugin.yaml: cannot read the manifest: longer than 65536 bytes",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is\n%v\nwant %q in it", err, want)
		}
	}
	if none, err := plugins.ReadManifests(filepath.Join(dir, "none")); len(none) != 0 || err != nil {
		t.Errorf("a missing folder gave %v, %v", none, err)
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	all, err := plugins.ReadManifests(dir)
	must(t, err)
	must(t, all[0].Verify())
	must(t, os.WriteFile(filepath.Join(dir, "probe", "probe"), []byte("#!/bin/sh\n"), 0o755))
	if err := all[0].Verify(); !errors.Is(err, plugins.ErrRefused) {
		t.Errorf("Verify = %v", err)
	}
}

// FuzzManifest: whatever the text, the error is a *ManifestError, and what is
// accepted keeps the promises of Manifest.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(good + "enabled: false\n"))
	for _, tt := range brokenManifests {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := plugins.ParseManifest("p", "f", text)
		if err != nil {
			var at *plugins.ManifestError
			if !errors.As(err, &at) {
				t.Errorf("error is %T: %v", err, err)
			}
			return
		}
		if m.Name != "p" || !filepath.IsLocal(m.Command) || m.Command == "." || len(m.Drivers) == 0 {
			t.Errorf("manifest is %+v", m)
		}
		for _, v := range append(m.Args, m.Command) {
			if strings.ContainsRune(v, 0) {
				t.Errorf("%q has a zero byte", v)
			}
		}
		for _, v := range m.Env {
			if strings.ContainsAny(v, "= \x00") {
				t.Errorf("%q is not a variable's name", v)
			}
		}
	})
}
