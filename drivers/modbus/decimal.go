package modbus

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/drivers"
)

// decimal is coefficient * 10^exponent, of any size.
type decimal struct {
	coefficient *big.Int
	exponent    int
}

const (
	// maxDigits bounds what a device file may ask of the arithmetic.
	maxDigits = 40
	// decimalPlaces is the smallest exponent of a drivers.Decimal.
	decimalPlaces = -18
)

var ten = big.NewInt(10)

func decimalOf(n int64, exponent int) decimal { return decimal{big.NewInt(n), exponent} }

// parseDecimal reads a number as it is written: "0.10", "-1e-3", "12".
func parseDecimal(s string) (decimal, error) {
	digits, exponent := strings.ReplaceAll(s, "_", ""), 0
	if at := strings.IndexAny(digits, "eE"); at >= 0 {
		e, err := strconv.Atoi(digits[at+1:])
		if err != nil || e > maxDigits || e < -maxDigits {
			return decimal{}, fmt.Errorf("%q is not a decimal number", s)
		}
		digits, exponent = digits[:at], e
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	exponent -= len(fraction)
	digits = strings.TrimPrefix(whole+fraction, "+")
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok || len(digits) > maxDigits || strings.ContainsAny(fraction, "+-") {
		return decimal{}, fmt.Errorf("%q is not a decimal number", s)
	}
	return decimal{n, exponent}, nil
}

// floatDecimal is the shortest decimal that rounds to f, a float of 16, 32 or 64 bits.
func floatDecimal(f float64, bits int) (decimal, error) {
	s := shortest(f, bits)
	mantissa, exponent, _ := strings.Cut(s, "e")
	d, err := parseDecimal(mantissa)
	if err != nil {
		return d, err
	}
	e, err := strconv.Atoi(exponent)
	d.exponent += e
	return d, err
}

// valueDecimal is a number exactly; ok is false for what is none.
func valueDecimal(v drivers.Value) (d decimal, ok bool) {
	switch v.Kind() {
	case drivers.Uint:
		n, ok := v.Uint()
		return decimal{new(big.Int).SetUint64(n), 0}, ok
	case drivers.Int, drivers.Decimal:
		n, e, ok := v.Exact()
		return decimalOf(n, e), ok
	case drivers.Float:
		f, _ := v.Float()
		d, err := floatDecimal(f, 64)
		return d, err == nil
	case drivers.Null, drivers.Bool, drivers.Text, drivers.JSON:
	}
	return decimal{}, false
}

func (d decimal) mul(o decimal) decimal {
	return decimal{new(big.Int).Mul(d.coefficient, o.coefficient), d.exponent + o.exponent}
}

func (d decimal) add(o decimal) decimal {
	if d.exponent > o.exponent {
		d, o = o, d
	}
	shifted := new(big.Int).Mul(o.coefficient, power(o.exponent-d.exponent))
	return decimal{shifted.Add(shifted, d.coefficient), d.exponent}
}

func (d decimal) neg() decimal { return decimal{new(big.Int).Neg(d.coefficient), d.exponent} }

func power(n int) *big.Int { return new(big.Int).Exp(ten, big.NewInt(int64(n)), nil) }

// rat is the same number as a fraction.
func (d decimal) rat() *big.Rat {
	if d.exponent >= 0 {
		return new(big.Rat).SetInt(new(big.Int).Mul(d.coefficient, power(d.exponent)))
	}
	return new(big.Rat).SetFrac(d.coefficient, power(-d.exponent))
}

// value is the number as a drivers.Value: exactly if that can hold it, else as the
// nearest float.
func (d decimal) value() drivers.Value {
	n, e := new(big.Int).Set(d.coefficient), d.exponent
	if e > 0 {
		n.Mul(n, power(e))
		e = 0
	}
	for digit := new(big.Int); e < 0; e++ {
		q, rest := new(big.Int).QuoRem(n, ten, digit)
		if rest.Sign() != 0 {
			break
		}
		n = q
	}
	switch {
	case n.IsInt64() && e >= decimalPlaces:
		return drivers.DecimalValue(n.Int64(), e)
	case n.IsUint64() && e == 0:
		return drivers.UintValue(n.Uint64())
	}
	f, _ := new(big.Rat).SetFrac(n, power(-e)).Float64()
	return drivers.FloatValue(f)
}

// nearInteger is the integer that r is; if it is none and loose is set, the one from
// which only the rounding of a float64 separates it.
func nearInteger(r *big.Rat, loose bool) (*big.Int, bool) {
	if r.IsInt() {
		return r.Num(), true
	}
	nearest := roundRat(r)
	f, _ := r.Float64()
	off, _ := new(big.Rat).Sub(r, new(big.Rat).SetInt(nearest)).Float64()
	return nearest, loose && math.Abs(off) <= 1e-9*max(1, math.Abs(f)) && math.Abs(off) < 0.01
}

// roundRat is the nearest integer, halves away from zero.
func roundRat(r *big.Rat) *big.Int {
	half := big.NewRat(1, 2)
	if r.Sign() < 0 {
		half.Neg(half)
	}
	sum := half.Add(half, r)
	return new(big.Int).Quo(sum.Num(), sum.Denom())
}
