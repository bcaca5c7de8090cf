package serial_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers/serial"
)

// heard feeds a framing byte by byte; "~" in the stream is a silence. It gives what
// frames say and, in brackets, what is wrong.
func heard(t *testing.T, frames *serial.Frames, stream string) []string {
	t.Helper()
	var all []string
	got := func(b []byte) { all = append(all, string(b)) }
	bad := func(err error) { all = append(all, "("+err.Error()+")") }
	for i := range len(stream) {
		if stream[i] == '~' {
			frames.Silence(got, bad)
			continue
		}
		frames.Feed([]byte{stream[i]}, got, bad)
	}
	return all
}

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		name, keys, stream string
		want               []string
	}{
		{"lines", "frame: {type: line}", "a\r\n\nb\n", []string{"a", "b"}},
		{"lines with a checksum", "frame: {type: line}\nchecksum: {type: sum8, as: hex}", "ab C3\nabC3\nabc3\nabC4\n", []string{"(a frame has the checksum \"C3\", not \"E3\")", "ab", "ab", "(a frame has the checksum \"C4\", not \"C3\")"}},
		{"a delimiter", "frame: {type: delimiter, delimiter: 'hex:00ff'}", "\r\x00\x00\xff\r\n\x00\xff", []string{"\r\x00", "\r\n"}},
		{"fixed length", "frame: {type: fixed, length: 3}", "abcdef", []string{"abc", "def"}},
		{"fixed length after a pause within a frame", "frame: {type: fixed, length: 3}", "ab~abc", []string{"(a frame broke off after 2 bytes)", "abc"}},
		{"fixed length with a start", "frame: {type: fixed, length: 4, start: 'hex:aa55'}", "\xaaz\xaa\x55ab\xaa\x55cd", []string{"(2 bytes that are no frame were passed over)", "\xaa\x55ab", "\xaa\x55cd"}},
		{"fixed length with a start within the frame", "frame: {type: fixed, length: 4, start: Z}\nchecksum: {type: sum8}", "ZZaZab\x1d", []string{"(a frame has the checksum 5a, not 15)", "Zab"}},
		{"a length of the rest", "frame: {type: length}", "\x02ab\x00\x01c", []string{"\x02ab", "\x00", "\x01c"}},
		{"a length of itself and the rest", "frame: {type: length, counts: self, size: 2}", "\x00\x04ab", []string{"\x00\x04ab"}},
		{"a length of all, little end first", "frame: {type: length, start: S, offset: 1, counts: all, size: 2, order: little}", "S\x05\x00ab", []string{"S\x05\x00ab"}},
		{"a length and what it does not count", "frame: {type: length, size: 4, extra: 2}", "\x00\x00\x00\x01aZZ", []string{"\x00\x00\x00\x01aZZ"}},
		{"a length that is beyond all", "frame: {type: length}\nmax_frame: 8", "\xff\x01\x01\x01~\x01a", []string{"(a frame says that it has 256 bytes)", "\x01a"}},
		{"a length that is beyond all, after a start", "frame: {type: length, start: S, offset: 1}\nmax_frame: 8", "S\xffS\x01a", []string{"(a frame says that it has 257 bytes)", "S\x01a"}},
		{"a length that is too short", "frame: {type: length, start: S, offset: 1, counts: all}", "S\x01S\x03a", []string{"(a frame says that it has 1 bytes)", "S\x03a"}},
		{"silence", "frame: {type: silence, silence: 5ms}", "ab~c~~", []string{"ab", "c"}},
		{"silence that does not come", "frame: {type: silence, silence_chars: 3.5}\nmax_frame: 2", strings.Repeat("x", 70) + "~ab~", []string{"(69 bytes came without the end of a frame)", "ab"}},
		{"STX and ETX", "frame: {type: stx}", "\r\n\x02ab\x03\r\n\x02\x03", []string{"ab", ""}},
		{"STX and ETX amid noise", "frame: {type: stx}", "zz\x02ab\x03z\x02c\x02de\x03", []string{"(2 bytes that are no frame were passed over)", "ab", "(3 bytes that are no frame were passed over)", "de"}},
		{"STX and ETX with a checksum behind", "frame: {type: stx}\nchecksum: {type: xor}", "\x02ab\x03\x00\x02ab\x03\x01\x02\x03\x03", []string{"ab", "(a frame has the checksum 01, not 00)", ""}},
		{"STX and ETX with a checksum before", "frame: {type: stx}\nchecksum: {type: xor, as: hex, inside: true}", "\x02ab03\x03", []string{"ab"}},
		{"STX and ETX with a checksum that covers them", "frame: {type: stx}\nchecksum: {type: xor, from: 0}", "\x02ab\x03\x02", []string{"ab"}},
		{"other marks", "frame: {type: stx, start: '<<', end: '>'}", "<<a<>", []string{"a<"}},
		{"STX and ETX without an end", "frame: {type: stx}\nmax_frame: 4", "\x02abcdefgh\x02a\x03", []string{"(a frame is longer than 4 bytes)", "a"}},
		{"DLE", "frame: {type: stx, dle: true}", "\x10\x02a\x03\x10\x10b\x10\x03", []string{"a\x03\x10b"}},
		{"DLE before what it cannot", "frame: {type: stx, dle: true}", "\x10\x02a\x10z\x10\x02b\x10\x03", []string{"(the character 0x7a follows DLE)", "b"}},
		{"DLE and a frame that broke off", "frame: {type: stx, dle: true}", "\x10\x02a\x10\x02b\x10\x03", []string{"(3 bytes that are no frame were passed over)", "b"}},
		{"SLIP", "frame: {type: slip}", "\xc0a\xdb\xdc\xdb\xddb\xc0\xc0c\xc0", []string{"a\xc0\xdbb", "c"}},
		{"SLIP with a wrong escape", "frame: {type: slip}", "a\xdbb\xc0c\xc0a\xdb\xc0", []string{"(a frame has a wrong escape)", "c", "(a frame has a wrong escape)"}},
		{"COBS", "frame: {type: cobs}", "\x00\x03ab\x02c\x00\x01\x01\x00", []string{"ab\x00c", "\x00"}},
		{"COBS with a wrong count", "frame: {type: cobs}", "\x05ab\x00\x02a\x00", []string{"(a frame has a wrong count)", "a"}},
		{"NMEA 0183", "frame: {type: nmea}", "$GPGLL,4916.45,N*3B\r\n$GPGLL,4916.45,N*00\r\n$GPGLL,4916.45,N\r\n!AI*08\n", []string{"GPGLL,4916.45,N", "(a frame has the checksum \"*00\", not \"*3B\")", "(a sentence has no checksum)", "AI"}},
		{"NMEA 0183 with and without a checksum", "frame: {type: nmea}\nchecksum: {type: nmea, optional: true}", "$A,1\n$A,1*0\n$A,1*5C\n", []string{"A,1", "(a sentence has no checksum)", "A,1"}},
		{"NMEA 0183 amid noise", "frame: {type: nmea}", "boot\n$GP$AI*08\n", []string{"(8 bytes that are no frame were passed over)", "AI"}},
		{"a checksum in the middle", "frame: {type: fixed, length: 4}\nchecksum: {type: sum8, at: 1, from: 2, to: 4}", "a\xc5bc", []string{"a\xc5bc"}},
		{"a checksum before the end", "frame: {type: fixed, length: 4}\nchecksum: {type: sum8, at: -2, to: -2}", "ab\xc3z", []string{"ab\xc3z"}},
		{"frames that are too short for a checksum", "frame: {type: slip}\nchecksum: {type: crc32}", "ab\xc0", []string{"(a frame of 2 bytes has no room for its checksum)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := heard(t, framesOf(t, c.keys), c.stream); !slices.Equal(got, c.want) {
				t.Errorf("%q:\nwant %q\ngot  %q", c.stream, c.want, got)
			}
		})
	}
}

func TestHalfFrames(t *testing.T) {
	for keys, c := range map[string]struct {
		stream string
		want   []string
	}{
		"frame: {type: line}":                                  {"1.5\n2\n", []string{"2"}},
		"frame: {type: slip}":                                  {"1.5\xc02\xc0", []string{"2"}},
		"frame: {type: cobs}":                                  {"\x01\x00\x02a\x00", []string{"a"}},
		"frame: {type: silence, silence: 1ms}":                 {"1~2~", []string{"2"}},
		"frame: {type: fixed, length: 2}":                      {"1ab~cd", []string{"cd"}},
		"frame: {type: length}":                                {"1ab~\x01c", []string{"\x01c"}},
		"frame: {type: stx}":                                   {"b\x03\x02a\x03", []string{"a"}},
		"frame: {type: nmea}":                                  {"A*00\n$A*41\n", []string{"A"}},
		"frame: {type: line}\nchecksum: {type: sum8, as: hex}": {"b62\nb62\n", []string{"b", "b"}}, // what it covers is whole
	} {
		frames := framesOf(t, keys)
		frames.Skip()
		if got := heard(t, frames, c.stream); !slices.Equal(got, c.want) {
			t.Errorf("%s: want %q, got %q", keys, c.want, got)
		}
	}
}

func TestEncode(t *testing.T) {
	for _, c := range []struct{ keys, say, want string }{
		{"frame: {type: line, delimiter: \"\\r\\n\"}", "ab", "ab\r\n"},
		{"frame: {type: line}", "a\nb", "(what is sent has the delimiter in it)"},
		{"frame: {type: delimiter, delimiter: aba}", "xab", "(what is sent has the delimiter in it)"},
		{"frame: {type: fixed, length: 3}\nchecksum: {type: sum8}", "ab", "ab\xc3"},
		{"frame: {type: fixed, length: 3}", "ab", "(what is sent has 2 bytes, not 3)"},
		{"frame: {type: length, size: 2, order: little}\nchecksum: {type: xor}", "\x00\x00ab", "\x03\x00ab\x00"},
		{"frame: {type: length, offset: 1}", "a", "(a frame of 1 bytes cannot say how long it is)"},
		{"frame: {type: length, start: S, offset: 1}", "ab", "(what is sent does not begin as frames do)"},
		{"frame: {type: silence, silence: 1ms}\nchecksum: {type: crc16-modbus}", "123456789", "123456789\x37\x4b"},
		{"frame: {type: silence, silence: 1ms}\nchecksum: {type: crc16-modbus, order: big}", "123456789", "123456789\x4b\x37"},
		{"frame: {type: stx}\nchecksum: {type: xor}", "ab", "\x02ab\x03\x00"},
		{"frame: {type: stx}\nchecksum: {type: xor, as: hex, inside: true}", "ab", "\x02ab03\x03"},
		{"frame: {type: stx}", "a\x03", "(what is sent has the mark of a frame's start or end in it)"},
		{"frame: {type: stx, dle: true}", "a\x03\x10", "\x10\x02a\x03\x10\x10\x10\x03"},
		{"frame: {type: slip}", "\xc0\xdb", "\xc0\xdb\xdc\xdb\xdd\xc0"},
		{"frame: {type: cobs}", "a\x00b", "\x00\x02a\x02b\x00"},
		{"frame: {type: cobs}", strings.Repeat("z", 254), "\x00\xff" + strings.Repeat("z", 254) + "\x00"},
		{"frame: {type: nmea}", "PMTK251,9600", "$PMTK251,9600*17\r\n"},
		{"frame: {type: nmea}", "P\r\n$Q", "(what is sent is not one sentence)"},
		{"frame: {type: slip}\nmax_frame: 2", "abc", "(a frame of 3 bytes is longer than 2)"},
		{"frame: {type: fixed, length: 4}\nchecksum: {type: sum8, at: 1, from: 2, to: 4}", "a\x00bc", "a\xc5bc"},
	} {
		got, err := framesOf(t, c.keys).Encode([]byte(c.say))
		if err != nil {
			got = fmt.Appendf(nil, "(%v)", err)
		}
		if string(got) != c.want {
			t.Errorf("%s: %q: want %q, got %q", c.keys, c.say, c.want, got)
		}
	}
}

// TestChecksums has the check values of the catalogue of parametrised CRC algorithms,
// which are those of "123456789".
func TestChecksums(t *testing.T) {
	want := map[string]uint64{
		"xor": 0x31, "nmea": 0x31, "sum8": 0xdd, "sum16": 0x01dd, "sum8-twos": 0x23, "sum16-twos": 0xfe23, "lrc": 0x23,
		"crc8": 0xf4, "crc8-maxim": 0xa1, "crc8-sae-j1850": 0x4b,
		"crc16": 0xbb3d, "crc16-arc": 0xbb3d, "crc16-ibm": 0xbb3d, "crc16-modbus": 0x4b37, "crc16-usb": 0xb4c8,
		"crc16-ccitt-false": 0x29b1, "crc16-xmodem": 0x31c3, "crc16-kermit": 0x2189, "crc16-x25": 0x906e, "crc16-dnp": 0xea82,
		"crc32": 0xcbf43926, "crc32c": 0xe3069283, "crc32-mpeg2": 0x0376e6e7,
	}
	for _, name := range serial.Algorithms() {
		if got := serial.Checksum(name, []byte("123456789")); got != want[name] || want[name] == 0 {
			t.Errorf("%s: want %#x, got %#x", name, want[name], got)
		}
	}
	t.Run("of the general form", func(t *testing.T) {
		for keys, want := range map[string]string{
			"width: 16, poly: 0x1021, init: 0xb2aa, refin: true, refout: true": "\xd0\x63",         // RIELLO
			"width: 24, poly: 0x864cfb, init: 0xb704ce":                        "\x21\xcf\x02",     // OPENPGP
			"width: 8, poly: 0x9b, refin: true, refout: true":                  "\x25",             // WCDMA
			"width: 32, poly: 0x04c11db7, xorout: 0xffffffff, order: little":   "\x80\x76\x5e\x76", // CKSUM
		} {
			got, err := framesOf(t, "frame: {type: silence, silence: 1ms}\nchecksum: {type: crc, "+keys+"}").Encode([]byte("123456789"))
			if err != nil || string(got[9:]) != want {
				t.Errorf("%s: want % x, got % x, %v", keys, want, got, err)
			}
		}
	})
}
