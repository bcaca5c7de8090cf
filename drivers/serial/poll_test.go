package serial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

// answer has equipment at the far end of a wire that is asked: for what ends with one
// of the delimiters it sends what reply returns.
func answer(t *testing.T, w *wire, end byte, reply func(request string) string) (asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	done := make(chan struct{})
	far := w.far
	go func() {
		defer close(done)
		var request []byte
		b := make([]byte, 1)
		for {
			if _, err := far.Read(b); err != nil {
				if errors.Is(err, os.ErrClosed) || !strings.Contains(err.Error(), "input/output error") {
					return
				}
				<-time.After(5 * time.Millisecond) // nobody has the near end open
				continue
			}
			if request = append(request, b[0]); b[0] != end {
				continue
			}
			mu.Lock()
			all = append(all, string(request))
			mu.Unlock()
			if s := reply(string(request)); s != "" {
				if _, err := far.WriteString(s); err != nil {
					return
				}
			}
			request = nil
		}
	}()
	t.Cleanup(func() {
		_ = far.Close()
		<-done
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), all...)
	}
}

// read is what a Read gives, as "point=value ..." or its error.
func read(t *testing.T, dev drivers.Device, points ...string) string {
	t.Helper()
	readings, err := dev.Read(t.Context(), points)
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, r := range readings {
		s := r.Point + "=" + r.Value.String()
		if r.Quality == drivers.Bad {
			s = r.Point + ": " + r.Err.Error()
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

func wantRead(t *testing.T, dev drivers.Device, want string, points ...string) {
	t.Helper()
	if got := read(t, dev, points...); got != want {
		t.Errorf("%q: want %q, got %q", points, want, got)
	}
}

func TestPolledSuite(t *testing.T) {
	w := newWire(t)
	answer(t, w, '\n', func(string) string { return "t=21.5\n" })
	drivertest.Run(t, serial.New(serial.Options{}), drivertest.Config(t, "polled", "driver: serial\nport: "+w.path+`
format: keyvalue
timeout: 100ms
points:
  t: {request: "T?\n", type: number}
  heard: {}
  set: {writable: true, write: "S${value}\n"}
`))
}

func TestRequests(t *testing.T) {
	t.Run("points with one request cost one exchange", func(t *testing.T) {
		w := newWire(t)
		asked := answer(t, w, '\n', func(s string) string {
			return map[string]string{"M7?\n": "t=21.5 h=40\n", "p 7\n": "p=1013\n"}[s]
		})
		dev := open(t, w, `format: keyvalue
address: 7
request: "M${address}?\n"
points:
  t: {}
  h: {every: 5s}
  p: {request: "${point} ${address}\n"}
`)
		wantRead(t, dev, "t=21.5 h=40 p=1013", "t", "h", "p")
		wantRead(t, dev, "h=40", "h")
		if got := fmt.Sprint(asked()); got != "[M7?\n p 7\n M7?\n]" {
			t.Errorf("want three requests, got %q", got)
		}
		every := ""
		for _, p := range dev.Points() {
			every += p.Name + " " + p.Every.String() + " "
		}
		if every != "t 1s h 5s p 1s " {
			t.Errorf("want the intervals of the file, got %s", every)
		}
	})
	t.Run("frames that are no answer are passed over", func(t *testing.T) {
		w := newWire(t)
		answer(t, w, '\n', func(string) string { return "hello\nt=x1\nU=3\nT=4\n" })
		dev := open(t, w, "format: keyvalue\npoints: {t: {field: T, request: \"T?\\n\", answer: '^T='}}\n")
		wantRead(t, dev, "t=4", "t")
	})
	t.Run("a request that is not answered is sent again", func(t *testing.T) {
		w := newWire(t)
		n := 0
		answer(t, w, '\n', func(string) string {
			if n++; n == 2 {
				return "t=2\n"
			}
			return ""
		})
		dev := open(t, w, "timeout: 50ms\nformat: keyvalue\npoints: {t: {request: \"T?\\n\"}}\n")
		wantRead(t, dev, "t=2", "t")
		m := dev.(drivers.Metered).Metrics()
		if c := m.Counters; c["requests"] != 2 || c["timeouts"] != 1 || c["retries"] != 1 || c["answers"] != 1 || m.Exchanges.Count != 1 {
			t.Errorf("want two requests, a time-out, a retry, an answer, got %v", c)
		}
	})
	t.Run("a device that is silent costs one time-out, by a request in turn", func(t *testing.T) {
		w := newWire(t)
		var dead atomic.Bool
		dead.Store(true)
		asked := answer(t, w, '\n', func(s string) string {
			if dead.Load() || s == "b?\n" {
				return ""
			}
			return s[:1] + "=1\n"
		})
		dev := open(t, w, "timeout: 40ms\nretries: 1\nformat: keyvalue\npoints: {a: {request: \"a?\\n\"}, b: {request: \"b?\\n\"}}\n")
		wantRead(t, dev, "no answer within 40ms", "a", "b")
		before := len(asked())
		wantRead(t, dev, "no answer within 40ms", "a", "b")
		if n := len(asked()) - before; n != 1 {
			t.Errorf("want one request to a silent device, got %d", n)
		}
		dead.Store(false)
		for range 3 { // b is never answered
			if got := read(t, dev, "a", "b"); strings.HasPrefix(got, "a=1") {
				break
			}
		}
		wantRead(t, dev, "a=1 b: no answer within 40ms", "a", "b")
	})
	t.Run("an answer that comes late is not that of the next request", func(t *testing.T) {
		w := newWire(t)
		var late atomic.Int64
		answer(t, w, '\n', func(s string) string {
			<-time.After(time.Duration(late.Swap(0)))
			return map[string]string{"a?\n": "v=1\n", "b?\n": "v=2\n"}[s]
		})
		dev := open(t, w, "timeout: 300ms\nretries: 0\nformat: keyvalue\npoints: {a: {field: v, request: \"a?\\n\"}, b: {field: v, request: \"b?\\n\"}}\n")
		late.Store(int64(400 * time.Millisecond))
		wantRead(t, dev, "no answer within 300ms", "a")
		wantRead(t, dev, "b=2", "b")
	})
	t.Run("an echo is taken off", func(t *testing.T) {
		w := newWire(t)
		answer(t, w, '\n', func(s string) string { return s + "t=1\n" })
		dev := open(t, w, "echo: true\nformat: keyvalue\npoints: {t: {request: \"t=5\\n\"}}\n")
		wantRead(t, dev, "t=1", "t")
	})
	t.Run("an unplug ends what waits for an answer", func(t *testing.T) {
		w := newWire(t)
		dev := open(t, w, "timeout: 10s\nformat: keyvalue\npoints: {t: {request: \"T?\\n\"}}\n")
		go func() {
			settled()
			_ = w.far.Close()
		}()
		if _, err := dev.Read(t.Context(), []string{"t"}); !errors.Is(err, drivers.ErrLost) {
			t.Errorf("want drivers.ErrLost, got %v", err)
		}
	})
	t.Run("what a device says by itself is heard between", func(t *testing.T) {
		w := newWire(t)
		answer(t, w, '\n', func(string) string { return "door=open\nt=1\n" })
		dev := open(t, w, "format: keyvalue\npoints: {t: {request: \"T?\\n\"}, door: {}}\n")
		wantRead(t, dev, "t=1", "t")
		wantNext(t, dev, "door=open")
		w.say("door=shut\n")
		wantNext(t, dev, "door=shut")
	})
}

func TestCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("an emulator has not all of the kernel's calls for terminals")
	}
	w := newWire(t)
	replies := map[string]string{"E0\n": "OK\n", "A 1\n": "noise\nOK\n", "A 2\n": "ERR 5\n"}
	asked := answer(t, w, '\n', func(s string) string { return replies[s] })
	dev := open(t, w, `format: keyvalue
timeout: 200ms
init: ["E0\n"]
wake: {break: 1ms, send: "W\n", pause: 1ms, after: 1h}
expect: '^OK$'
points:
  a: {writable: true, write: "A ${value}\n", assume: true}
`)
	for n, want := range map[int64]string{1: "", 2: `unknown: may have been written: the device did not say ^OK$: no answer that is understood within 200ms, but "ERR 5"`} {
		err := dev.Write(t.Context(), "a", drivers.IntValue(n))
		if fmt.Sprint(err) != want && (err != nil || want != "") || err != nil && !errors.Is(err, drivers.ErrUncertain) {
			t.Errorf("%d: want %q, got %v", n, want, err)
		}
	}
	all := strings.Join(asked(), "")
	if !strings.HasPrefix(all, "W\nE0\n") || strings.Count(all, "W") != 1 || strings.Count(all, "A 2") != 1 {
		t.Errorf("want it woken up once, what it is to hear first, and each command once, got %q", all)
	}
	t.Run("are acknowledged by a device that says much else", func(t *testing.T) {
		w := newWire(t)
		answer(t, w, '\n', func(string) string { return strings.Repeat("t=1\n", 500) + "OK\n" })
		dev := open(t, w, "format: keyvalue\ntimeout: 10s\npoints:\n  t: {}\n  a: {writable: true, write: \"A ${value}\\n\", expect: '^OK$', assume: true}\n")
		if err := dev.Write(t.Context(), "a", drivers.IntValue(1)); err != nil {
			t.Errorf("want the command done, though nobody takes what the device says, got %v", err)
		}
	})
	t.Run("that the device does not know hold up its opening", func(t *testing.T) {
		w := newWire(t)
		answer(t, w, '\n', func(string) string { return "" })
		_, err := serial.New(serial.Options{}).Open(t.Context(), drivertest.Config(t, "d", "driver: serial\nport: "+w.path+"\ntimeout: 20ms\ninit: [\"X\\n\"]\nexpect: OK\nformat: json\npoints: {a: {}}\n"))
		if err == nil || !strings.Contains(err.Error(), `cannot send "X\n" after opening: the device did not say OK`) {
			t.Errorf("want the device not opened, got %v", err)
		}
	})
}

// TestMultiDrop has several devices on one line, of which one is dead.
func TestMultiDrop(t *testing.T) {
	w := newWire(t)
	answer(t, w, '\n', func(s string) string {
		if s[0] == '9' {
			return ""
		}
		return s[:1] + " v=" + s[:1] + "\n"
	})
	driver := serial.New(serial.Options{})
	file := func(address int) drivers.Config {
		return drivertest.Config(t, fmt.Sprint("d", address), fmt.Sprintf("driver: serial\nport: %s\ntimeout: 150ms\naddress: %d\n"+
			"format: regex\npattern: '^. v=(?<v>.)'\nrequest: \"${address}?\\n\"\nanswer: '^%d '\npoints: {v: {}}\n", w.path, address, address))
	}
	devices := map[int]drivers.Device{}
	for _, address := range []int{1, 2, 3, 9} {
		dev, err := driver.Open(t.Context(), file(address))
		if err != nil {
			t.Fatal(err)
		}
		devices[address] = dev
	}
	t.Run("each is given its own answers, and in turn", func(t *testing.T) {
		var wait sync.WaitGroup
		var mu sync.Mutex
		reads := map[int]int{}
		end := time.Now().Add(time.Second)
		for address, dev := range devices {
			wait.Go(func() {
				for time.Now().Before(end) {
					got := read(t, dev, "v")
					if want := fmt.Sprint("v=", address); got != want && address != 9 {
						t.Errorf("want %q, got %q", want, got)
					}
					mu.Lock()
					reads[address]++
					mu.Unlock()
					if address == 9 { // as the host does, if not for so long
						<-time.After(300 * time.Millisecond)
					}
				}
			})
		}
		wait.Wait()
		if reads[1] < 3 || reads[1] > 2*reads[2]+5 || reads[2] > 2*reads[3]+5 || reads[3] > 2*reads[1]+5 {
			t.Errorf("want the turns shared, got %v", reads)
		}
	})
	t.Run("other settings of the port are refused", func(t *testing.T) {
		cfg := drivertest.Config(t, "odd", "driver: serial\nbaud: 300\nport: "+w.path+"\nformat: json\npoints: {a: {}}\n")
		if _, err := driver.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "another device has it open with other settings") {
			t.Errorf("want it refused, got %v", err)
		}
	})
	t.Run("the last one closes the port", func(t *testing.T) {
		for _, dev := range devices {
			if _, err := serial.Open(t.Context(), serial.PortConfig{Port: w.path}); err == nil {
				t.Error("want the port in use")
			}
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		}
		openPort(t, serial.PortConfig{Port: w.path})
	})
}

func TestBinary(t *testing.T) {
	t.Run("is read by offset and type", func(t *testing.T) {
		w := newWire(t)
		dev := open(t, w, `format: binary
frame: {type: fixed, length: 28, start: "hex:aa55"}
points:
  i8: {at: 2, type: int8}
  u16: {at: 3, type: uint16, scale: 0.1, offset: -40}
  i16: {at: 3, type: int16, order: little}
  i24: {at: 5, type: int24}
  f32: {at: 8, type: float32, order: CDAB}
  f32s: {at: 8, type: float32, order: CDAB, scale: 10}
  u64: {at: 12, type: uint64}
  bcd: {at: 20, type: bcd, length: 2, scale: 0.01}
  on: {at: 22, type: uint8, bit: 7}
  mode: {at: 22, type: uint8, bits: 1-3, words: {"5": auto, "4": "off"}}
  id: {at: -5, type: text, length: 3}
  raw: {at: -2, type: hex}
  nan: {at: 24, type: float32}
  far: {at: 26, type: uint32}
`)
		w.say("\xaa\x55\xff\x09\x3a\xff\xff\xfe\x66\x66\x41\xaa\xff\xff\xff\xff\xff\xff\xff\xff\x21\x50\x8a\x41\x7f\xc0\x00\x01")
		wantNext(t, dev, "i8=-1 u16=196.2 i16=14857 i24=-2 f32=21.3 f32s=213 u64=18446744073709551615 bcd=21.5 on=true mode=auto"+
			" id: the bytes are not text raw=0001 nan: the float is not a number far: the frame of 28 bytes is too short")
	})
	t.Run("is written as it is read", func(t *testing.T) {
		w := newWire(t)
		dev := open(t, w, `format: binary
frame: {type: length, start: "hex:7e", offset: 1}
checksum: {type: crc16-modbus}
address: 17
write: "hex: 7e 00 ${address} 06 ${value}"
points:
  u16: {at: 4, type: uint16, order: little, scale: 0.5, writable: true}
  f32: {at: 4, type: float32, writable: true}
  bcd: {at: 4, type: bcd, length: 2, writable: true}
  i8: {at: 4, type: int8, writable: true, words: {"-1": low, "1": high}}
  id: {at: 4, type: text, length: 4, writable: true}
  raw: {at: 4, type: hex, length: 2, writable: true}
  bit: {at: 4, type: uint8, bit: 1, writable: true}
`)
		for _, c := range []struct {
			point string
			v     drivers.Value
			want  string // what follows the start, or the error
		}{
			{"u16", drivers.DecimalValue(215, -1), "\x06\x11\x06\x2b\x00"},
			{"u16", drivers.DecimalValue(2151, -2), "21.51 falls between two steps"},
			{"u16", drivers.IntValue(40000), "40000 does not fit into 2 bytes"},
			{"u16", drivers.TextValue("x"), "x is not a number"},
			{"f32", drivers.DecimalValue(213, -1), "\x08\x11\x06\x41\xaa\x66\x66"},
			{"f32", drivers.FloatValue(1e300), "does not fit into a float32"},
			{"bcd", drivers.IntValue(215), "\x06\x11\x06\x02\x15"},
			{"bcd", drivers.IntValue(10000), "10000 does not fit into 2 bytes"},
			{"i8", drivers.TextValue("low"), "\x05\x11\x06\xff"},
			{"id", drivers.TextValue("abc"), "\x08\x11\x06abc\x00"},
			{"id", drivers.TextValue("abcde"), "is longer than 4 bytes"},
			{"raw", drivers.TextValue("0aff"), "\x06\x11\x06\x0a\xff"},
			{"raw", drivers.TextValue("0a"), "is not the hexadecimal digits of 2 bytes"},
			{"bit", drivers.BoolValue(true), "a bit cannot be sent"},
		} {
			err := dev.Write(t.Context(), c.point, c.v)
			if err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: want %q, got %v", c.point, c.want, err)
				}
				continue
			}
			frame := "\x7e" + c.want
			w.hear(fmt.Sprintf("%s%c%c", frame, 0, 0)[:len(frame)])
			sum := make([]byte, 2)
			if _, err := w.far.Read(sum); err != nil || uint64(sum[0])|uint64(sum[1])<<8 != serial.Checksum("crc16-modbus", []byte(frame)) {
				t.Errorf("%s: want the checksum of %q, got % x, %v", c.point, frame, sum, err)
			}
		}
	})
	t.Run("frames of several kinds are told apart", func(t *testing.T) {
		w := newWire(t)
		dev := open(t, w, "format: binary\nframe: {type: fixed, length: 3, start: U}\npoints:\n  a: {at: 2, type: uint8, begins: 'hex:5551'}\n  b: {at: 2, type: uint8, begins: 'hex:5552'}\n")
		w.say("UQ\x01UZ\x09UR\x02")
		wantNext(t, dev, "a=1")
		wantNext(t, dev, "b=2")
	})
}

func TestNMEA(t *testing.T) {
	w := newWire(t)
	dev := open(t, w, `format: nmea
frame: {type: nmea}
points:
  latitude: {field: GGA.2, type: degrees}
  longitude: {field: GGA.4, type: degrees}
  altitude: {field: GGA.9, type: number}
  speed: {field: GPRMC.7}
`)
	for _, s := range []string{
		"GPGSV,1", "GPGGA,123519,4807.038,N,01131.000,W,1,08,0.9,545.4,M,46.9,M,,", "GNRMC,,V", "GPRMC,,V,,,,,,",
		"GPRMC,1,A,4807.038,N,01131.000,E,022.4,084.4", "GNGGA,1,,,,,0,,,,M,,M,,", "GNGGA,1,4860.0,N,01131,X,0,,,1x",
	} {
		w.say(fmt.Sprintf("$%s*%02X\r\n", s, serial.Checksum("nmea", []byte(s))))
	}
	wantNext(t, dev, "latitude=48.1173 longitude=-11.5166667 altitude=545.4")
	wantNext(t, dev, "speed: the field is empty")
	wantNext(t, dev, "speed=22.4")
	wantNext(t, dev, "latitude: the field is empty longitude: the field is empty altitude: the field is empty")
	wantNext(t, dev, `latitude: "4860.0" is not degrees and minutes longitude: "X" is not a hemisphere altitude: "1x" is not a number`)
}

func TestFramedDevice(t *testing.T) {
	w := newWire(t)
	dev := open(t, w, "frame: {type: stx}\nchecksum: {type: xor}\nformat: csv\ncolumns: [w, unit]\npoints:\n  w: {type: number, writable: true, write: 'T${value}'}\n")
	w.say("\x0212.50,kg\x03" + string(rune(bcc("12.50,kg\x03"))) + "\x0299.99,kg\x03\x7f\x0213,kg\x03" + string(rune(bcc("13,kg\x03"))))
	wantNext(t, dev, "w=12.5")
	if got := next(t, dev); !strings.Contains(got, "a frame has the checksum 7f, not") {
		t.Errorf("want a wrong checksum told, got %q", got)
	}
	wantNext(t, dev, "w=13")
	if err := dev.Write(t.Context(), "w", drivers.IntValue(0)); err != nil {
		t.Fatal(err)
	}
	w.hear("\x02T0\x03" + string(rune(bcc("T0\x03"))))
	if c := dev.(drivers.Metered).Metrics().Counters; c["frames"] != 2 || c["checksum_errors"] != 1 {
		t.Errorf("want two frames and a wrong checksum counted, got %v", c)
	}
}

func bcc(s string) byte { return byte(serial.Checksum("xor", []byte(s))) }

// coder stands for a script: what is between brackets is the value.
type coder struct{ closed *int }

func (c coder) Decode(_ context.Context, frame []byte) (map[string]drivers.Value, error) {
	if !bytes.HasPrefix(frame, []byte("[")) {
		return nil, errors.New("line 3: no bracket")
	}
	return map[string]drivers.Value{"a": drivers.TextValue(string(bytes.Trim(frame, "[]"))), "other": {}}, nil
}

func (c coder) Encode(_ context.Context, point string, v drivers.Value) ([]byte, error) {
	return fmt.Appendf(nil, "<%s %v>", point, v), nil
}

func (c coder) Close() error { *c.closed++; return nil }

func TestCodec(t *testing.T) {
	opened, closed := 0, 0
	driver := serial.New(serial.Options{
		Codec: func(device, file, source string) (drivers.Coder, error) {
			if device != "d" || file != "c.js" || source != "source" {
				return nil, fmt.Errorf("c.js:1:1: want d and its source, got %q, %q, %q", device, file, source)
			}
			opened++
			return coder{&closed}, nil
		},
	})
	w := newWire(t)
	cfg := func(rest string) drivers.Config {
		c := drivertest.Config(t, "d", "driver: serial\nport: "+w.path+"\ncodec: "+rest+"\npoints:\n  a: {writable: true}\n")
		c.Included = map[string]drivers.Included{"c.js": {Text: "source"}, "d.js": {Err: os.ErrNotExist}}
		return c
	}
	if _, err := driver.Check(cfg("c.js")); err != nil || opened != 1 || closed != 1 {
		t.Errorf("want the codec compiled and closed by a check, got %v, %d opened, %d closed", err, opened, closed)
	}
	opening, err := driver.Open(t.Context(), cfg("c.js"))
	if err != nil {
		t.Fatal(err)
	}
	dev := opening.(drivers.Pusher)
	settled()
	w.say("x\n[5]\n")
	wantNext(t, dev, "the codec: line 3: no bracket")
	wantNext(t, dev, "a=5")
	if err := dev.Write(t.Context(), "a", drivers.IntValue(7)); err != nil {
		t.Error(err)
	}
	w.hear("<a 7>")
	if err := dev.Close(); err != nil || closed != 2 {
		t.Errorf("want the codec closed with the device, got %v, %d", err, closed)
	}
	for rest, want := range map[string]string{
		"d.js":               `d.yaml:3:8: the codec cannot be read: file does not exist`,
		"c.js\nformat: json": `d.yaml:3:8: a codec takes the place of format`,
	} {
		if _, err := driver.Check(cfg(rest)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
	if _, err := serial.New(serial.Options{}).Check(cfg("c.js")); err == nil || !strings.HasPrefix(err.Error(), "d.yaml:3:8: there are no codecs here") {
		t.Errorf("want no codecs, got %v", err)
	}
}
