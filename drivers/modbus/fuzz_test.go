package modbus_test

import (
	"bytes"
	"testing"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// fuzzRequests are what the answers are judged against.
var fuzzRequests = []modbus.Request{
	{Unit: 1, Fn: 1, Addr: 0x3EF, Count: 17},
	{Unit: 1, Fn: 2, Addr: 0, Count: 2000},
	{Unit: 1, Fn: 3, Addr: 0x6B, Count: 2},
	{Unit: 1, Fn: 4, Addr: 8, Count: 125},
	{Unit: 1, Fn: 5, Addr: 3, Count: 1, Data: []byte{0xFF, 0}},
	{Unit: 1, Fn: 6, Addr: 3, Count: 1, Data: []byte{0, 9}},
	{Unit: 1, Fn: 15, Addr: 3, Count: 2, Data: []byte{3}},
	{Unit: 1, Fn: 16, Addr: 3, Count: 2, Data: []byte{0, 9, 8, 7}},
	{Unit: 1, Fn: 22, Addr: 3, Count: 1, Data: []byte{0, 9, 8, 7}},
	{Unit: 1, Fn: 23, Addr: 3, Count: 2, Data: []byte{0, 9, 0, 1, 2, 8, 7}},
	{Unit: 1, Fn: 43, Data: []byte{14, 1, 0}},
	{Unit: 1, Fn: 100, Data: []byte{1, 2}, Raw: true},
}

// FuzzRTU: whatever is heard, an answer that is found stands in it whole.
func FuzzRTU(f *testing.F) {
	for i, r := range fuzzRequests {
		f.Add(uint8(i), r.Frame(), false)
	}
	f.Add(uint8(2), unhex(f, "01 03 04 00 01 00 02 2A 32"), false)
	f.Add(uint8(2), unhex(f, "00 FF 01 03 04 01 03 04 00 01 00 02 2A 32"), true)
	f.Fuzz(func(t *testing.T, which uint8, heard []byte, echoes bool) {
		r := fuzzRequests[int(which)%len(fuzzRequests)]
		verdict, data, _ := r.Scan(heard, echoes)
		if verdict == "granted" && r.Fn <= 4 {
			frame := append([]byte{r.Unit, byte(r.Fn), byte(len(data))}, data...)
			if !bytes.Contains(heard, modbus.AppendCRC(frame)) || len(data) != r.AnswerLen()-2 {
				t.Errorf("% x gives % x", heard, data)
			}
		}
	})
}

// FuzzASCII: whatever is heard, an answer that is found stands in it whole.
func FuzzASCII(f *testing.F) {
	for i, r := range fuzzRequests {
		f.Add(uint8(i), r.FrameASCII(), false)
	}
	f.Add(uint8(2), []byte(":01030400010002F5\r\n"), false)
	f.Add(uint8(2), []byte(":0103:\x00:01030400010002f5\n"), true)
	f.Fuzz(func(t *testing.T, which uint8, heard []byte, echoes bool) {
		r := fuzzRequests[int(which)%len(fuzzRequests)]
		verdict, data, _ := r.ScanASCII(heard, echoes)
		if verdict == "granted" && r.Fn <= 4 {
			frame := modbus.AppendASCII(nil, r.Unit, append([]byte{byte(r.Fn), byte(len(data))}, data...))
			if !bytes.Contains(bytes.ToUpper(heard), frame[:len(frame)-2]) || len(data) != r.AnswerLen()-2 {
				t.Errorf("%q gives % x", heard, data)
			}
		}
	})
}

// FuzzTCP: a frame that is cut from a stream is written back the same.
func FuzzTCP(f *testing.F) {
	f.Add(unhex(f, "15 01 00 00 00 06 FF 03 00 6B 00 03"))
	f.Add(unhex(f, "15 01 00 00 00 FF FF 03 00 6B 00 03"))
	f.Add(unhex(f, "15 01 00 00 00 03 01 83 02 15 02 00 00"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		for len(stream) > 0 {
			transaction, unit, pdu, n, err := modbus.CutADU(stream)
			if err != nil || n == 0 {
				return
			}
			if back := modbus.AppendADU(nil, transaction, unit, pdu); !bytes.Equal(back, stream[:n]) {
				t.Fatalf("% x becomes % x", stream[:n], back)
			}
			stream = stream[n:]
		}
	})
}

// FuzzPDU: a simulator answers every request, within the limits, and what it answers
// is an answer to that request.
func FuzzPDU(f *testing.F) {
	for _, v := range pduVectors {
		f.Add(uint8(1), unhex(f, v.pdu))
		f.Add(uint8(1), unhex(f, v.answer))
	}
	dev, err := modbus.Registers(config(f, `
driver: modbus-simulator
listen: 127.0.0.1:0
points:
  a: {coil: 0, writable: true}
  b: {coil: 19, writable: true}
  c: {discrete: 196}
  d: {holding: 1, type: uint64, writable: true}
  e: {holding: 107, type: float32}
  f: {input: 8}
`), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, unit uint8, pdu []byte) {
		if len(pdu) == 0 || len(pdu) > 253 {
			return // the frame reader gives none of these
		}
		answer := modbus.Answer(dev, unit, pdu)
		if len(answer) < 2 || len(answer) > 253 || answer[0]&0x7F != pdu[0]&0x7F {
			t.Fatalf("% x gives % x", pdu, answer)
		}
		if answer[0]&0x80 != 0 {
			return
		}
		r := modbus.ParseRequest(unit, pdu)
		if verdict, _, _ := r.Judge(answer); verdict != "granted" {
			t.Errorf("% x is answered by % x, which is %s", pdu, answer, verdict)
		}
	})
}
