package codec

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins/wire"
)

// maxExponent bounds the exponent of a decimal, as drivers.DecimalValue does.
const maxExponent = 18

// ValueTo makes a message of v; null has no kind.
func ValueTo(v drivers.Value) *wire.Value {
	switch v.Kind() {
	case drivers.Bool:
		b, _ := v.Bool()
		return &wire.Value{Kind: &wire.Value_Bool{Bool: b}}
	case drivers.Int:
		n, _ := v.Int()
		return &wire.Value{Kind: &wire.Value_Int{Int: n}}
	case drivers.Uint:
		n, _ := v.Uint()
		return &wire.Value{Kind: &wire.Value_Uint{Uint: n}}
	case drivers.Float:
		f, _ := v.Float()
		return &wire.Value{Kind: &wire.Value_Float{Float: f}}
	case drivers.Decimal:
		coefficient, exponent, _ := v.Exact()
		return &wire.Value{Kind: &wire.Value_Decimal{
			Decimal: &wire.Decimal{Coefficient: coefficient, Exponent: int32(exponent)},
		}}
	case drivers.Text:
		return &wire.Value{Kind: &wire.Value_Text{Text: v.String()}}
	case drivers.JSON:
		return &wire.Value{Kind: &wire.Value_Json{Json: v.AppendJSON(nil)}}
	case drivers.Null:
	}
	return &wire.Value{}
}

// ValueFrom reads a value; a nil message is null.
func ValueFrom(m *wire.Value) (drivers.Value, error) {
	switch k := m.GetKind().(type) {
	case nil:
		return drivers.Value{}, nil
	case *wire.Value_Bool:
		return drivers.BoolValue(k.Bool), nil
	case *wire.Value_Int:
		return drivers.IntValue(k.Int), nil
	case *wire.Value_Uint:
		return drivers.UintValue(k.Uint), nil
	case *wire.Value_Float:
		return drivers.FloatValue(k.Float), nil
	case *wire.Value_Decimal:
		exponent := k.Decimal.GetExponent()
		if exponent < -maxExponent || exponent > maxExponent {
			return drivers.Value{}, fmt.Errorf("decimal exponent %d is out of range", exponent)
		}
		return drivers.DecimalValue(k.Decimal.GetCoefficient(), int(exponent)), nil
	case *wire.Value_Text:
		return drivers.TextValue(k.Text), nil
	case *wire.Value_Json:
		v, err := drivers.ParseValue(k.Json)
		if err == nil && v.Kind() != drivers.JSON {
			err = errors.New("JSON value is not an object or array")
		}
		return v, err
	}
	return drivers.Value{}, fmt.Errorf("value of unknown kind %T", m.GetKind())
}

// ReadingsTo makes messages of readings.
func ReadingsTo(readings []drivers.Reading) []*wire.Reading {
	out := make([]*wire.Reading, len(readings))
	for i, r := range readings {
		out[i] = &wire.Reading{
			Point:   strings.ToValidUTF8(r.Point, "\uFFFD"),
			Value:   ValueTo(r.Value),
			Quality: wire.Quality(r.Quality),
			Seconds: r.At.Unix(),
			Nanos:   int32(r.At.Nanosecond()),
			Error:   ErrorTo(r.Err),
		}
	}
	return out
}

// ReadingsFrom reads readings. One whose value, quality or time cannot be read is
// Bad.
func ReadingsFrom(ms []*wire.Reading) []drivers.Reading {
	out := make([]drivers.Reading, len(ms))
	for i, m := range ms {
		out[i] = readingFrom(m)
	}
	return out
}

func readingFrom(m *wire.Reading) drivers.Reading {
	r := drivers.Reading{Point: m.GetPoint(), Err: ErrorFrom(m.GetError())}
	at, err := timeFrom(m)
	r.At = at
	v, wrong := ValueFrom(m.GetValue())
	if err == nil {
		err = wrong
	}
	if q := m.GetQuality(); err == nil && (q < wire.Quality_QUALITY_GOOD || q > wire.Quality_QUALITY_BAD) {
		err = fmt.Errorf("unknown quality %d", q)
	}
	if err != nil {
		r.Quality, r.Err = drivers.Bad, fmt.Errorf("plugin sent a reading that cannot be read: %w", err)
		return r
	}
	r.Value, r.Quality = v, drivers.Quality(m.GetQuality())
	return r
}

// The first and the last second that a time may have: JSON has years of four digits,
// and time zones.
var (
	firstSecond = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC).Unix()
	lastSecond  = time.Date(9999, 12, 30, 0, 0, 0, 0, time.UTC).Unix()
)

// timeFrom reads the time of a reading. The zero time has its own seconds, so that
// it stays the zero time.
func timeFrom(m *wire.Reading) (time.Time, error) {
	at := time.Unix(m.GetSeconds(), int64(m.GetNanos()))
	if at.IsZero() {
		return time.Time{}, nil
	}
	if s := at.Unix(); s < firstSecond || s > lastSecond {
		return time.Time{}, fmt.Errorf("its time is %d s after 1970, which is no year of 1 to 9999", m.GetSeconds())
	}
	return at, nil
}

// PointsTo makes messages of points.
func PointsTo(points []drivers.Point) []*wire.Point {
	out := make([]*wire.Point, len(points))
	for i, p := range points {
		out[i] = &wire.Point{
			Name:     strings.ToValidUTF8(p.Name, "\uFFFD"),
			Unit:     strings.ToValidUTF8(p.Unit, "\uFFFD"),
			Writable: p.Writable,
			Every:    int64(p.Every),
			Deadband: p.Deadband,
			Longest:  int64(p.Longest),
			Min:      boundTo(p.Min),
			Max:      boundTo(p.Max),
			Step:     boundTo(p.Step),
			Confirm:  p.Confirm,
			History:  p.History,
		}
		for _, n := range p.Names {
			out[i].Names = append(out[i].Names, &wire.Name{Value: ValueTo(n.Value), Name: strings.ToValidUTF8(n.Name, "\uFFFD")})
		}
		for _, f := range p.Flags {
			out[i].Flags = append(out[i].Flags, &wire.Flag{Bit: uint32(f.Bit), Name: strings.ToValidUTF8(f.Name, "\uFFFD")})
		}
	}
	return out
}

// boundTo makes a message of a bound, none of null.
func boundTo(v drivers.Value) *wire.Value {
	if v.IsNull() {
		return nil
	}
	return ValueTo(v)
}

// boundFrom reads a bound or what has a name. One that cannot be read is text, which
// the host refuses as one: a limit must not vanish.
func boundFrom(m *wire.Value) drivers.Value {
	if m == nil {
		return drivers.Value{}
	}
	v, err := ValueFrom(m)
	if err != nil {
		return drivers.TextValue(err.Error())
	}
	return v
}

// PointsFrom reads points.
func PointsFrom(ms []*wire.Point) []drivers.Point {
	out := make([]drivers.Point, len(ms))
	for i, m := range ms {
		out[i] = drivers.Point{
			Name:     m.GetName(),
			Unit:     m.GetUnit(),
			Writable: m.GetWritable(),
			Every:    time.Duration(m.GetEvery()),
			Deadband: m.GetDeadband(),
			Longest:  time.Duration(m.GetLongest()),
			Min:      boundFrom(m.GetMin()),
			Max:      boundFrom(m.GetMax()),
			Step:     boundFrom(m.GetStep()),
			Confirm:  m.GetConfirm(),
			History:  m.GetHistory(),
		}
		for _, n := range m.GetNames() {
			out[i].Names = append(out[i].Names, drivers.Name{Value: boundFrom(n.GetValue()), Name: n.GetName()})
		}
		for _, f := range m.GetFlags() {
			out[i].Flags = append(out[i].Flags, drivers.Flag{Bit: uint8(min(f.GetBit(), math.MaxUint8)), Name: f.GetName()})
		}
	}
	return out
}

// ConfigTo makes a message of a device file.
func ConfigTo(c drivers.Config) *wire.Config {
	return &wire.Config{
		Device: strings.ToValidUTF8(c.Device, "\uFFFD"),
		File:   strings.ToValidUTF8(c.File, "\uFFFD"),
		Text:   c.Text,
	}
}

// ConfigFrom parses a device file again. The error is a *drivers.ConfigError.
func ConfigFrom(m *wire.Config) (drivers.Config, error) {
	return drivers.ParseConfig(m.GetDevice(), m.GetFile(), m.GetText())
}
