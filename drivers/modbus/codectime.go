package modbus

import (
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// A time stamp is a Text as RFC 3339 has it: "2026-11-26T04:30:00Z". Written, it may
// be a number as well: seconds since 1970.

// lastUnix is the last second that RFC 3339 can say, and firstUnix the first.
const (
	firstUnix = -62135596800 // 0001-01-01T00:00:00Z
	lastUnix  = 253402300799 // 9999-12-31T23:59:59Z
)

func timeValue(t time.Time) drivers.Value { return drivers.TextValue(t.Format(time.RFC3339Nano)) }

// timeOf reads a time stamp.
func timeOf(v drivers.Value) (time.Time, error) {
	if v.Kind() == drivers.Text {
		t, err := time.Parse(time.RFC3339Nano, v.String())
		if err != nil || t.Unix() < firstUnix || t.Unix() > lastUnix {
			return t, fmt.Errorf("%q is not a time such as 2026-11-26T04:30:00Z", v.String())
		}
		return t, nil
	}
	d, ok := valueDecimal(v)
	if !ok {
		return time.Time{}, fmt.Errorf("%s is not a time such as 2026-11-26T04:30:00Z", v)
	}
	ms := new(big.Rat).Mul(d.rat(), big.NewRat(1000, 1))
	n, whole := nearInteger(ms, v.Kind() == drivers.Float)
	if !whole || !n.IsInt64() || n.Int64()/1000 < firstUnix || n.Int64()/1000 > lastUnix {
		return time.Time{}, fmt.Errorf("%s is not the seconds or milliseconds of a time", v)
	}
	return time.UnixMilli(n.Int64()), nil
}

func (c *codec) decodeUnix(raw uint64) (drivers.Value, error) {
	n := int64(raw)
	seconds, rest := n, int64(0)
	if c.kind == typeUnix64ms {
		seconds, rest = n/1000, n%1000
	}
	if seconds < firstUnix || seconds > lastUnix {
		return drivers.Value{}, fmt.Errorf("the registers hold no time: %d is beyond the years 1 to 9999", n)
	}
	return timeValue(time.Unix(seconds, rest*int64(time.Millisecond)).UTC()), nil
}

func (c *codec) unixBits(v drivers.Value) (uint64, error) {
	t, err := timeOf(v)
	if err != nil {
		return 0, err
	}
	step := time.Second
	if c.kind == typeUnix64ms {
		step = time.Millisecond
	}
	if t.Nanosecond()%int(step) != 0 {
		return 0, fmt.Errorf("%s falls between two steps of %s", v, c)
	}
	if c.kind == typeUnix64ms {
		return uint64(t.UnixMilli()), nil
	}
	if n := t.Unix(); c.kind == typeUnix64 || (n >= 0 && n <= math.MaxUint32) {
		return uint64(n), nil
	}
	return 0, fmt.Errorf("%s does not fit %s", v, c)
}

// The fields of CP56Time2a as one big-endian number of 64 bits; the standard sends
// its seven bytes in the other direction.
const (
	cp56Invalid = 1 << 23 // IV
	cp56Summer  = 1 << 31 // SU
)

// decodeCP56 reads a CP56Time2a (IEC 60870-5-4 §6.8).
func (c *codec) decodeCP56(raw uint64) (drivers.Value, error) {
	if raw&cp56Invalid != 0 {
		return drivers.Value{}, fmt.Errorf("the device marks its time as invalid (IV)")
	}
	ms := int(raw & 0xFFFF)
	d := date{
		year: 2000 + int(raw>>48&0x7F), month: int(raw >> 40 & 0xF), day: int(raw >> 32 & 0x1F),
		hour: int(raw >> 24 & 0x1F), minute: int(raw >> 16 & 0x3F), second: ms / 1000, ms: ms % 1000,
	}
	t, err := d.time(c.zone)
	if err != nil {
		return drivers.Value{}, err
	}
	if summer := raw&cp56Summer != 0; t.IsDST() != summer {
		// The hour that comes twice: the other one, if there is one.
		for _, shift := range []time.Duration{time.Hour, -time.Hour} {
			if other := t.Add(shift); other.IsDST() == summer && other.Hour() == t.Hour() {
				t = other
			}
		}
	}
	return timeValue(t), nil
}

func (c *codec) cp56Bits(v drivers.Value) (uint64, error) {
	t, d, err := c.dateOf(v, time.Millisecond)
	if err != nil {
		return 0, err
	}
	if d.year < 2000 || d.year > 2127 {
		return 0, fmt.Errorf("%s does not fit %s: the years are 2000 to 2127", v, c)
	}
	weekday := uint64(t.Weekday()+6)%7 + 1
	raw := uint64(d.year-2000)<<48 | uint64(d.month)<<40 | weekday<<37 | uint64(d.day)<<32 |
		uint64(d.hour)<<24 | uint64(d.minute)<<16 | uint64(1000*d.second+d.ms)
	if t.IsDST() {
		raw |= cp56Summer
	}
	return raw, nil
}

// date is a time as calendars and clocks have it.
type date struct{ year, month, day, hour, minute, second, ms int }

// time is the date in a zone; the hour that summer time leaves out is taken as the one
// behind it. A date that is none is an error.
func (d date) time(zone *time.Location) (time.Time, error) {
	in := func(zone *time.Location) time.Time {
		return time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.second, d.ms*int(time.Millisecond), zone)
	}
	if dateAt(in(time.UTC)) != d || d.year < 1 || d.year > 9999 {
		return time.Time{}, fmt.Errorf("the registers hold no time: %04d-%02d-%02d %02d:%02d:%02d.%03d", d.year, d.month, d.day, d.hour, d.minute, d.second, d.ms)
	}
	return in(zone), nil
}

func dateAt(t time.Time) date {
	return date{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond() / int(time.Millisecond)}
}

// dateOf reads a time stamp as the device's clock shows it.
func (c *codec) dateOf(v drivers.Value, step time.Duration) (time.Time, date, error) {
	t, err := timeOf(v)
	if err != nil {
		return t, date{}, err
	}
	if t.Nanosecond()%int(step) != 0 {
		return t, date{}, fmt.Errorf("%s falls between two steps of %s", v, c)
	}
	t = t.In(c.zone)
	return t, dateAt(t), nil
}

// dateField is what a byte of a datetime is.
type dateField struct {
	letter byte // one of dateLetters
	size   int  // 2 is the first byte of a register, 0 its second
}

// dateLetters are what a layout is made of: the year, its last two digits (from
// 2000), month, day, hour, minute, second, milliseconds, and what does not count.
const dateLetters = "YyMDhmsf-"

// defaultLayout is a register for each field.
const defaultLayout = "Y M D h m s"

// parseLayout reads a layout: a word of one letter is a register, one of two letters
// its high and its low byte.
func parseLayout(s string) ([]dateField, error) {
	var fields []dateField
	for _, word := range strings.Fields(s) {
		switch len(word) {
		case 1:
			fields = append(fields, dateField{word[0], 2}, dateField{'-', 0})
		case 2:
			fields = append(fields, dateField{word[0], 1}, dateField{word[1], 1})
		default:
			return nil, fmt.Errorf("%q is not a register: one letter, or two for its bytes", word)
		}
	}
	for _, f := range fields {
		switch n := strings.Count(s, string(f.letter)); {
		case !strings.ContainsRune(dateLetters, rune(f.letter)):
			return nil, fmt.Errorf("%q is none of Y y M D h m s f and -", string(f.letter))
		case n > 1 && f.letter != '-':
			return nil, fmt.Errorf("%s is there %d times", string(f.letter), n)
		case f.size == 1 && (f.letter == 'Y' || f.letter == 'f'):
			return nil, fmt.Errorf("%s needs a register of its own", string(f.letter))
		}
	}
	if !strings.ContainsAny(s, "Yy") || strings.Contains(s, "Y") && strings.Contains(s, "y") ||
		!strings.Contains(s, "M") || !strings.Contains(s, "D") {
		return nil, fmt.Errorf("a date needs a year (Y or y), M and D")
	}
	return fields, nil
}

// field is where a letter's number is kept.
func (d *date) field(letter byte) *int {
	switch letter {
	case 'Y', 'y':
		return &d.year
	case 'M':
		return &d.month
	case 'D':
		return &d.day
	case 'h':
		return &d.hour
	case 'm':
		return &d.minute
	case 's':
		return &d.second
	case 'f':
		return &d.ms
	}
	return nil
}

func (c *codec) decodeDatetime(wire []byte) (drivers.Value, error) {
	b := c.swapped(wire)
	var d date
	for i, f := range c.layout {
		to := d.field(f.letter)
		if to == nil {
			continue
		}
		n := uint64(b[i])
		if f.size == 2 {
			n = n<<8 | uint64(b[i+1])
		}
		if c.kind == typeDatetimeBCD {
			var err error
			if n, err = fromBCD(n); err != nil {
				return drivers.Value{}, err
			}
		}
		if *to = int(n); f.letter == 'y' {
			if n > 99 {
				return drivers.Value{}, fmt.Errorf("the registers hold no time: the year is %d of two digits", n)
			}
			*to += 2000
		}
	}
	t, err := d.time(c.zone)
	if err != nil {
		return drivers.Value{}, err
	}
	return timeValue(t), nil
}

func (c *codec) encodeDatetime(v drivers.Value) ([]byte, error) {
	_, d, err := c.dateOf(v, time.Millisecond)
	if err != nil {
		return nil, err
	}
	rest := d
	b := make([]byte, c.bytes)
	for i, f := range c.layout {
		from := rest.field(f.letter)
		if from == nil {
			continue
		}
		n := *from
		*from = 0
		if f.letter == 'y' {
			n -= 2000
		}
		if n < 0 || f.letter == 'y' && n > 99 || n > 9999 {
			return nil, fmt.Errorf("%s does not fit %s: the year is %d", v, c, d.year)
		}
		if c.kind == typeDatetimeBCD {
			n = int(toBCD(uint64(n)))
		}
		if f.size == 2 {
			b[i], b[i+1] = byte(n>>8), byte(n)
		} else {
			b[i] = byte(n)
		}
	}
	if rest != (date{}) {
		return nil, fmt.Errorf("%s falls between two steps of %s: the layout has not all of it", v, c)
	}
	return c.swapped(b), nil
}
