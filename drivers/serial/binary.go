package serial

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/drivers"
)

// layout is where a point stands in a binary frame, and as what.
type layout struct {
	at     int    // from the frame's end if below 0
	kind   string // one of the layoutKinds
	size   int    // bytes; 0 is up to the end
	order  []int  // order[i] is which byte of the number, the most significant first, comes as the i-th
	low    int    // the first of the bits
	bits   int    // how many; 0 is all
	scale  *big.Rat
	offset *big.Rat
}

// The kinds of a layout.
const (
	kindInt   = "int"
	kindUint  = "uint"
	kindFloat = "float"
	kindBCD   = "bcd"
	kindHex   = "hex"
)

// layoutFile are the keys of a point in a binary frame.
type layoutFile struct {
	At     *int           `yaml:"at"`
	Length int            `yaml:"length"`
	Order  string         `yaml:"order"`
	Bit    *int           `yaml:"bit"`
	Bits   string         `yaml:"bits"`
	Scale  drivers.Number `yaml:"scale"`
	Offset drivers.Number `yaml:"offset"`
}

// layoutKeys are the keys that only points of binary frames have.
var layoutKeys = []string{"at", "length", "order", "bit", "bits", "scale", "offset"}

// understandLayout understands a point in a binary frame; order is the device's. The
// error is a *keyError.
func understandLayout(f layoutFile, kind, order string) (*layout, error) {
	l := &layout{}
	if f.At == nil {
		return nil, wrongKey("", `a point in a binary frame needs the key "at"`)
	}
	l.at = *f.At
	if err := l.setKind(kind, f.Length); err != nil {
		return nil, err
	}
	if f.Order != "" {
		order = f.Order
	}
	if err := l.setOrder(order); err != nil {
		return nil, err
	}
	if err := l.setBits(f); err != nil {
		return nil, err
	}
	return l, l.setScale(f)
}

func (l *layout) setKind(kind string, length int) error {
	switch number := strings.TrimLeft(kind, "uintfloa"); {
	case kind == typeBool:
		l.kind, l.size = kindUint, 1
	case kind == typeText || kind == kindHex || kind == kindBCD:
		if l.kind, l.size = kind, length; length < 0 || length > mostMaxFrame || kind == kindBCD && (length < 1 || length > 9) {
			return wrongKey("length", "length must be the point's bytes, for bcd 1 to 9, not %d", length)
		}
		return nil
	default:
		bits, err := strconv.Atoi(number)
		l.kind, l.size = strings.TrimSuffix(kind, number), bits/8
		integer := (l.kind == kindInt || l.kind == kindUint) && bits >= 8 && bits <= 64 && bits%8 == 0
		if err != nil || !integer && (l.kind != kindFloat || bits != 32 && bits != 64) {
			return wrongKey("type", "type must be bool, int8 to int64, uint8 to uint64 (in whole bytes), float32, float64, bcd, text or hex, not %q", kind)
		}
	}
	if length != 0 {
		return wrongKey("length", "length is for the types bcd, text and hex")
	}
	return nil
}

func (l *layout) setOrder(order string) error {
	n := l.size
	l.order = make([]int, n)
	for i := range l.order {
		switch order {
		case "", "big":
			l.order[i] = i
		case "little":
			l.order[i] = n - 1 - i
		case "CDAB":
			l.order[i] = (n - 2 - i&^1) + i&1
		case "BADC":
			l.order[i] = i ^ 1
		default:
			return wrongKey("order", "order must be big, little, CDAB or BADC, not %q", order)
		}
	}
	if (order == "CDAB" || order == "BADC") && n%4 != 0 && n != 1 {
		return wrongKey("order", "order %s is for numbers of 4 or 8 bytes", order)
	}
	return nil
}

func (l *layout) setBits(f layoutFile) error {
	switch {
	case f.Bit == nil && f.Bits == "":
		return nil
	case l.kind != kindUint:
		return wrongKey("bit", "bits are of uint8 to uint64")
	case f.Bit != nil && f.Bits != "":
		return wrongKey("bits", "a point is either a bit or bits")
	case f.Bit != nil:
		l.low, l.bits = *f.Bit, 1
		if l.low < 0 || l.low >= 8*l.size {
			return wrongKey("bit", "bit must be 0 to %d, not %d", 8*l.size-1, l.low)
		}
		return nil
	}
	from, to, ok := strings.Cut(f.Bits, "-")
	low, errLow := strconv.Atoi(from)
	high, errHigh := strconv.Atoi(to)
	if !ok || errLow != nil || errHigh != nil || low < 0 || low > high || high >= 8*l.size {
		return wrongKey("bits", `bits must be a range such as "0-3" within 0 to %d, not %q`, 8*l.size-1, f.Bits)
	}
	l.low, l.bits = low, high-low+1
	return nil
}

func (l *layout) setScale(f layoutFile) error {
	for _, n := range []struct {
		key string
		v   drivers.Value
		to  **big.Rat
	}{{"scale", f.Scale.Value, &l.scale}, {"offset", f.Offset.Value, &l.offset}} {
		if n.v.IsNull() {
			continue
		}
		if l.kind == typeText || l.kind == kindHex || l.bits == 1 {
			return wrongKey(n.key, "%s is for numbers", n.key)
		}
		r, ok := new(big.Rat).SetString(n.v.String())
		if !ok || n.key == "scale" && r.Sign() == 0 {
			return wrongKey(n.key, "%s must be a number, and scale not 0", n.key)
		}
		*n.to = r
	}
	return nil
}

// decode reads the point in a frame.
func (l *layout) decode(frame []byte) (drivers.Value, error) {
	at := index(l.at, len(frame))
	size := l.size
	if size == 0 {
		size = len(frame) - at
	}
	if at < 0 || size < 0 || at+size > len(frame) {
		return drivers.Value{}, fmt.Errorf("the frame of %d bytes is too short", len(frame))
	}
	b := frame[at : at+size]
	switch l.kind {
	case kindHex:
		return drivers.TextValue(hex.EncodeToString(b)), nil
	case typeText:
		return decodeText(b)
	case kindBCD:
		digits := hex.EncodeToString(b)
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			return drivers.Value{}, fmt.Errorf("%s is not a number in BCD", digits)
		}
		return l.scaled(new(big.Rat).SetUint64(n)), nil
	case kindFloat:
		return l.decodeFloat(b)
	}
	raw := l.raw(b)
	switch {
	case l.bits == 1:
		return drivers.BoolValue(raw>>l.low&1 == 1), nil
	case l.bits > 0:
		raw = raw >> l.low & (1<<l.bits - 1)
	case l.kind == kindInt:
		shift := 64 - 8*l.size
		return l.scaled(new(big.Rat).SetInt64(int64(raw<<shift) >> shift)), nil
	}
	return l.scaled(new(big.Rat).SetUint64(raw)), nil
}

func (l *layout) raw(b []byte) (n uint64) {
	for i, one := range b {
		n |= uint64(one) << (8 * (l.size - 1 - l.order[i]))
	}
	return n
}

func decodeText(b []byte) (drivers.Value, error) {
	s := strings.TrimRight(string(b), "\x00 ")
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return drivers.Value{}, errors.New("the bytes are not text")
	}
	return drivers.TextValue(s), nil
}

func (l *layout) decodeFloat(b []byte) (drivers.Value, error) {
	f, bits := math.Float64frombits(l.raw(b)), 64
	if l.size == 4 {
		f, bits = float64(math.Float32frombits(uint32(l.raw(b)))), 32
	}
	// What was meant is the shortest decimal: 21.3, not 21.299999.
	r, ok := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, bits))
	if !ok {
		return drivers.Value{}, errors.New("the float is not a number")
	}
	if l.scale == nil && l.offset == nil {
		f, _ = r.Float64()
		return drivers.FloatValue(f), nil
	}
	return l.scaled(r), nil
}

// scaled is a number times scale plus offset, exactly where 18 places hold it.
func (l *layout) scaled(r *big.Rat) drivers.Value {
	if l.scale != nil {
		r.Mul(r, l.scale)
	}
	if l.offset != nil {
		r.Add(r, l.offset)
	}
	const places = 18 // of a Decimal
	if rounded, ok := new(big.Rat).SetString(r.FloatString(places)); ok && rounded.Cmp(r) == 0 {
		return roundedTo(r, places)
	}
	f, _ := r.Float64()
	return drivers.FloatValue(f)
}

// roundedTo is a number with so many places at most.
func roundedTo(r *big.Rat, places int) drivers.Value {
	s := r.FloatString(places)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if v, err := drivers.ParseNumber(s); err == nil {
		return v
	}
	f, _ := r.Float64()
	return drivers.FloatValue(f)
}

// encode gives the bytes of a value, which the type must hold exactly.
func (l *layout) encode(v drivers.Value) ([]byte, error) {
	switch {
	case l.kind == typeText:
		b := []byte(v.String())
		if l.size != 0 && len(b) > l.size {
			return nil, fmt.Errorf("%q is longer than %d bytes", clip(v.String()), l.size)
		}
		return append(b, make([]byte, max(0, l.size-len(b)))...), nil
	case l.kind == kindHex:
		b, err := hex.DecodeString(v.String())
		if err != nil || l.size != 0 && len(b) != l.size {
			return nil, fmt.Errorf("%q is not the hexadecimal digits of %d bytes", clip(v.String()), l.size)
		}
		return b, nil
	case l.bits > 0:
		return nil, errors.New("a bit cannot be sent: what the others are is not known")
	}
	n, err := l.number(v)
	if err != nil {
		return nil, err
	}
	if l.kind == kindFloat {
		return l.encodeFloat(n, v)
	}
	if !n.IsInt() {
		return nil, fmt.Errorf("%s falls between two steps", v)
	}
	return l.encodeInt(n.Num(), v)
}

// number is what the equipment has for a value.
func (l *layout) number(v drivers.Value) (*big.Rat, error) {
	text := v.String()
	if b, ok := v.Bool(); ok && v.Kind() == drivers.Bool {
		text = "0"
		if b {
			text = "1"
		}
	}
	n, ok := new(big.Rat).SetString(text)
	if !ok || v.Kind() == drivers.Text {
		return nil, fmt.Errorf("%s is not a number", clip(v.String()))
	}
	if l.offset != nil {
		n.Sub(n, l.offset)
	}
	if l.scale != nil {
		n.Quo(n, l.scale)
	}
	return n, nil
}

func (l *layout) encodeInt(n *big.Int, v drivers.Value) ([]byte, error) {
	low, high := new(big.Int), new(big.Int).Lsh(big.NewInt(1), uint(8*l.size))
	switch l.kind {
	case kindInt:
		high.Rsh(high, 1)
		low.Neg(high)
	case kindBCD:
		high.Exp(big.NewInt(10), big.NewInt(int64(2*l.size)), nil)
	}
	if n.Cmp(low) < 0 || n.Cmp(high) >= 0 {
		return nil, fmt.Errorf("%s does not fit into %d bytes", v, l.size)
	}
	if l.kind == kindBCD {
		return hex.DecodeString(fmt.Sprintf("%0*s", 2*l.size, n.String()))
	}
	raw := n.Uint64()
	if n.Sign() < 0 {
		raw = uint64(n.Int64())
	}
	return l.bytes(raw), nil
}

func (l *layout) encodeFloat(n *big.Rat, v drivers.Value) ([]byte, error) {
	if l.size == 4 {
		f, _ := n.Float32()
		if math.IsInf(float64(f), 0) {
			return nil, fmt.Errorf("%s does not fit into a float32", v)
		}
		return l.bytes(uint64(math.Float32bits(f))), nil
	}
	f, _ := n.Float64()
	return l.bytes(math.Float64bits(f)), nil
}

func (l *layout) bytes(raw uint64) []byte {
	b := make([]byte, l.size)
	for i := range b {
		b[i] = byte(raw >> (8 * (l.size - 1 - l.order[i])))
	}
	return b
}

// hasLayout reports whether a point has a key of a binary frame.
func hasLayout(keys []string) (string, bool) {
	i := slices.IndexFunc(keys, func(k string) bool { return slices.Contains(layoutKeys, k) })
	if i < 0 {
		return "", false
	}
	return keys[i], true
}
