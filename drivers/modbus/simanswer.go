package modbus

import (
	"encoding/binary"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// answer adds the answer to a request to b (Modbus Application Protocol V1.1b3 §6).
// It may be called by any goroutine.
func (s *simulator) answer(b []byte, unit uint8, pdu []byte) []byte {
	fn := Function(pdu[0])
	if unit != s.spec.unit && unit != 0 && unit != 255 {
		return append(b, byte(fn)|exceptionBit, byte(GatewayPath))
	}
	start := len(b)
	code := IllegalFunction
	switch fn {
	case ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters:
		b, code = s.serveRead(b, fn, pdu)
	case WriteSingleCoil, WriteSingleRegister:
		b, code = s.serveSingle(b, fn, pdu)
	case WriteMultipleCoils, WriteMultipleRegisters:
		b, code = s.serveMultiple(b, fn, pdu)
	default:
	}
	if code != 0 {
		return append(b[:start], byte(fn)|exceptionBit, byte(code))
	}
	return b
}

// serveRead answers the functions 1 to 4.
func (s *simulator) serveRead(b []byte, fn Function, pdu []byte) ([]byte, Code) {
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
	b = append(b, byte(fn), byte(n))
	data := append(b, make([]byte, n)...)
	out := data[len(b):]
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range int(from.count) {
		owner, ok := s.cells[cell{fn, from.addr + uint16(i)}]
		if !ok {
			return b, IllegalAddress
		}
		wire := s.state[owner.point].wire
		if fn.bits() {
			out[i/8] |= wire[0] << (i % 8)
		} else {
			copy(out[2*i:], wire[owner.at:owner.at+2])
		}
	}
	return data, 0
}

// serveSingle answers the functions 5 and 6.
func (s *simulator) serveSingle(b []byte, fn Function, pdu []byte) ([]byte, Code) {
	if len(pdu) != 5 {
		return b, IllegalValue
	}
	to := span{fn: ReadHoldingRegisters, addr: binary.BigEndian.Uint16(pdu[1:]), count: 1}
	data := pdu[3:]
	if fn == WriteSingleCoil {
		to.fn = ReadCoils
		word := binary.BigEndian.Uint16(data)
		if word != coilOn && word != coilOff {
			return b, IllegalValue
		}
		data = []byte{pdu[3] & 1}
	}
	if code := s.store(to, data); code != 0 {
		return b, code
	}
	return append(b, pdu...), 0
}

// serveMultiple answers the functions 15 and 16.
func (s *simulator) serveMultiple(b []byte, fn Function, pdu []byte) ([]byte, Code) {
	to := span{fn: ReadHoldingRegisters}
	limit := maxWriteRegisters
	if fn == WriteMultipleCoils {
		to.fn, limit = ReadCoils, maxWriteBits
	}
	if len(pdu) < 6 {
		return b, IllegalValue
	}
	to.addr, to.count = binary.BigEndian.Uint16(pdu[1:]), binary.BigEndian.Uint16(pdu[3:])
	n := to.fn.bytes(int(to.count))
	if to.count == 0 || int(to.count) > limit || int(pdu[5]) != n || len(pdu) != 6+n {
		return b, IllegalValue
	}
	if to.end() > 1<<16 {
		return b, IllegalAddress
	}
	if code := s.store(to, pdu[6:]); code != 0 {
		return b, code
	}
	return append(b, pdu[:5]...), 0
}

// store writes cells, all or none, and tells of the points that they belong to.
func (s *simulator) store(to span, data []byte) Code {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range int(to.count) {
		owner, ok := s.cells[cell{to.fn, to.addr + uint16(i)}]
		if !ok || !s.points[owner.point].Writable {
			return IllegalAddress
		}
	}
	var changed []int
	for i := range int(to.count) {
		owner := s.cells[cell{to.fn, to.addr + uint16(i)}]
		state := &s.state[owner.point]
		if n := len(changed); n == 0 || changed[n-1] != owner.point {
			changed = append(changed, owner.point)
			state.wire = append([]byte(nil), state.wire...)
		}
		if to.fn.bits() {
			state.wire[0] = data[i/8] >> (i % 8) & 1
		} else {
			copy(state.wire[owner.at:], data[2*i:2*i+2])
		}
	}
	s.tell(changed)
	return 0
}

// tell makes values of what was written, and publishes them; mu is held.
func (s *simulator) tell(points []int) {
	now := time.Now()
	var said drivers.Pushed
	for _, i := range points {
		r := s.reading(i, now)
		s.state[i].value = r.Value
		said.Readings = append(said.Readings, r)
	}
	select {
	case s.pushed <- said:
	default: // the next poll tells
	}
}
