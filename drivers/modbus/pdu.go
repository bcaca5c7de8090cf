package modbus

import "fmt"

// Function is a function code (Modbus Application Protocol V1.1b3 §6).
type Function uint8

// The function codes that the package knows; others travel as they are.
const (
	ReadCoils              Function = 1  // §6.1
	ReadDiscreteInputs     Function = 2  // §6.2
	ReadHoldingRegisters   Function = 3  // §6.3
	ReadInputRegisters     Function = 4  // §6.4
	WriteSingleCoil        Function = 5  // §6.5
	WriteSingleRegister    Function = 6  // §6.6
	Diagnostics            Function = 8  // §6.8
	WriteMultipleCoils     Function = 15 // §6.11
	WriteMultipleRegisters Function = 16 // §6.12
	MaskWriteRegister      Function = 22 // §6.16
	ReadWriteRegisters     Function = 23 // §6.17
	EncapsulatedInterface  Function = 43 // §6.19; with MEI type 14 the device identification, §6.21
)

// exceptionBit marks the function code of an exception response.
const exceptionBit = 0x80

// The limits of one request (§6.1 to §6.12).
const (
	maxReadBits       = 2000
	maxReadRegisters  = 125
	maxWriteBits      = 1968
	maxWriteRegisters = 123
	maxWriteWithRead  = 121
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
	case Diagnostics:
		name = "diagnostics"
	case WriteMultipleCoils:
		name = "write multiple coils"
	case WriteMultipleRegisters:
		name = "write multiple registers"
	case MaskWriteRegister:
		name = "mask write register"
	case ReadWriteRegisters:
		name = "read/write multiple registers"
	case EncapsulatedInterface:
		name = "encapsulated interface transport"
	default:
		return fmt.Sprintf("function %d", uint8(f))
	}
	return fmt.Sprintf("function %d (%s)", uint8(f), name)
}

// reads reports whether the function reads.
func (f Function) reads() bool { return f >= ReadCoils && f <= ReadInputRegisters }

// writes reports whether the function may write: one that is not known may.
func (f Function) writes() bool { return !f.reads() && f != EncapsulatedInterface }

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
