package discovery

import (
	"encoding/binary"
	"errors"
	"math"
)

// The part of Protocol Buffers that Sparkplug's messages are made of: fields of the
// wire types varint, fixed64, length-delimited and fixed32
// (https://protobuf.dev/programming-guides/encoding).
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

func appendKey(b []byte, field, wire int) []byte {
	return binary.AppendUvarint(b, uint64(field)<<3|uint64(wire))
}

func appendVarint(b []byte, field int, n uint64) []byte {
	return binary.AppendUvarint(appendKey(b, field, wireVarint), n)
}

func appendBool(b []byte, field int, v bool) []byte {
	n := uint64(0)
	if v {
		n = 1
	}
	return appendVarint(b, field, n)
}

func appendDouble(b []byte, field int, f float64) []byte {
	return binary.LittleEndian.AppendUint64(appendKey(b, field, wireFixed64), math.Float64bits(f))
}

func appendText(b []byte, field int, s string) []byte {
	b = binary.AppendUvarint(appendKey(b, field, wireBytes), uint64(len(s)))
	return append(b, s...)
}

func appendMessage(b []byte, field int, m []byte) []byte {
	b = binary.AppendUvarint(appendKey(b, field, wireBytes), uint64(len(m)))
	return append(b, m...)
}

var errNotProtobuf = errors.New("the payload is not a protobuf message")

// field is one field as it stands on the wire: a number, or bytes.
type field struct {
	number int
	wire   int
	value  uint64 // of varint, fixed64, fixed32
	bytes  []byte // of length-delimited; shares the payload's memory
}

// eachField calls f with each field of a message.
func eachField(b []byte, f func(field) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 || key>>3 == 0 || key>>3 > 1<<29-1 {
			return errNotProtobuf
		}
		b = b[n:]
		x := field{number: int(key >> 3), wire: int(key & 7)}
		switch x.wire {
		case wireVarint:
			x.value, n = binary.Uvarint(b)
			if n <= 0 {
				return errNotProtobuf
			}
			b = b[n:]
		case wireFixed64:
			if len(b) < 8 {
				return errNotProtobuf
			}
			x.value, b = binary.LittleEndian.Uint64(b), b[8:]
		case wireFixed32:
			if len(b) < 4 {
				return errNotProtobuf
			}
			x.value, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		case wireBytes:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errNotProtobuf
			}
			x.bytes, b = b[n:n+int(size)], b[n+int(size):]
		default: // groups are of another age
			return errNotProtobuf
		}
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}
