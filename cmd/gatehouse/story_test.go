package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const serialDoor = `
driver: serial
topic: home/hall/door
together: true
port: %s
baud: 115200
format: json
points:
  open: {type: bool}
  n:    {type: number}
`

const modbusLamp = `
driver: modbus
topic: home/hall/light
together: true
%s
unit: 1
every: 100ms
timeout: 500ms
points:
  on: {coil: 3, writable: true}
`

const doorRule = `
rules:
  - name: light follows the door
    on: home/+/door
    if: payload.open != prev.open
    do:
      - publish: home/${parts[1]}/light/set
        payload: {on: "${payload.open}"}
        qos: 1
`

// The story: the door sensor's line says open, the rule fires, and the coil of the
// lamp is set at a Modbus server that is not ours.
func TestTheDoorOpensTheLightGoesOn(t *testing.T) {
	for name, server := range map[string]func(*testing.T) (*program, string){
		"pymodbus over TCP":  pymodbusTCP,
		"pymodbus over RTU":  pymodbusRTU,
		"libmodbus over TCP": libmodbusTCP,
	} {
		t.Run(name, func(t *testing.T) {
			plc, wire := server(t)
			sensorEnd, ourEnd := ptys(t)
			g := startGateway(t, map[string]string{
				"devices/door.yaml": fmt.Sprintf(serialDoor, ourEnd),
				"devices/lamp.yaml": fmt.Sprintf(modbusLamp, wire),
				"scripts/door.yaml": doorRule,
			})
			g.online(t, "door", "lamp")
			sensor := openSensor(t, g, sensorEnd)
			sensor.say(t, `{"open": true, "n": 1}`)
			eventually(t, "the coil is set", func() bool { return coilSet(plc, "1", "[True]") })
			sensor.say(t, "%%%% noise \x00\xff")
			sensor.say(t, `{"open": false, "n": 2}`)
			eventually(t, "the coil is reset", func() bool { return coilSet(plc, "0", "[False]") })
			g.stop(t)
		})
	}
}

// coilSet reports whether the server said that coil 3 was last written so.
func coilSet(plc *program, values ...string) bool {
	last := ""
	for _, l := range strings.Split(plc.output(), "\n") {
		if v, ok := strings.CutPrefix(l, "coil 3 "); ok {
			last = v
		}
	}
	for _, v := range values {
		if last == v {
			return true
		}
	}
	return false
}

// While the rule is rewritten again and again, each event of the door is acted on
// once: none is lost, none doubled.
func TestAReloadInTheMiddleLosesNoEvent(t *testing.T) {
	sensorEnd, ourEnd := ptys(t)
	g := startGateway(t, map[string]string{
		"devices/door.yaml": fmt.Sprintf(serialDoor, ourEnd),
		"scripts/door.yaml": countingRule(0),
		"scripts/door.js":   countingScript(0),
	})
	g.online(t, "door")
	sensor := openSensor(t, g, sensorEnd)
	yaml := subscribe(t, g, "seen/yaml")
	js := subscribe(t, g, "seen/js")

	const events = 400
	for n := range events {
		sensor.say(t, fmt.Sprintf(`{"open": %v, "n": %d}`, n%2 == 0, n))
		if n%20 == 10 {
			g.write(t, "scripts/door.yaml", countingRule(n))
			g.write(t, "scripts/door.js", countingScript(n))
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // the sensor's pace, so that reloads fall between events
	}
	for what, sub := range map[string]*program{"yaml": yaml, "js": js} {
		eventually(t, "all events seen by "+what, func() bool {
			return strings.Contains(sub.output()+"\n", fmt.Sprintf("\nseen/%s %d\n", what, events-1))
		})
		var want []string
		for n := range events {
			want = append(want, fmt.Sprintf("seen/%s %d", what, n))
		}
		if got := sub.output(); got != strings.Join(want, "\n") {
			t.Errorf("%s saw other events than there were, or in another order:\n%s", what, got)
		}
	}
	g.stop(t)
}

func countingRule(version int) string {
	return fmt.Sprintf("# version %d\nrules:\n  - name: count\n    on: home/hall/door\n    qos: 1\n    do: [{publish: seen/yaml, payload: \"${payload.n}\", qos: 1}]\n", version)
}

func countingScript(version int) string {
	return fmt.Sprintf("// version %d\non('home/hall/door', {qos: 1}, (msg) => publish('seen/js', msg.payload.n, {qos: 1}))\n", version)
}

// subscribe starts the program's own client and waits until it hears.
func subscribe(t *testing.T, g *gatewayProcess, filter string) *program {
	t.Helper()
	before := g.stat(t, "gatehouse_subscriptions")
	p := start(t, binary, "sub", "--server", "mqtt://"+g.mqtt, "-q", "1", filter)
	eventually(t, filter+" is subscribed", func() bool { return g.stat(t, "gatehouse_subscriptions") > before })
	return p
}

// online waits until the devices are.
func (g *gatewayProcess) online(t *testing.T, names ...string) {
	t.Helper()
	eventually(t, fmt.Sprint(names, " are online"), func() bool {
		up := 0
		for _, d := range g.api(t, "devices") {
			for _, name := range names {
				if d["name"] == name && d["online"] == true {
					up++
				}
			}
		}
		return up == len(names)
	})
}

// sensor writes lines into its end of a serial line.
type sensor struct{ port *os.File }

// openSensor opens the line and speaks until it is heard: what comes just after our
// end was opened does not count.
func openSensor(t *testing.T, g *gatewayProcess, path string) sensor {
	t.Helper()
	port, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	s := sensor{port}
	eventually(t, "the sensor is heard", func() bool {
		s.say(t, `{"open": false, "n": -1}`)
		return len(g.api(t, "topics?filter=home/hall/door")) == 1
	})
	return s
}

func (s sensor) say(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(s.port, line); err != nil {
		t.Fatal(err)
	}
}

const debianPython = "/usr/bin/python3" // the one that sees Debian's packages

func pymodbusTCP(t *testing.T) (*program, string) {
	t.Helper()
	port := freePort(t)
	p := start(t, debianPython, "testdata/modbus_server.py", "tcp", port)
	p.says(t, "ready")
	return p, "tcp: 127.0.0.1:" + port
}

func pymodbusRTU(t *testing.T) (*program, string) {
	t.Helper()
	theirEnd, ourEnd := ptys(t)
	p := start(t, debianPython, "testdata/modbus_server.py", "rtu", theirEnd)
	p.says(t, "ready")
	return p, fmt.Sprintf("serial: {port: %s, baud: 115200}", ourEnd)
}

func libmodbusTCP(t *testing.T) (*program, string) {
	t.Helper()
	server := filepath.Join(t.TempDir(), "server")
	flags, code := run(t, "", "pkg-config", "--cflags", "--libs", "libmodbus")
	if code != 0 {
		t.Fatalf("libmodbus is not installed (make deps): %s", flags)
	}
	args := append([]string{"-o", server, "testdata/modbus_server.c"}, strings.Fields(flags)...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("cannot build the libmodbus server: %v\n%s", err, out)
	}
	port := freePort(t)
	p := start(t, server, port)
	p.says(t, "ready")
	return p, "tcp: 127.0.0.1:" + port
}
