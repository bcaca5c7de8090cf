package serial_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

const doorFile = `format: keyvalue
points:
  door: {field: DOOR, words: {open: true, closed: false}}
  t: {field: T, type: number}
  lamp: {field: LAMP, words: {ON: true, OFF: false}, type: bool, writable: true, write: "LAMP ${value}\n"}
  text: {writable: true, write: "${point}:${value};", assume: true}
`

func TestSuite(t *testing.T) {
	drivertest.Run(t, serial.New(serial.Options{}), drivertest.Config(t, "door", "driver: serial\nport: "+newWire(t).path+"\n"+doorFile))
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ name, file, say, want string }{
		{"json", "format: json\npoints: {t: {}, deep: {field: a.b}, n: {type: number}}\n", `{"t":21.50,"a":{"b":true},"n":"7"}`, "t=21.5 deep=true n=7"},
		{"json with a null", "format: json\npoints: {t: {}}\n", `{"t":null}`, "t: the field is null"},
		{"json with a dot in its key", "format: json\npoints: {t: {field: a.b}}\n", `{"a.b":18446744073709551615}`, "t=18446744073709551615"},
		{"json that is cut", "format: json\npoints: {t: {}}\n", `{"t":21`, "the line is not a JSON object"},
		{"json that is a list", "format: json\npoints: {t: {}}\n", `[1]`, "the line is not a JSON object"},
		{"keyvalue", "format: keyvalue\npoints: {t: {field: T}, h: {field: H}, s: {field: S}}\n", "T=21.50, H:40;S=on\r", "t=21.5 h=40 s=true"},
		{"keyvalue with a separator", "format: keyvalue\nseparator: '|'\npoints: {s: {field: S}}\n", "S= a b | T=1", "s=a b"},
		{"keyvalue without a key", "format: keyvalue\npoints: {s: {}}\n", "s=1 =2", `"=2" is not a pair of key and value`},
		{"csv", "format: csv\ncolumns: [t, '', s]\npoints: {t: {type: number}, s: {type: text}}\n", `21.5,9,"a,b"`, "t=21.5 s=a,b"},
		{"csv with a separator", "format: csv\nseparator: ;\ncolumns: [t, h]\npoints: {t: {}, h: {}}\n", "1;2", "t=1 h=2"},
		{"csv with too few fields", "format: csv\ncolumns: [t, h]\npoints: {t: {}}\n", "1", "the line has 1 fields, not 2"},
		{"csv with a stray quote", "format: csv\ncolumns: [t]\npoints: {t: {}}\n", `a"b`, "the line is not CSV"},
		{"regex", "format: regex\npattern: '^T(?<t>-?[0-9.]+)(?: (?<u>C))?$'\npoints: {t: {}, u: {}}\n", "T-3.50", "t=-3.5"},
		{"regex without a match", "format: regex\npattern: '^T(?<t>.+)'\npoints: {t: {}}\n", "H1", "the line does not match the pattern"},
		{"words", "format: keyvalue\npoints: {d: {words: {open: true, half: 0.5, gone: none}}, e: {words: {half: 0.5}}}\n", "d=gone e=half", "d=none e=0.5"},
		{"a word that is none", "format: keyvalue\npoints: {d: {words: {open: true, closed: false}}, e: {type: bool, words: {ON: true, OFF: false}}}\n", "d=ajar e=true", `d: "ajar" is none of the words open, closed e: "true" is none of the words ON, OFF`},
		{"a number among words", "format: json\npoints: {d: {words: {open: true}}}\n", `{"d":5}`, `d: "5" is none of the words open`},
		{"another text or number beside words", "format: keyvalue\npoints: {d: {type: text, words: {open: true}}, e: {type: number, words: {half: 0.5}}}\n", "d=ajar e=7", "d=ajar e=7"},
		{"a number that is none", "format: keyvalue\npoints: {a: {type: number}, b: {}}\n", "a=nan b=2", `a: "nan" is not a number b=2`},
		{"a bool that is none", "format: keyvalue\npoints: {a: {type: bool}}\n", "a=2", `a: "2" is not true or false`},
		{"no field of a point", "format: keyvalue\npoints: {a: {}}\n", "b=2", "the line has no field of a point"},
		{"noise", "format: keyvalue\npoints: {a: {}}\n", "a=\xff\xfe", "the line is not text"},
		{"control characters", "format: keyvalue\npoints: {a: {}}\n", "a=\x002", "the line has control characters"},
		{"a long line", "format: keyvalue\nmax_line: 8\npoints: {a: {}}\n", "a=1234567", "a line is longer than 8 bytes"},
		{"a very long line", "format: keyvalue\npoints: {a: {}}\n", "a=" + strings.Repeat("x", 3500) + strings.Repeat("y", 3000), "a line is longer than 4096 bytes"},
	} {
		t.Run(c.name+" is read", func(t *testing.T) {
			w := newWire(t)
			dev := open(t, w, c.file)
			w.say("\r\n\n")
			for rest := c.say; rest != ""; { // the line's buffer takes 4 KiB at most
				n := min(len(rest), 2000)
				w.say(rest[:n])
				rest = rest[n:]
				settled()
			}
			w.say("\n")
			wantNext(t, dev, c.want)
			w.say("again\n")
			if got := next(t, dev); got == "(nothing for 10 s)" {
				t.Error("nothing is heard after it")
			}
		})
	}
	t.Run("another delimiter cuts lines", func(t *testing.T) {
		w := newWire(t)
		dev := open(t, w, "delimiter: '||'\nformat: keyvalue\npoints: {a: {}}\n")
		w.say("a=1|")
		w.say("|a=2||")
		wantNext(t, dev, "a=1")
		wantNext(t, dev, "a=2")
	})
	t.Run("half a line at the start is passed over", func(t *testing.T) {
		w := newWire(t)
		w.say("1.5\nT=121.5\n")
		dev := open(t, w, "format: csv\ncolumns: [t]\npoints: {t: {}}\n")
		wantNext(t, dev, "t=T=121.5")
	})
}

func TestWrite(t *testing.T) {
	write := func(t *testing.T, dev drivers.Device, point string, v drivers.Value) string {
		t.Helper()
		if err := dev.Write(t.Context(), point, v); err != nil {
			return err.Error()
		}
		return ""
	}
	t.Run("sends the template", func(t *testing.T) {
		w := newWire(t)
		dev := open(t, w, doorFile)
		for _, v := range []drivers.Value{drivers.BoolValue(true), drivers.TextValue("OFF"), drivers.IntValue(1)} {
			if err := write(t, dev, "lamp", v); err != "" {
				t.Error(err)
			}
		}
		if err := write(t, dev, "text", drivers.DecimalValue(125, -1)); err != "" {
			t.Error(err)
		}
		w.hear("LAMP ON\nLAMP OFF\nLAMP ON\ntext:12.5;")
	})
	t.Run("refuses what does not fit", func(t *testing.T) {
		dev := open(t, newWire(t), doorFile)
		for point, want := range map[string]string{
			"lamp": `cannot write point "lamp": "x\ny" is none of the values true, false`,
			"text": `cannot write point "text": the value has control characters`,
			"door": `point "door" is not writable`,
		} {
			if got := write(t, dev, point, drivers.TextValue("x\ny")); got != want {
				t.Errorf("want %q, got %q", want, got)
			}
		}
	})
	t.Run("takes the values of the words only, unless the type is another", func(t *testing.T) {
		w := newWire(t)
		dev := open(t, w, `format: keyvalue
write: "${point}=${value}\n"
points:
  lamp: {words: {"1": true, "0": false}, writable: true}
  mode: {words: {"A": 1, "1": 2, "H": 0.5}, writable: true}
  text: {words: {up: 1}, type: text, writable: true}
  level: {words: {half: 0.5}, type: number, writable: true}
`)
		for _, c := range []struct {
			point string
			value drivers.Value
			want  string
		}{
			{"lamp", drivers.IntValue(5), `cannot write point "lamp": "5" is none of the values true, false`},
			{"lamp", drivers.TextValue("on"), `cannot write point "lamp": "on" is none of the values true, false`},
			{"lamp", drivers.Value{}, `cannot write point "lamp": null cannot be sent`},
			{"mode", drivers.IntValue(3), `cannot write point "mode": "3" is none of the values 1, 2, 0.5`},
			{"mode", drivers.BoolValue(true), `cannot write point "mode": "true" is none of the values 1, 2, 0.5`},
			{"lamp", drivers.IntValue(1), ""},
			{"lamp", drivers.BoolValue(false), ""},
			{"lamp", drivers.TextValue("1"), ""},
			{"mode", drivers.IntValue(1), ""},
			{"mode", drivers.TextValue("1"), ""},
			{"mode", drivers.FloatValue(0.5), ""},
			{"text", drivers.TextValue("down"), ""},
			{"level", drivers.IntValue(7), ""},
			{"level", drivers.TextValue("half"), ""},
		} {
			if got := write(t, dev, c.point, c.value); got != c.want {
				t.Errorf("%s %s: want %q, got %q", c.point, c.value, c.want, got)
			}
		}
		w.hear("lamp=1\nlamp=0\nlamp=1\nmode=A\nmode=1\nmode=H\ntext=down\nlevel=7\nlevel=half\n")
	})
	t.Run("is read back only when a line says so, or it is assumed", func(t *testing.T) {
		w := newWire(t)
		dev := open(t, w, doorFile)
		w.say("LAMP=OFF\n")
		wantNext(t, dev, "lamp=false")
		read := func() (all []string) {
			readings, err := dev.Read(t.Context(), []string{"lamp", "text"})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range readings {
				all = append(all, r.Point+"="+r.Value.String())
			}
			return all
		}
		if err := write(t, dev, "lamp", drivers.BoolValue(true)) + write(t, dev, "text", drivers.TextValue("hi")); err != "" {
			t.Error(err)
		}
		if got := strings.Join(read(), " "); got != "text=hi" {
			t.Errorf("want the assumed text only, got %s", got)
		}
		w.say("LAMP=ON\n")
		wantNext(t, dev, "lamp=true")
		if got := strings.Join(read(), " "); got != "lamp=true text=hi" {
			t.Errorf("want both, got %s", got)
		}
	})
}

func TestUnplug(t *testing.T) {
	t.Run("ends the device as lost", func(t *testing.T) {
		w := newWire(t)
		dev := open(t, w, doorFile)
		if err := w.far.Close(); err != nil {
			t.Fatal(err)
		}
		if p := <-dev.Pushed(); !errors.Is(p.Err, drivers.ErrLost) {
			t.Errorf("want drivers.ErrLost, got %+v", p)
		}
		wantNext(t, dev, "(closed)")
	})
	t.Run("is healed by a replug", func(t *testing.T) {
		w := newWire(t)
		bus := host(t, "driver: serial\ntopic: home\nport: "+w.path+"\n"+doorFile)
		bus.WaitRetained(t, "home/status", "online")
		settled()
		w.say("DOOR=open T=21.50\n")
		bus.WaitRetained(t, "home/t", "21.5")
		bus.WaitRetained(t, "home/door", "true")
		for range 3 {
			w.unplug()
			bus.WaitRetained(t, "home/status", "offline")
			w.plug()
			bus.WaitRetained(t, "home/status", "online")
			settled()
			w.say("\xf0\x9f noise \x00\xff\nDOOR=closed\n")
			bus.WaitRetained(t, "home/door", "false")
			w.say("DOOR=open\n")
			bus.WaitRetained(t, "home/door", "true")
		}
		if err := bus.Publish(t.Context(), message.Message{Topic: "home/lamp/set", Payload: []byte("true")}); err != nil {
			t.Fatal(err)
		}
		w.hear("LAMP ON\n")
		if got := string(bus.Wait(t, "home/lamp/set/result", 1).Payload); got != `{"ok":true,"value":true}` {
			t.Errorf("want ok, got %s", got)
		}
	})
	t.Run("of a socat pair is healed", func(t *testing.T) {
		dir := t.TempDir()
		near, far := filepath.Join(dir, "near"), filepath.Join(dir, "far")
		stop := socat(t, near, far)
		bus := host(t, "driver: serial\ntopic: home\nport: "+near+"\n"+doorFile)
		for _, door := range []string{"open", "closed"} {
			bus.WaitRetained(t, "home/status", "online")
			settled()
			sensor := openPort(t, serial.PortConfig{Port: far})
			if _, err := sensor.Write([]byte("DOOR=" + door + "\n")); err != nil {
				t.Fatal(err)
			}
			bus.WaitRetained(t, "home/door", map[string]string{"open": "true", "closed": "false"}[door])
			stop()
			bus.WaitRetained(t, "home/status", "offline")
			stop = socat(t, near, far)
		}
		stop()
	})
}

// socat joins two pseudo-terminals until stop is called.
func socat(t *testing.T, near, far string) (stop func()) {
	t.Helper()
	cmd := exec.Command("socat", "-d", "-d", "pty,raw,echo=0,link="+near, "pty,raw,echo=0,link="+far)
	said := &bytes.Buffer{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatalf("socat is needed: %v", err)
	}
	late := time.Now().Add(10 * time.Second)
	for {
		_, errNear := filepath.EvalSymlinks(near)
		_, errFar := filepath.EvalSymlinks(far)
		if errNear == nil && errFar == nil {
			break
		}
		if time.Now().After(late) {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()
			t.Fatalf("socat has not made its pair: %s", said)
		}
		<-time.After(5 * time.Millisecond)
	}
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()                         // it was killed
		_, _ = os.Remove(near), os.Remove(far) // socat may have
	}
	t.Cleanup(stop)
	return stop
}

func TestCheck(t *testing.T) {
	const points = "points:\n  a: {}\n"
	for _, c := range []struct{ name, text, want string }{
		{"a missing port", "driver: serial\nformat: json\n" + points, `:1:1: the key "port" is missing`},
		{"a missing format", "port: x\n" + points, `:1:1: format must be json, keyvalue, csv, regex, nmea or binary, not ""`},
		{"an unknown format", "port: x\nformat: xml\n" + points, `:2:9: format must be json, keyvalue, csv, regex, nmea or binary, not "xml"`},
		{"a bad baud", "port: x\nbaud: 7\nformat: json\n" + points, `:2:7: baud must be 50 to 4000000, not 7`},
		{"a bad parity", "port: x\nparity: weird\nformat: json\n" + points, `:2:9: parity must be none`},
		{"a bad flow control", "port: x\nflow: hard\nformat: json\n" + points, `:2:7: flow must be none, rtscts or xonxoff, not "hard"`},
		{"a bad level", "port: x\ndtr: up\nformat: json\n" + points, `:2:6: dtr must be high or low, not "up"`},
		{"a bad RS-485 switch", "port: x\nrs485: {by: auto, delay_after: 1s}\nformat: json\n" + points, `:2:32: delay_after must be 0s to 100ms, not 1s`},
		{"an unknown key of RS-485", "port: x\nrs485: {by: auto, delay: 1s}\nformat: json\n" + points, `:2:19: unknown field "delay"`},
		{"a USB port without a product", "port: usb:1a86\nformat: json\n" + points, `:1:7: a USB port is written usb:VID:PID`},
		{"a frame of no type", "port: x\nframe: {type: x25}\nformat: json\n" + points, `:2:15: type must be line, delimiter, fixed,`},
		{"a key of another type of frame", "port: x\nframe: {type: slip, length: 4}\nformat: json\n" + points, `:2:29: length is not for frames of type slip`},
		{"a length of nothing", "port: x\nframe: {type: fixed}\nformat: json\n" + points, `:2:8: length must be 1 to 4096, not 0`},
		{"two bounds", "port: x\nmax_line: 7\nmax_frame: 8\nformat: json\n" + points, `:2:11: max_line is another word for max_frame`},
		{"bytes that are none", "port: x\nframe: {type: delimiter, delimiter: 'hex:0'}\nformat: json\n" + points, `:2:37: delimiter: "0" is not made of pairs of hexadecimal digits`},
		{"a silence of nothing", "port: x\nframe: {type: silence}\nformat: json\n" + points, `:2:15: frames of type silence need either`},
		{"a delimiter beside frame", "port: x\ndelimiter: a\nframe: {type: slip}\nformat: json\n" + points, `:2:12: delimiter belongs into frame`},
		{"a checksum of no type", "port: x\nchecksum: {type: md5}\nformat: json\n" + points, `:2:18: type must be crc16,`},
		{"a polynomial of a known checksum", "port: x\nchecksum: {type: crc16, poly: 3}\nformat: json\n" + points, `:2:31: poly is for type crc`},
		{"a polynomial that is too wide", "port: x\nchecksum: {type: crc, width: 8, poly: 0x100}\nformat: json\n" + points, `:2:39: poly must be a number of 8 bits`},
		{"a binary point without a place", "port: x\nformat: binary\npoints:\n  a: {type: int8}\n", `:4:6: point "a": a point in a binary frame needs the key "at"`},
		{"a binary point without a type", "port: x\nformat: binary\npoints:\n  a: {at: 1, type: int7}\n", `:4:20: point "a": type must be bool, int8 to int64,`},
		{"bits that are too many", "port: x\nformat: binary\npoints:\n  a: {at: 1, type: uint8, bits: 4-8}\n", `:4:33: point "a": bits must be a range such as "0-3" within 0 to 7`},
		{"a place in a text", "port: x\nformat: json\npoints:\n  a: {at: 1}\n", `:4:11: point "a": at is for format binary`},
		{"a field of no sentence", "port: x\nformat: nmea\npoints:\n  a: {field: GGA}\n", `:4:14: point "a": a field is a sentence and a number, such as GGA.9, not "GGA"`},
		{"a scale of 0", "port: x\nformat: binary\npoints:\n  a: {at: 1, type: int8, scale: 0}\n", `:4:33: point "a": scale must be a number, and scale not 0`},
		{"a request with an unknown place", "port: x\nformat: json\npoints:\n  a: {request: '${address}'}\n", `:4:16: point "a": only ${point} is known here, not ${address}`},
		{"a request that does not fit its frame", "port: x\nframe: {type: fixed, length: 3}\nformat: json\npoints:\n  a: {request: 'ab'}\n", `:5:16: point "a": the request cannot be sent: what is sent has 2 bytes, not 3`},
		{"an answer that is no pattern", "port: x\nformat: json\npoints:\n  a: {request: 'ab', answer: '('}\n", `:4:30: point "a": it must be a regular expression`},
		{"an answer without a request", "port: x\nformat: json\npoints:\n  a: {answer: 'a'}\n", `:4:15: point "a": answer is for points with a request`},
		{"an expect without writable", "port: x\nformat: json\npoints:\n  a: {expect: 'a'}\n", `:4:15: point "a": expect needs "writable: true"`},
		{"a time-out that is too long", "port: x\ntimeout: 1h\nformat: json\n" + points, `:2:10: timeout must be 1ms to 10s, not 1h0m0s`},
		{"too many retries", "port: x\nretries: 11\nformat: json\n" + points, `:2:10: retries must be 0 to 10, not 11`},
		{"a wake that does nothing", "port: x\nwake: {pause: 1s}\nformat: json\n" + points, `:2:7: wake needs break, dtr or send`},
		{"an init with a place", "port: x\ninit: ['a', 'hex:1']\nformat: json\n" + points, `:2:13: "1" is not made of pairs`},
		{"csv without columns", "port: x\nformat: csv\n" + points, `:2:9: format csv needs the key "columns"`},
		{"a long separator", "port: x\nformat: csv\nseparator: ab\ncolumns: [a]\n" + points, `:3:12: separator must be one character`},
		{"columns of another format", "port: x\nformat: json\ncolumns: [a]\n" + points, `:3:10: columns are for format csv`},
		{"a separator of another format", "port: x\nformat: json\nseparator: ','\n" + points, `:3:12: separator is for formats csv and keyvalue`},
		{"a pattern of another format", "port: x\nformat: json\npattern: a\n" + points, `:3:10: pattern is for format regex`},
		{"a pattern without names", "port: x\nformat: regex\npattern: a\n" + points, `:3:10: pattern must be a regular expression with named groups`},
		{"a pattern that is none", "port: x\nformat: regex\npattern: '(?<a'\n" + points, `:3:10: pattern must be a regular expression with named groups`},
		{"a pattern without a point's field", "port: x\nformat: regex\npattern: '^T=(?<t>.+)'\npoints:\n  t: {}\n  h: {unit: x}\n", `:6:6: point "h": the pattern has no group "h"`},
		{"a field that no group is called by", "port: x\nformat: regex\npattern: '^T=(?<t>.+)'\npoints:\n  t: {field: T}\n", `:5:14: point "t": the pattern has no group "T"`},
		{"columns without a point's field", "port: x\nformat: csv\ncolumns: [t, '']\npoints:\n  t: {}\n  h: {field: H}\n", `:6:14: point "h": there is no column "H"`},
		{"no points", "port: x\nformat: json\n", `:1:1: the key "points" is missing or empty`},
		{"an interval", "port: x\nformat: json\nevery: 1s\n" + points, `:3:8: a serial device is not polled`},
		{"an interval of a point", "port: x\nformat: json\npoints:\n  a: {every: 1s}\n", `:4:14: point "a": a serial device is not polled`},
		{"an empty delimiter", "port: x\nformat: json\ndelimiter: ''\n" + points, `:3:12: delimiter must not be empty`},
		{"a line of nothing", "port: x\nformat: json\nmax_line: 0\n" + points, `:3:11: max_line must be 1 to 1048576, not 0`},
		{"an unknown type", "port: x\nformat: json\npoints:\n  a: {type: date}\n", `:4:13: point "a": type must be auto, number, bool or text, not "date"`},
		{"a write without writable", "port: x\nformat: json\npoints:\n  a: {write: x}\n", `:4:14: point "a": write needs "writable: true"`},
		{"an assume without writable", "port: x\nformat: json\npoints:\n  a: {assume: true}\n", `:4:15: point "a": assume needs "writable: true"`},
		{"writable without a write", "port: x\nformat: json\npoints:\n  a: {writable: true}\n", `:4:17: point "a": a writable point needs the key "write"`},
		{"a bad template", "port: x\nformat: json\npoints:\n  a: {writable: true, write: '${x}'}\n", `:4:30: only ${value} and ${point} are known here, not ${x}`},
		{"a bad template of the device", "port: x\nformat: json\nwrite: '${value'\npoints:\n  a: {writable: true}\n", `:3:8: only ${value} and ${point} are known here, not ${value`},
		{"a word that means a list", "port: x\nformat: json\npoints:\n  a: {words: {on: [1]}}\n", `:4:14: point "a": the word "on" must mean true, false, a number or a text`},
		{"an unknown key", "port: x\nformat: json\npoints:\n  a: {typ: text}\n", `:4:7: unknown field "typ"`},
	} {
		t.Run(c.name+" has its place", func(t *testing.T) {
			_, err := serial.New(serial.Options{}).Check(drivertest.Config(t, "f", c.text))
			if !errors.Is(err, drivers.ErrConfig) || !strings.HasPrefix(err.Error(), "f.yaml"+c.want) {
				t.Errorf("want f.yaml%s, got %v", c.want, err)
			}
		})
	}
}

// TestDocs checks the device files of the documentation.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/devices.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range strings.Split(string(text), "```yaml\n")[1:] {
		if file, _, _ := strings.Cut(block, "```"); strings.HasPrefix(file, "driver: serial\n") {
			n++
			if _, err := serial.New(serial.Options{}).Check(drivertest.Config(t, "d", file)); err != nil {
				t.Errorf("%v", err)
			}
		}
	}
	if n < 4 {
		t.Errorf("want four files at least, got %d", n)
	}
}
