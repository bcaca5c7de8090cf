package modbus_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/google/go-cmp/cmp"
)

// unhex reads bytes written as "01 04 00".
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pduVectors are the examples of the Modbus Application Protocol V1.1b3 §6.
var pduVectors = []struct {
	name         string
	request      modbus.Request
	pdu, answer  string
	data, refuse string
}{
	{"§6.1 read coils", modbus.Request{Fn: 1, Addr: 0x13, Count: 0x13}, "01 00 13 00 13", "01 03 CD 6B 05", "CD 6B 05", "81 02"},
	{"§6.2 read discrete inputs", modbus.Request{Fn: 2, Addr: 0xC4, Count: 0x16}, "02 00 C4 00 16", "02 03 AC DB 35", "AC DB 35", "82 02"},
	{"§6.3 read holding registers", modbus.Request{Fn: 3, Addr: 0x6B, Count: 3}, "03 00 6B 00 03", "03 06 02 2B 00 00 00 64", "02 2B 00 00 00 64", "83 02"},
	{"§6.4 read input registers", modbus.Request{Fn: 4, Addr: 8, Count: 1}, "04 00 08 00 01", "04 02 00 0A", "00 0A", "84 03"},
	{"§6.5 write single coil", modbus.Request{Fn: 5, Addr: 0xAC, Count: 1, Data: []byte{0xFF, 0}}, "05 00 AC FF 00", "05 00 AC FF 00", "", "85 04"},
	{"§6.6 write single register", modbus.Request{Fn: 6, Addr: 1, Count: 1, Data: []byte{0, 3}}, "06 00 01 00 03", "06 00 01 00 03", "", "86 02"},
	{"§6.11 write multiple coils", modbus.Request{Fn: 15, Addr: 0x13, Count: 10, Data: []byte{0xCD, 1}}, "0F 00 13 00 0A 02 CD 01", "0F 00 13 00 0A", "", "8F 02"},
	{"§6.12 write multiple registers", modbus.Request{Fn: 16, Addr: 1, Count: 2, Data: []byte{0, 10, 1, 2}}, "10 00 01 00 02 04 00 0A 01 02", "10 00 01 00 02", "", "90 03"},
	{"§6.16 mask write register", modbus.Request{Fn: 22, Addr: 4, Count: 1, Data: []byte{0, 0xF2, 0, 0x25}}, "16 00 04 00 F2 00 25", "16 00 04 00 F2 00 25", "", "96 02"},
	{
		"§6.17 read/write multiple registers",
		modbus.Request{Fn: 23, Addr: 3, Count: 6, Data: []byte{0, 14, 0, 3, 6, 0, 255, 0, 255, 0, 255}},
		"17 00 03 00 06 00 0E 00 03 06 00 FF 00 FF 00 FF", "17 0C 00 FE 0A CD 00 01 00 03 00 0D 00 FF", "00 FE 0A CD 00 01 00 03 00 0D 00 FF", "97 02",
	},
	{
		"§6.21 read device identification",
		modbus.Request{Fn: 43, Data: []byte{14, 1, 0}},
		"2B 0E 01 00",
		"2B 0E 01 01 00 00 02 00 02 41 42 01 00", "2B 0E 01 01 00 00 02 00 02 41 42 01 00", "AB 01",
	},
}

func TestPDUExamplesOfTheStandard(t *testing.T) {
	for _, v := range pduVectors {
		t.Run(v.name, func(t *testing.T) {
			if diff := cmp.Diff(unhex(t, v.pdu), v.request.PDU()); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			verdict, data, _ := v.request.Judge(unhex(t, v.answer))
			if verdict != "granted" || hex.EncodeToString(data) != strings.ToLower(strings.ReplaceAll(v.data, " ", "")) {
				t.Errorf("answer is %s with %x", verdict, data)
			}
			refusal := unhex(t, v.refuse)
			if verdict, _, code := v.request.Judge(refusal); verdict != "refused" || code != modbus.Code(refusal[1]) {
				t.Errorf("exception is %s with %v", verdict, code)
			}
		})
	}
}

func TestPDUThatIsAnotherAnswerIsForeign(t *testing.T) {
	for _, v := range pduVectors {
		t.Run(v.name, func(t *testing.T) {
			good := unhex(t, v.answer)
			others := [][]byte{nil, good[:1], good[:len(good)-1], append(good[:len(good):len(good)], 0), {good[0] | 0x80}, {good[0] | 0x80, 0}}
			shown := map[modbus.Function]int{5: 5, 6: 5, 15: 5, 16: 5, 22: 7, 43: 3} // bytes that show the request
			for i := range good {
				bad := append([]byte(nil), good...)
				bad[i]++
				if i < max(2, shown[v.request.Fn]) {
					others = append(others, bad)
				}
			}
			for _, pdu := range others {
				if verdict, _, _ := v.request.Judge(pdu); verdict != "foreign" {
					t.Errorf("% x is %s", pdu, verdict)
				}
			}
		})
	}
}

func TestPDUOfARequestIsReadBack(t *testing.T) {
	for _, v := range pduVectors {
		r := modbus.ParseRequest(0, unhex(t, v.pdu))
		if diff := cmp.Diff(v.request, r); diff != "" {
			t.Errorf("%s (-want +got):\n%s", v.name, diff)
		}
		if answer := r.AppendAnswer(unhex(t, v.data)); !cmp.Equal(answer, unhex(t, v.answer)) {
			t.Errorf("%s: the answer becomes % x", v.name, answer)
		}
	}
	for _, s := range []string{
		"03", "03 00 00 00 00", "03 00 00 00 7E", "01 00 00 07 D1", "03 00 00 00 01 00", "05 00 00 FF", "16 00 00 00 00 00",
		"10 00 00 00 01 03 00 00", "10 00 00 00 02 02 00 00", "0F 00 00 00 09 01 FF", "17 00 00 00 01 00 00 00 01 01 00", "2B 0D 01 00", "2B 0E 05 00", "07",
	} {
		pdu := unhex(t, s)
		r := modbus.ParseRequest(9, pdu)
		if want := (modbus.Request{Unit: 9, Fn: modbus.Function(pdu[0]), Data: pdu[1:], Raw: true}); !cmp.Equal(r, want) {
			t.Errorf("%s gives %+v", s, r)
		}
	}
}

func TestExceptionSaysItsCode(t *testing.T) {
	e := modbus.Exception{Function: modbus.ReadInputRegisters, Code: modbus.IllegalAddress}
	if want := "exception 2 (illegal data address) from function 4 (read input registers)"; e.Error() != want {
		t.Errorf("%q, want %q", e, want)
	}
	e = modbus.Exception{Function: 99, Code: 200}
	if want := "exception 200 from function 99"; e.Error() != want {
		t.Errorf("%q, want %q", e, want)
	}
}

func TestRTUScan(t *testing.T) {
	read := modbus.Request{Unit: 1, Fn: 3, Addr: 0x6B, Count: 2}
	seal := func(s string) []byte { return modbus.AppendCRC(unhex(t, s)) }
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	answer := seal("01 03 04 00 01 00 02")
	bits := modbus.Request{Unit: 1, Fn: 1, Addr: 0x3EF, Count: 17}
	coil := modbus.Request{Unit: 1, Fn: 5, Addr: 3, Count: 1, Data: []byte{0xFF, 0}}
	several := modbus.Request{Unit: 1, Fn: 16, Addr: 3, Count: 1, Data: []byte{0, 9}}
	identify := modbus.Request{Unit: 1, Fn: 43, Data: []byte{14, 1, 0}}
	unknown := modbus.Request{Unit: 1, Fn: 100, Data: []byte{7, 8}, Raw: true}
	loop := modbus.Request{Unit: 1, Fn: 8, Data: []byte{0, 0, 0xAB, 0xCD}, Raw: true}
	mask := modbus.Request{Unit: 1, Fn: 22, Addr: 3, Count: 1, Data: []byte{0, 9, 0, 1}}
	both := modbus.Request{Unit: 1, Fn: 23, Addr: 3, Count: 1, Data: []byte{0, 9, 0, 1, 2, 0, 7}}
	for _, c := range []struct {
		name    string
		request modbus.Request
		heard   []byte
		echoes  bool
		verdict string
		hunted  bool
	}{
		{"the answer", read, answer, false, "granted", false},
		{"nothing", read, nil, false, "foreign", false},
		{"a part of it", read, answer[:8], false, "foreign", false},
		{"the example of the standard's CRC", modbus.Request{Unit: 2, Fn: 7}, []byte{2, 7, 0x41, 0x12}, false, "foreign", false},
		{"an exception", read, seal("01 83 02"), false, "refused", false},
		{"an exception to another function", read, seal("01 84 02"), false, "foreign", false},
		{"another unit's answer first", read, join(seal("02 03 04 00 09 00 09"), answer), false, "granted", false},
		{"another unit's answer only", read, seal("02 03 04 00 09 00 09"), false, "foreign", false},
		{"another length first", read, join(seal("01 03 02 00 09"), answer), false, "granted", false},
		{"its own echo first", read, join(read.Frame(), answer), false, "granted", false},
		{"its own echo only", read, read.Frame(), false, "foreign", false},
		{"an echo that looks like an answer", bits, bits.Frame(), false, "foreign", false},
		{"noise first", read, join([]byte{1, 3, 9, 77}, answer), false, "granted", true},
		{"a torn one first", read, join(answer[:5], answer), false, "granted", true},
		{"a wrong CRC", read, append(answer[:8:8], answer[8]^1), false, "foreign", false},
		{"the answer inside another frame", read, seal("02 03 0C 01 " + hex.EncodeToString(answer) + " 09 09"), false, "foreign", false},
		{"a write's answer", coil, coil.Frame(), false, "granted", false},
		{"a write's echo on a line that repeats", coil, coil.Frame(), true, "foreign", false},
		{"a write's echo and answer", coil, join(coil.Frame(), coil.Frame()), true, "granted", false},
		{"a write's answer with another value", coil, seal("01 05 00 03 00 00"), false, "foreign", false},
		{"a write's answer with another address", several, seal("01 10 00 04 00 01"), false, "foreign", false},
		{"noise and a write's echo on a line that repeats", coil, join([]byte{0}, coil.Frame()), true, "foreign", false},
		{"noise, a write's echo and answer", coil, join([]byte{0}, coil.Frame(), coil.Frame()), true, "granted", true},
		{"noise and an echo that looks like an answer", bits, join([]byte{0}, bits.Frame()), false, "foreign", false},
		{"a long write's echo and answer", several, join(several.Frame(), seal("01 10 00 03 00 01")), false, "granted", false},
		{"a long write's echo", several, several.Frame(), false, "foreign", false},
		{"an identification", identify, seal("01 2B 0E 01 01 00 00 01 00 02 41 42"), false, "granted", false},
		{"another unit's identification first", identify, join(seal("02 2B 0E 01 01 00 00 01 00 02 41 42"), seal("01 2B 0E 01 01 00 00 01 00 02 41 42")), false, "granted", false},
		{"a part of an identification", identify, unhex(t, "01 2B 0E 01 01 00 00 01 00 02 41"), false, "foreign", false},
		{"an identification with noise before it", identify, join([]byte{1, 9}, seal("01 2B 0E 01 01 00 00 01 00 02 41 42")), false, "granted", true},
		{"an answer of any length, which ends where silence follows", unknown, seal("01 64 01 02 03"), false, "granted", true},
		{"one with something behind it", unknown, join(seal("01 64 01 02 03"), []byte{9}), false, "foreign", false},
		{"one of another function", unknown, seal("01 65 01 02 03"), false, "foreign", false},
		{"its echo only", unknown, unknown.Frame(), false, "foreign", false},
		{"its echo and answer", unknown, join(unknown.Frame(), seal("01 64 01 02 03")), false, "granted", true},
		{"an exception to it", unknown, seal("01 E4 01"), false, "refused", false},
		{"a loop back", loop, loop.Frame(), false, "granted", true},
		{"a loop back's echo on a line that repeats", loop, loop.Frame(), true, "foreign", false},
		{"a mask write's answer", mask, mask.Frame(), false, "granted", false},
		{"a read/write's echo and answer", both, join(both.Frame(), seal("01 17 02 00 07")), false, "granted", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if verdict, _, hunted := c.request.Scan(c.heard, c.echoes); verdict != c.verdict || hunted != c.hunted {
				t.Errorf("%s (hunted %v), want %s (%v)", verdict, hunted, c.verdict, c.hunted)
			}
		})
	}
	if crc := modbus.AppendCRC([]byte{2, 7}); crc[2] != 0x41 || crc[3] != 0x12 {
		t.Errorf("CRC of 02 07 is % x, want 41 12 (Modbus over Serial Line, appendix B)", crc[2:])
	}
}

func TestASCIIScan(t *testing.T) {
	if frame := string(modbus.AppendASCII(nil, 0xF7, []byte{3, 0x13, 0x89, 0, 0x0A})); frame != ":F7031389000A60\r\n" {
		t.Errorf("the frame is %q", frame)
	}
	read := modbus.Request{Unit: 1, Fn: 3, Addr: 0x6B, Count: 2}
	coil := modbus.Request{Unit: 1, Fn: 5, Addr: 3, Count: 1, Data: []byte{0xFF, 0}}
	unknown := modbus.Request{Unit: 1, Fn: 100, Data: []byte{7, 8}, Raw: true}
	const answer = ":01030400010002F5\r\n"
	for _, c := range []struct {
		name    string
		request modbus.Request
		heard   string
		echoes  bool
		verdict string
		odd     bool
	}{
		{"the answer", read, answer, false, "granted", false},
		{"in small letters, without CR", read, ":01030400010002f5\n", false, "granted", false},
		{"nothing", read, "", false, "foreign", false},
		{"a part of it", read, answer[:9], false, "foreign", false},
		{"an exception", read, ":0183027A\r\n", false, "refused", false},
		{"a wrong LRC", read, ":01030400010002F6\r\n", false, "foreign", true},
		{"an odd digit", read, ":01030400010002F\r\n", false, "foreign", true},
		{"no digit", read, ":010304000100G2F5\r\n", false, "foreign", true},
		{"an empty frame", read, ":\r\n" + answer, false, "granted", true},
		{"a torn one first", read, answer[:9] + answer, false, "granted", true},
		{"noise first", read, "\x00\xFF\r\n" + answer, false, "granted", true},
		{"another unit's answer first", read, ":02030400010002F4\r\n" + answer, false, "granted", true},
		{"another length first", read, ":0103020009F1\r\n" + answer, false, "granted", true},
		{"its own echo first", read, string(read.FrameASCII()) + answer, false, "granted", false},
		{"its own echo only", read, string(read.FrameASCII()), false, "foreign", false},
		{"a write's answer", coil, string(coil.FrameASCII()), false, "granted", false},
		{"a write's echo on a line that repeats", coil, string(coil.FrameASCII()), true, "foreign", false},
		{"a write's echo and answer", coil, string(coil.FrameASCII()) + string(coil.FrameASCII()), true, "granted", false},
		{"an answer of any length", unknown, string(modbus.AppendASCII(nil, 1, []byte{100, 1, 2})), false, "granted", false},
		{"no end", read, ":" + strings.Repeat("01", 300), false, "foreign", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			verdict, data, odd := c.request.ScanASCII([]byte(c.heard), c.echoes)
			if verdict != c.verdict || odd != c.odd {
				t.Errorf("%s (odd %v), want %s (%v)", verdict, odd, c.verdict, c.odd)
			}
			if verdict == "granted" && c.request.Fn == 3 && hex.EncodeToString(data) != "00010002" {
				t.Errorf("the data are %x", data)
			}
		})
	}
}

func TestMBAP(t *testing.T) {
	frame := unhex(t, "15 01 00 00 00 06 FF 03 00 6B 00 03")
	transaction, unit, pdu, n, err := modbus.CutADU(append(frame, 9))
	if err != nil || transaction != 0x1501 || unit != 255 || n != len(frame) || len(pdu) != 5 {
		t.Errorf("transaction %x, unit %d, pdu % x, %d bytes, %v", transaction, unit, pdu, n, err)
	}
	for i := range frame {
		if _, _, _, n, err := modbus.CutADU(frame[:i]); n != 0 || err != nil {
			t.Errorf("%d bytes of a frame give %d, %v", i, n, err)
		}
	}
	for _, bad := range []string{"15 01 00 01 00 06", "15 01 00 00 00 01", "15 01 00 00 00 FF", "15 01 01 00 00 06"} {
		if _, _, _, _, err := modbus.CutADU(unhex(t, bad)); err == nil {
			t.Errorf("%s passes", bad)
		}
	}
}
