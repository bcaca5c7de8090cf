package modbus

import (
	"encoding/binary"
	"sync"
)

// registers are the bits and registers that a server shows, those of its points.
type registers struct {
	points []pointSpec
	cells  map[cell]cellOwner
	// identity is what function 43/14 tells, by object; nil is that it is not known.
	identity []string
	// store writes the bits of data that mask has, nil being all, to cells: all or none.
	// It checks that they are there.
	store func(to span, data, mask []byte) Code

	mu    sync.Mutex // guards what follows
	wires [][]byte   // what clients read, by point
	codes []Code     // why they cannot read a point; 0 is that they can
}

// cell is one bit or register.
type cell struct {
	fn   Function // that reads it
	addr uint16
}

// cellOwner is the point that a cell belongs to, and where in its bytes it begins.
type cellOwner struct{ point, at int }

// newRegisters returns the registers of points, whose wires are to be set.
func newRegisters(points []pointSpec) *registers {
	r := &registers{points: points, cells: map[cell]cellOwner{}, wires: make([][]byte, len(points)), codes: make([]Code, len(points))}
	for i := range points {
		p := &points[i]
		for k := range int(p.count) {
			r.cells[cell{p.fn, p.addr + uint16(k)}] = cellOwner{point: i, at: 2 * k}
		}
	}
	return r
}

// answer adds the answer to a request to b (Modbus Application Protocol V1.1b3 §6). A
// client that may only read is refused the functions that write. It may be called by
// any goroutine.
func (r *registers) answer(b, pdu []byte, readOnly bool) []byte {
	fn, start := Function(pdu[0]), len(b)
	code := IllegalFunction
	switch fn {
	case ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters:
		b, code = r.serveRead(b, fn, fn, pdu)
	case EncapsulatedInterface:
		if r.identity != nil {
			b, code = r.serveIdentity(b, pdu)
		}
	case WriteSingleCoil, WriteSingleRegister, MaskWriteRegister:
		if !readOnly {
			b, code = r.serveSingle(b, fn, pdu)
		}
	case WriteMultipleCoils, WriteMultipleRegisters:
		if !readOnly {
			b, code = r.serveMultiple(b, fn, pdu)
		}
	case ReadWriteRegisters:
		if !readOnly {
			b, code = r.serveReadWrite(b, pdu)
		}
	default:
	}
	if code != 0 {
		return append(b[:start], byte(fn)|exceptionBit, byte(code))
	}
	return b
}

// serveRead answers the functions 1 to 4, and that which reads and writes.
func (r *registers) serveRead(b []byte, fn, as Function, pdu []byte) ([]byte, Code) {
	if len(pdu) != 5 {
		return b, IllegalValue
	}
	from := span{fn: fn, addr: binary.BigEndian.Uint16(pdu[1:]), count: binary.BigEndian.Uint16(pdu[3:])}
	if from.count == 0 || int(from.count) > fn.limit() {
		return b, IllegalValue
	}
	if from.end() > 1<<16 {
		return b, IllegalAddress
	}
	n := fn.bytes(int(from.count))
	b = append(b, byte(as), byte(n))
	data := append(b, make([]byte, n)...)
	out := data[len(b):]
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range int(from.count) {
		owner, ok := r.cells[cell{fn, from.addr + uint16(i)}]
		if !ok {
			return b, IllegalAddress
		}
		if code := r.codes[owner.point]; code != 0 {
			return b, code
		}
		wire := r.wires[owner.point]
		if fn.bits() {
			out[i/8] |= wire[0] << (i % 8)
		} else {
			copy(out[2*i:], wire[owner.at:owner.at+2])
		}
	}
	return data, 0
}

// serveSingle answers the functions 5, 6 and 22.
func (r *registers) serveSingle(b []byte, fn Function, pdu []byte) ([]byte, Code) {
	if !wellFormed(pdu) {
		return b, IllegalValue
	}
	to := span{fn: ReadHoldingRegisters, addr: binary.BigEndian.Uint16(pdu[1:]), count: 1}
	data, mask := pdu[3:5], []byte(nil)
	switch fn {
	case WriteSingleCoil:
		to.fn = ReadCoils
		word := binary.BigEndian.Uint16(data)
		if word != coilOn && word != coilOff {
			return b, IllegalValue
		}
		data = []byte{pdu[3] & 1}
	case MaskWriteRegister:
		data, mask = pdu[5:7], []byte{^pdu[3], ^pdu[4]}
	default:
	}
	if code := r.store(to, data, mask); code != 0 {
		return b, code
	}
	return append(b, pdu...), 0
}

// serveMultiple answers the functions 15 and 16.
func (r *registers) serveMultiple(b []byte, fn Function, pdu []byte) ([]byte, Code) {
	if !wellFormed(pdu) {
		return b, IllegalValue
	}
	to := span{fn: ReadHoldingRegisters, addr: binary.BigEndian.Uint16(pdu[1:]), count: binary.BigEndian.Uint16(pdu[3:])}
	if fn == WriteMultipleCoils {
		to.fn = ReadCoils
	}
	if to.end() > 1<<16 {
		return b, IllegalAddress
	}
	if code := r.store(to, pdu[6:], nil); code != 0 {
		return b, code
	}
	return append(b, pdu[:5]...), 0
}

// serveReadWrite answers function 23, which writes first.
func (r *registers) serveReadWrite(b, pdu []byte) ([]byte, Code) {
	if !wellFormed(pdu) {
		return b, IllegalValue
	}
	from := append([]byte{byte(ReadHoldingRegisters)}, pdu[1:5]...)
	if _, code := r.serveRead(nil, ReadHoldingRegisters, ReadWriteRegisters, from); code != 0 {
		return b, code // nothing is written then
	}
	to := span{fn: ReadHoldingRegisters, addr: binary.BigEndian.Uint16(pdu[5:]), count: binary.BigEndian.Uint16(pdu[7:])}
	if to.end() > 1<<16 {
		return b, IllegalAddress
	}
	if code := r.store(to, pdu[10:], nil); code != 0 {
		return b, code
	}
	return r.serveRead(b, ReadHoldingRegisters, ReadWriteRegisters, from)
}

// serveIdentity answers function 43/14. All objects fit in one answer.
func (r *registers) serveIdentity(b, pdu []byte) ([]byte, Code) {
	const one, conformity = 4, 0x82 // a single object; regular, and each by itself
	if len(pdu) != 4 || pdu[1] != meiIdentification {
		return b, IllegalFunction
	}
	category, first := pdu[2], int(pdu[3])
	end := min(map[byte]int{basicObjects: 3, regularObjects: 7, extendedObjects: 7, one: first + 1}[category], len(r.identity))
	switch {
	case category < basicObjects || category > one:
		return b, IllegalValue
	case first >= end && category == one:
		return b, IllegalAddress
	case first >= end: // §6.21: then it begins again
		first = 0
	}
	b = append(b, pdu[0], pdu[1], category, conformity, 0, 0, byte(end-first))
	for i, text := range r.identity[first:end] {
		b = append(append(b, byte(first+i), byte(len(text))), text...)
	}
	return b, 0
}

// owned lists the points that cells belong to. The mutex is held.
func (r *registers) owned(to span) (points []int, code Code) {
	for i := range int(to.count) {
		owner, ok := r.cells[cell{to.fn, to.addr + uint16(i)}]
		if !ok || !r.points[owner.point].Writable {
			return nil, IllegalAddress
		}
		if n := len(points); n == 0 || points[n-1] != owner.point {
			points = append(points, owner.point)
		}
	}
	return points, 0
}

// written is what the wire of a point becomes by a write. The mutex is held.
func (r *registers) written(point int, to span, data, mask []byte) []byte {
	p := &r.points[point]
	wire := append([]byte(nil), r.wires[point]...)
	for k := range int(p.count) {
		i := int(p.addr) + k - int(to.addr)
		switch {
		case i < 0 || i >= int(to.count):
		case to.fn.bits():
			wire[0] = data[i/8] >> (i % 8) & 1
		case mask != nil:
			for n, m := range mask {
				wire[2*k+n] = wire[2*k+n]&^m | data[n]&m
			}
		default:
			copy(wire[2*k:], data[2*i:2*i+2])
		}
	}
	return wire
}
