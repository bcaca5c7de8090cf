package modbus_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

var codecVectors = []struct{ kind, order, scale, offset, wire, value string }{
	{"bool", "", "", "", "01", "true"},
	{"bool", "", "", "", "00", "false"},
	{"uint16", "", "", "", "FF FE", "65534"},
	{"uint16", "BA", "", "", "FE FF", "65534"},
	{"int16", "", "", "", "FF FE", "-2"},
	{"int16", "AB", "", "", "80 00", "-32768"},
	{"int16", "BA", "", "", "FE FF", "-2"},
	{"uint32", "", "", "", "01 02 03 04", "16909060"},
	{"uint32", "ABCD", "", "", "01 02 03 04", "16909060"},
	{"uint32", "CDAB", "", "", "03 04 01 02", "16909060"},
	{"uint32", "BADC", "", "", "02 01 04 03", "16909060"},
	{"uint32", "DCBA", "", "", "04 03 02 01", "16909060"},
	{"int32", "", "", "", "FF FF FF 85", "-123"},
	{"int32", "CDAB", "", "", "FF 85 FF FF", "-123"},
	{"int32", "BADC", "", "", "FF FF 85 FF", "-123"},
	{"int32", "DCBA", "", "", "85 FF FF FF", "-123"},
	{"float32", "", "", "", "41 AA 66 66", "21.3"},
	{"float32", "ABCD", "", "", "41 AA 66 66", "21.3"},
	{"float32", "CDAB", "", "", "66 66 41 AA", "21.3"},
	{"float32", "BADC", "", "", "AA 41 66 66", "21.3"},
	{"float32", "DCBA", "", "", "66 66 AA 41", "21.3"},
	{"float32", "", "0.1", "", "41 AA 66 66", "2.13"},
	{"float32", "", "10", "-273.15", "41 AA 66 66", "-60.15"},
	{"uint64", "", "", "", "FF FF FF FF FF FF FF FF", "18446744073709551615"},
	{"uint64", "ABCDEFGH", "", "", "01 02 03 04 05 06 07 08", "72623859790382856"},
	{"uint64", "GHEFCDAB", "", "", "07 08 05 06 03 04 01 02", "72623859790382856"},
	{"uint64", "BADCFEHG", "", "", "02 01 04 03 06 05 08 07", "72623859790382856"},
	{"uint64", "HGFEDCBA", "", "", "08 07 06 05 04 03 02 01", "72623859790382856"},
	{"int64", "", "", "", "80 00 00 00 00 00 00 00", "-9223372036854775808"},
	{"int64", "GHEFCDAB", "", "", "FF FE FF FF FF FF FF FF", "-2"},
	{"float64", "", "", "", "40 35 4C CC CC CC CC CD", "21.3"},
	{"float64", "GHEFCDAB", "", "", "CC CD CC CC 4C CC 40 35", "21.3"},
	{"float64", "HGFEDCBA", "", "", "CD CC CC CC CC 4C 35 40", "21.3"},
	{"int16", "", "0.1", "", "08 69", "215.3"},
	{"int16", "", "0.10", "", "08 69", "215.3"},
	{"int16", "", "0.1", "", "00 0A", "1"},
	{"int16", "", "1e-3", "", "FF FF", "-0.001"},
	{"int16", "", "-0.5", "", "00 03", "-1.5"},
	{"uint16", "", "1e3", "", "00 03", "3000"},
	{"uint16", "", "0.01", "-40", "27 10", "60"},
	{"uint16", "", "", "-1000", "00 00", "-1000"},
	{"uint64", "", "0.001", "", "00 20 00 00 00 00 00 01", "9007199254740.993"},
	{"uint64", "", "2", "", "7F FF FF FF FF FF FF FF", "18446744073709551614"},
}

func mustCodec(t testing.TB, kind, order, scale, offset string) *modbus.Codec {
	t.Helper()
	c, err := modbus.NewCodec(kind, order, scale, offset)
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestCodecIsExactBothWays(t *testing.T) {
	for _, v := range codecVectors {
		t.Run(strings.Join([]string{v.kind, v.order, v.scale, v.offset, v.value}, " "), func(t *testing.T) {
			c := mustCodec(t, v.kind, v.order, v.scale, v.offset)
			wire := unhex(t, v.wire)
			got, err := c.Decode(wire)
			if err != nil || got.String() != v.value {
				t.Errorf("% x is %s, want %s (%v)", wire, got, v.value, err)
			}
			want, err := drivers.ParseValue([]byte(v.value))
			if err != nil {
				t.Fatal(err)
			}
			back, err := c.Encode(want)
			if err != nil || hex.EncodeToString(back) != hex.EncodeToString(wire) {
				t.Errorf("%s is % x, want % x (%v)", v.value, back, wire, err)
			}
		})
	}
}

func TestCodecRefusesWhatDoesNotFit(t *testing.T) {
	for _, v := range []struct{ kind, scale, offset, value string }{
		{"uint16", "", "", "65536"},
		{"uint16", "", "", "-1"},
		{"int16", "", "", "32768"},
		{"int16", "", "", "-32769"},
		{"uint32", "", "", "4294967296"},
		{"int32", "", "", "2147483648"},
		{"uint64", "", "", "18446744073709551616"},
		{"int64", "", "", "9223372036854775808"},
		{"uint16", "", "", "1.5"},
		{"int16", "0.1", "", "3276.8"},
		{"int16", "0.1", "", "21.37"},
		{"uint16", "", "-40", "-41"},
		{"float32", "", "", "3.5e38"},
		{"uint16", "", "", "true"},
		{"uint16", "", "", `"7"`},
		{"uint16", "", "", "null"},
		{"uint16", "", "", "{}"},
		{"bool", "", "", "2"},
		{"bool", "", "", `"on"`},
		{"bool", "", "", "0.5"},
		{"uint16", "", "", "1e30"},
	} {
		t.Run(v.kind+" "+v.scale+" "+v.value, func(t *testing.T) {
			value, err := drivers.ParseValue([]byte(v.value))
			if err != nil {
				t.Fatal(err)
			}
			if wire, err := mustCodec(t, v.kind, "", v.scale, v.offset).Encode(value); err == nil {
				t.Errorf("it becomes % x", wire)
			}
		})
	}
}

func TestCodecTakesAFloatThatOnlyRoundingMoved(t *testing.T) {
	c := mustCodec(t, "int16", "", "0.1", "")
	tenth := 0.1
	wire, err := c.Encode(drivers.FloatValue(213 * tenth)) // 21.3 and a little more
	if err != nil || hex.EncodeToString(wire) != "00d5" {
		t.Errorf("% x, %v", wire, err)
	}
	if wire, err := c.Encode(drivers.FloatValue(21.34)); err == nil {
		t.Errorf("21.34 becomes % x", wire)
	}
}

func TestCodecGivesNoNumberForNaN(t *testing.T) {
	for kind, wires := range map[string][]string{
		"float16": {"7E 00", "7C 00", "FC 00"},
		"float32": {"7F C0 00 00", "7F 80 00 00", "FF 80 00 00"},
		"float64": {"7F F8 00 00 00 00 00 00", "7F F0 00 00 00 00 00 00"},
	} {
		for i, wire := range wires {
			v, err := mustCodec(t, kind, "", "", "").Decode(unhex(t, wire))
			if infinite := i > 0; !v.IsNull() || (err != nil) != infinite {
				t.Errorf("%s %s is %s (%v)", kind, wire, v, err)
			}
		}
	}
}

// A float64 times its scale may be more than any number that can be told.
func TestCodecGivesNoNumberForWhatIsTooLarge(t *testing.T) {
	for _, scale := range []string{"10", "-1e40"} {
		if v, err := mustCodec(t, "float64", "", scale, "").Decode(unhex(t, "7F EF FF FF FF FF FF FF")); err == nil || !v.IsNull() {
			t.Errorf("the largest float64 times %s is %s", scale, v)
		}
	}
}
