package serial

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/gatehouse/gatehouse/drivers"
)

// typeDegrees is an angle as NMEA 0183 has it: degrees and minutes (4807.038), with
// the hemisphere in the field behind it.
const typeDegrees = "degrees"

// nmeaFormat reads a sentence; a field is called by its sentence and its number, the
// first after the address field being 1: "GGA.9" of any talker, "GPGGA.9" of one.
func nmeaFormat(line []byte) (fields, error) {
	all := strings.Split(strings.TrimLeft(string(line), "$!"), ",")
	address := all[0]
	if address == "" {
		return nil, errors.New("the sentence has no address field")
	}
	return func(name string) (field, bool) {
		sentence, number, _ := strings.Cut(name, ".")
		if sentence != address && (len(address) != 5 || sentence != address[2:]) {
			return field{}, false
		}
		n, err := strconv.Atoi(number)
		if err != nil || n >= len(all) {
			return field{}, false
		}
		f := field{text: strings.TrimSpace(all[n]), sentence: true}
		if n+1 < len(all) {
			f.next = all[n+1]
		}
		return f, true
	}, nil
}

// nmeaField says why a sentence has no such field.
func nmeaField(name string) error {
	sentence, number, ok := strings.Cut(name, ".")
	n, err := strconv.Atoi(number)
	if !ok || sentence == "" || err != nil || n < 1 || n > 100 {
		return fmt.Errorf("a field is a sentence and a number, such as GGA.9, not %q", name)
	}
	return nil
}

// toDegrees reads degrees and minutes, to 7 places: a centimetre on the ground.
func toDegrees(f field) (drivers.Value, error) {
	whole, _, _ := strings.Cut(f.text, ".")
	cut := len(whole) - 2
	if cut < 1 || strings.ContainsAny(f.text, "+-/eE_") {
		return drivers.Value{}, fmt.Errorf("%q is not degrees and minutes", clip(f.text))
	}
	degrees, okDegrees := new(big.Rat).SetString(f.text[:cut])
	minutes, okMinutes := new(big.Rat).SetString(f.text[cut:])
	if !okDegrees || !okMinutes || len(f.text) > 20 || minutes.Cmp(big.NewRat(60, 1)) >= 0 {
		return drivers.Value{}, fmt.Errorf("%q is not degrees and minutes", clip(f.text))
	}
	degrees.Add(degrees, minutes.Quo(minutes, big.NewRat(60, 1)))
	switch f.next {
	case "S", "W":
		degrees.Neg(degrees)
	case "N", "E":
	default:
		return drivers.Value{}, fmt.Errorf("%q is not a hemisphere", clip(f.next))
	}
	return roundedTo(degrees, 7), nil
}
