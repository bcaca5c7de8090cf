package modbus

import (
	"fmt"
	"strings"
)

// valueType is how registers make a value.
type valueType uint8

const (
	typeBool valueType = iota
	typeInt8H
	typeInt8L
	typeUint8H
	typeUint8L
	typeInt16
	typeUint16
	typeInt32
	typeUint32
	typeInt48
	typeUint48
	typeInt64
	typeUint64
	typeFloat16
	typeFloat32
	typeFloat64
	typeBCD16
	typeBCD32
	typeBCD48
	typeBCD64
	typeMod10k32
	typeMod10k48
	typeMod10k64
	typeUnix32
	typeUnix64
	typeUnix64ms
	typeCP56
	typeDatetime
	typeDatetimeBCD
	typeString
)

// form is what is done with the bytes of a type, once they are in order.
type form uint8

const (
	formBool     form = iota // a coil or discrete input
	formSigned               // two's complement
	formUnsigned             // an unsigned integer
	formFloat                // IEEE 754 binary16, 32 or 64
	formBCD                  // a decimal digit in each four bits
	formMod10k               // registers of 0 to 9999
	formUnix                 // time since 1970-01-01T00:00:00Z
	formCP56                 // CP56Time2a of IEC 60870-5-4 §6.8
	formDatetime             // a register or byte for each of year, month, ...
	formText                 // characters
)

// types are the words of a device file. The size is in bytes; 0 is that the file
// says it.
var types = [...]struct {
	name string
	form form
	size int
}{
	typeBool:   {"bool", formBool, 1},
	typeInt8H:  {"int8h", formSigned, 2},
	typeInt8L:  {"int8l", formSigned, 2},
	typeUint8H: {"uint8h", formUnsigned, 2},
	typeUint8L: {"uint8l", formUnsigned, 2},
	typeInt16:  {"int16", formSigned, 2}, typeUint16: {"uint16", formUnsigned, 2},
	typeInt32: {"int32", formSigned, 4}, typeUint32: {"uint32", formUnsigned, 4},
	typeInt48: {"int48", formSigned, 6}, typeUint48: {"uint48", formUnsigned, 6},
	typeInt64: {"int64", formSigned, 8}, typeUint64: {"uint64", formUnsigned, 8},
	typeFloat16: {"float16", formFloat, 2}, typeFloat32: {"float32", formFloat, 4}, typeFloat64: {"float64", formFloat, 8},
	typeBCD16: {"bcd16", formBCD, 2}, typeBCD32: {"bcd32", formBCD, 4},
	typeBCD48: {"bcd48", formBCD, 6}, typeBCD64: {"bcd64", formBCD, 8},
	typeMod10k32: {"mod10k32", formMod10k, 4}, typeMod10k48: {"mod10k48", formMod10k, 6}, typeMod10k64: {"mod10k64", formMod10k, 8},
	typeUnix32: {"unix32", formUnix, 4}, typeUnix64: {"unix64", formUnix, 8}, typeUnix64ms: {"unix64ms", formUnix, 8},
	typeCP56:     {"cp56time2a", formCP56, 8},
	typeDatetime: {"datetime", formDatetime, 0}, typeDatetimeBCD: {"datetime_bcd", formDatetime, 0},
	typeString: {"string", formText, 0},
}

// typeNamed finds the type that a device file names.
func typeNamed(name string) (valueType, bool) {
	for t, d := range types {
		if d.name == name {
			return valueType(t), true
		}
	}
	return 0, false
}

// typeNames lists all types for a message.
func typeNames() string {
	names := make([]string, len(types))
	for i, d := range types {
		names[i] = d.name
	}
	return strings.Join(names, ", ")
}

// String gives the word of a device file.
func (t valueType) String() string {
	if int(t) < len(types) {
		return types[t].name
	}
	return fmt.Sprintf("valueType(%d)", uint8(t))
}

// size is how many bytes a value takes; 0 is that the file says it.
func (t valueType) size() int { return types[t].size }

func (t valueType) form() form { return types[t].form }

func (t valueType) float() bool { return t.form() == formFloat }

func (t valueType) signed() bool { return t.form() == formSigned }

// number reports whether the values are numbers, which may be scaled.
func (t valueType) number() bool {
	switch t.form() {
	case formSigned, formUnsigned, formFloat, formBCD, formMod10k:
		return true
	case formBool, formUnix, formCP56, formDatetime, formText:
	}
	return false
}

// half is which bits of a register an 8-bit type is; a width of 0 is all.
func (t valueType) half() (low, width uint8) {
	switch t {
	case typeInt8H, typeUint8H:
		return 8, 8
	case typeInt8L, typeUint8L:
		return 0, 8
	default:
		return 0, 0
	}
}

// parseOrder reads the order of bytes over the wire: letters from A, the most
// significant, each once. The numbers say which byte of the value comes there.
func parseOrder(s string, size int) (order []int, ok bool) {
	if len(s) != size {
		return nil, false
	}
	seen := 0
	for _, letter := range []byte(s) {
		n := int(letter) - 'A'
		if n < 0 || n >= size || seen>>n&1 == 1 {
			return nil, false
		}
		seen |= 1 << n
		order = append(order, n)
	}
	return order, true
}
