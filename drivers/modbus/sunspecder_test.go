package modbus_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// derDevice is a simulator of a resource with the models that IEEE 1547 asks for, as
// github.com/sunspec/models has them.
func derDevice(t *testing.T, d *modbus.Driver) string {
	t.Helper()
	words := []uint16{0x5375, 0x6E53}
	model := func(id uint16, length int, none uint16, set map[int]uint16) {
		block := slices.Repeat([]uint16{none}, length+2)
		block[0], block[1] = id, uint16(length)
		for at, word := range set {
			block[at] = word
		}
		words = append(words, block...)
	}
	const tenth, hundredth = 0xFFFF, 0xFFFE
	model(701, 153, 0xFFFF, map[int]uint16{
		2: 2, 3: 1, 4: 3, 5: 1, 6: 1, 7: 0x0080, 10: 0xFE0C, 11: 520, 12: 0xFFF6, 13: 0xFC4A, 14: 0x8000, 16: 2301,
		17: 0, 18: 50010, 19: 0, 20: 0, 21: 1, 22: 57920, 36: 315, 35: 0x8000, 87: 0x8000, 110: 0,
		113: hundredth, 114: tenth, 115: 0xFFFD, 116: 1, 117: 0xFFFD, 118: 1, 119: 1, 120: 0, 121: 0, 122: tenth,
	})
	model(702, 50, 0xFFFF, map[int]uint16{2: 500, 21: 1, 22: 2, 23: 0, 24: 0x0019, 26: 450, 41: 217, 45: 1, 47: 1, 48: 1, 49: 0, 50: tenth})
	model(703, 17, 0, map[int]uint16{2: 1, 3: 1050, 5: 0, 6: 50200, 9: 1, 10: 0x2C00, 17: tenth, 18: 0xFFFD})
	model(704, 65, 0, map[int]uint16{
		14: 1, 15: 800, 18: 0, 19: 60, 24: 0xFFFF, 25: 0xFF38, 28: 0xFF9C, 36: 3, 54: tenth, 55: 1, 56: tenth, 57: 1, 58: tenth, 59: 950, 60: 1, 53: 0xFFFD,
	})
	model(713, 7, 0, map[int]uint16{2: 1000, 4: 805, 6: 1, 7: 1, 8: tenth})
	model(713, 6, 0, map[int]uint16{2: 1000, 4: 80, 6: 0, 7: 1})
	model(714, 18+2*25, 0, map[int]uint16{
		4: 2, 5: 0x8000, 6: 700, 15: hundredth, 16: tenth, 17: 0, 18: 0, 19: 0,
		20 + 10: 1234, 20 + 11: 4001, 45: 1, 45 + 12: 0xFF9C, 45 + 16: 1500, 45 + 22: 1, 45 + 24: 2,
	})
	return simulateWords(t, d, 40000, append(words, 0xFFFF, 0))
}

// The models of distributed energy resources are read, and set after a confirmation.
func TestSunSpecDER(t *testing.T) {
	d := newDriver(t, modbus.Options{})
	address := derDevice(t, d)
	models, err := dial(t, d, modbus.Target{TCP: address}).SunSpec(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	want := []modbus.SunSpecModel{
		{ID: 701, Address: 40002, Length: 153},
		{ID: 702, Address: 40157, Length: 50},
		{ID: 703, Address: 40209, Length: 17},
		{ID: 704, Address: 40228, Length: 65},
		{ID: 713, Address: 40295, Length: 7},
		{ID: 713, Address: 40304, Length: 6},
		{ID: 714, Address: 40312, Length: 68, Modules: 2},
	}
	if diff := cmp.Diff(want, models); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	points := modbus.SunSpecPoints(models)
	dev := open(t, d, "driver: modbus\ntcp: "+address+"\npoints:\n  "+strings.Join(points, "\n  "))
	wantRead(t, dev, map[string]string{
		"wiring": "2", "operation": "1", "state": "3", "grid_connection": "1", "alarms": "65664", "characteristics": "null",
		"power": "-5000", "apparent_power": "5200", "reactive_power": "-100", "power_factor": "-0.95", "current": "null",
		"voltage_ln": "230.1", "voltage_ll": "null", "frequency": "50.01", "energy_export": "123.456", "energy_import": "null",
		"temperature": "31.5", "temperature_ambient": "null", "power_l3": "null", "throttling": "0",
		"rated_power": "5000", "category_normal": "1", "modes_supported": "25", "power_max": "4500", "current_max": "21.7", "rated_voltage": "null",
		"enter_service": "1", "enter_service_voltage_high": "105", "enter_service_frequency_high": "50.2", "enter_service_delay": "76800",
		"power_limit_enabled": "1", "power_limit": "80", "power_limit_timeout": "60", "power_setpoint": "-2000", "power_setpoint_percent": "-10",
		"reactive_power_mode": "3", "power_factor_setpoint": "0.95", "power_factor_excitation": "1",
		"battery_energy_rated": "10000", "battery_soc": "80.5", "battery_status": "1", "storage_battery_soc": "80",
		"dc_power": "700", "dc_current": "null", "dc1_current": "12.34", "dc1_voltage": "400.1", "dc2_power": "-100", "dc2_energy_export": "1.5", "dc2_status": "1", "dc2_alarms": "2",
	})
	for name, value := range map[string]string{"power_limit": "62.5", "power_setpoint": "-12340", "power_max": "3000", "enter_service_delay": "300", "enter_service": "0"} {
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
		if p.Writable && (p.Name == "power_factor_setpoint" || p.Name == "power_factor_excitation") {
			t.Errorf("%s is written alone, and has to be together with another", p.Name)
		}
	}
}

// A model that a device has in both generations keeps the names of the first.
func TestSunSpecBothGenerations(t *testing.T) {
	points := strings.Join(modbus.SunSpecPoints([]modbus.SunSpecModel{
		{ID: 103, Address: 100, Length: 50}, {ID: 701, Address: 200, Length: 153}, {ID: 714, Address: 400, Length: 1},
	}), "\n")
	for _, text := range []string{"\npower: {holding: 114", "\nder_power: {holding: 210", "\nder_state: {holding: 204", "\nenergy_total: {holding: 124", "\nenergy_export: {holding: 219"} {
		if !strings.Contains("\n"+points, text) {
			t.Errorf("%q is not in\n%s", text, points)
		}
	}
}
