package modbus

import (
	"fmt"
	"math"
	"strconv"
)

// fromBCD is the number whose decimal digits stand in four bits each.
func fromBCD(raw uint64) (n uint64, err error) {
	for shift := 60; shift >= 0; shift -= 4 {
		digit := raw >> shift & 0xF
		if digit > 9 {
			return 0, fmt.Errorf("the registers hold no BCD number: %X is not a decimal digit", digit)
		}
		n = 10*n + digit
	}
	return n, nil
}

// toBCD is the inverse, of a number of at most 16 digits.
func toBCD(n uint64) (raw uint64) {
	for shift := 0; n > 0; shift += 4 {
		raw |= n % 10 << shift
		n /= 10
	}
	return raw
}

// fromMod10k is the number whose groups of four decimal digits are registers.
func fromMod10k(raw uint64) (n uint64, err error) {
	for shift := 48; shift >= 0; shift -= 16 {
		group := raw >> shift & 0xFFFF
		if group > 9999 {
			return 0, fmt.Errorf("the registers hold no mod-10k number: %d is more than 9999", group)
		}
		n = 10000*n + group
	}
	return n, nil
}

// toMod10k is the inverse, of a number of at most 16 digits.
func toMod10k(n uint64) (raw uint64) {
	for shift := 0; n > 0; shift += 16 {
		raw |= n % 10000 << shift
		n /= 10000
	}
	return raw
}

// floatOf is the float of so many bytes (IEEE 754).
func floatOf(raw uint64, size int) float64 {
	switch size {
	case 2:
		return halfFloat(uint16(raw))
	case 4:
		return float64(math.Float32frombits(uint32(raw)))
	default:
		return math.Float64frombits(raw)
	}
}

// The parameters of binary16 (IEEE 754-2008 §3.6).
const (
	halfFraction = 10 // bits of the fraction
	halfBias     = 15
	halfSpecial  = 31 // the exponent of infinity and NaN
)

// halfFloat is the binary16 number of those bits.
func halfFloat(b uint16) float64 {
	exponent, fraction := int(b>>halfFraction&halfSpecial), float64(b&(1<<halfFraction-1))
	sign := 1.0
	if b>>15 == 1 {
		sign = -1
	}
	switch {
	case exponent == halfSpecial && fraction != 0:
		return math.NaN()
	case exponent == halfSpecial:
		return math.Inf(int(sign))
	case exponent == 0:
		return sign * math.Ldexp(fraction, 1-halfBias-halfFraction)
	}
	return sign * math.Ldexp(fraction+1<<halfFraction, exponent-halfBias-halfFraction)
}

// halfBits is the binary16 number nearest to f; ok is false if that is infinite.
func halfBits(f float64) (b uint16, ok bool) {
	if math.Signbit(f) {
		b, f = 1<<15, -f
	}
	if f >= 65520 { // half way from the greatest to the next
		return b, false
	}
	_, exponent := math.Frexp(f) // f is below 2^exponent
	exponent = max(exponent-1+halfBias, 1)
	n := uint64(math.RoundToEven(math.Ldexp(f, halfBias+halfFraction-exponent)))
	if n < 1<<halfFraction {
		return b | uint16(n), true // subnormal
	}
	// A fraction that was rounded up to 2 carries into the exponent.
	n += uint64(exponent-1) << halfFraction
	return b | uint16(n), true
}

// shortest is the shortest decimal that rounds to f, a float of 16, 32 or 64 bits, as
// "2.13e+01".
func shortest(f float64, bits int) string {
	if bits != 16 {
		return strconv.FormatFloat(f, 'e', -1, bits)
	}
	want, _ := halfBits(f)
	for digits := 0; ; digits++ {
		s := strconv.FormatFloat(f, 'e', digits, 64)
		near, err := strconv.ParseFloat(s, 64)
		if got, ok := halfBits(near); err != nil || (ok && got == want) {
			return s
		}
	}
}
