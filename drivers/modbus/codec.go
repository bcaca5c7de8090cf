package modbus

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"

	"github.com/gatehouse/gatehouse/drivers"
)

// valueType is how registers make a value.
type valueType uint8

const (
	typeBool valueType = iota
	typeInt16
	typeUint16
	typeInt32
	typeUint32
	typeInt64
	typeUint64
	typeFloat32
	typeFloat64
)

// typeNames are the words of a device file.
var typeNames = map[string]valueType{
	"bool": typeBool, "int16": typeInt16, "uint16": typeUint16, "int32": typeInt32, "uint32": typeUint32,
	"int64": typeInt64, "uint64": typeUint64, "float32": typeFloat32, "float64": typeFloat64,
}

// String gives the word of a device file.
func (t valueType) String() string {
	for name, other := range typeNames {
		if other == t {
			return name
		}
	}
	return fmt.Sprintf("valueType(%d)", uint8(t))
}

// size is how many bytes a value takes.
func (t valueType) size() int {
	switch t {
	case typeInt16, typeUint16:
		return 2
	case typeInt32, typeUint32, typeFloat32:
		return 4
	case typeInt64, typeUint64, typeFloat64:
		return 8
	case typeBool:
	}
	return 1
}

func (t valueType) float() bool { return t == typeFloat32 || t == typeFloat64 }

func (t valueType) signed() bool { return t == typeInt16 || t == typeInt32 || t == typeInt64 }

// orderNames are the orders of bytes over the wire, A being the most significant;
// the numbers say which byte of the value comes there.
var orderNames = map[string][]int{
	"AB": {0, 1}, "BA": {1, 0},
	"ABCD": {0, 1, 2, 3}, "CDAB": {2, 3, 0, 1}, "BADC": {1, 0, 3, 2}, "DCBA": {3, 2, 1, 0},
	"ABCDEFGH": {0, 1, 2, 3, 4, 5, 6, 7}, "GHEFCDAB": {6, 7, 4, 5, 2, 3, 0, 1},
	"BADCFEHG": {1, 0, 3, 2, 5, 4, 7, 6}, "HGFEDCBA": {7, 6, 5, 4, 3, 2, 1, 0},
}

// codec turns bytes from the wire into a value and back. For a coil or a discrete
// input, the bytes are one that is 0 or 1.
type codec struct {
	kind   valueType
	order  []int // nil is as it comes
	scaled bool  // scale and offset are set
	scale  decimal
	offset decimal
}

// String gives the type, the scale and the offset.
func (c codec) String() string {
	if !c.scaled {
		return c.kind.String()
	}
	if c.offset.coefficient.Sign() == 0 {
		return fmt.Sprintf("%v with scale %v", c.kind, c.scale.value())
	}
	return fmt.Sprintf("%v with scale %v and offset %v", c.kind, c.scale.value(), c.offset.value())
}

// decode gives the value of the bytes; ok is false for a float that is none, or that
// scale and offset carry beyond all numbers.
func (c codec) decode(wire []byte) (v drivers.Value, ok bool) {
	if c.kind == typeBool {
		return drivers.BoolValue(wire[0] != 0), true
	}
	raw := c.raw(wire)
	switch {
	case c.kind.float():
		return c.decodeFloat(raw)
	case c.scaled:
		return c.decodeScaled(raw), true
	case !c.kind.signed() && raw > math.MaxInt64:
		return drivers.UintValue(raw), true
	}
	return drivers.IntValue(c.signed(raw)), true
}

// raw puts the bytes in order, into the low bits.
func (c codec) raw(wire []byte) uint64 {
	var b [8]byte
	low := b[8-c.kind.size():]
	for i := range low {
		if c.order == nil {
			low[i] = wire[i]
		} else {
			low[c.order[i]] = wire[i]
		}
	}
	return binary.BigEndian.Uint64(b[:])
}

// signed extends the sign, if the type has one.
func (c codec) signed(raw uint64) int64 {
	switch c.kind {
	case typeInt16:
		return int64(int16(raw))
	case typeInt32:
		return int64(int32(raw))
	default:
		return int64(raw)
	}
}

// decodeScaled is the raw integer times scale plus offset.
func (c codec) decodeScaled(raw uint64) drivers.Value {
	n, factor, exp := c.signed(raw), c.scale.coefficient, c.scale.exponent
	small := c.offset.coefficient.Sign() == 0 && exp <= 0 && exp >= decimalPlaces &&
		(c.kind.signed() || raw <= math.MaxInt32) && int64(int32(n)) == n
	if small && factor.IsInt64() && int64(int32(factor.Int64())) == factor.Int64() {
		return drivers.DecimalValue(n*factor.Int64(), exp) // the usual case, without big numbers
	}
	return c.bigInt(raw).mul(c.scale).add(c.offset).value()
}

func (c codec) bigInt(raw uint64) decimal {
	if c.kind.signed() {
		return decimalOf(c.signed(raw), 0)
	}
	return decimal{new(big.Int).SetUint64(raw), 0}
}

func (c codec) decodeFloat(raw uint64) (drivers.Value, bool) {
	f, bits := math.Float64frombits(raw), 64
	if c.kind == typeFloat32 {
		f, bits = float64(math.Float32frombits(uint32(raw))), 32
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return drivers.Value{}, false
	}
	if bits == 64 && !c.scaled {
		return drivers.FloatValue(f), true
	}
	// What the device meant is the shortest decimal: 21.3, not 21.299999.
	d, err := floatDecimal(f, bits)
	if err != nil {
		return drivers.Value{}, false
	}
	if c.scaled {
		v := d.mul(c.scale).add(c.offset).value()
		return v, !v.IsNull()
	}
	f, _ = d.rat().Float64()
	return drivers.FloatValue(f), true
}

// encode gives the bytes of a value, which the type must hold exactly: nothing is
// wrapped, clipped or, but for floats, rounded.
func (c codec) encode(v drivers.Value) ([]byte, error) { return c.encodeRounded(v, false) }

// encodeRounded is encode; rounded takes the nearest step for any number.
func (c codec) encodeRounded(v drivers.Value, rounded bool) ([]byte, error) {
	if c.kind == typeBool {
		return encodeBool(v)
	}
	d, ok := valueDecimal(v)
	if !ok {
		return nil, fmt.Errorf("%s is not a number", v)
	}
	raw := d.rat()
	if c.scaled {
		raw = d.add(c.offset.neg()).rat()
		raw.Quo(raw, c.scale.rat())
	}
	var bits uint64
	var err error
	if c.kind.float() {
		bits, err = c.floatBits(raw)
	} else {
		bits, err = c.intBits(raw, v.Kind() == drivers.Float, rounded)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w", v, err)
	}
	return c.wire(bits), nil
}

func encodeBool(v drivers.Value) ([]byte, error) {
	switch n, ok := v.Int(); {
	case ok && n == 0:
		return []byte{0}, nil
	case ok && n == 1:
		return []byte{1}, nil
	}
	return nil, fmt.Errorf("%s is not true or false", v)
}

func (c codec) floatBits(raw *big.Rat) (uint64, error) {
	if c.kind == typeFloat32 {
		f, _ := raw.Float32()
		if math.IsInf(float64(f), 0) {
			return 0, fmt.Errorf("does not fit %s", c)
		}
		return uint64(math.Float32bits(f)), nil
	}
	f, _ := raw.Float64()
	if math.IsInf(f, 0) {
		return 0, fmt.Errorf("does not fit %s", c)
	}
	return math.Float64bits(f), nil
}

func (c codec) intBits(raw *big.Rat, loose, rounded bool) (uint64, error) {
	n, ok := nearInteger(raw, loose)
	if !ok && !rounded {
		return 0, fmt.Errorf("falls between two steps of %s", c)
	}
	size := uint(8 * c.kind.size())
	low, high := new(big.Int), new(big.Int).Lsh(big.NewInt(1), size)
	if c.kind.signed() {
		high.Rsh(high, 1)
		low.Neg(high)
	}
	if n.Cmp(low) < 0 || n.Cmp(high) >= 0 {
		return 0, fmt.Errorf("does not fit %s", c)
	}
	if n.Sign() < 0 {
		return uint64(n.Int64()), nil
	}
	return n.Uint64(), nil
}

// wire puts the low bytes of raw in the order of the wire.
func (c codec) wire(raw uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], raw)
	low := b[8-c.kind.size():]
	out := make([]byte, len(low))
	for i := range out {
		if c.order == nil {
			out[i] = low[i]
		} else {
			out[i] = low[c.order[i]]
		}
	}
	return out
}
