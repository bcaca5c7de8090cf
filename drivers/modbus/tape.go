package modbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

const (
	// maxTaped is how many different requests to one unit a recording may have.
	maxTaped = 100_000
	// maxPending is how many requests of Modbus TCP may wait for their answer.
	maxPending = 64
)

// tape is what the units on a recorded wire answer. Its methods may be called by any
// goroutine.
type tape struct {
	head  drivers.RecordingHead
	units map[uint8]*taped

	mu sync.Mutex // guards all that units holds
}

// taped is one unit of a tape.
type taped struct {
	said   map[string]*outcome // by the PDU of the request
	reads  []*outcome          // granted, by no order
	writes map[cell]bool       // that the unit let be written, by the function that reads them
	delays []time.Duration
	usual  time.Duration // the median of delays
}

// outcome is what became of a request last.
type outcome struct {
	at     span   // of a read
	answer []byte // the PDU; nil is that none came, ever
	after  time.Duration
	nth    int // answers came before
}

// data is what a read gave; writes change it.
func (o *outcome) data() []byte { return o.answer[2:] }

func (o *outcome) refused() bool { return len(o.answer) == 2 && o.answer[0]&exceptionBit != 0 }

// readTape reads a recording. An error says where something is wrong: name:line.
func readTape(name string, r io.Reader) (*tape, error) {
	t := &tape{units: map[uint8]*taped{}}
	reader := tapeReader{tape: t}
	err := drivers.ReadRecording(name, r, func(head drivers.RecordingHead) (func(drivers.Traffic) error, error) {
		t.head = head
		switch head.Wire.Protocol {
		case drivers.ProtocolModbusTCP:
		case drivers.ProtocolModbusRTU:
			reader.mode = rtuMode{}
		case drivers.ProtocolModbusASCII:
			reader.mode = asciiMode{}
		default:
			return nil, fmt.Errorf("it is a recording of the protocol %q, not of Modbus", head.Wire.Protocol)
		}
		return reader.take, nil
	})
	if err != nil {
		return nil, err
	}
	reader.settle()
	if len(t.units) == 0 {
		return nil, fmt.Errorf("%s:1: there is no Modbus request in it", name)
	}
	for _, u := range t.units {
		slices.Sort(u.delays)
		if n := len(u.delays); n > 0 {
			u.usual = u.delays[n/2]
		}
		u.delays = nil
	}
	return t, nil
}

// tapeReader makes exchanges of what went over a wire.
type tapeReader struct {
	tape *tape
	mode mode // nil is Modbus TCP
	nth  int

	asked   []question // that wait for an answer; on a line the last alone
	heard   []byte     // since then
	heardAt time.Time
}

// question is a request that was sent.
type question struct {
	request
	transaction uint16
	frame       []byte
	at          time.Time
}

// take takes the next piece.
func (r *tapeReader) take(p drivers.Traffic) error {
	if p.Lost > 0 || len(p.Data) == 0 { // what went before may have lost its answer
		r.asked, r.heard = nil, r.heard[:0]
	}
	switch {
	case r.mode == nil:
		return r.takeADUs(p)
	case p.Sent:
		r.settle()
		r.heard = r.heard[:0]
		return r.ask(p)
	case len(r.asked) == 0 || len(r.heard) > maxHeard:
		return nil
	}
	r.heard, r.heardAt = append(r.heard, p.Data...), p.At
	q := r.asked[0]
	if f := r.mode.scan(q.request, q.frame, r.heard, false); f.verdict != foreign && !f.hunted {
		r.answered(q, f)
	}
	return nil
}

// settle takes an answer on a line that only silence has ended.
func (r *tapeReader) settle() {
	if r.mode == nil || len(r.asked) == 0 {
		return
	}
	q := r.asked[0]
	if f := r.mode.scan(q.request, q.frame, r.heard, false); f.verdict != foreign {
		r.answered(q, f)
	}
}

// ask notes a request on a line. What is none was sent by hand.
func (r *tapeReader) ask(p drivers.Traffic) error {
	r.asked = r.asked[:0]
	line := lineServer{mode: r.mode, heard: p.Data}
	unit, pdu := line.request()
	if pdu == nil || pdu[0]&exceptionBit != 0 || unit == broadcast {
		return nil
	}
	r.asked = append(r.asked, question{request: parseRequest(unit, pdu), frame: p.Data, at: p.At})
	return r.silent(unit, pdu)
}

// silent notes that a request was made.
func (r *tapeReader) silent(unit uint8, pdu []byte) error {
	u := r.tape.units[unit]
	if u == nil {
		u = &taped{said: map[string]*outcome{}, writes: map[cell]bool{}}
		r.tape.units[unit] = u
	}
	if u.said[string(pdu)] == nil {
		u.said[string(pdu)] = &outcome{}
	}
	if len(u.said) > maxTaped {
		return fmt.Errorf("unit %d was asked for more than %d different things", unit, maxTaped)
	}
	return nil
}

func (r *tapeReader) answered(q question, f find) {
	r.asked = r.asked[:0]
	answer := []byte{byte(q.fn) | exceptionBit, byte(f.code)}
	if f.verdict == granted {
		answer = q.appendAnswer(nil, f.data)
	}
	r.keep(q, answer, r.heardAt)
}

// takeADUs takes a piece of Modbus TCP.
func (r *tapeReader) takeADUs(p drivers.Traffic) error {
	stream := p.Data
	if !p.Sent {
		r.heard = append(r.heard, p.Data...)
		stream = r.heard
	}
	for {
		a, n, err := cutADU(stream)
		if err != nil || n == 0 {
			if err != nil {
				stream = nil // out of step: the connection was closed
			}
			break
		}
		stream = stream[n:]
		if p.Sent {
			if a.pdu[0]&exceptionBit != 0 {
				continue
			}
			if err := r.silent(a.unit, a.pdu); err != nil {
				return err
			}
			q := question{request: parseRequest(a.unit, slices.Clone(a.pdu)), transaction: a.transaction, at: p.At}
			r.asked = append(r.asked[max(0, len(r.asked)-maxPending+1):], q)
			continue
		}
		i := slices.IndexFunc(r.asked, func(q question) bool { return q.transaction == a.transaction && q.unit == a.unit })
		if i < 0 {
			continue
		}
		if v, _, _ := r.asked[i].judge(a.pdu); v != foreign {
			r.keep(r.asked[i], slices.Clone(a.pdu), p.At)
		}
		r.asked = slices.Delete(r.asked, i, i+1)
	}
	if !p.Sent {
		r.heard = r.heard[:copy(r.heard, stream)]
	}
	return nil
}

// keep keeps what a request was answered, and what that means for others.
func (r *tapeReader) keep(q question, answer []byte, at time.Time) {
	u := r.tape.units[q.unit]
	r.nth++
	after := max(0, at.Sub(q.at))
	u.delays = append(u.delays, after)
	if !slices.Contains(answer[:1], byte(q.fn)) { // refused
		u.remember(q.appendPDU(nil), outcome{at: q.span(), answer: answer, after: after, nth: r.nth})
		return
	}
	to, data, mask := q.written()
	for i := range int(to.count) {
		u.writes[cell{to.fn, to.addr + uint16(i)}] = true
	}
	u.write(to, data, mask)
	u.remember(q.appendPDU(nil), outcome{at: q.span(), answer: answer, after: after, nth: r.nth})
	if q.fn == ReadWriteRegisters && q.gives() {
		as := request{unit: q.unit, fn: ReadHoldingRegisters, addr: q.addr, count: q.count}
		u.remember(as.appendPDU(nil), outcome{at: as.span(), answer: as.appendAnswer(nil, answer[2:]), after: after, nth: r.nth})
	}
}

// remember takes the place of what was said before.
func (u *taped) remember(pdu []byte, o outcome) {
	before := u.said[string(pdu)]
	if before == nil {
		before = &outcome{}
		u.said[string(pdu)] = before
	}
	if before.answer == nil && o.at.count > 0 {
		u.reads = append(u.reads, before)
	}
	*before = o
}

// span is what a plain read asks for; count 0 is that it is none.
func (r request) span() span {
	if r.raw || !r.fn.reads() {
		return span{}
	}
	return span{fn: r.fn, addr: r.addr, count: r.count}
}

// written is what a request writes, by the function that reads it: bits as they travel, or
// registers; count 0 is nothing. Mask are the bits that it changes; nil is all.
func (r request) written() (to span, data, mask []byte) {
	to = span{fn: ReadHoldingRegisters, addr: r.addr, count: r.count}
	if r.raw {
		return span{}, nil, nil
	}
	switch r.fn {
	case WriteSingleCoil:
		to.fn = ReadCoils
		return to, []byte{r.data[0] & 1}, nil
	case WriteMultipleCoils:
		to.fn = ReadCoils
		return to, r.data, nil
	case WriteSingleRegister, WriteMultipleRegisters:
		return to, r.data, nil
	case MaskWriteRegister:
		return to, r.data[2:], []byte{^r.data[0], ^r.data[1]}
	case ReadWriteRegisters:
		to.addr, to.count = binary.BigEndian.Uint16(r.data), binary.BigEndian.Uint16(r.data[2:])
		return to, r.data[5:], nil
	default:
		return span{}, nil, nil
	}
}

// write changes what reads give. The tape's mutex is held, once it is played.
func (u *taped) write(to span, data, mask []byte) {
	if to.count == 0 {
		return
	}
	for _, o := range u.reads {
		if o.at.fn == to.fn && !o.refused() {
			o.at.patch(o.data(), to, data, mask)
		}
	}
}

// patch copies what two spans share from one to the other.
func (s span) patch(data []byte, from span, news, mask []byte) {
	first, end := max(int(s.addr), int(from.addr)), min(s.end(), from.end())
	for a := first; a < end; a++ {
		to, at := a-int(s.addr), a-int(from.addr)
		if s.fn.bits() {
			data[to/8] = data[to/8]&^(1<<(to%8)) | news[at/8]>>(at%8)&1<<(to%8)
			continue
		}
		for k := range 2 {
			m := byte(0xFF)
			if mask != nil {
				m = mask[2*at+k]
			}
			data[2*to+k] = data[2*to+k]&^m | news[2*at+k]&m
		}
	}
}

// errNoUnit says that the tape has no such unit.
var errNoUnit = errors.New("no such unit")

// play is what the unit answers, and after how long; nil is that it does not. The error is
// errNoUnit.
func (t *tape) play(unit uint8, pdu []byte) (answer []byte, after time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.units[unit]
	if u == nil {
		return nil, 0, errNoUnit
	}
	r := parseRequest(unit, pdu)
	o := u.said[string(pdu)]
	if o != nil && (o.answer == nil || o.refused() || r.fn != ReadWriteRegisters) {
		if o.answer != nil && !o.refused() {
			u.write(r.written())
		}
		return slices.Clone(o.answer), o.after, nil
	}
	answer, code := u.compose(r)
	if code != 0 {
		answer = []byte{byte(r.fn) | exceptionBit, byte(code)}
	}
	return answer, u.usual, nil
}

// compose answers what was not asked in the recording.
func (u *taped) compose(r request) ([]byte, Code) {
	to, data, mask := r.written()
	if r.fn == WriteSingleCoil && !r.raw && (r.data[0] != 0 && r.data[0] != 0xFF || r.data[1] != 0) {
		return nil, IllegalValue
	}
	for i := range int(to.count) {
		if to.end() > 1<<16 || !u.writes[cell{to.fn, to.addr + uint16(i)}] {
			return nil, IllegalAddress
		}
	}
	u.write(to, data, mask)
	from := r.span()
	if r.fn == ReadWriteRegisters && !r.raw {
		from = span{fn: ReadHoldingRegisters, addr: r.addr, count: r.count}
	}
	switch {
	case from.count > 0:
		data, code := u.read(from)
		return r.appendAnswer(nil, data), code
	case to.count > 0:
		return r.appendAnswer(nil, nil), 0
	}
	return nil, IllegalAddress
}

// read puts a range together. One that covers a range that was refused is refused, too.
// What one read gave goes before what several did, so that a value that is longer than a
// register is not put together of two moments where that can be helped.
func (u *taped) read(want span) ([]byte, Code) {
	var parts, no []*outcome
	var whole *outcome
	for _, o := range u.reads {
		switch {
		case o.at.fn != want.fn || o.at.end() <= int(want.addr) || want.end() <= int(o.at.addr):
		case o.refused():
			no = append(no, o)
		default:
			if o.at.covers(want) && (whole == nil || whole.nth < o.nth) {
				whole = o
			}
			parts = append(parts, o)
		}
	}
	for _, o := range no {
		code, since := Code(o.answer[1]), func(later *outcome) bool { return later.nth > o.nth && later.at.covers(o.at) }
		if want.covers(o.at) && (code == IllegalAddress || code == IllegalValue) && !slices.ContainsFunc(parts, since) {
			return nil, code
		}
	}
	if whole != nil {
		parts = []*outcome{whole}
	}
	slices.SortFunc(parts, func(a, b *outcome) int { return a.nth - b.nth })
	data, known := make([]byte, want.fn.bytes(int(want.count))), make([]bool, want.count)
	for _, o := range parts {
		want.patch(data, o.at, o.data(), nil)
		for a := max(int(want.addr), int(o.at.addr)); a < min(want.end(), o.at.end()); a++ {
			known[a-int(want.addr)] = true
		}
	}
	if slices.Contains(known, false) {
		return nil, IllegalAddress
	}
	return data, 0
}
