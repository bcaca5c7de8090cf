package modbus

import (
	"encoding/binary"
	"fmt"
)

// Function is a function code (Modbus Application Protocol V1.1b3 §6).
type Function uint8

// The function codes that the driver and the simulator know.
const (
	ReadCoils              Function = 1  // §6.1
	ReadDiscreteInputs     Function = 2  // §6.2
	ReadHoldingRegisters   Function = 3  // §6.3
	ReadInputRegisters     Function = 4  // §6.4
	WriteSingleCoil        Function = 5  // §6.5
	WriteSingleRegister    Function = 6  // §6.6
	WriteMultipleCoils     Function = 15 // §6.11
	WriteMultipleRegisters Function = 16 // §6.12
)

// exceptionBit marks the function code of an exception response.
const exceptionBit = 0x80

// The limits of one request (§6.1 to §6.12).
const (
	maxReadBits       = 2000
	maxReadRegisters  = 125
	maxWriteBits      = 1968
	maxWriteRegisters = 123
	maxPDU            = 253
)

// The two words that write a single coil (§6.5).
const (
	coilOn  = 0xFF00
	coilOff = 0x0000
)

// String gives "function 3 (read holding registers)".
func (f Function) String() string {
	name := ""
	switch f {
	case ReadCoils:
		name = "read coils"
	case ReadDiscreteInputs:
		name = "read discrete inputs"
	case ReadHoldingRegisters:
		name = "read holding registers"
	case ReadInputRegisters:
		name = "read input registers"
	case WriteSingleCoil:
		name = "write single coil"
	case WriteSingleRegister:
		name = "write single register"
	case WriteMultipleCoils:
		name = "write multiple coils"
	case WriteMultipleRegisters:
		name = "write multiple registers"
	default:
		return fmt.Sprintf("function %d", uint8(f))
	}
	return fmt.Sprintf("function %d (%s)", uint8(f), name)
}

// reads reports whether the function reads.
func (f Function) reads() bool { return f >= ReadCoils && f <= ReadInputRegisters }

// bits reports whether a reading function reads bits.
func (f Function) bits() bool { return f == ReadCoils || f == ReadDiscreteInputs }

// limit is how many bits or registers a reading function gives at most.
func (f Function) limit() int {
	if f.bits() {
		return maxReadBits
	}
	return maxReadRegisters
}

// bytes is how many bytes n bits or registers take in an answer.
func (f Function) bytes(n int) int {
	if f.bits() {
		return (n + 7) / 8
	}
	return 2 * n
}

// Code is an exception code (Modbus Application Protocol V1.1b3 §7).
type Code uint8

// The exception codes.
const (
	IllegalFunction     Code = 1
	IllegalAddress      Code = 2
	IllegalValue        Code = 3
	DeviceFailure       Code = 4
	Acknowledge         Code = 5
	DeviceBusy          Code = 6
	MemoryParity        Code = 8
	GatewayPath         Code = 10 // the gateway has no path to the unit
	GatewayNoResponse   Code = 11 // the unit did not answer the gateway
	highestKnownFailure      = GatewayNoResponse
)

// String gives "exception 2 (illegal data address)".
func (c Code) String() string {
	names := [highestKnownFailure + 1]string{
		IllegalFunction: "illegal function", IllegalAddress: "illegal data address", IllegalValue: "illegal data value",
		DeviceFailure: "server device failure", Acknowledge: "acknowledge", DeviceBusy: "server device busy",
		MemoryParity: "memory parity error", GatewayPath: "gateway path unavailable",
		GatewayNoResponse: "gateway target device failed to respond",
	}
	if c <= highestKnownFailure && names[c] != "" {
		return fmt.Sprintf("exception %d (%s)", uint8(c), names[c])
	}
	return fmt.Sprintf("exception %d", uint8(c))
}

// Exception is the refusal of a request by the device. It is an error; use
// errors.As to see its code.
type Exception struct {
	Function Function // the function that was asked for
	Code     Code
}

// Error gives "exception 2 (illegal data address) from function 3 (...)".
func (e Exception) Error() string { return e.Code.String() + " from " + e.Function.String() }

// unreached reports whether it is a gateway's word for a unit that does not answer.
func (e Exception) unreached() bool { return e.Code == GatewayPath || e.Code == GatewayNoResponse }

// request is one request to a unit.
type request struct {
	unit  uint8
	fn    Function
	addr  uint16
	count uint16 // bits or registers; 1 for the single writes
	data  []byte // what is written: the value's word for the single writes
}

// appendPDU adds the request's PDU to b.
func (r request) appendPDU(b []byte) []byte {
	b = append(b, byte(r.fn))
	b = binary.BigEndian.AppendUint16(b, r.addr)
	switch r.fn {
	case WriteSingleCoil, WriteSingleRegister:
		return append(b, r.data...)
	case WriteMultipleCoils, WriteMultipleRegisters:
		b = binary.BigEndian.AppendUint16(b, r.count)
		b = append(b, byte(len(r.data)))
		return append(b, r.data...)
	default:
		return binary.BigEndian.AppendUint16(b, r.count)
	}
}

// answerLen is the length of the PDU of the answer that grants the request.
func (r request) answerLen() int {
	if r.fn.reads() {
		return 2 + r.fn.bytes(int(r.count))
	}
	return 5
}

// verdict is what a PDU is to a request.
type verdict uint8

const (
	foreign verdict = iota // the answer to something else, or none at all
	granted                // the answer
	refused                // an exception response to this function code
)

// judge says what a PDU from the request's unit is to the request. Data is what was
// read, as bytes that belong to pdu.
func (r request) judge(pdu []byte) (v verdict, data []byte, code Code) {
	if len(pdu) == 2 && pdu[0] == byte(r.fn)|exceptionBit && pdu[1] != 0 {
		return refused, nil, Code(pdu[1])
	}
	if len(pdu) != r.answerLen() || pdu[0] != byte(r.fn) {
		return foreign, nil, 0
	}
	if r.fn.reads() {
		if int(pdu[1]) != len(pdu)-2 {
			return foreign, nil, 0
		}
		return granted, pdu[2:], 0
	}
	// A write is answered with its address and its value or quantity.
	var echo [maxPDU + 8]byte
	if want := r.appendPDU(echo[:0]); string(want[:5]) != string(pdu) {
		return foreign, nil, 0
	}
	return granted, nil, 0
}
