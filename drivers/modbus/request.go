package modbus

import (
	"encoding/binary"
	"fmt"
)

// request is one request to a unit.
type request struct {
	unit  uint8
	fn    Function
	addr  uint16
	count uint16 // bits or registers; 1 for the single writes
	// data is what is written: the value's word for the single writes, the two masks
	// for a mask write; for a read/write it is all that follows the quantity to read,
	// for the encapsulated interface and a raw request all behind the function code.
	data []byte
	// raw is a request of whose answer nothing is known but its function code. On a
	// line it ends where silence follows.
	raw bool
}

// whole reports whether data is all of the PDU behind the function code.
func (r request) whole() bool { return r.raw || r.fn == EncapsulatedInterface }

// appendPDU adds the request's PDU to b.
func (r request) appendPDU(b []byte) []byte {
	b = append(b, byte(r.fn))
	if r.whole() {
		return append(b, r.data...)
	}
	b = binary.BigEndian.AppendUint16(b, r.addr)
	switch r.fn {
	case WriteSingleCoil, WriteSingleRegister, MaskWriteRegister:
		return append(b, r.data...)
	case WriteMultipleCoils, WriteMultipleRegisters:
		b = binary.BigEndian.AppendUint16(b, r.count)
		b = append(b, byte(len(r.data)))
		return append(b, r.data...)
	case ReadWriteRegisters:
		b = binary.BigEndian.AppendUint16(b, r.count)
		return append(b, r.data...)
	default:
		return binary.BigEndian.AppendUint16(b, r.count)
	}
}

// gives reports whether the answer holds bits or registers.
func (r request) gives() bool { return !r.raw && (r.fn.reads() || r.fn == ReadWriteRegisters) }

// repeats reports whether the answer that grants the request looks like the request.
func (r request) repeats() bool {
	switch r.fn {
	case WriteSingleCoil, WriteSingleRegister, MaskWriteRegister, Diagnostics:
		return true
	default:
		return false
	}
}

// answerLen is the length of the PDU of the answer that grants the request; 0 is
// that the answer itself says how long it is.
func (r request) answerLen() int {
	switch {
	case r.whole():
		return 0
	case r.gives():
		return 2 + r.fn.bytes(int(r.count))
	case r.fn == MaskWriteRegister:
		return 7
	}
	return 5
}

// mostLen is the length of the longest PDU that may answer.
func (r request) mostLen() int {
	if n := r.answerLen(); n > 0 {
		return n
	}
	return maxPDU
}

// verdict is what a PDU is to a request.
type verdict uint8

const (
	foreign verdict = iota // the answer to something else, or none at all
	granted                // the answer
	refused                // an exception response to this function code
)

// judge says what a PDU from the request's unit is to the request. Data is what was
// read, as bytes that belong to pdu; where the answer itself says how long it is, it
// is the whole PDU.
func (r request) judge(pdu []byte) (v verdict, data []byte, code Code) {
	if len(pdu) == 2 && pdu[0] == byte(r.fn)|exceptionBit && pdu[1] != 0 {
		return refused, nil, Code(pdu[1])
	}
	if len(pdu) == 0 || pdu[0] != byte(r.fn) {
		return foreign, nil, 0
	}
	switch n := r.answerLen(); {
	case r.raw:
		return granted, pdu, 0
	case r.fn == EncapsulatedInterface:
		if identificationLen(pdu) != len(pdu) || len(r.data) < 2 || pdu[2] != r.data[1] {
			return foreign, nil, 0
		}
		return granted, pdu, 0
	case len(pdu) != n:
		return foreign, nil, 0
	case r.gives():
		if int(pdu[1]) != len(pdu)-2 {
			return foreign, nil, 0
		}
		return granted, pdu[2:], 0
	default:
		// A write is answered with its address and its value or quantity.
		var echo [maxPDU + 8]byte
		if want := r.appendPDU(echo[:0]); string(want[:n]) != string(pdu) {
			return foreign, nil, 0
		}
		return granted, nil, 0
	}
}

// appendAnswer adds the PDU of the answer that grants the request to b; data is what
// judge gave.
func (r request) appendAnswer(b, data []byte) []byte {
	switch {
	case r.whole():
		return append(b, data...)
	case r.gives():
		return append(append(b, byte(r.fn), byte(len(data))), data...)
	}
	start := len(b)
	return r.appendPDU(b)[:start+r.answerLen()]
}

// parseRequest reads the PDU of a request. One that is not as the standard has it
// becomes a raw one.
func parseRequest(unit uint8, pdu []byte) request {
	r := request{unit: unit, fn: Function(pdu[0]), raw: true, data: pdu[1:]}
	if !wellFormed(pdu) {
		return r
	}
	r.raw = false
	if r.fn == EncapsulatedInterface {
		return r
	}
	r.addr, r.count, r.data = binary.BigEndian.Uint16(pdu[1:]), 1, nil
	switch r.fn {
	case WriteSingleCoil, WriteSingleRegister, MaskWriteRegister:
		r.data = pdu[3:]
		return r
	case WriteMultipleCoils, WriteMultipleRegisters:
		r.data = pdu[6:]
	case ReadWriteRegisters:
		r.data = pdu[5:]
	default:
	}
	r.count = binary.BigEndian.Uint16(pdu[3:])
	return r
}

// wellFormed reports whether a PDU is a request that the package knows, within the
// limits of the standard.
func wellFormed(pdu []byte) bool {
	quantity := func(at, limit int) int {
		if len(pdu) < at+2 {
			return 0
		}
		if n := int(binary.BigEndian.Uint16(pdu[at:])); n <= limit {
			return n
		}
		return 0
	}
	switch fn := Function(pdu[0]); fn {
	case ReadCoils, ReadDiscreteInputs, ReadHoldingRegisters, ReadInputRegisters:
		return len(pdu) == 5 && quantity(3, fn.limit()) > 0
	case WriteSingleCoil, WriteSingleRegister:
		return len(pdu) == 5
	case MaskWriteRegister:
		return len(pdu) == 7
	case WriteMultipleCoils:
		n := quantity(3, maxWriteBits)
		return n > 0 && len(pdu) == 6+(n+7)/8 && int(pdu[5]) == (n+7)/8
	case WriteMultipleRegisters:
		n := quantity(3, maxWriteRegisters)
		return n > 0 && len(pdu) == 6+2*n && int(pdu[5]) == 2*n
	case ReadWriteRegisters:
		n := quantity(7, maxWriteWithRead)
		return quantity(3, maxReadRegisters) > 0 && n > 0 && len(pdu) == 10+2*n && int(pdu[9]) == 2*n
	case EncapsulatedInterface:
		return len(pdu) == 4 && pdu[1] == meiIdentification && pdu[2] >= 1 && pdu[2] <= 4
	default:
		return false
	}
}

// String gives "function 3 (read holding registers) of 2 at 107".
func (r request) String() string {
	if r.whole() {
		return r.fn.String()
	}
	return fmt.Sprintf("%v of %d at %d", r.fn, r.count, r.addr)
}
