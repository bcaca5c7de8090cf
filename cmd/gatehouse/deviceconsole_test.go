package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What goes over the wire is shown, both ways, and what is typed is sent.
func TestDeviceConsole(t *testing.T) {
	theirEnd, ourEnd := ptys(t)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	writeFile(t, filepath.Join(dir, "gatehouse.yaml"), testConfig)
	writeFile(t, filepath.Join(dir, "devices", "scale.yaml"), "driver: serial\nport: "+ourEnd+"\nformat: keyvalue\npoints: {w: {field: W}}\n")
	writeFile(t, filepath.Join(dir, "devices", "lamp.yaml"), "driver: sim\npoints: {on: {initial: false}}\n")
	g := start(t, binary, "run", "--config", filepath.Join(dir, "gatehouse.yaml"), "--data", data)
	g.says(t, `"gateway is up"`)
	theirs, err := os.OpenFile(theirEnd, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = theirs.Close() }() // a pty
	eventually(t, "the scale is online", func() bool {
		if _, err := theirs.WriteString("W=12.5\r\n"); err != nil {
			t.Fatal(err)
		}
		out, _ := run(t, "", binary, "device", "list", "--data", data)
		return regexp.MustCompile(`scale +online`).MatchString(out)
	})
	console := func(stdin string, args ...string) (string, int) {
		return run(t, stdin, binary, append([]string{"device", "console", "--data", data}, args...)...)
	}
	heard := make(chan string)
	go func() {
		defer close(heard)
		b := make([]byte, 100)
		all := ""
		for !strings.HasSuffix(all, "\x03") {
			n, err := theirs.Read(b)
			if err != nil {
				return
			}
			all += string(b[:n])
			if strings.HasSuffix(all, "W?\r\n") {
				_, _ = theirs.WriteString("W=7\r\n") // the console does not see it if this fails
			}
		}
		heard <- all
	}()
	out, code := console("W?\n", "--eol", "crlf", "scale")
	if want := `\d\d:\d\d:\d\d\.\d{3} >  57 3f 0d 0a +W\?\.\.\n.*<  57 3d 37.*W=7`; code != 0 || !regexp.MustCompile(`(?s)`+want).MatchString(out) {
		t.Errorf("exit code %d, want /%s/, got:\n%s", code, want, out)
	}
	if out, code = console("02 57 3f 03\n02 5\n", "--hex", "--linger", "100ms", "scale"); code != 0 ||
		!strings.Contains(out, `not sent: "02 5" is not bytes in hexadecimal`) {
		t.Errorf("exit code %d, got:\n%s", code, out)
	}
	if all := <-heard; all != "W?\r\n\x02W?\x03" {
		t.Errorf("the device heard %q", all)
	}
	for args, want := range map[string]string{
		"lamp": `has no wire`, "nope": `nope`, "--eol no scale": `--eol no: it is none, cr, lf or crlf`,
	} {
		if out, code := console("", strings.Fields(args)...); code == 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, want %q, got:\n%s", args, code, want, out)
		}
	}
	if out, code := run(t, "", binary, "device", "ports"); code != 0 || out == "" {
		t.Errorf("device ports: exit code %d:\n%s", code, out)
	}
}

// The codec of a device is used as soon as it is saved; one that is wrong is not, and
// what is wrong is told with its place.
func TestDeviceCodecIsReloaded(t *testing.T) {
	theirEnd, ourEnd := ptys(t)
	g := startGateway(t, map[string]string{
		"devices/scale.yaml": "driver: serial\nport: " + ourEnd + "\ncodec: scale.js\npoints: {w: {}}\n",
		"devices/scale.js":   "const decode = bytes => ({ w: bytes.length })\n",
	})
	theirs, err := os.OpenFile(theirEnd, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = theirs.Close() }() // a pty
	shows := func(want string) {
		t.Helper()
		eventually(t, "the scale shows "+want, func() bool {
			if _, err := theirs.WriteString("12.5\r\n"); err != nil {
				t.Fatal(err)
			}
			out, _ := run(t, "", binary, "device", "show", "scale", "--console", g.console)
			return regexp.MustCompile(want).MatchString(out)
		})
	}
	shows(`w +4 +good`)
	g.write(t, "devices/scale.js", "const decode = bytes => ({ w: 2 * bytes.length })\n")
	shows(`w +8 +good`)
	g.write(t, "devices/scale.js", "\nconst decode = bytes => ({ w: 3 * })\n")
	shows(`(?s)it runs by the version before: scale.yaml:3:8: cannot compile the codec: scale.js:2:35: .*w +8 +good`)
	g.write(t, "devices/scale.js", "const decode = bytes => ({ w: 4 * bytes.length })\n")
	shows(`w +16 +good`)
	g.stop(t)
}
