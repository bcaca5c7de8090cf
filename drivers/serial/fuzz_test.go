package serial_test

import (
	"bytes"
	"encoding/json"
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

// FuzzFramer compares the framer, fed in pieces, with a naive cut of the whole.
func FuzzFramer(f *testing.F) {
	f.Add([]byte("a\r\nbb\n\nccccccccc\nd\n"), uint8(3), "\n")
	f.Add([]byte("||a|||b||"), uint8(1), "||")
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaaaaab"), uint8(2), "aab")
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8, delimiter string) {
		if delimiter == "" || strings.Contains(delimiter, "\r") {
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
		feed := serial.Framer(delimiter, most, func(line []byte) { got = append(got, string(line)) }, func() { got = append(got, "(too long)") })
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			feed(rest[:n])
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
