package modbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// errNotFinite is why a float is a bad reading. One that is not a number (NaN) is
// null: that is how devices say that they have none.
var errNotFinite = errors.New("the registers hold an infinite number, or one that is too large")

// codec turns bytes from the wire into a value and back. For a coil or a discrete
// input, the bytes are one that is 0 or 1.
type codec struct {
	kind       valueType
	bytes      int   // on the wire
	order      []int // nil is as it comes; of a text or datetime, that of each register
	low, width uint8 // the bits that count, from the least significant; width 0 is all
	flag       bool  // one bit, which is true or false
	scaled     bool  // scale and offset are set
	scale      decimal
	offset     decimal
	none       []uint64 // the bits that say that there is no value

	blank    bool // a text ends in blanks, not in NUL
	encoding encoding
	layout   []dateField // of a datetime, by byte
	zone     *time.Location
}

// String gives the type, the scale and the offset.
func (c *codec) String() string {
	name := c.kind.String()
	if _, half := c.kind.half(); c.width > 0 && half == 0 {
		name = fmt.Sprintf("bits %d..%d of %s", c.low, c.low+c.width-1, name)
	}
	switch {
	case !c.scaled:
		return name
	case c.offset.coefficient.Sign() == 0:
		return fmt.Sprintf("%s with scale %v", name, c.scale.value())
	}
	return fmt.Sprintf("%s with scale %v and offset %v", name, c.scale.value(), c.offset.value())
}

// decode gives the value of the bytes: null where they say that there is none. The
// error is why they are no value of the type.
func (c *codec) decode(wire []byte) (drivers.Value, error) {
	switch c.kind.form() {
	case formBool:
		return drivers.BoolValue(wire[0] != 0), nil
	case formText:
		return c.decodeText(wire)
	case formDatetime:
		return c.decodeDatetime(wire)
	case formSigned, formUnsigned, formFloat, formBCD, formMod10k, formUnix, formCP56:
	}
	raw := c.raw(wire)
	if slices.Contains(c.none, raw) {
		return drivers.Value{}, nil
	}
	var err error
	switch c.kind.form() {
	case formFloat:
		return c.decodeFloat(raw)
	case formUnix:
		return c.decodeUnix(raw)
	case formCP56:
		return c.decodeCP56(raw)
	case formBCD:
		raw, err = fromBCD(raw)
	case formMod10k:
		raw, err = fromMod10k(raw)
	case formBool, formSigned, formUnsigned, formDatetime, formText:
	}
	if err != nil {
		return drivers.Value{}, err
	}
	return c.decodeInteger(raw), nil
}

func (c *codec) decodeInteger(raw uint64) drivers.Value {
	switch {
	case c.flag:
		return drivers.BoolValue(raw != 0)
	case c.scaled:
		return c.decodeScaled(raw)
	case !c.kind.signed() && raw > math.MaxInt64:
		return drivers.UintValue(raw)
	}
	return drivers.IntValue(c.signed(raw))
}

// raw puts the bytes in order, and those that count into the low bits.
func (c *codec) raw(wire []byte) uint64 {
	var b [8]byte
	low := b[8-c.bytes:]
	for i := range low {
		if c.order == nil {
			low[i] = wire[i]
		} else {
			low[c.order[i]] = wire[i]
		}
	}
	raw := binary.BigEndian.Uint64(b[:])
	if c.width > 0 {
		raw = raw >> c.low & (1<<c.width - 1)
	}
	return raw
}

// bits is how many bits count.
func (c *codec) bits() uint {
	if c.width > 0 {
		return uint(c.width)
	}
	return 8 * uint(c.bytes)
}

// signed extends the sign, if the type has one.
func (c *codec) signed(raw uint64) int64 {
	if !c.kind.signed() {
		return int64(raw)
	}
	unused := 64 - c.bits()
	return int64(raw<<unused) >> unused
}

// decodeScaled is the raw integer times scale plus offset.
func (c *codec) decodeScaled(raw uint64) drivers.Value {
	n, factor, exp := c.signed(raw), c.scale.coefficient, c.scale.exponent
	small := c.offset.coefficient.Sign() == 0 && exp <= 0 && exp >= decimalPlaces &&
		(c.kind.signed() || raw <= math.MaxInt32) && int64(int32(n)) == n
	if small && factor.IsInt64() && int64(int32(factor.Int64())) == factor.Int64() {
		return drivers.DecimalValue(n*factor.Int64(), exp) // the usual case, without big numbers
	}
	return c.bigInt(raw).mul(c.scale).add(c.offset).value()
}

func (c *codec) bigInt(raw uint64) decimal {
	if c.kind.signed() {
		return decimalOf(c.signed(raw), 0)
	}
	return decimal{new(big.Int).SetUint64(raw), 0}
}

// scaledBy is the codec with a scale that is 10^exponent times as much.
func (c *codec) scaledBy(exponent int) *codec {
	by := *c
	by.scaled = true
	by.scale.exponent += exponent
	return &by
}

func (c *codec) decodeFloat(raw uint64) (drivers.Value, error) {
	f := floatOf(raw, c.bytes)
	switch {
	case math.IsNaN(f):
		return drivers.Value{}, nil
	case math.IsInf(f, 0):
		return drivers.Value{}, errNotFinite
	case c.bytes == 8 && !c.scaled:
		return drivers.FloatValue(f), nil
	}
	// What the device meant is the shortest decimal: 21.3, not 21.299999.
	d, err := floatDecimal(f, 8*c.bytes)
	if err != nil {
		return drivers.Value{}, err
	}
	if c.scaled {
		v := d.mul(c.scale).add(c.offset).value()
		if v.IsNull() {
			return v, errNotFinite
		}
		return v, nil
	}
	f, _ = d.rat().Float64()
	return drivers.FloatValue(f), nil
}

// encode gives the bytes of a value, which the type must hold exactly: nothing is
// wrapped, clipped or, but for floats, rounded. Bits that do not count are 0; see
// mask.
func (c *codec) encode(v drivers.Value) ([]byte, error) { return c.encodeRounded(v, false) }

// encodeRounded is encode; rounded takes the nearest step for any number.
func (c *codec) encodeRounded(v drivers.Value, rounded bool) ([]byte, error) {
	switch c.kind.form() {
	case formBool:
		bit, err := flagOf(v)
		return []byte{byte(bit)}, err
	case formText:
		return c.encodeText(v)
	case formDatetime:
		return c.encodeDatetime(v)
	case formSigned, formUnsigned, formFloat, formBCD, formMod10k, formUnix, formCP56:
	}
	bits, err := c.bitsOf(v, rounded)
	if err != nil {
		return nil, err
	}
	if slices.Contains(c.none, bits) {
		return nil, fmt.Errorf("%s is what says that there is no value", v)
	}
	return c.wire(bits << c.low), nil
}

// bitsOf gives the bits that count.
func (c *codec) bitsOf(v drivers.Value, rounded bool) (bits uint64, err error) {
	switch {
	case c.flag:
		return flagOf(v)
	case c.kind.form() == formUnix:
		return c.unixBits(v)
	case c.kind.form() == formCP56:
		return c.cp56Bits(v)
	}
	d, ok := valueDecimal(v)
	if !ok {
		return 0, fmt.Errorf("%s is not a number", v)
	}
	raw := d.rat()
	if c.scaled {
		raw = d.add(c.offset.neg()).rat()
		raw.Quo(raw, c.scale.rat())
	}
	if c.kind.float() {
		bits, err = c.floatBits(raw)
	} else {
		bits, err = c.intBits(raw, v.Kind() == drivers.Float, rounded)
	}
	if err != nil {
		return 0, fmt.Errorf("%s %w", v, err)
	}
	return bits, nil
}

func flagOf(v drivers.Value) (uint64, error) {
	if n, ok := v.Int(); ok && (n == 0 || n == 1) {
		return uint64(n), nil
	}
	return 0, fmt.Errorf("%s is not true or false", v)
}

func (c *codec) floatBits(raw *big.Rat) (uint64, error) {
	switch c.bytes {
	case 2:
		f, _ := raw.Float64()
		if bits, ok := halfBits(f); ok {
			return uint64(bits), nil
		}
	case 4:
		if f, _ := raw.Float32(); !math.IsInf(float64(f), 0) {
			return uint64(math.Float32bits(f)), nil
		}
	default:
		if f, _ := raw.Float64(); !math.IsInf(f, 0) {
			return math.Float64bits(f), nil
		}
	}
	return 0, fmt.Errorf("does not fit %s", c)
}

func (c *codec) intBits(raw *big.Rat, loose, rounded bool) (uint64, error) {
	n, ok := nearInteger(raw, loose)
	if !ok && !rounded {
		return 0, fmt.Errorf("falls between two steps of %s", c)
	}
	low, high := c.limits()
	if n.Cmp(low) < 0 || n.Cmp(high) >= 0 {
		return 0, fmt.Errorf("does not fit %s", c)
	}
	switch c.kind.form() {
	case formBCD:
		return toBCD(n.Uint64()), nil
	case formMod10k:
		return toMod10k(n.Uint64()), nil
	case formSigned:
		return uint64(n.Int64()) & (math.MaxUint64 >> (64 - c.bits())), nil
	default:
		return n.Uint64(), nil
	}
}

// limits are the least integer of the type, and the one above the greatest.
func (c *codec) limits() (low, high *big.Int) {
	low = new(big.Int)
	switch c.kind.form() {
	case formBCD:
		return low, power(2 * c.bytes)
	case formMod10k:
		return low, power(2 * c.bytes)
	case formSigned:
		high = new(big.Int).Lsh(big.NewInt(1), c.bits()-1)
		return low.Neg(high), high
	default:
		return low, new(big.Int).Lsh(big.NewInt(1), c.bits())
	}
}

// wire puts the low bytes of raw in the order of the wire.
func (c *codec) wire(raw uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], raw)
	low := b[8-c.bytes:]
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

// mask has a 1 for each bit of the registers that is the point's, in the order of the
// wire; nil is all of them. The other bits belong to somebody else, and what is
// written must not change them.
func (c *codec) mask() []byte {
	if c.width == 0 || int(c.width) == 8*c.bytes {
		return nil
	}
	return c.wire((1<<c.width - 1) << c.low)
}

// zero is the value of registers that nobody has set.
func (c *codec) zero() drivers.Value {
	switch {
	case c.flag, c.kind.form() == formBool:
		return drivers.BoolValue(false)
	case c.kind.form() == formText:
		return drivers.TextValue("")
	case c.kind.number():
		return drivers.IntValue(0)
	}
	return drivers.TextValue("2000-01-01T00:00:00Z")
}
