package modbus_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
	"github.com/google/go-cmp/cmp"
)

// sunSpecDevice is a simulator of an inverter with two inputs and a meter, whose models
// begin at base.
func sunSpecDevice(t *testing.T, d *modbus.Driver, base int) string {
	t.Helper()
	words := []uint16{0x5375, 0x6E53}
	model := func(id uint16, length int, set map[int]uint16) {
		block := make([]uint16, length+2)
		block[0], block[1] = id, uint16(length)
		for at, word := range set {
			block[at] = word
		}
		words = append(words, block...)
	}
	model(1, 66, map[int]uint16{2: 'A'<<8 | 'c', 3: 'm'<<8 | 'e'})
	const tenth = 0xFFFF // a scale factor of -1
	model(103, 50, map[int]uint16{
		3: 41, 6: tenth, 10: 2301, 11: 2302, 12: 0xFFFF, 13: tenth, 14: 0xFE0C, 15: 0, 22: 9850, 23: 0xFFFE,
		24: 1, 25: 57920, 26: 0, 33: 0x8000, 37: tenth, 38: 4,
	})
	model(64999, 4, nil) // that nobody knows
	model(160, 48, map[int]uint16{2: tenth, 3: tenth, 4: 0, 5: 0, 8: 2, 10 + 11: 700, 30 + 11: 800, 30 + 12: 0, 30 + 13: 1500})
	model(203, 105, map[int]uint16{18: 0xFF38, 22: 1, 46: 0, 47: 5000, 54: 1})
	return simulateWords(t, d, base, append(words, 0xFFFF, 0))
}

// simulateWords is a simulator that has words in its holding registers from base on.
func simulateWords(t *testing.T, d *modbus.Driver, base int, words []uint16) string {
	t.Helper()
	var file strings.Builder
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	fmt.Fprintf(&file, "driver: modbus-simulator\nlisten: %s\nunit: 1\npoints:\n", address)
	for i, word := range words {
		fmt.Fprintf(&file, "  r%d: {holding: %d, initial: %d, writable: true}\n", i, base+i, word)
	}
	open(t, d.Simulator(), file.String())
	return address
}

func TestSunSpecModelsBecomePoints(t *testing.T) {
	for _, base := range []int{40000, 50000, 0} {
		t.Run(fmt.Sprint(base), func(t *testing.T) {
			d := newDriver(t, modbus.Options{})
			address := sunSpecDevice(t, d, base)
			models, err := dial(t, d, modbus.Target{TCP: address}).SunSpec(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			at := uint16(base)
			want := []modbus.SunSpecModel{
				{ID: 1, Address: at + 2, Length: 66},
				{ID: 103, Address: at + 70, Length: 50},
				{ID: 64999, Address: at + 122, Length: 4},
				{ID: 160, Address: at + 128, Length: 48, Modules: 2},
				{ID: 203, Address: at + 178, Length: 105},
			}
			if diff := cmp.Diff(want, models); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			dev := open(t, d, "driver: modbus\ntcp: "+address+"\npoints:\n  "+strings.Join(modbus.SunSpecPoints(models), "\n  "))
			wantRead(t, dev, map[string]string{
				"manufacturer": "Acme", "current_l1": "4.1", "voltage_l1": "230.1", "voltage_l3": "null", "power": "-500",
				"power_factor": "0.985", "energy_total": "123.456", "temperature": "null", "state": "4",
				"pv1_power": "700", "pv2_power": "800", "pv2_energy_total": "1.5",
				"meter_power": "-2000", "energy_import": "50",
			})
		})
	}
}

// The models of floating-point numbers have the same names, and no scale factors.
func TestSunSpecFloats(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	points := modbus.SunSpecPoints([]modbus.SunSpecModel{{ID: 113, Address: 0, Length: 60}, {ID: 214, Address: 100, Length: 124}})
	words := make([]uint16, 226)
	for at, value := range map[int]float32{22: 1234.5, 32: 123456, 40: float32(math.NaN()), 112: 230.25, 128: -20, 168: 5000} {
		bits := math.Float32bits(value)
		words[at], words[at+1] = uint16(bits>>16), uint16(bits)
	}
	words[48] = 4
	address := simulateWords(t, d, 0, words)
	dev := open(t, d, "driver: modbus\ntcp: "+address+"\npoints:\n  "+strings.Join(points, "\n  "))
	wantRead(t, dev, map[string]string{
		"power": "1234.5", "energy_total": "123.456", "temperature": "null", "state": "4",
		"meter_voltage_l1": "230.25", "meter_power": "-20", "energy_import": "5",
	})
}

// What an inverter is set to is read, and written after a confirmation.
func TestSunSpecControls(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	models := []modbus.SunSpecModel{
		{ID: 120, Address: 0, Length: 26}, {ID: 121, Address: 28, Length: 30}, {ID: 122, Address: 60, Length: 44}, {ID: 123, Address: 106, Length: 24},
	}
	points := modbus.SunSpecPoints(models)
	words := make([]uint16, 132)
	for at, word := range map[int]uint16{
		2: 4, 3: 500, 4: 1, 12: 217, 13: 0xFFFF, 19: 0xFFFF, // the nameplate
		28 + 2: 5000, 28 + 4: 0xFFF6, 28 + 20: 5000, 28 + 31: 0xFFFE, 28 + 21: 2, // the settings
		60 + 2: 0b101, 60 + 3: 0xFFFF, 60 + 4: 1, 60 + 8: 1500, 60 + 31: 300, 60 + 36: 1 << 14, 60 + 44: 20, 60 + 45: 3, // the status
		106 + 4: 1, 106 + 5: 800, 106 + 9: 1, 106 + 10: 0xFC4A, 106 + 23: 0xFFFF, 106 + 24: 0xFFFD, // the controls
	} {
		words[at] = word
	}
	address := simulateWords(t, d, 0, words)
	dev := open(t, d, "driver: modbus\ntcp: "+address+"\npoints:\n  "+strings.Join(points, "\n  "))
	wantRead(t, dev, map[string]string{
		"device_type": "4", "rated_power": "5000", "rated_current": "21.7", "rated_energy": "null",
		"power_max": "5000", "voltage_reference_offset": "-10", "frequency_nominal": "50", "connected_phase": "2",
		"pv_status": "5", "storage_status": "null", "grid_connected": "true", "energy_total": "1.5", "power_available": "300", "controls": "16384", "isolation_resistance": "20000",
		"connection": "1", "power_limit": "80", "power_limit_enabled": "1", "power_factor_setpoint": "-0.95", "reactive_power_mode": "0",
	})
	for name, value := range map[string]string{"power_limit": "62.5", "power_factor_setpoint": "0.9", "frequency_nominal": "60", "connection": "0"} {
		v, err := drivers.ParseNumber(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := dev.Write(t.Context(), name, v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantRead(t, dev, map[string]string{name: value})
	}
	for _, p := range dev.Points() {
		if p.Writable && !p.Confirm {
			t.Errorf("%s is written without a confirmation", p.Name)
		}
	}
	for _, m := range models { // each has its last point where the model ends
		one := strings.Join(modbus.SunSpecPoints([]modbus.SunSpecModel{{ID: m.ID, Length: m.Length}}), "\n")
		if shorter := strings.Join(modbus.SunSpecPoints([]modbus.SunSpecModel{{ID: m.ID, Length: 10}}), "\n"); len(shorter) == 0 || len(shorter) >= len(one) {
			t.Errorf("model %d: want fewer points of a shorter one, got\n%s", m.ID, shorter)
		}
	}
}

func TestSunSpecPhasesAndOldModels(t *testing.T) {
	points := strings.Join(modbus.SunSpecPoints([]modbus.SunSpecModel{
		{ID: 101, Address: 100, Length: 20},                 // cut before the energy
		{ID: 160, Address: 200, Length: 28, Modules: 65535}, // says more modules than it has room for
		{ID: 202, Address: 300, Length: 105},
		{ID: 202, Address: 500, Length: 105},
	}), "\n")
	for _, c := range []struct {
		text  string
		there bool
	}{
		{"current_l1: {holding: 103, no_value: 0xFFFF, scale_from: 106", true},
		{"frequency: {holding: 116", true},
		{"energy_total: {holding: 124", false},
		{"voltage_l2: {holding: 111", false},
		{"pv1_power: {holding: 221, no_value: 0xFFFF, scale_from: 204", true},
		{"pv2_", false},
		{"meter_power: {holding: 318", true},
		{"meter_power_2: {holding: 518", true},
		{"voltage_l2: {holding: 309", true},
		{"voltage_l3", false},
	} {
		if strings.Contains(points, c.text) != c.there {
			t.Errorf("%q: %t, want %t, in\n%s", c.text, !c.there, c.there, points)
		}
	}
}

func TestSunSpecRefusesWhatIsNone(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	open(t, d.Simulator(), "driver: modbus-simulator\nlisten: "+address+"\npoints: {a: {holding: 40000, type: uint32}}")
	c := dial(t, d, modbus.Target{TCP: address})
	if models, err := c.SunSpec(t.Context(), 1); !errors.Is(err, modbus.ErrNoSunSpec) || len(models) != 0 {
		t.Errorf("%v, %v", models, err)
	}
	endless := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	open(t, d.Simulator(), "driver: modbus-simulator\nlisten: "+endless+"\npoints:\n  a: {holding: 40000, type: uint32, initial: 1400204883}\n  m: {holding: 40002, initial: 7}\n  l: {holding: 40003, initial: 60}")
	if _, err := dial(t, d, modbus.Target{TCP: endless}).SunSpec(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "cannot read the SunSpec model at 40064") {
		t.Errorf("models without an end: %v", err)
	}
}
