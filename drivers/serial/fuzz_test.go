package serial_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		`{"t":21.5,"a":{"b":null}}`, "T=21.5, H:40;S=on", `21.5,"a,b",7`, "T-3.5 C", "=", "\xff\x00", "t=nan", "t=1e999", `{"t":1`, "t=0x1p-2",
	} {
		f.Add([]byte(seed))
	}
	var parsers []func([]byte) ([]drivers.Reading, error)
	for _, format := range []string{
		"format: json", "format: keyvalue", "format: csv\ncolumns: [t, u, a.b]", "format: regex\npattern: '(?<t>[^ ]+)(?: (?<u>.*))?'",
	} {
		deep := "  deep: {field: a.b}\n"
		if strings.Contains(format, "regex") { // no group can be called so
			deep = ""
		}
		cfg := drivertest.Config(f, "d", "driver: serial\nport: x\n"+format+`
points:
  t: {}
  u: {type: text}
  n: {field: t, type: number}
  b: {field: t, type: bool, words: {open: true}}
`+deep)
		p, err := serial.Parser(cfg)
		if err != nil {
			f.Fatal(err)
		}
		parsers = append(parsers, p)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, parse := range parsers {
			readings, err := parse(line)
			if (err == nil) == (len(readings) == 0) {
				t.Fatalf("%q: want readings or an error, got %v, %v", line, readings, err)
			}
			for _, r := range readings {
				if (r.Quality == drivers.Bad) != (r.Err != nil) || (r.Err != nil && !r.Value.IsNull()) {
					t.Errorf("%q: want a value or an error, got %+v", line, r)
				}
				if !json.Valid(r.Value.AppendJSON(nil)) {
					t.Errorf("%q: %s is not JSON", line, r.Value.AppendJSON(nil))
				}
			}
		}
	})
}

// FuzzCodecs reads anything as binary frames and as sentences, and writes what it has
// read.
func FuzzCodecs(f *testing.F) {
	f.Add([]byte("\xaa\x55\xff\x09\x3a\xff\xff\xfe\x66\x66\x41\xaa"))
	f.Add([]byte("GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,"))
	f.Add([]byte("GPGGA,,99999999999999999999.1,S,-1.5,W,1e9"))
	const head = "driver: serial\nport: x\n"
	binary := `format: binary
write: "hex:${value}"
points:
  i8: {at: 0, type: int8, scale: 0.1, offset: -40, writable: true}
  u24: {at: -3, type: uint24, order: little, writable: true}
  i64: {at: 0, type: int64, order: CDAB, scale: 1.5, writable: true}
  u64: {at: 1, type: uint64, writable: true}
  f32: {at: 2, type: float32, writable: true}
  f64: {at: 0, type: float64, order: BADC, scale: 0.001, writable: true}
  bcd: {at: 1, type: bcd, length: 9, scale: 0.01, writable: true}
  bit: {at: 3, type: uint16, bit: 15}
  bits: {at: 3, type: uint16, bits: 3-9}
  text: {at: 2, type: text, length: 4, writable: true}
  all: {at: 0, type: hex, writable: true}
`
	parse := map[string]func([]byte) ([]drivers.Reading, error){}
	for name, file := range map[string]string{
		"binary": binary,
		"nmea":   "format: nmea\npoints:\n  a: {field: GGA.2, type: degrees}\n  b: {field: GGA.4, type: degrees}\n  c: {field: GPGGA.9}\n  d: {field: GGA.1, type: text}\n",
	} {
		p, err := serial.Parser(drivertest.Config(f, "d", head+file))
		if err != nil {
			f.Fatal(err)
		}
		parse[name] = p
	}
	say, err := serial.Writer(drivertest.Config(f, "d", head+binary))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		for name, p := range parse {
			readings, _ := p(frame) // what is no text is not understood
			for _, r := range readings {
				if (r.Quality == drivers.Bad) != (r.Err != nil) || !json.Valid(r.Value.AppendJSON(nil)) {
					t.Errorf("%s: %q: want a value or an error, got %+v", name, frame, r)
				}
				if name == "nmea" || r.Err != nil || strings.HasPrefix(r.Point, "bit") || r.Value.Kind() == drivers.Float {
					continue
				}
				sent, err := say(r.Point, r.Value)
				if err != nil || r.Point != "text" && !bytes.Contains(frame, sent) {
					t.Errorf("%s of %q is %v, and written as %q, %v", r.Point, frame, r.Value, sent, err)
				}
			}
		}
	})
}

// FuzzLines compares lines, fed in pieces, with a naive cut of the whole.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\r\nbb\n\nccccccccc\nd\n"), uint8(3), "\n")
	f.Add([]byte("||a|||b||"), uint8(1), "||")
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaaaaab"), uint8(2), "aab")
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8, delimiter string) {
		if delimiter == "" || len(delimiter) > 16 || strings.Contains(delimiter, "\r") {
			return
		}
		const most = 8
		var want, got []string
		parts := bytes.Split(stream, []byte(delimiter))
		for _, part := range parts[:len(parts)-1] {
			part = bytes.Trim(part, "\r")
			switch {
			case len(part) > most:
				want = append(want, "(too long)")
			case len(part) > 0:
				want = append(want, string(part))
			}
		}
		frames := serial.Lines(delimiter, most)
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			frames.Feed(rest[:n], func(line []byte) { got = append(got, string(line)) }, func(error) { got = append(got, "(too long)") })
			rest = rest[n:]
		}
		if len(got) == len(want)+1 && got[len(got)-1] == "(too long)" { // of a line without an end
			got = got[:len(got)-1]
		}
		if strings.Join(got, "\x00") != strings.Join(want, "\x00") && !strings.Contains(string(stream), "\r") {
			t.Errorf("%q by %q in pieces of %d: want %q, got %q", stream, delimiter, int(piece)+1, want, got)
		}
	})
}

// fuzzedFrames are framings of every type, as the device file has them.
var fuzzedFrames = []string{
	"frame: {type: line}\nchecksum: {type: crc16-modbus, as: hex}",
	"frame: {type: delimiter, delimiter: 'hex:0d0a'}",
	"frame: {type: fixed, length: 6, start: 'hex:aa55'}\nchecksum: {type: sum8}",
	"frame: {type: fixed, length: 5}",
	"frame: {type: length, size: 1}\nchecksum: {type: xor}",
	"frame: {type: length, start: 'hex:aa', offset: 1, size: 2, order: little, counts: self, extra: 1}\nchecksum: {type: crc8}",
	"frame: {type: length, offset: 0, size: 4, counts: all}",
	"frame: {type: silence, silence: 5ms}\nchecksum: {type: crc16-modbus}",
	"frame: {type: stx}\nchecksum: {type: xor}",
	"frame: {type: stx}\nchecksum: {type: lrc, as: hex, inside: true}",
	"frame: {type: stx, dle: true}\nchecksum: {type: crc16-xmodem}",
	"frame: {type: stx, dle: true}\nchecksum: {type: crc16-xmodem, inside: true}",
	"frame: {type: slip}",
	"frame: {type: slip}\nchecksum: {type: crc32}",
	"frame: {type: cobs}",
	"frame: {type: nmea}",
}

func framesOf(t testing.TB, keys string) *serial.Frames {
	t.Helper()
	frames, err := serial.NewFrames(drivertest.Config(t, "d", "driver: serial\nport: x\nformat: keyvalue\npoints: {a: {}}\n"+keys+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

// FuzzFrames feeds each framing with anything, whole and in pieces, and has it read
// what it made itself, behind that as well.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		"$GPGLL,4916.45,N*31\r\n", "\x02abc\x03\x63", "\xc0a\xdb\xdcb\xc0", "\x03ab\x00", "\xaa\x55ab\x00\x00", "\x10\x02a\x10\x10b\x10\x03zz",
		"abcde", "\x00\x00\x00\x05a", "hello 6f2a\n", "\x01\x01", "*00", "$*00\n", "!\x02\x10",
	} {
		f.Add([]byte(seed), []byte("abc"), uint8(2))
	}
	var all []*serial.Frames
	for _, keys := range fuzzedFrames {
		all = append(all, framesOf(f, keys+"\nmax_frame: 40"))
	}
	f.Fuzz(func(t *testing.T, stream, say []byte, size uint8) {
		for i, keys := range fuzzedFrames {
			whole, pieces := all[i].Clone(), all[i].Clone()
			var want, got []string
			note := func(to *[]string) func([]byte) {
				return func(b []byte) {
					if len(b) > whole.Most() {
						t.Errorf("%s: %d bytes are more than a frame may have", keys, len(b))
					}
					*to = append(*to, string(b))
				}
			}
			bad := func(err error) {
				if !errors.Is(err, serial.ErrTooLong) && !errors.Is(err, serial.ErrChecksum) && !errors.Is(err, serial.ErrBroken) && !errors.Is(err, serial.ErrNoise) {
					t.Errorf("%s: %v is of no kind", keys, err)
				}
			}
			silences := strings.Contains(keys, "silence")
			for rest := stream; len(rest) > 0 && !silences; {
				n := min(len(rest), int(size)+1)
				pieces.Feed(rest[:n], note(&got), bad)
				if pieces.Waiting() > 2*40+64 {
					t.Errorf("%s: %d bytes wait", keys, pieces.Waiting())
				}
				rest = rest[n:]
			}
			whole.Feed(stream, note(&want), bad)
			if !silences && !slices.Equal(got, want) {
				t.Errorf("%s: %q in pieces of %d gives %q, not %q", keys, stream, int(size)+1, got, want)
			}
			whole.Silence(note(&want), bad)
			sent, err := whole.Encode(say)
			if err != nil || len(say) == 0 || strings.HasPrefix(string(say), "\r") || strings.HasSuffix(string(say), "\r") {
				continue
			}
			heard := all[i].Clone()
			got = nil
			heard.Feed(sent, note(&got), bad)
			heard.Silence(note(&got), bad)
			if len(got) == 1 && strings.Contains(keys, "type: length,") { // it is written into what is said
				want = []string{string(sent[:len(got[0])])}
			} else {
				want = []string{string(say)}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q is sent as %q and heard as %q", keys, say, sent, got)
			}
		}
	})
}
