package drivers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind is what a [Value] holds.
type Kind uint8

// The kinds. The zero value is [Null].
const (
	Null Kind = iota
	Bool
	Int     // a signed integer of 64 bits, exact
	Uint    // an unsigned integer of 64 bits, exact
	Float   // a float64 that is finite
	Decimal // an exact decimal: coefficient * 10^exponent
	Text    // UTF-8 text
	JSON    // an object or array, as JSON text
)

// Value is one value of a point. The zero value is null. Values are immutable and
// may be compared with Equal.
type Value struct {
	kind Kind
	exp  int8
	num  uint64
	text string
}

// BoolValue returns a Bool.
func BoolValue(b bool) Value {
	v := Value{kind: Bool}
	if b {
		v.num = 1
	}
	return v
}

// IntValue returns an Int.
func IntValue(n int64) Value { return Value{kind: Int, num: uint64(n)} }

// UintValue returns a Uint.
func UintValue(n uint64) Value { return Value{kind: Uint, num: n} }

// FloatValue returns a Float, or null if f is not a number or infinite, which JSON
// cannot say.
func FloatValue(f float64) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}
	}
	if f == 0 {
		f = 0 // not -0
	}
	return Value{kind: Float, num: math.Float64bits(f)}
}

// DecimalValue returns coefficient * 10^exponent, exactly; exponent is -18 to 18.
// It is an Int when that holds it.
func DecimalValue(coefficient int64, exponent int) Value {
	for exponent > 0 && coefficient <= math.MaxInt64/10 && coefficient >= math.MinInt64/10 {
		coefficient, exponent = coefficient*10, exponent-1
	}
	for exponent < 0 && coefficient != 0 && coefficient%10 == 0 {
		coefficient, exponent = coefficient/10, exponent+1
	}
	if exponent == 0 || coefficient == 0 {
		return IntValue(coefficient)
	}
	return Value{kind: Decimal, num: uint64(coefficient), exp: int8(max(-18, min(18, exponent)))}
}

// TextValue returns a Text; bytes that are not UTF-8 are replaced.
func TextValue(s string) Value {
	return Value{kind: Text, text: strings.ToValidUTF8(s, "\uFFFD")}
}

// ErrNotJSON says that a payload is not one JSON value.
var ErrNotJSON = errors.New("payload is not a JSON value")

// ParseValue reads one JSON value, numbers exactly: integers become Int or Uint,
// fractions Decimal where 18 digits hold them, else Float.
func ParseValue(payload []byte) (Value, error) {
	payload = bytes.TrimSpace(payload)
	if len(payload) == 0 || !utf8.Valid(payload) || !json.Valid(payload) {
		return Value{}, ErrNotJSON
	}
	switch payload[0] {
	case 'n':
		return Value{}, nil
	case 't', 'f':
		return BoolValue(payload[0] == 't'), nil
	case '"':
		var s string
		if err := json.Unmarshal(payload, &s); err != nil {
			return Value{}, ErrNotJSON
		}
		return TextValue(s), nil
	case '{', '[':
		return Value{kind: JSON, text: string(payload)}, nil
	}
	return ParseNumber(string(payload))
}

// ParseNumber reads a number exactly, as [ParseValue] does.
func ParseNumber(s string) (Value, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return IntValue(n), nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return UintValue(n), nil
	}
	if whole, frac, ok := strings.Cut(s, "."); ok && len(frac) <= 18 && !strings.ContainsAny(s, "eE") {
		if n, err := strconv.ParseInt(whole+frac, 10, 64); err == nil {
			return DecimalValue(n, -len(frac)), nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return Value{}, fmt.Errorf("%q is not a number", s)
	}
	return FloatValue(f), nil
}

// Kind says what the value holds.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether the value is null.
func (v Value) IsNull() bool { return v.kind == Null }

// Equal reports whether both hold the same kind and value.
func (v Value) Equal(w Value) bool { return v == w }

// Bool returns a Bool, or a number as "is not zero"; ok is false for the rest.
func (v Value) Bool() (b, ok bool) {
	switch v.kind {
	case Bool, Int, Uint, Decimal:
		return v.num != 0, true
	case Float:
		return math.Float64frombits(v.num) != 0, true
	case Null, Text, JSON:
	}
	return false, false
}

// Float returns a number as the nearest float64, a Bool as 0 or 1; ok is false for
// the rest.
func (v Value) Float() (f float64, ok bool) {
	switch v.kind {
	case Bool, Uint:
		return float64(v.num), true
	case Int:
		return float64(int64(v.num)), true
	case Float:
		return math.Float64frombits(v.num), true
	case Decimal:
		if n := int64(v.num); v.exp < 0 && -1<<53 <= n && n <= 1<<53 {
			return float64(n) / powersOfTen[-v.exp], true // both are exact, so that the quotient is the nearest
		}
		var buf [48]byte
		f, err := strconv.ParseFloat(string(v.appendDecimal(buf[:0])), 64)
		return f, err == nil
	case Null, Text, JSON:
	}
	return 0, false
}

// powersOfTen are those that a float64 holds exactly and a Decimal has.
var powersOfTen = [19]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// Int returns an integer that fits in 64 signed bits exactly; ok is false for the
// rest. A Bool is 0 or 1; a Float or Decimal counts if it has no fraction.
func (v Value) Int() (n int64, ok bool) {
	switch v.kind {
	case Bool, Int:
		return int64(v.num), true
	case Uint:
		return int64(v.num), v.num <= math.MaxInt64
	case Float:
		f := math.Float64frombits(v.num)
		return int64(f), f == math.Trunc(f) && math.Abs(f) < 1<<63
	case Decimal:
		n, err := strconv.ParseInt(v.String(), 10, 64)
		return n, err == nil
	case Null, Text, JSON:
	}
	return 0, false
}

// Uint returns an integer that fits in 64 unsigned bits exactly; ok is false for
// the rest.
func (v Value) Uint() (n uint64, ok bool) {
	if v.kind == Uint {
		return v.num, true
	}
	i, ok := v.Int()
	return uint64(i), ok && i >= 0
}

// Exact returns an integer or decimal as coefficient * 10^exponent; ok is false for
// the rest and for a Uint above the signed range.
func (v Value) Exact() (coefficient int64, exponent int, ok bool) {
	switch v.kind {
	case Int, Decimal:
		return int64(v.num), int(v.exp), true
	case Bool, Uint:
		return int64(v.num), 0, v.num <= math.MaxInt64
	case Null, Float, Text, JSON:
	}
	return 0, 0, false
}

// String gives a Text as it is, and the rest as JSON.
func (v Value) String() string {
	if v.kind == Text {
		return v.text
	}
	return string(v.AppendJSON(nil))
}

// AppendJSON adds the value as JSON to b: numbers exactly and without an exponent
// where 21 digits hold them.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.kind {
	case Bool:
		return strconv.AppendBool(b, v.num != 0)
	case Int:
		return strconv.AppendInt(b, int64(v.num), 10)
	case Uint:
		return strconv.AppendUint(b, v.num, 10)
	case Float:
		f := math.Float64frombits(v.num)
		if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
			return strconv.AppendFloat(b, f, 'e', -1, 64)
		}
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	case Decimal:
		return v.appendDecimal(b)
	case Text:
		return appendText(b, v.text)
	case JSON:
		return append(b, v.text...)
	case Null:
	}
	return append(b, "null"...)
}

// appendText adds UTF-8 text as a JSON string, escaping no more than it must.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func (v Value) appendDecimal(b []byte) []byte {
	var buf [20]byte
	n := int64(v.num)
	digits := strconv.AppendUint(buf[:0], magnitude(n), 10)
	if n < 0 {
		b = append(b, '-')
	}
	exp := int(v.exp)
	if exp >= 0 {
		return appendZeros(append(b, digits...), exp)
	}
	if point := len(digits) + exp; point > 0 {
		b = append(b, digits[:point]...)
		b = append(b, '.')
		return append(b, digits[point:]...)
	}
	b = appendZeros(append(b, "0."...), -exp-len(digits))
	return append(b, digits...)
}

func appendZeros(b []byte, n int) []byte {
	for range n {
		b = append(b, '0')
	}
	return b
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return uint64(-(n + 1)) + 1
	}
	return uint64(n)
}

// MarshalJSON gives the value as AppendJSON does.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON reads what [ParseValue] reads.
func (v *Value) UnmarshalJSON(b []byte) (err error) {
	*v, err = ParseValue(b)
	return err
}
