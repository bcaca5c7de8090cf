package modbus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/google/go-cmp/cmp"
)

func TestCheckGivesThePoints(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	points, err := d.Check(config(t, `
driver: modbus
topic: plant/press
together: false
serial: {port: /dev/ttyUSB0, baud: 9600, parity: none, stop_bits: 2} # the line
unit: 0x11
timeout: 250ms
every: 2s
points:
  temperature: {input: 0, type: int16, scale: 0.1, unit: "°C", deadband: 0.2, longest: 1m} # of the oil
  fan/on: {coil: 65535, writable: true, every: 5s}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []drivers.Point{
		{Name: "fan/on", Writable: true, Every: 5 * time.Second},
		{Name: "temperature", Unit: "°C", Every: 2 * time.Second, Deadband: 0.2, Longest: time.Minute},
	}
	if diff := cmp.Diff(want, points); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckSaysWhatIsWrongAndWhere(t *testing.T) {
	point := func(p string) string { return "driver: modbus\ntcp: plc\npoints:\n  x: " + p }
	sim := func(rest string) string { return "driver: modbus-simulator\n" + rest }
	gateway := func(rest string) string { return "driver: modbus-gateway\n" + rest }
	server := func(rest string) string { return "driver: modbus-server\n" + rest }
	for _, c := range []struct{ name, file, want string }{
		{"no line", "driver: modbus\npoints:\n  x: {coil: 1}", "1:9: a Modbus device needs exactly one of tcp, tls, rtu_tcp, ascii_tcp and serial"},
		{"two lines", "driver: modbus\ntcp: a\nserial: {port: b}\npoints:\n  x: {coil: 1}", "needs exactly one of tcp, tls, rtu_tcp, ascii_tcp and serial"},
		{"mode", "driver: modbus\nserial: {port: a, mode: jbus}\npoints:\n  x: {coil: 1}", "2:25: mode must be rtu or ascii"},
		{"RS-485", "driver: modbus\nserial: {port: a, rs485: yes}\npoints:\n  x: {coil: 1}", "2:26: rs485 must be auto, kernel or rts"},
		{"RS-485 with a delay", "driver: modbus\nserial: {port: a, rs485: {by: rts, delay_after: 1s}}\npoints:\n  x: {coil: 1}", "2:49: delay_after must be 0s to 100ms, not 1s"},
		{"RS-485 by nobody", "driver: modbus\nserial: {port: a, rs485: {receive: true}}\npoints:\n  x: {coil: 1}", "2:26: rs485 needs by: auto, kernel or rts"},
		{"an unknown key of RS-485", "driver: modbus\nserial: {port: a, rs485: {by: rts, delay: 1s}}\npoints:\n  x: {coil: 1}", `2:36: unknown field "delay"`},
		{"RS-485 as a list", "driver: modbus\nserial: {port: a, rs485: [rts]}\npoints:\n  x: {coil: 1}", "2:26: this must be a mapping"},
		{"flow control", "driver: modbus\nserial: {port: a, flow: hard}\npoints:\n  x: {coil: 1}", `2:25: flow must be none, rtscts or xonxoff, not "hard"`},
		{"flow control by characters of RTU", "driver: modbus\nserial: {port: a, flow: xonxoff}\npoints:\n  x: {coil: 1}", "2:25: the frames of mode rtu have the characters of flow xonxoff in them"},
		{"RTS for two", "driver: modbus\nserial: {port: a, flow: rtscts, rs485: rts}\npoints:\n  x: {coil: 1}", "2:25: the line RTS cannot do flow control and switch an RS-485 sender"},
		{"level of a modem line", "driver: modbus\nserial: {port: a, dtr: up}\npoints:\n  x: {coil: 1}", `2:24: dtr must be high or low, not "up"`},
		{"modem lines of a pseudo-terminal", "driver: modbus-simulator\nserial: {port: 'pty:/tmp/a', rts: low}\npoints:\n  x: {coil: 1}", "2:16: a pseudo-terminal has no flow control, no modem lines"},
		{"RTS of a gateway's line", "driver: modbus-gateway\nserial: {port: a, rts: up}\nlisten: {address: '127.0.0.1:0'}", `2:24: rts must be high or low, not "up"`},
		{"RTS of a server's line", "driver: modbus-server\nserial: {port: a, rts: up}\npoints:\n  x: {coil: 1, topic: a}", `2:24: rts must be high or low, not "up"`},
		{"seven bits of RTU", "driver: modbus\nserial: {port: a, data_bits: 7}\npoints:\n  x: {coil: 1}", "2:30: data_bits must be 8 to 8"},
		{"stream", "driver: modbus\nrtu_tcp: a:b\npoints:\n  x: {coil: 1}", `2:10: "a:b" is not a host and a port`},
		{"unit of a stream", "driver: modbus\nascii_tcp: a\nunit: 0\npoints:\n  x: {coil: 1}", "3:7: unit must be 1 to 247"},
		{"silence over TCP", "driver: modbus\ntcp: a\nsilence: 5ms\npoints:\n  x: {coil: 1}", "3:10: there is no such thing over tcp, only on a line"},
		{"long silence", "driver: modbus\nrtu_tcp: a\nsilence: 5s\npoints:\n  x: {coil: 1}", "3:10: silence must be 0 to 1s"},
		{"long delay", "driver: modbus\ntcp: a\ndelay: 5m\npoints:\n  x: {coil: 1}", "3:8: delay must be 0 to 10s"},
		{"TLS without an address", "driver: modbus\ntls: {ca: a}\npoints:\n  x: {coil: 1}", "2:6: tls needs an address"},
		{"TLS without its file", "driver: modbus\ntls: {address: a, ca: missing.pem}\npoints:\n  x: {coil: 1}", "2:23: cannot read the certificates: open missing.pem"},
		{"TLS with half a pair", "driver: modbus\ntls: {address: a, certificate: a.pem}\npoints:\n  x: {coil: 1}", "certificate and key go together"},
		{"unknown key", "driver: modbus\ntpc: plc", `2:1: unknown field "tpc"`},
		{"bad port", "driver: modbus\ntcp: plc:99999\npoints:\n  x: {coil: 1}", `2:6: "plc:99999" is not a host and a port`},
		{"unit of a serial line", "driver: modbus\nserial: {port: a}\nunit: 248\npoints:\n  x: {coil: 1}", "3:7: unit must be 1 to 247"},
		{"unit over TCP", "driver: modbus\ntcp: a\nunit: 256\npoints:\n  x: {coil: 1}", "3:7: unit must be 0 to 255"},
		{"fraction of a unit", "driver: modbus\ntcp: a\nunit: 1.5\npoints:\n  x: {coil: 1}", "3:7: unit must be a whole number, not 1.5"},
		{"parity", "driver: modbus\nserial: {port: a, parity: mark}\npoints:\n  x: {coil: 1}", "2:27: parity must be none, even or odd"},
		{"stop bits", "driver: modbus\nserial: {port: a, stop_bits: 3}\npoints:\n  x: {coil: 1}", "stop_bits must be 1 to 2"},
		{"baud", "driver: modbus\nserial: {port: a, baud: 0}\npoints:\n  x: {coil: 1}", "baud must be 50 to 4000000"},
		{"a baud that no port takes", "driver: modbus\nserial: {port: a, baud: 4000001}\npoints:\n  x: {coil: 1}", "baud must be 50 to 4000000"},
		{"serial without a port", "driver: modbus\nserial: {baud: 9600}\npoints:\n  x: {coil: 1}", "serial needs a port"},
		{"timeout", "driver: modbus\ntcp: a\ntimeout: 1h\npoints:\n  x: {coil: 1}", "3:10: timeout must be 1ms to 1m0s"},
		{"timeout without a unit that fits", "driver: modbus\ntcp: a\ntimeout: 1ns\npoints:\n  x: {coil: 1}", "3:10: timeout must be 1ms to 1m0s"},
		{"no points", "driver: modbus\ntcp: a", "the device has no points"},
		{"wildcard", "driver: modbus\ntcp: a\npoints:\n  a/+: {coil: 1}", `"a/+" cannot be the name of a point`},
		{"no table", point("{type: int16}"), "4:6: a point needs one of coil, discrete, input and holding"},
		{"two tables", point("{coil: 1, holding: 2}"), "exactly one of coil, discrete, input and holding"},
		{"fraction of an address", point("{holding: 1.5}"), "4:16: the address must be a whole number, not 1.5"},
		{"text for an address", point(`{holding: "1"}`), `4:16: the address must be a whole number, not "1"`},
		{"list for an address", point(`{holding: [1, 2]}`), "4:16: the address must be a whole number, not ["},
		{"nothing for an address", point(`{holding: }`), "a point needs one of coil"},
		{"address too high", point("{holding: 65536}"), "4:16: the address must be 0 to 65535"},
		{"address too high for its size", point("{holding: 65535, type: int32}"), "4:16: the address must be 0 to 65534"},
		{"address below", point("{coil: -1}"), "the address must be 0 to 65535"},
		{"type", point("{holding: 1, type: int8}"), `4:25: "int8" is none of bool, int8h, int8l`},
		{"number in a coil", point("{coil: 1, type: int16}"), "coils and discrete inputs are bool"},
		{"bool in a register", point("{holding: 1, type: bool}"), "coils and discrete inputs are bool"},
		{"order", point("{holding: 1, type: int32, order: AB}"), `4:39: order "AB" does not fit int32`},
		{"unknown order", point("{holding: 1, type: int32, order: big}"), `order "big" does not fit int32`},
		{"scale", point("{holding: 1, scale: 0}"), "4:26: scale must not be 0"},
		{"scale that is no number", point("{holding: 1, scale: tenth}"), `4:26: "tenth" is not a decimal number`},
		{"scale of a coil", point("{coil: 1, scale: 2}"), "a bool has no scale or offset"},
		{"write by an unknown function", point("{holding: 1, writable: true, write: 16}"), "write must be single (functions 5 and 6) or multiple (15 and 16)"},
		{"two registers by the single function", point("{holding: 1, type: int32, writable: true, write: single}"), "2 registers cannot be written at once by function 6"},
		{"write of what is not writable", point("{holding: 1, write: single}"), "4:26: the point is not writable"},
		{"writable input", point("{input: 1, writable: true}"), "4:27: discrete inputs and input registers cannot be written"},
		{"order of bytes with one twice", point("{holding: 1, type: int32, order: ABCC}"), `order "ABCC" does not fit int32: the letters A to D, each once`},
		{"order of a coil", point("{coil: 1, order: AB}"), `order "AB" does not fit bool`},
		{"order of a text", point("{holding: 1, length: 4, order: ABCD}"), `order "ABCD" does not fit string: AB or BA`},
		{"bit beyond the register", point("{holding: 1, bit: 16}"), "4:24: bit must be 0 to 15, 0 being the least significant"},
		{"bit that is none", point("{holding: 1, bit: -1}"), "4:24: bit must be 0 to 15"},
		{"bit of a float", point("{holding: 1, type: float32, bit: 1}"), "only whole numbers of 16 bits and more have bit"},
		{"bit of a byte", point("{holding: 1, type: int8h, bit: 1}"), "only whole numbers of 16 bits and more have bit"},
		{"bit and bits", point("{holding: 1, bit: 1, bits: 1..2}"), "a point has one of bit and bits"},
		{"bits backwards", point("{holding: 1, bits: 7..4}"), "4:25: bits must be like 4..7, within 0..15"},
		{"bits of nothing", point("{holding: 1, bits: 4}"), "bits must be like 4..7"},
		{"scale of a bit", point("{holding: 1, bit: 4, scale: 2}"), "a bool has no scale or offset"},
		{"scale of a text", point("{holding: 1, length: 4, scale: 2}"), "a string has no scale or offset"},
		{"scale from a text", point("{holding: 1, scale_from: W_SF}"), "4:31: scale_from must be a whole number, not W_SF"},
		{"scale of a time from a register", point("{holding: 1, type: unix32, scale_from: 2}"), "a unix32 has no scale or offset"},
		{"no_value that does not fit", point("{holding: 1, no_value: 0x10000}"), "4:29: 0x10000 is no hexadecimal number of 16 bits"},
		{"no_value that is no number", point("{holding: 1, no_value: [1, x]}"), `"x" is not a number`},
		{"no_value below", point("{holding: 1, no_value: -1}"), "-1 does not fit uint16"},
		{"no_value of a text", point("{holding: 1, length: 2, no_value: 0}"), "a string has no no_value"},
		{"text without a length", point("{holding: 1, type: string}"), "4:25: a string needs its length, in registers"},
		{"length of a number", point("{holding: 1, type: int16, length: 2}"), "4:40: only a string has a length"},
		{"text that is too long", point("{holding: 1, length: 126}"), "4:27: length must be 1 to 125"},
		{"text that is too long to write", point("{holding: 1, length: 124, writable: true}"), "124 registers cannot be written at once, only 123"},
		{"encoding", point("{holding: 1, length: 2, encoding: ebcdic}"), "encoding must be ascii, latin1, utf-8 or utf-16"},
		{"padding", point("{holding: 1, length: 2, padding: zero}"), "padding must be nul or blank"},
		{"zone of a number", point("{holding: 1, zone: UTC}"), "only a datetime or cp56time2a has a zone"},
		{"zone that is none", point("{holding: 1, type: datetime, zone: Mars/Olympus}"), `"Mars/Olympus" is no time zone`},
		{"layout of a number", point("{holding: 1, type: int16, layout: Y M D}"), "only a datetime has a layout"},
		{"layout with a stranger", point("{holding: 1, layout: Y M D q}"), `"q" is none of Y y M D h m s f and -`},
		{"layout without a year", point("{holding: 1, layout: M D}"), "a date needs a year (Y or y), M and D"},
		{"layout with a year in a byte", point("{holding: 1, layout: YM D}"), "Y needs a register of its own"},
		{"layout with a field twice", point("{holding: 1, layout: y M D D}"), "D is there 2 times"},
		{"layout with a long word", point("{holding: 1, layout: yMD}"), `"yMD" is not a register`},
		{"simulator that is scaled by a register", sim("listen: 127.0.0.1:0\npoints:\n  x: {holding: 1, scale_from: 2}"), " a register of one's own has a scale"},
		{"unknown key of a point", point("{input: 1, formula: t}"), `unknown field "formula"`},
		{"simulator without an address", sim("points:\n  x: {coil: 1}"), "needs an address to listen on"},
		{"simulator for all", sim("listen: 0.0.0.0:502\npoints:\n  x: {coil: 1}"), `2:9: "0.0.0.0" is not a loopback address`},
		{"simulator with a bad formula", sim("listen: 127.0.0.1:0\npoints:\n  x: {coil: 1, formula: bad}"), "4:25: bad formula"},
		{"simulator with a bad initial value", sim("listen: 127.0.0.1:0\npoints:\n  x: {holding: 1, initial: 70000}"), "4:28: 70000 does not fit uint16"},
		{"simulator with an initial text", sim("listen: 127.0.0.1:0\npoints:\n  x: {holding: 1, initial: on}"), "4:28: on is not a number, true or false"},
		{"simulator with shared registers", sim("listen: 127.0.0.1:0\npoints:\n  x: {holding: 1, type: int32}\n  y: {holding: 2}"), `the point shares registers with "x"`},
		{"server without a place", server("points:\n  x: {coil: 1, topic: a}"), "1:9: a Modbus server needs exactly one of listen and serial"},
		{"server in two places", server("listen: {address: 127.0.0.1:0}\nserial: {port: a}\npoints:\n  x: {coil: 1, topic: a}"), "exactly one of listen and serial"},
		{"server without a port", server("listen: {address: 127.0.0.1}\npoints:\n  x: {coil: 1, topic: a}"), "an address to listen on is needed"},
		{"server without a port, in short", server("listen: 127.0.0.1\npoints:\n  x: {coil: 1, topic: a}"), "2:9: an address to listen on is needed"},
		{"server in clear text, in short", server("listen: 0.0.0.0:502\npoints:\n  x: {coil: 1, topic: a}"), "2:9: "},
		{"server with a list", server("listen: [127.0.0.1:0]\npoints:\n  x: {coil: 1, topic: a}"), "2:9: this must be a mapping"},
		{"server with an unknown key", server("listen: {address: 127.0.0.1:0, port: 5}\npoints:\n  x: {coil: 1, topic: a}"), "2:32: unknown field \"port\""},
		{"server in clear text", server("listen: {address: 0.0.0.0:502}\npoints:\n  x: {coil: 1, topic: a}"), `2:19: "0.0.0.0:502" is not on loopback, and Modbus TCP asks nobody who he is: give it tls, or allow_clear_text: true`},
		{"server with other frames", server("listen: {address: 127.0.0.1:0, frames: udp}\npoints:\n  x: {coil: 1, topic: a}"), "2:40: frames must be tcp, rtu or ascii"},
		{"server for nobody", server("listen: {address: 127.0.0.1:0, clients: 0}\npoints:\n  x: {coil: 1, topic: a}"), "2:41: clients must be 1 to 1000"},
		{"server with half of TLS", server("listen: {address: 0.0.0.0:802, tls: {certificate: a, key: b}}\npoints:\n  x: {coil: 1, topic: a}"), "ca is missing"},
		{"server with other exceptions", server("listen: {address: 127.0.0.1:0}\nexception: 5\npoints:\n  x: {coil: 1, topic: a}"), "3:12: exception must be 4"},
		{"server without a topic", server("listen: {address: 127.0.0.1:0}\npoints:\n  x: {coil: 1}"), "4:6: a point of a server needs the topic that it shows"},
		{"server that is scaled by a register", server("listen: {address: 127.0.0.1:0}\npoints:\n  x: {holding: 1, scale_from: 2, topic: a}"), "4:31: a point of a server has no scale factor"},
		{"server with shared registers", server("listen: {address: 127.0.0.1:0}\npoints:\n  x: {holding: 1, type: int32, topic: a}\n  y: {holding: 2, topic: b}"), `the point shares registers with "x"`},
		{"server with a writable input", server("listen: {address: 127.0.0.1:0}\npoints:\n  x: {input: 1, topic: a, writable: true}"), "input registers cannot be written"},
		{"gateway that listens nowhere", gateway("serial: {port: a}"), "1:9: a gateway needs listen"},
		{"gateway to nowhere", gateway("listen: {address: 127.0.0.1:0}"), "exactly one of tcp, tls"},
		{"gateway in clear text", gateway("serial: {port: a}\nlisten: {address: \":502\"}"), "is not on loopback"},
		{"gateway with other units", gateway("serial: {port: a}\nlisten: {address: 127.0.0.1:0}\nunits: [1, 256]"), "4:12: units are numbers from 0 to 255, or ranges such as 3..7, not 256"},
		{"gateway with a range of none", gateway("serial: {port: a}\nlisten: {address: 127.0.0.1:0}\nfunctions: [6..3]"), "4:13: functions are numbers from 1 to 127"},
		{"gateway with a delay", gateway("serial: {port: a}\ndelay: 1s\nlisten: {address: 127.0.0.1:0}"), "3:8: a delay is a device's"},
		{"gateway with a line behind", gateway("rtu_tcp: a\nline: {baud: 9600}\nlisten: {address: 127.0.0.1:0}"), "line is for devices"},
		{"server on a line with a unit beyond", server("serial: {port: a}\nunit: 0\npoints:\n  x: {input: 1, topic: a}"), "3:7: unit must be 1 to 247"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDriver(t, modbus.Options{Formula: func(string) (func(map[string]any) (any, error), error) {
				return nil, errors.New("bad formula")
			}})
			var driver drivers.Driver = d
			switch name, _, _ := strings.Cut(strings.TrimPrefix(c.file, "driver: "), "\n"); name {
			case "modbus-simulator":
				driver = d.Simulator()
			case "modbus-server":
				driver = d.Server()
			case "modbus-gateway":
				driver = d.Gateway()
			}
			_, err := driver.Check(config(t, c.file))
			var at *drivers.ConfigError
			if !errors.As(err, &at) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant %q", err, c.want)
			}
			if _, err := driver.Open(t.Context(), config(t, c.file)); !errors.Is(err, drivers.ErrConfig) {
				t.Errorf("Open gives %v", err)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("points=%d", n), func(b *testing.B) {
			var text strings.Builder
			text.WriteString("driver: modbus\ntcp: plc\npoints:\n")
			for i := range n {
				fmt.Fprintf(&text, "  p%d: {holding: %d, type: int16, scale: 0.1}\n", i, i)
			}
			d, cfg := newDriver(b, modbus.Options{}), config(b, text.String())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Check(cfg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
