package modbus_test

import (
	"encoding/hex"
	"os/exec"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// Each type and order against the registers that pymodbus makes of a value, or Python
// where pymodbus knows no such type.
func TestPeerPymodbusMakesTheSameRegisters(t *testing.T) {
	needPymodbus(t)
	out, err := exec.CommandContext(t.Context(), debianPython, "testdata/pymodbus_values.py").Output()
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]int)
	for line := range strings.Lines(string(out)) {
		field := strings.Split(strings.TrimSpace(line), "|")
		keys, wire, want := field[0], unhex(t, field[1]), parse(t, field[2])
		c := codecOf(t, keys)
		kinds[c.String()]++
		if strings.HasPrefix(keys, "bit") {
			kinds["bool"]++
		}
		got, err := c.Decode(wire)
		a, isNumber := got.Float()
		b, _ := want.Float()
		float := strings.Contains(keys, "float")
		if err != nil || float && (!isNumber || a != b) || !float && got.String() != want.String() {
			t.Errorf("%s: % x is %s, pymodbus has made it of %s (%v)", keys, wire, got, want, err)
		}
		back, err := c.Encode(want)
		if err != nil || !sameBits(c.Mask(), back, wire) {
			t.Errorf("%s: %s becomes % x, and by pymodbus %s (%v)", keys, want, back, hex.EncodeToString(wire), err)
		}
	}
	for _, kind := range modbus.TypeNames() {
		if kinds[kind] == 0 && kind != "datetime_bcd" { // whose digits bcd16 has, and its order datetime
			t.Errorf("nobody else has made registers of %s", kind)
		}
	}
}
