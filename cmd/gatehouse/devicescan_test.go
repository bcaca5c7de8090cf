package main_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestDeviceRawExplainsTheAnswer(t *testing.T) {
	server, address := pymodbus(t)
	tcp := " --tcp " + address
	for _, s := range []said{
		{"device raw 04 0004 0002" + tcp, true, `^04 04 00 28 00 32\nfunction 4 .*4 +0028 +40 +40.*5 +0032 +50`},
		{"device raw 06 0005 FFFE" + tcp, true, `written at 5`},
		{"device raw 03:0005:0001" + tcp, true, `^03 02 FF FE\n.*5 +FFFE +65534 +-2 `},
		{"device raw 01 0000 0003" + tcp, true, `0  false\n +1  false\n +2  false\n$`},
		{"device raw 03 00c8 0001" + tcp, false, `exception 2 \(illegal data address\) from function 3`},
		{"device raw 2b0e0100" + tcp, true, `function 43`},
		{"device raw 03 0g" + tcp, false, `must be bytes in hexadecimal`},
		{"device raw 83 00" + tcp, false, `a function code is 1 to 127`},
		{"device raw 03 --unit 300" + tcp, false, `unit must be 0 to 255`},
		{"device raw 03", false, `which device\?`},
	} {
		s.check(t)
	}
	server.says(t, "holding 5 [65534]")
}

// The devices of a serial line are found with their settings and what they say of
// themselves, and nothing is written to them.
func TestDeviceScanOfALine(t *testing.T) {
	theirEnd, ourEnd := ptys(t)
	server := start(t, debianPython, "../../drivers/modbus/testdata/pymodbus_server.py", "rtu", theirEnd)
	eventually(t, "the server answers", func() bool {
		_, code := run(t, "", binary, "device", "read", "--port", ourEnd, "--baud", "115200", "--parity", "none", "holding:0")
		return code == 0
	})
	for _, s := range []said{
		{
			"device scan --timeout 60ms --units 1-3 --port " + ourEnd, true,
			`15 settings of the line, 3 units each.*unit 1: Pymodbus Peer.*serial: \{port: "\S+", baud: 9600, parity: "none", stop_bits: 1\}\nunit: 1\n.*unit: 2\n`,
		},
		{"device scan --timeout 60ms --baud 19200 --parity even --stop-bits 1 --units 3 --port " + ourEnd, false, `1 settings of the line.*no unit answered`},
		{"device scan --port /dev/nowhere", false, `cannot open port "/dev/nowhere"`},
		{"device scan --units 0-3 --port " + ourEnd, false, `--units must be like 1-20,100, of 1 to 247, not "0-3"`},
		{"device scan", false, `where\? Give --port`},
	} {
		s.check(t)
	}
	stopped := start(t, binary, "device", "scan", "--timeout", "200ms", "--port", ourEnd)
	stopped.says(t, "asking 239 units")
	if err := syscall.Kill(stopped.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := stopped.ended(t); code != 0 {
		t.Errorf("a scan that is stopped ends with %d", code)
	}
	stopped.says(t, "unit: 2") // what was found is told
	if out := server.output(); out != "" {
		t.Errorf("the server complains: %s", out)
	}
}

// A port that the gateway uses is refused, with what to do.
func TestDeviceScanRefusesAPortInUse(t *testing.T) {
	theirEnd, ourEnd := ptys(t)
	start(t, debianPython, "testdata/modbus_server.py", "rtu", theirEnd).says(t, "ready")
	g := startGateway(t, map[string]string{"devices/press.yaml": "driver: modbus\nserial: {port: " + ourEnd + ", baud: 115200}\npoints: {a: {input: 1}}\n"})
	eventually(t, "press is online", func() bool {
		out, _ := run(t, "", binary, "device", "list", "--console", g.console)
		return strings.Contains(out, "press   online")
	})
	said{"device scan --port " + ourEnd, false, `in use: a running gateway keeps the ports of its devices`}.check(t)
	said{"device read --port " + ourEnd + " input:1", false, `in use: a running gateway keeps the ports of its devices`}.check(t)
	g.stop(t)
}

// Behind an address a device is told by the registers that its profile knows; the
// device file that is printed reads it.
func TestDeviceScanTellsTheProfile(t *testing.T) {
	port, sunSpec, behind := freePort(t), freePort(t), freePort(t)
	g := startGateway(t, map[string]string{"devices/pump.yaml": `driver: modbus-simulator
listen: 127.0.0.1:` + port + `
unit: 1
points:
  mark: {input: 5001, initial: 391}
  outdoor: {input: 506, type: int16, scale: 0.1, initial: -7.5}
`, "devices/inverter.yaml": `driver: modbus-simulator
listen: 127.0.0.1:` + sunSpec + `
points:
  mark: {holding: 40000, type: uint32, initial: 1400204883}
  model: {holding: 40002, initial: 101}
  length: {holding: 40003, initial: 14}
  power: {holding: 40016, initial: 15}
  factor: {holding: 40017, initial: 2}
  end: {holding: 40018, initial: 65535}
  none: {holding: 40019}
`, "devices/meter.yaml": `driver: modbus-simulator
listen: 127.0.0.1:` + behind + `
frames: rtu
points: {mark: {holding: 49, type: string, length: 2, initial: iEM3}}
`})
	eventually(t, "the pump answers", func() bool {
		_, code := run(t, "", binary, "device", "read", "--tcp", "127.0.0.1:"+port, "input:5001")
		return code == 0
	})
	out, code := run(t, "", binary, "device", "scan", "--units", "1-3", "--tcp", "127.0.0.1:"+port)
	_, file, found := strings.Cut(out, "# unit 1: profile stiebel-eltron-isg\n")
	if code != 0 || !found || strings.Contains(file, "# unit") {
		t.Fatalf("exit code %d, want unit 1 alone, with a profile:\n%s", code, out)
	}
	said{
		"device scan --units 1 --tcp 127.0.0.1:" + sunSpec, true,
		`# unit 1: SunSpec models 101\n.*power: \{holding: 40016, type: int16, no_value: 0x8000, scale_from: 40017, unit: "W"\}\n`,
	}.check(t)
	said{"device scan --units 1 --rtu-tcp 127.0.0.1:" + behind, true, `# unit 1: profile schneider-iem3155\n`}.check(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "gatehouse.yaml"), "devices: {folder: "+dir+"/devices}\n")
	writeFile(t, filepath.Join(dir, "devices", "pump.yaml"), file)
	said{"check --config " + dir + "/gatehouse.yaml", true, "ok"}.check(t)
	said{"device read --profile stiebel-eltron-isg outdoor_temperature --tcp 127.0.0.1:" + port, true, `outdoor_temperature +-7.5 +°C`}.check(t)
	g.stop(t)
}
