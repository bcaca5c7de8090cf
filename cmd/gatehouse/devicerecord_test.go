package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// interrupt ends a program as Ctrl-C does, which is no failure.
func interrupt(t *testing.T, p *program) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := p.ended(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// What goes over the wires of devices is recorded, and replayed as the devices that they
// were: one on a line, of which another unit does not answer, and one that speaks by itself.
func TestDeviceRecordAndReplay(t *testing.T) {
	theirEnd, ourEnd := ptys(t)
	dir := t.TempDir()
	data, line := filepath.Join(dir, "data"), filepath.Join(dir, "line")
	writeFile(t, filepath.Join(dir, "gatehouse.yaml"), testConfig)
	deadFile := "driver: modbus\nserial: {port: " + line + ", baud: 115200}\nunit: 8\ntimeout: 100ms\npoints: {a: {holding: 1}}\n"
	for name, text := range map[string]string{
		"sim":   "driver: modbus-simulator\nserial: {port: \"pty:" + line + "\", baud: 115200}\nunit: 7\npoints:\n  v: {input: 0, type: float32, initial: 230.5}\n  relay: {coil: 3, writable: true}\n",
		"meter": "driver: modbus\nserial: {port: " + line + ", baud: 115200}\nunit: 7\nevery: 200ms\npoints:\n  v: {input: 0, type: float32}\n  relay: {coil: 3, writable: true}\n",
		"dead":  deadFile,
		"scale": "driver: serial\nport: " + ourEnd + "\nformat: keyvalue\npoints: {w: {field: W}}\n",
		"lamp":  "driver: sim\npoints: {on: {initial: false}}\n",
	} {
		writeFile(t, filepath.Join(dir, "devices", name+".yaml"), text)
	}
	g := start(t, binary, "run", "--config", filepath.Join(dir, "gatehouse.yaml"), "--data", data)
	g.says(t, `"gateway is up"`)
	online := func(name string) {
		t.Helper()
		eventually(t, name+" is online", func() bool {
			out, _ := run(t, "", binary, "device", "list", "--data", data)
			return regexp.MustCompile(name + ` +online`).MatchString(out)
		})
	}
	online("meter")
	recorded := func(name, wanted string, meanwhile func()) string {
		t.Helper()
		file := filepath.Join(dir, name+".jsonl")
		record := start(t, binary, "device", "record", "--data", data, name, "-o", file)
		record.says(t, "recording to ")
		meanwhile()
		eventually(t, "the recording has "+wanted, func() bool {
			text, err := os.ReadFile(file)
			return err == nil && regexp.MustCompile(wanted).Match(text)
		})
		interrupt(t, record)
		return file
	}
	// The first register of the float, in an answer of unit 7; and a request to unit 8.
	meter := recorded("meter", `"sent":false,"hex":"070404436680`, func() {
		said{"device write --data " + data + " meter relay true", true, `relay is true now`}.check(t)
	})
	dead := recorded("dead", `"sent":true,"hex":"0803`, func() { // which is asked rarely by now, unless it is new
		writeFile(t, filepath.Join(dir, "devices", "dead.yaml"), deadFile+"every: 2s\n")
	})
	theirs, err := os.OpenFile(theirEnd, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = theirs.Close() }() // a pty
	scale := recorded("scale", `573d31322e35`, func() {
		if _, err := theirs.WriteString("W=12.5\r\n"); err != nil {
			t.Fatal(err)
		}
	})
	if text, err := os.ReadFile(dead); err != nil || !strings.HasPrefix(string(text), `{"recording":"gatehouse wire 1","program":"gatehouse `) ||
		!strings.Contains(string(text), `"device":"dead","protocol":"modbus-rtu","place":"serial `+line+` 115200 8E1","unit":8,"timeout":"100ms"`) {
		t.Errorf("want a head that says what was recorded, got %s, %v", text, err)
	}

	replay := start(t, binary, "device", "replay", meter)
	replay.says(t, `it is found at `+filepath.Join(dir, "meter.pty"))
	said{"device read --port " + filepath.Join(dir, "meter.pty") + " --unit 7 input:0:float32 coil:3", true, `coil:3 +true\s+input:0:float32 +230.5`}.check(t)
	said{"device write --port " + filepath.Join(dir, "meter.pty") + " --unit 7 coil:3 false", true, `coil:3 +false`}.check(t)
	said{"device read --port " + filepath.Join(dir, "meter.pty") + " --unit 7 input:9", false, `exception 2`}.check(t)
	interrupt(t, replay)
	overTCP := start(t, binary, "device", "replay", meter, "--listen", "127.0.0.1:0", "--timing", "none")
	address := strings.Fields(overTCP.says(t, `it is found at `))[4]
	said{"device read --tcp " + address + " --unit 7 input:0:float32", true, `230.5`}.check(t)
	interrupt(t, overTCP)

	// A gateway that reads the replay of the scale gets what it said.
	again := start(t, binary, "device", "replay", scale, "--pty", filepath.Join(dir, "scale2"))
	again.says(t, "it is found at ")
	writeFile(t, filepath.Join(dir, "devices", "scale2.yaml"), "driver: serial\nport: "+filepath.Join(dir, "scale2")+"\nformat: keyvalue\npoints: {w: {field: W}}\n")
	eventually(t, "the replayed scale speaks", func() bool {
		out, _ := run(t, "", binary, "device", "read", "--data", data, "scale2")
		return regexp.MustCompile(`w +12.5`).MatchString(out)
	})
	for _, c := range []said{
		{"device record --data " + data + " nope -o " + filepath.Join(dir, "nope"), false, `there is no device "nope"`},
		{"device record --data " + data + " lamp -o " + filepath.Join(dir, "lamp"), false, `device "lamp" has no wire that can be watched`},
		{"device record --data " + data + " meter -o " + meter, false, `file exists`},
		{"device record --data " + data + " meter --max 10 -o " + filepath.Join(dir, "small"), true, ``},
		{"device replay " + filepath.Join(dir, "gatehouse.yaml"), false, `gatehouse.yaml:1: this is no recording of a wire`},
		{"device replay " + scale + " --unit 3", false, `are for Modbus`},
		{"device replay " + meter + " --unit 9", false, `there is no unit 9 in the recording`},
		{"device replay " + meter + " --timing slow", false, `recorded or none`},
	} {
		c.check(t)
	}
	if _, err := os.Stat(filepath.Join(dir, "lamp")); err == nil {
		t.Error("want no file of a recording that did not begin")
	}
}
