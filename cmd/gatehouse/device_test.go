package main_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/gatehouse/gatehouse/drivers/profiles"
)

// The documentation names every profile that there is.
func TestDocumentationNamesTheProfiles(t *testing.T) {
	text, err := os.ReadFile("../../docs/devices.md")
	if err != nil {
		t.Fatal(err)
	}
	all, err := modbus.Profiles(profiles.FS())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if !strings.Contains(string(text), "`"+p.Name+"`") {
			t.Errorf("docs/devices.md does not name %s", p.Name)
		}
	}
}

// pymodbus starts a Modbus TCP server and gives its address.
func pymodbus(t *testing.T) (*program, string) {
	t.Helper()
	port := freePort(t)
	server := start(t, debianPython, "testdata/modbus_server.py", "tcp", port)
	server.says(t, "ready")
	eventually(t, "the server listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return server, "127.0.0.1:" + port
}

// said is one use of the program: its words, whether it ends well, and what it says.
type said struct {
	args string
	ok   bool
	want string // a regular expression
}

func (s said) check(t *testing.T) {
	t.Helper()
	out, code := run(t, "", binary, strings.Fields(s.args)...)
	if (code == 0) != s.ok || !regexp.MustCompile("(?s)"+s.want).MatchString(out) {
		t.Errorf("%s: exit code %d, want /%s/, got:\n%s", s.args, code, s.want, out)
	}
}

func TestDeviceCommandsAskTheRunningGateway(t *testing.T) {
	server, address := pymodbus(t)
	g := startGateway(t, map[string]string{
		"devices/press.yaml": "driver: modbus\ntcp: " + address + `
points:
  fan: {coil: 3, writable: true}
  level: {holding: 10, type: float32, writable: true, confirm: true, unit: m}
  temp: {input: 4, scale: 0.1, unit: "°C"}
  gone: {input: 500}
`,
		"devices/panel.yaml": "driver: modbus-server\nlisten: {address: \"127.0.0.1:" + freePort(t) + "\"}\npoints: {fan: {coil: 3, topic: press/fan, writable: true}}\n",
		"devices/dead.yaml":  "driver: modbus\ntcp: 127.0.0.1:" + freePort(t) + "\npoints: {a: {coil: 1}}\n",
	})
	at := " --console " + g.console
	data := " --data " + filepath.Join(g.dir, "data")
	eventually(t, "press is online", func() bool {
		out, _ := run(t, "", binary, strings.Fields("device list"+at)...)
		return strings.Contains(out, "3/4")
	})
	server.says(t, "ready")
	for _, s := range []said{
		{"device list" + at, true, `dead +offline .* 0/1 +modbus +dead +cannot open.*press +online `},
		{"device show press" + at, true, `press is online .*temp +4 +°C +good +[0-9.]+s .*gone|gone.*illegal data address.*reads: [1-9].*driver.answers: [1-9].*driver.exception_2: [1-9].*driver.sent_bytes: [1-9].*requests took \(ms\): half [0-9.]+`},
		{"device show press" + at, true, `fan .* writable\n.*level .* writable with --confirm\n`},
		{"device show nope" + at, false, `no device "nope"; there are dead, panel, press`},
		{"device read press temp" + at, true, `^temp +4 +°C\s*$`},
		{"device read press temp --last" + at, true, `^temp +4 +°C\s*$`},
		{"device read dead" + at, false, `cannot read device "dead": it is offline: cannot open unit 1`},
		{"device read dead --last" + at, false, `^a +null +bad for`},
		{"device read panel" + at, false, `cannot read device "panel": it shows topics to others`},
		{"device read press" + at, false, `gone +null +bad for .*exception 2`},
		{"device read press tmp" + at, false, `no point "tmp"`},
		{"device write press fan true --server mqtt://" + g.mqtt + at, true, `^fan is true now`},
		{"device read press fan" + at, true, `^fan +true`},
		{"device write press level 2.5 --server mqtt://" + g.mqtt + at, false, `wants a confirmation, give --confirm`},
		{"device write press level 2.5 --confirm --server mqtt://" + g.mqtt + at, true, `^level is 2.5 now`},
		{"device write press temp 5 --server mqtt://" + g.mqtt + at, false, `point "temp" of device "press" cannot be written`},
		{"device write panel fan true --server mqtt://" + g.mqtt + at, false, `point "fan" of device "panel" shows the topic "press/fan"`},
		{"device write press nope 5 --server mqtt://" + g.mqtt + at, false, `no point "nope"; those that can be written are fan, level`},
		{"device write press fan maybe --server mqtt://" + g.mqtt + at, false, `"fan" was not written: .*maybe is not true or false`},
		{"device list" + data, false, `cannot ask the gateway: .*is it running\?`},
	} {
		s.check(t)
	}
	server.says(t, "coil 3 [True]")
	server.says(t, "holding 10 [16416, 0]")
	g.stop(t)
}

func TestDeviceCommandsAskADeviceItself(t *testing.T) {
	_, address := pymodbus(t)
	tcp := " --tcp " + address
	for _, s := range []said{
		{"device read coil:3 input:4:int16:scale=0.1 holding:10:float32:CDAB" + tcp, true, `coil:3 +false.*input:4:int16:scale=0.1 +4\s`},
		{"device read input:200" + tcp, false, `input:200 +- +exception 2.*1 of 1 points have no good value`},
		{"device write holding:20:float32:CDAB 21.3" + tcp, true, `^holding:20:float32:CDAB +21.3\s`},
		{"device read holding:20:float32:CDAB" + tcp, true, `21.3`},
		{"device write coil:5 maybe" + tcp, false, `maybe is not true or false`},
		{"device read foo:5" + tcp, false, `"foo:5" is not a register such as`},
		{"device read holding:1:float99" + tcp, false, `float99`},
		{"device read holding:1:int16:AB:CD" + tcp, false, `what is "CD", after type and order`},
		{"device read" + tcp, false, `which registers\?`},
		{"device read --profile xy-md02" + tcp, true, `temperature +1 +°C.*humidity +2 +%`},
		{"device read --profile xy-md02 temp" + tcp, false, `no point "temp"; there is temperature`},
		{"device read --unit 1 holding:1 --tcp 127.0.0.1:" + freePort(t), false, `cannot connect`},
	} {
		s.check(t)
	}
}

// The guide names every key that device files may have.
func TestDocumentationNamesTheKeysOfDrivers(t *testing.T) {
	guide, err := os.ReadFile("../../docs/devices.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(guide), "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		sections[title] = text
	}
	tag := regexp.MustCompile("`yaml:\"([a-z_0-9]+)\"`")
	for title, sources := range map[string]string{
		"Keys that every driver knows": "common.go point.go",
		"Modbus":                       "server.go modbus/config.go modbus/table.go modbus/transport.go modbus/limits.go modbus/listen.go modbus/serverconfig.go modbus/gateway.go modbus/simconfig.go",
		"Serial":                       "serial/file.go serial/pointfile.go serial/framefile.go",
		"Sim":                          "sim/sim.go",
		"GPIO":                         "gpio/config.go",
		"Host":                         "host/host.go",
	} {
		known := 0
		for source := range strings.FieldsSeq(sources) {
			text, err := os.ReadFile("../../drivers/" + source)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range tag.FindAllStringSubmatch(string(text), -1) {
				known++
				if !regexp.MustCompile(`(?m)(^|[^a-z_])` + key[1] + "(:|`)").MatchString(sections[title]) {
					t.Errorf("docs/devices.md, %q: there is no word of %q, which %s knows", title, key[1], source)
				}
			}
		}
		if known < 3 {
			t.Errorf("%q: want keys in %s, got %d", title, sources, known)
		}
	}
}
