package modbus_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// taping writes a recording as it would be made of a unit on a line.
type taping struct {
	protocol    string
	at          time.Time
	text        []byte
	transaction uint16
}

func newTaping(t testing.TB, protocol string) *taping {
	t.Helper()
	r := &taping{protocol: protocol, at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	head := drivers.RecordingHead{Device: "m", Program: "gatehouse test", Wire: drivers.Wire{Protocol: protocol, Unit: 1, Timeout: time.Second}, At: r.at}
	var err error
	if r.text, err = head.Append(nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *taping) frame(unit uint8, pdu []byte) []byte {
	switch r.protocol {
	case drivers.ProtocolModbusTCP:
		return modbus.AppendADU(nil, r.transaction, unit, pdu)
	case drivers.ProtocolModbusASCII:
		return modbus.AppendASCII(nil, unit, pdu)
	}
	return modbus.AppendCRC(append([]byte{unit}, pdu...))
}

func (r *taping) piece(sent bool, after time.Duration, b []byte) {
	r.at = r.at.Add(after)
	one := drivers.Traffic{At: r.at, Sent: sent, Data: b}
	r.text, _ = one.AppendRecorded(r.text) // it never fails
}

// exchange records a request and its answer, both in hexadecimal; "" is none.
func (r *taping) exchange(t testing.TB, unit uint8, request, answer string, after time.Duration) {
	t.Helper()
	r.transaction++
	r.piece(true, time.Second, r.frame(unit, unhex(t, request)))
	if answer != "" {
		r.piece(false, after, r.frame(unit, unhex(t, answer)))
	}
}

func (r *taping) file(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.jsonl")
	if err := os.WriteFile(path, r.text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tapes are what a unit was asked and said in the recordings of these tests.
func tape(t testing.TB, protocol string) string {
	t.Helper()
	r := newTaping(t, protocol)
	for _, c := range [][2]string{
		{"03 00 00 00 02", "03 04 00 01 00 02"},
		{"03 00 00 00 02", "03 04 00 03 00 04"}, // the later answer counts
		{"03 00 02 00 02", "03 04 00 05 00 06"},
		{"03 00 01 00 02", "03 04 00 14 00 15"}, // one read across both
		{"03 00 0A 00 03", "83 02"},             // 11 is not there
		{"03 00 0A 00 01", "03 02 00 0A"},
		{"03 00 0C 00 01", "03 02 00 0C"},
		{"03 00 14 00 01", "03 02 00 14"},
		{"03 00 15 00 01", "03 02 00 15"},
		{"03 00 14 00 02", "83 03"}, // one at a time
		{"04 00 00 00 01", "04 02 12 34"},
		{"04 00 01 00 01", ""},            // never answered
		{"04 00 02 00 01", "84 06"},       // busy
		{"01 00 00 00 0A", "01 02 05 02"}, // coils 0, 2, 9
		{"02 00 03 00 03", "02 01 05"},
		{"06 00 02 00 63", "06 00 02 00 63"},
		{"06 00 02 FF FF", "86 03"}, // out of range
		{"05 00 01 FF 00", "05 00 01 FF 00"},
		{"10 00 14 00 02 04 00 1E 00 1F", "10 00 14 00 02"},
		{"17 00 00 00 01 00 03 00 01 02 00 4D", "17 02 00 03"},
		{"2B 0E 01 00", "2B 0E 01 01 00 00 01 00 02 41 42"},
		{"41 07", "41 08"},
	} {
		r.exchange(t, 1, c[0], c[1], 40*time.Millisecond)
	}
	r.exchange(t, 9, "03 00 00 00 01", "03 02 09 09", 40*time.Millisecond)
	return r.file(t)
}

func TestTapeAnswersAsTheDeviceDid(t *testing.T) {
	for _, protocol := range []string{drivers.ProtocolModbusTCP, drivers.ProtocolModbusRTU, drivers.ProtocolModbusASCII} {
		t.Run(protocol, func(t *testing.T) {
			p, err := modbus.ReadTape(tape(t, protocol))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ name, request, answer string }{
				{"the latest answer to the same request", "03 00 00 00 02", "03 04 00 03 00 04"},
				{"a part of a read", "03 00 00 00 01", "03 02 00 03"},
				{"a range of several", "03 00 00 00 04", "03 08 00 03 00 14 00 63 00 4D"},
				{"a range that was refused", "03 00 0A 00 03", "83 02"},
				{"a larger one", "03 00 0A 00 04", "83 02"},
				{"more at a time than it gives", "03 00 14 00 02", "83 03"},
				{"a register that nobody asked for", "03 01 00 00 01", "83 02"},
				{"one known and one not", "03 00 03 00 02", "83 02"},
				{"an input register", "04 00 00 00 01", "04 02 12 34"},
				{"what was never answered", "04 00 01 00 01", ""},
				{"an exception", "04 00 02 00 01", "84 06"},
				{"coils, one written since", "01 00 00 00 0A", "01 02 07 02"},
				{"some coils", "01 00 01 00 02", "01 01 03"},
				{"discrete inputs", "02 00 04 00 02", "02 01 02"},
				{"its identification", "2B 0E 01 00", "2B 0E 01 01 00 00 01 00 02 41 42"},
				{"another object of it", "2B 0E 01 01", "AB 02"},
				{"a function of its own", "41 07", "41 08"},
				{"one that nobody used", "07", "87 02"},
				{"a write that was confirmed", "06 00 02 00 63", "06 00 02 00 63"},
				{"one of another value", "06 00 02 00 07", "06 00 02 00 07"},
				{"and see it", "03 00 01 00 02", "03 04 00 14 00 07"},
				{"one that was refused", "06 00 02 FF FF", "86 03"},
				{"and see nothing of it", "03 00 02 00 01", "03 02 00 07"},
				{"several of which each was written", "10 00 02 00 02 04 00 08 00 09", "10 00 02 00 02"},
				{"and see them", "03 00 02 00 02", "03 04 00 08 00 09"},
				{"several of which one was not", "10 00 01 00 02 04 00 08 00 09", "90 02"},
				{"bits of a register", "16 00 02 FF F0 00 03", "16 00 02 FF F0 00 03"},
				{"and see the others", "03 00 02 00 01", "03 02 00 03"},
				{"a coil", "05 00 01 00 00", "05 00 01 00 00"},
				{"and see it", "01 00 00 00 03", "01 01 05"},
				{"half a coil", "05 00 01 00 01", "85 03"},
				{"a coil that was not written", "05 00 02 00 00", "85 02"},
				{"write and read", "17 00 00 00 01 00 03 00 01 02 00 4E", "17 02 00 03"},
				{"and see it", "03 00 03 00 01", "03 02 00 4E"},
				{"beyond the end", "03 FF FF 00 02", "83 02"},
				{"write beyond the end", "10 FF FF 00 02 04 00 01 00 02", "90 02"},
			} {
				answer, after, err := p.Play(1, unhex(t, c.request))
				if got := fmt.Sprintf("% X", answer); got != c.answer || err != nil {
					t.Errorf("%s: %s gives %s, %v, want %s", c.name, c.request, got, err, c.answer)
				}
				if answer != nil && after != 40*time.Millisecond {
					t.Errorf("%s: want the time that it took, got %v", c.name, after)
				}
			}
			if answer, _, err := p.Play(9, unhex(t, "03 00 00 00 01")); fmt.Sprintf("% X", answer) != "03 02 09 09" || err != nil {
				t.Errorf("want the answer of the other unit, got % X, %v", answer, err)
			}
			if _, _, err := p.Play(2, unhex(t, "03 00 00 00 01")); err == nil {
				t.Error("want no answer of a unit that is not in the recording")
			}
		})
	}
}

// Answers are told apart as they are on the wire.
func TestTapeOfATroubledLine(t *testing.T) {
	r := newTaping(t, drivers.ProtocolModbusRTU)
	ask, right, wrong := "03 00 00 00 01", r.frame(1, unhex(t, "03 02 00 2A")), r.frame(1, unhex(t, "03 04 00 01 00 02"))
	r.exchange(t, 1, ask, "", 0)
	r.piece(false, time.Millisecond, []byte{0xFF})
	r.piece(false, time.Millisecond, wrong)     // to something else
	r.piece(false, time.Millisecond, right[:3]) // in two pieces
	r.piece(false, 7*time.Millisecond, right[3:])
	r.piece(true, time.Second, []byte("hello")) // by hand
	r.piece(false, time.Millisecond, right)
	r.exchange(t, 1, "04 00 00 00 01", "", 0)
	r.piece(false, time.Millisecond, []byte{1, 4, 2, 0, 9, 0, 0}) // a wrong checksum
	r.exchange(t, 1, "04 00 05 00 01", "", 0)
	r.text = append(r.text, `{"at":"2026-01-03T00:00:00Z","note":"the wire is gone"}`+"\n"...)
	r.piece(false, 48*time.Hour, r.frame(1, unhex(t, "04 02 00 09")))
	p, err := modbus.ReadTape(r.file(t))
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{ask: "03 02 00 2A 10ms", "04 00 00 00 01": " 0s", "04 00 05 00 01": " 0s"} {
		if answer, after, err := p.Play(1, unhex(t, request)); fmt.Sprintf("% X %v", answer, after) != want || err != nil {
			t.Errorf("%s: want %q, got % X %v, %v", request, want, answer, after, err)
		}
	}
}

// On TCP an answer that comes late is that of its transaction.
func TestTapeOfALateAnswer(t *testing.T) {
	r := newTaping(t, drivers.ProtocolModbusTCP)
	r.exchange(t, 1, "03 00 00 00 01", "", 0)
	late := r.frame(1, unhex(t, "03 02 00 01"))
	r.exchange(t, 1, "03 00 01 00 01", "", 0)
	inTime := r.frame(1, unhex(t, "03 02 00 02"))
	r.piece(false, 500*time.Millisecond, append(late, inTime[:4]...))
	r.piece(false, 100*time.Millisecond, inTime[4:])
	p, err := modbus.ReadTape(r.file(t))
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{"03 00 00 00 01": "03 02 00 01 1.5s", "03 00 01 00 01": "03 02 00 02 600ms"} {
		if answer, after, err := p.Play(1, unhex(t, request)); fmt.Sprintf("% X %v", answer, after) != want || err != nil {
			t.Errorf("%s: want %q, got % X %v, %v", request, want, answer, after, err)
		}
	}
}

func TestTapesThatAreNone(t *testing.T) {
	serial, empty := newTaping(t, drivers.ProtocolSerial), newTaping(t, drivers.ProtocolModbusRTU)
	torn := newTaping(t, drivers.ProtocolModbusTCP)
	torn.exchange(t, 1, "03 00 00 00 01", "03 02 00 01", 0)
	torn.text = torn.text[:len(torn.text)-5]
	sim := newDriver(t, modbus.Options{}).Simulator()
	ok := tape(t, drivers.ProtocolModbusRTU)
	for _, c := range []struct{ name, file, want string }{
		{"none", "recording: /nowhere/m.jsonl\n", "press.yaml:3:12: the recording cannot be read: open /nowhere/m.jsonl: no such file"},
		{"of another protocol", "recording: " + serial.file(t) + "\n", `m.jsonl:1: it is a recording of the protocol "serial", not of Modbus`},
		{"empty", "recording: " + empty.file(t) + "\n", "m.jsonl:1: there is no Modbus request in it"},
		{"torn", "recording: " + torn.file(t) + "\n", "m.jsonl:3: the line is not whole"},
		{"and points", "recording: " + ok + "\npoints: {a: {coil: 1}}\n", "a simulator has either points or a recording"},
		{"another timing", "recording: " + ok + "\ntiming: slow\n", `timing must be recorded or none, not "slow"`},
		{"timing without", "timing: none\npoints: {a: {coil: 1}}\n", "timing is for a recording"},
		{"a unit that is not in it", "recording: " + ok + "\nunit: 5\n", "press.yaml:4:7: there is no unit 5 in the recording"},
		{"frames", "recording: " + ok + "\nframes: mbus\n", "press.yaml:4:9: frames must be tcp, rtu or ascii"},
		{"two places", "recording: " + ok + "\nserial: {port: /dev/x}\n", "a simulator has one of listen and serial"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := sim.Check(config(t, "driver: modbus-simulator\nlisten: 127.0.0.1:0\n"+c.file))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %s, got %v", c.want, err)
			}
		})
	}
}

// What a device said is recorded and played, over every transport, and read again.
func TestTapeIsRecordedAndPlayed(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	_, address := simulator(t, d, "  a: {holding: 1, type: uint32, initial: 70000, writable: true}\n  fan: {coil: 3, writable: true}\n  t: {input: 9, type: float32, initial: 21.5}\n")
	points := "points:\n  a: {holding: 1, type: uint32, writable: true}\n  fan: {coil: 3, writable: true}\n  t: {input: 9, type: float32}\n  no: {holding: 50}\n"
	file := "driver: modbus\ntcp: " + address + "\n" + points
	w, traffic, stop, err := d.TapWire(config(t, file))
	if err != nil {
		t.Fatal(err)
	}
	dev := open(t, d, file)
	read(t, dev, "a", "fan", "t", "no")
	if err := write(t, dev, "fan", "true"); err != nil {
		t.Fatal(err)
	}
	if err := write(t, dev, "a", "80000"); err != nil {
		t.Fatal(err)
	}
	stop()
	head := drivers.RecordingHead{Device: "m", Wire: w}
	text, err := head.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for one := range traffic {
		if text, err = one.AppendRecorded(text); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "m.jsonl")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for frames, transport := range map[string]string{"tcp": "tcp", "rtu": "rtu_tcp", "ascii": "ascii_tcp"} {
		t.Run(frames, func(t *testing.T) {
			sim := open(t, d.Simulator(), "driver: modbus-simulator\nlisten: 127.0.0.1:0\nframes: "+frames+"\nrecording: "+path+"\n")
			played := open(t, d, "driver: modbus\n"+transport+": 127.0.0.1:"+serverPort(sim)+"\n"+points)
			wantRead(t, played, map[string]string{
				"a": "80000", "fan": "true", "t": "21.5", "no": "bad: exception 2 (illegal data address) from function 3 (read holding registers)",
			})
			if err := write(t, played, "a", "90000"); err != nil {
				t.Error(err)
			}
			wantRead(t, played, map[string]string{"a": "90000"})
		})
	}
}

func FuzzTape(f *testing.F) {
	for _, protocol := range []string{drivers.ProtocolModbusTCP, drivers.ProtocolModbusRTU, drivers.ProtocolModbusASCII} {
		text, err := os.ReadFile(tape(f, protocol))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), []byte{3, 0, 0, 0, 2})
	}
	f.Fuzz(func(_ *testing.T, text string, pdu []byte) {
		p, err := modbus.ParseTape("x", strings.NewReader(text))
		if err != nil || len(pdu) == 0 {
			return
		}
		_, _, _ = p.Play(1, pdu) // it must not panic
	})
}
