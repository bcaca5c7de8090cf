package discovery

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// dataType is Sparkplug's number of a type of value (Sparkplug 3.0.0 §6.4.16).
type dataType uint32

// Those that are sent, and those that a command may come in besides.
const (
	typeInt8    dataType = 1
	typeInt16   dataType = 2
	typeInt32   dataType = 3
	typeInt64   dataType = 4
	typeUInt64  dataType = 8
	typeDouble  dataType = 10
	typeBoolean dataType = 11
	typeString  dataType = 12
)

// Sparkplug's qualities (§6.4.9.1).
const (
	qualityBad   = 0
	qualityStale = 500
)

// The numbers of the fields of a Payload, Metric, PropertySet and PropertyValue in
// Sparkplug's schema (§6.4.1).
const (
	payloadTimestamp = 1
	payloadMetrics   = 2
	payloadSeq       = 3

	metricName       = 1
	metricAlias      = 2
	metricTimestamp  = 3
	metricDatatype   = 4
	metricHistorical = 5
	metricNull       = 7
	metricProperties = 9
	metricInt        = 10
	metricLong       = 11
	metricFloat      = 12
	metricDouble     = 13
	metricBoolean    = 14
	metricString     = 15

	propertyKeys   = 1
	propertyValues = 2

	valueType   = 1
	valueInt    = 3
	valueDouble = 6
	valueBool   = 7
	valueString = 8
)

// Bounds of a command.
const (
	maxCommandBytes   = 64 << 10
	maxCommandMetrics = 1_000
)

// metric is one metric of a payload.
type metric struct {
	name       string // in a birth; in data only if there is no alias
	alias      uint64 // 0 is none
	at         time.Time
	kind       dataType // 0 of a command that does not say
	value      drivers.Value
	raw        field // what value was made of, of a command
	historical bool
	properties []property
}

// property is one property of a metric: an int32, a float64, a bool or a string.
type property struct {
	key   string
	value any
}

// appendPayload adds a payload of metrics that was sent at a moment; a negative seq is
// left out, as an NDEATH has none.
func appendPayload(b []byte, at time.Time, seq int, metrics []metric) []byte {
	b = appendVarint(b, payloadTimestamp, uint64(at.UnixMilli()))
	var m []byte
	for i := range metrics {
		m = metrics[i].append(m[:0])
		b = appendMessage(b, payloadMetrics, m)
	}
	if seq >= 0 {
		b = appendVarint(b, payloadSeq, uint64(seq))
	}
	return b
}

func (m *metric) append(b []byte) []byte {
	if m.name != "" {
		b = appendText(b, metricName, m.name)
	}
	if m.alias != 0 {
		b = appendVarint(b, metricAlias, m.alias)
	}
	b = appendVarint(b, metricTimestamp, uint64(m.at.UnixMilli()))
	b = appendVarint(b, metricDatatype, uint64(m.kind))
	if m.historical {
		b = appendBool(b, metricHistorical, true)
	}
	if len(m.properties) > 0 {
		b = appendMessage(b, metricProperties, appendProperties(nil, m.properties))
	}
	return appendValue(b, m.kind, m.value)
}

// appendValue adds the value of a metric of a type; one that does not fit is null.
func appendValue(b []byte, kind dataType, v drivers.Value) []byte {
	switch kind {
	case typeInt64:
		if n, ok := v.Int(); ok && !v.IsNull() {
			return appendVarint(b, metricLong, uint64(n))
		}
	case typeUInt64:
		if n, ok := v.Uint(); ok {
			return appendVarint(b, metricLong, n)
		}
	case typeDouble:
		if f, ok := v.Float(); ok {
			return appendDouble(b, metricDouble, f)
		}
	case typeBoolean:
		if x, ok := v.Bool(); ok {
			return appendBool(b, metricBoolean, x)
		}
	case typeString:
		if !v.IsNull() {
			return appendText(b, metricString, v.String())
		}
	case typeInt8, typeInt16, typeInt32: // of commands only
	}
	return appendBool(b, metricNull, true)
}

func appendProperties(b []byte, all []property) []byte {
	for _, p := range all {
		b = appendText(b, propertyKeys, p.key)
	}
	for _, p := range all {
		var v []byte
		switch x := p.value.(type) {
		case int32:
			v = appendVarint(appendVarint(v, valueType, uint64(typeInt32)), valueInt, uint64(uint32(x)))
		case float64:
			v = appendDouble(appendVarint(v, valueType, uint64(typeDouble)), valueDouble, x)
		case bool:
			v = appendBool(appendVarint(v, valueType, uint64(typeBoolean)), valueBool, x)
		case string:
			v = appendText(appendVarint(v, valueType, uint64(typeString)), valueString, x)
		}
		b = appendMessage(b, propertyValues, v)
	}
	return b
}

// parseCommand reads the metrics of an NCMD or DCMD.
func parseCommand(b []byte) ([]metric, error) {
	if len(b) > maxCommandBytes {
		return nil, fmt.Errorf("the payload is over %d bytes", maxCommandBytes)
	}
	var all []metric
	err := eachField(b, func(f field) error {
		if f.number != payloadMetrics || f.wire != wireBytes {
			return nil
		}
		if len(all) == maxCommandMetrics {
			return fmt.Errorf("the payload has more than %d metrics", maxCommandMetrics)
		}
		m, err := parseMetric(f.bytes)
		all = append(all, m)
		return err
	})
	return all, err
}

func parseMetric(b []byte) (m metric, err error) {
	err = eachField(b, func(f field) error {
		switch {
		case f.number == metricName && f.wire == wireBytes:
			m.name = strings.ToValidUTF8(string(f.bytes), "\uFFFD")
		case f.number == metricAlias && f.wire == wireVarint:
			m.alias = f.value
		case f.number == metricDatatype && f.wire == wireVarint:
			m.kind = dataType(f.value)
		case f.number >= metricInt && f.number <= metricString:
			m.raw = f
		}
		return nil
	})
	m.value = m.raw.metricValue(m.kind)
	return m, err
}

// valueFor is the value of a command to a metric that was born with a type: a command
// need not say it again ([tck-id-payloads-metric-datatype-not-req]).
func (m *metric) valueFor(born dataType) drivers.Value {
	if m.kind == 0 {
		return m.raw.metricValue(born)
	}
	return m.value
}

// metricValue is the value of a metric, null if it has none that is known here. A
// signed integer of up to 32 bits comes as the bits of an unsigned one.
func (f field) metricValue(kind dataType) drivers.Value {
	switch {
	case f.number == metricInt && f.wire == wireVarint:
		switch kind {
		case typeInt8:
			return drivers.IntValue(int64(int8(f.value)))
		case typeInt16:
			return drivers.IntValue(int64(int16(f.value)))
		case typeInt32:
			return drivers.IntValue(int64(int32(f.value)))
		case typeInt64, typeUInt64, typeDouble, typeBoolean, typeString:
		}
		return drivers.IntValue(int64(uint32(f.value)))
	case f.number == metricLong && f.wire == wireVarint:
		if kind == typeInt64 || f.value <= math.MaxInt64 {
			return drivers.IntValue(int64(f.value))
		}
		return drivers.UintValue(f.value)
	case f.number == metricFloat && f.wire == wireFixed32:
		return floatValue(math.Float32frombits(uint32(f.value)))
	case f.number == metricDouble && f.wire == wireFixed64:
		return drivers.FloatValue(math.Float64frombits(f.value))
	case f.number == metricBoolean && f.wire == wireVarint:
		return drivers.BoolValue(f.value != 0)
	case f.number == metricString && f.wire == wireBytes:
		return drivers.TextValue(string(f.bytes))
	}
	return drivers.Value{}
}

// floatValue is the decimal that a float32 was meant as: 21.1, not 21.1000003815.
func floatValue(f float32) drivers.Value {
	v, err := drivers.ParseNumber(strconv.FormatFloat(float64(f), 'g', -1, 32))
	if err != nil { // no finite number
		return drivers.Value{}
	}
	return v
}
