package modbus

// Keys of the points of sunSpecDER that they have in common.
const (
	sunSpecRating   = "every: 1h"
	sunSpecSlow     = "every: 10s"
	sunSpecMeasured = "scale: 0.001, every: 10s" // kWh and kvarh, of Wh and varh
	sunSpecRest     = "every: 10s"               // what is left of a time
)

// Bits that more than one point has.
const (
	derAlarms = "flags: {0: ground_fault, 1: dc_over_voltage, 2: ac_disconnect_open, 3: dc_disconnect_open, 4: grid_disconnect, " +
		"5: cabinet_open, 6: manual_shutdown, 7: over_temperature, 8: over_frequency, 9: under_frequency, 10: ac_over_voltage, " +
		"11: ac_under_voltage, 12: blown_fuse, 13: under_temperature, 14: memory_loss, 15: hardware_test_failure, 16: manufacturer}"
	derModes = "0: power_limit, 1: fixed_power, 2: fixed_reactive_power, 3: fixed_power_factor, 4: volt_var, 5: freq_watt, " +
		"6: dynamic_reactive_current, 7: low_voltage, 8: high_voltage, 9: watt_var, 10: volt_watt, 11: scheduled, 12: low_frequency, 13: high_frequency"
	derPortAlarms = "flags: {0: ground_fault, 1: over_voltage, 3: dc_disconnect, 5: cabinet_open, 6: manual_shutdown, " +
		"7: over_temperature, 12: blown_fuse, 13: under_temperature, 14: memory_loss, 15: arc, 20: test_failed, 21: under_voltage, 22: over_current}"
)

// sunSpecDER are the models of distributed energy resources, which IEEE 1547-2018 asks
// for (the same source). Not those of curves and of trips (705 to 712): where their
// points are depends on how many the device says that it has. Not what must be written
// in one request with another point, but to read.
var sunSpecDER = []sunSpecKind{
	{ids: []uint16{701}, name: "der", points: []sunSpecPoint{
		{name: "wiring", offset: 2, kind: "enum16", more: "names: {0: single_phase, 1: split_phase, 2: three_phase}, every: 1h"},
		{name: "operation", offset: 3, kind: "enum16", more: `names: {0: "off", 1: "on"}`},
		{
			name: "state", offset: 4, kind: "enum16",
			more: "names: {0: off, 1: sleeping, 2: starting, 3: running, 4: throttled, 5: shutting_down, 6: fault, 7: standby}",
		},
		{name: "grid_connection", offset: 5, kind: "enum16", more: "names: {0: disconnected, 1: connected}"},
		{name: "alarms", offset: 6, kind: "bitfield32", more: derAlarms},
		{name: "characteristics", offset: 8, kind: "bitfield32", more: "flags: {0: grid_following, 1: grid_forming, 2: pv_clipped}"},
		{name: "power", offset: 10, kind: "int16", factor: 116, unit: "W"},
		{name: "apparent_power", offset: 11, kind: "int16", factor: 118, unit: "VA"},
		{name: "reactive_power", offset: 12, kind: "int16", factor: 119, unit: "var"},
		{name: "power_factor", offset: 13, kind: "int16", factor: 117},
		{name: "current", offset: 14, kind: "int16", factor: 113, unit: "A"},
		{name: "voltage_ll", offset: 15, kind: "uint16", factor: 114, unit: "V"},
		{name: "voltage_ln", offset: 16, kind: "uint16", factor: 114, unit: "V"},
		{name: "frequency", offset: 17, kind: "uint32", factor: 115, unit: "Hz"},
		{name: "energy_export", offset: 19, kind: "uint64", factor: 120, unit: "kWh", more: sunSpecMeasured},
		{name: "energy_import", offset: 23, kind: "uint64", factor: 120, unit: "kWh", more: sunSpecMeasured},
		{name: "reactive_energy_export", offset: 27, kind: "uint64", factor: 121, unit: "kvarh", more: sunSpecMeasured},
		{name: "reactive_energy_import", offset: 31, kind: "uint64", factor: 121, unit: "kvarh", more: sunSpecMeasured},
		{name: "temperature_ambient", offset: 35, kind: "int16", factor: 122, unit: "°C", more: sunSpecSlow},
		{name: "temperature", offset: 36, kind: "int16", factor: 122, unit: "°C", more: sunSpecSlow}, // of the cabinet, as in 101 to 113
		{name: "temperature_heat_sink", offset: 37, kind: "int16", factor: 122, unit: "°C", more: sunSpecSlow},
		{name: "temperature_transformer", offset: 38, kind: "int16", factor: 122, unit: "°C", more: sunSpecSlow},
		{name: "temperature_switches", offset: 39, kind: "int16", factor: 122, unit: "°C", more: sunSpecSlow},
		{name: "temperature_other", offset: 40, kind: "int16", factor: 122, unit: "°C", more: sunSpecSlow},
		{name: "power_l1", offset: 41, kind: "int16", factor: 116, unit: "W"},
		{name: "current_l1", offset: 45, kind: "int16", factor: 113, unit: "A"},
		{name: "voltage_l1", offset: 47, kind: "uint16", factor: 114, unit: "V"},
		{name: "power_l2", offset: 64, kind: "int16", factor: 116, unit: "W"},
		{name: "current_l2", offset: 68, kind: "int16", factor: 113, unit: "A"},
		{name: "voltage_l2", offset: 70, kind: "uint16", factor: 114, unit: "V"},
		{name: "power_l3", offset: 87, kind: "int16", factor: 116, unit: "W"},
		{name: "current_l3", offset: 91, kind: "int16", factor: 113, unit: "A"},
		{name: "voltage_l3", offset: 93, kind: "uint16", factor: 114, unit: "V"},
		{name: "throttling", offset: 110, kind: "uint16", unit: "%"},
		{name: "throttled_by", offset: 111, kind: "bitfield32", more: "flags: {" + derModes + ", 14: derated}"},
	}},
	{ids: []uint16{702}, name: "capacity", points: []sunSpecPoint{
		{name: "rated_power", offset: 2, kind: "uint16", factor: 45, unit: "W", more: sunSpecRating},
		{name: "rated_apparent_power", offset: 7, kind: "uint16", factor: 47, unit: "VA", more: sunSpecRating},
		{name: "rated_reactive_power_injected", offset: 8, kind: "uint16", factor: 48, unit: "var", more: sunSpecRating},
		{name: "rated_reactive_power_absorbed", offset: 9, kind: "uint16", factor: 48, unit: "var", more: sunSpecRating},
		{name: "rated_charge_power", offset: 10, kind: "uint16", factor: 45, unit: "W", more: sunSpecRating},
		{name: "rated_discharge_power", offset: 11, kind: "uint16", factor: 45, unit: "W", more: sunSpecRating},
		{name: "rated_voltage", offset: 14, kind: "uint16", factor: 49, unit: "V", more: sunSpecRating},
		{name: "rated_current", offset: 17, kind: "uint16", factor: 50, unit: "A", more: sunSpecRating},
		{name: "category_normal", offset: 21, kind: "enum16", more: "names: {0: a, 1: b}, every: 1h"},
		{name: "category_abnormal", offset: 22, kind: "enum16", more: "names: {0: i, 1: ii, 2: iii}, every: 1h"},
		{name: "modes_supported", offset: 23, kind: "bitfield32", more: "flags: {" + derModes + "}, every: 1h"},
		{name: "power_max", offset: 26, kind: "uint16", factor: 45, unit: "W", more: sunSpecSetting},
		{name: "apparent_power_max", offset: 31, kind: "uint16", factor: 47, unit: "VA", more: sunSpecSetting},
		{name: "reactive_power_max_injected", offset: 32, kind: "uint16", factor: 48, unit: "var", more: sunSpecSetting},
		{name: "reactive_power_max_absorbed", offset: 33, kind: "uint16", factor: 48, unit: "var", more: sunSpecSetting},
		{name: "charge_power_max", offset: 34, kind: "uint16", factor: 45, unit: "W", more: sunSpecSetting},
		{name: "discharge_power_max", offset: 35, kind: "uint16", factor: 45, unit: "W", more: sunSpecSetting},
		{name: "voltage_nominal", offset: 38, kind: "uint16", factor: 49, unit: "V", more: sunSpecSetting},
		{name: "voltage_max", offset: 39, kind: "uint16", factor: 49, unit: "V", more: sunSpecSetting},
		{name: "voltage_min", offset: 40, kind: "uint16", factor: 49, unit: "V", more: sunSpecSetting},
		{name: "current_max", offset: 41, kind: "uint16", factor: 50, unit: "A", more: sunSpecSetting},
	}},
	{ids: []uint16{703}, name: "enter_service", points: []sunSpecPoint{
		{name: "enter_service", offset: 2, kind: "enum16", more: sunSpecEnabled},
		{name: "enter_service_voltage_high", offset: 3, kind: "uint16", factor: 17, unit: "%", more: sunSpecSetting},
		{name: "enter_service_voltage_low", offset: 4, kind: "uint16", factor: 17, unit: "%", more: sunSpecSetting},
		{name: "enter_service_frequency_high", offset: 5, kind: "uint32", factor: 18, unit: "Hz", more: sunSpecSetting},
		{name: "enter_service_frequency_low", offset: 7, kind: "uint32", factor: 18, unit: "Hz", more: sunSpecSetting},
		{name: "enter_service_delay", offset: 9, kind: "uint32", unit: "s", more: sunSpecSetting},
		{name: "enter_service_random_delay", offset: 11, kind: "uint32", unit: "s", more: sunSpecSetting},
		{name: "enter_service_ramp", offset: 13, kind: "uint32", unit: "s", more: sunSpecSetting},
		{name: "enter_service_delay_remaining", offset: 15, kind: "uint32", unit: "s", more: sunSpecRest},
	}},
	{ids: []uint16{704}, name: "control", points: derControls},
	{ids: []uint16{713}, name: "storage", points: []sunSpecPoint{
		{name: "battery_energy_rated", offset: 2, kind: "uint16", factor: 7, unit: "Wh", more: sunSpecRating},
		{name: "battery_energy_available", offset: 3, kind: "uint16", factor: 7, unit: "Wh", more: sunSpecSlow},
		{name: "battery_soc", offset: 4, kind: "uint16", factor: 8, unit: "%", more: sunSpecSlow},
		{name: "battery_soh", offset: 5, kind: "uint16", factor: 8, unit: "%", more: "every: 1m"},
		{name: "battery_status", offset: 6, kind: "enum16", more: "names: {0: ok, 1: warning, 2: error}"},
	}},
	{
		ids: []uint16{714}, name: "dc", count: 4, first: 20, stride: 25, prefix: "dc",
		points: []sunSpecPoint{
			{name: "dc_current", offset: 5, kind: "int16", factor: 15, unit: "A"},
			{name: "dc_power", offset: 6, kind: "int16", factor: 17, unit: "W"},
			{name: "dc_energy_export", offset: 7, kind: "uint64", factor: 18, unit: "kWh", more: sunSpecMeasured},
			{name: "dc_energy_import", offset: 11, kind: "uint64", factor: 18, unit: "kWh", more: sunSpecMeasured},
		},
		module: []sunSpecPoint{
			{name: "kind", offset: 0, kind: "enum16", more: "names: {0: pv, 1: storage, 2: ev, 3: injecting, 4: absorbing, 5: bidirectional, 6: dc_dc}, every: 1h"},
			{name: "current", offset: 10, kind: "int16", factor: 15, unit: "A"},
			{name: "voltage", offset: 11, kind: "uint16", factor: 16, unit: "V"},
			{name: "power", offset: 12, kind: "int16", factor: 17, unit: "W"},
			{name: "energy_export", offset: 13, kind: "uint64", factor: 18, unit: "kWh", more: sunSpecMeasured},
			{name: "energy_import", offset: 17, kind: "uint64", factor: 18, unit: "kWh", more: sunSpecMeasured},
			{name: "temperature", offset: 21, kind: "int16", factor: 19, unit: "°C", more: sunSpecSlow},
			{name: "status", offset: 22, kind: "enum16", more: `names: {0: "off", 1: "on", 2: warning, 3: error}`},
			{name: "alarms", offset: 23, kind: "bitfield32", more: derPortAlarms},
		},
	},
}

// derControls are the points of model 704. Of two ways to count the reactive power the
// numbers have changed from one publication to the next; those have no name here, so
// nobody sets one of them by mistake.
var derControls = []sunSpecPoint{
	{name: "power_factor_enabled", offset: 2, kind: "enum16", more: sunSpecEnabled},
	{name: "power_factor_revert", offset: 3, kind: "enum16", more: sunSpecEnabled},
	{name: "power_factor_timeout", offset: 4, kind: "uint32", unit: "s", more: sunSpecSetting},
	{name: "power_factor_remaining", offset: 6, kind: "uint32", unit: "s", more: sunSpecRest},
	{name: "power_factor_absorbing_enabled", offset: 8, kind: "enum16", more: sunSpecEnabled},
	{name: "power_limit_enabled", offset: 14, kind: "enum16", more: sunSpecEnabled},
	{name: "power_limit", offset: 15, kind: "uint16", factor: 54, unit: "%", more: "min: 0, writable: true, confirm: true"},
	{name: "power_limit_reverted", offset: 16, kind: "uint16", factor: 54, unit: "%", more: "min: 0, " + sunSpecSetting},
	{name: "power_limit_revert", offset: 17, kind: "enum16", more: sunSpecEnabled},
	{name: "power_limit_timeout", offset: 18, kind: "uint32", unit: "s", more: sunSpecSetting},
	{name: "power_limit_remaining", offset: 20, kind: "uint32", unit: "s", more: sunSpecRest},
	{name: "power_setpoint_enabled", offset: 22, kind: "enum16", more: sunSpecEnabled},
	{name: "power_setpoint_mode", offset: 23, kind: "enum16", more: "names: {0: percent, 1: watts}, " + sunSpecSetting},
	{name: "power_setpoint", offset: 24, kind: "int32", factor: 55, unit: "W", more: "writable: true, confirm: true"},
	{name: "power_setpoint_reverted", offset: 26, kind: "int32", factor: 55, unit: "W", more: sunSpecSetting},
	{name: "power_setpoint_percent", offset: 28, kind: "int16", factor: 56, unit: "%", more: "writable: true, confirm: true"},
	{name: "power_setpoint_percent_reverted", offset: 29, kind: "int16", factor: 56, unit: "%", more: sunSpecSetting},
	{name: "power_setpoint_revert", offset: 30, kind: "enum16", more: sunSpecEnabled},
	{name: "power_setpoint_timeout", offset: 31, kind: "uint32", unit: "s", more: sunSpecSetting},
	{name: "power_setpoint_remaining", offset: 33, kind: "uint32", unit: "s", more: sunSpecRest},
	{name: "reactive_power_enabled", offset: 35, kind: "enum16", more: sunSpecEnabled},
	{
		name: "reactive_power_mode", offset: 36, kind: "enum16",
		more: "names: {0: of_power_max, 1: of_reactive_power_max, 2: of_available}, " + sunSpecSetting,
	},
	{name: "reactive_power_priority", offset: 37, kind: "enum16", more: "names: {0: power, 1: reactive_power}, " + sunSpecSetting},
	{name: "reactive_power_setpoint", offset: 38, kind: "int32", factor: 57, unit: "var", more: "writable: true, confirm: true"},
	{name: "reactive_power_setpoint_reverted", offset: 40, kind: "int32", factor: 57, unit: "var", more: sunSpecSetting},
	{name: "reactive_power_percent", offset: 42, kind: "int16", factor: 58, unit: "%", more: "writable: true, confirm: true"},
	{name: "reactive_power_percent_reverted", offset: 43, kind: "int16", factor: 58, unit: "%", more: sunSpecSetting},
	{name: "reactive_power_revert", offset: 44, kind: "enum16", more: sunSpecEnabled},
	{name: "reactive_power_timeout", offset: 45, kind: "uint32", unit: "s", more: sunSpecSetting},
	{name: "reactive_power_remaining", offset: 47, kind: "uint32", unit: "s", more: sunSpecRest},
	{name: "ramp_rate", offset: 49, kind: "uint16", unit: "%/s", more: sunSpecSetting},
	{name: "ramp_of", offset: 50, kind: "enum16", more: "names: {0: current_max, 1: power_max}, " + sunSpecSetting},
	{name: "anti_islanding", offset: 52, kind: "enum16", more: sunSpecEnabled},
	{name: "power_factor_setpoint", offset: 59, kind: "uint16", factor: 53},
	{name: "power_factor_excitation", offset: 60, kind: "enum16", more: "names: {0: over, 1: under}"},
	{name: "power_factor_absorbing_setpoint", offset: 63, kind: "uint16", factor: 53},
	{name: "power_factor_absorbing_excitation", offset: 64, kind: "enum16", more: "names: {0: over, 1: under}"},
}
