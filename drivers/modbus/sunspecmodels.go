package modbus

import "slices"

// sunSpecState are the operating states of inverters.
const sunSpecState = "names: {1: off, 2: sleeping, 3: starting, 4: mppt, 5: throttled, 6: shutting_down, 7: fault, 8: standby}"

// Keys of points that have them in common: those of settings, which change when they are
// written; of what is switched; and of an inverter's parts.
const (
	sunSpecSetting  = "every: 1m, writable: true, confirm: true"
	sunSpecEnabled  = "names: {0: disabled, 1: enabled}, writable: true, confirm: true"
	sunSpecPresence = "flags: {0: connected, 1: available, 2: operating, 3: test}"
)

// sunSpecKinds are the models that are known: their points as the SunSpec Alliance
// publishes them (github.com/sunspec/models, json/model_N.json). What sets something is
// written after a confirmation only.
var sunSpecKinds = slices.Concat(sunSpecInverters, sunSpecDER)

// sunSpecInverters are the models of inverters and meters.
var sunSpecInverters = []sunSpecKind{
	{ids: []uint16{1}, name: "common", points: []sunSpecPoint{
		{name: "manufacturer", offset: 2, kind: "string"},
		{name: "model", offset: 18, kind: "string"},
		{name: "serial_number", offset: 50, kind: "string"},
	}},
	{ids: []uint16{101, 102, 103}, name: "inverter", points: []sunSpecPoint{
		{name: "current", offset: 2, kind: "uint16", factor: 6, unit: "A"},
		{name: "current_l1", offset: 3, kind: "uint16", factor: 6, unit: "A"},
		{name: "current_l2", offset: 4, kind: "uint16", factor: 6, unit: "A", phase: 2},
		{name: "current_l3", offset: 5, kind: "uint16", factor: 6, unit: "A", phase: 3},
		{name: "voltage_l1", offset: 10, kind: "uint16", factor: 13, unit: "V"},
		{name: "voltage_l2", offset: 11, kind: "uint16", factor: 13, unit: "V", phase: 2},
		{name: "voltage_l3", offset: 12, kind: "uint16", factor: 13, unit: "V", phase: 3},
		{name: "power", offset: 14, kind: "int16", factor: 15, unit: "W"},
		{name: "frequency", offset: 16, kind: "uint16", factor: 17, unit: "Hz"},
		{name: "apparent_power", offset: 18, kind: "int16", factor: 19, unit: "VA"},
		{name: "reactive_power", offset: 20, kind: "int16", factor: 21, unit: "var"},
		{name: "power_factor", offset: 22, kind: "int16", factor: 23, more: "scale: 0.01"},
		{name: "energy_total", offset: 24, kind: "acc32", factor: 26, unit: "kWh", more: "scale: 0.001, every: 10s"},
		{name: "dc_current", offset: 27, kind: "uint16", factor: 28, unit: "A"},
		{name: "dc_voltage", offset: 29, kind: "uint16", factor: 30, unit: "V"},
		{name: "dc_power", offset: 31, kind: "int16", factor: 32, unit: "W"},
		{name: "temperature", offset: 33, kind: "int16", factor: 37, unit: "°C", more: "every: 10s"},
		{name: "state", offset: 38, kind: "enum16", more: sunSpecState},
	}},
	{ids: []uint16{111, 112, 113}, name: "inverter", points: []sunSpecPoint{
		{name: "current", offset: 2, kind: "float32", unit: "A"},
		{name: "current_l1", offset: 4, kind: "float32", unit: "A"},
		{name: "current_l2", offset: 6, kind: "float32", unit: "A", phase: 2},
		{name: "current_l3", offset: 8, kind: "float32", unit: "A", phase: 3},
		{name: "voltage_l1", offset: 16, kind: "float32", unit: "V"},
		{name: "voltage_l2", offset: 18, kind: "float32", unit: "V", phase: 2},
		{name: "voltage_l3", offset: 20, kind: "float32", unit: "V", phase: 3},
		{name: "power", offset: 22, kind: "float32", unit: "W"},
		{name: "frequency", offset: 24, kind: "float32", unit: "Hz"},
		{name: "apparent_power", offset: 26, kind: "float32", unit: "VA"},
		{name: "reactive_power", offset: 28, kind: "float32", unit: "var"},
		{name: "power_factor", offset: 30, kind: "float32", more: "scale: 0.01"},
		{name: "energy_total", offset: 32, kind: "float32", unit: "kWh", more: "scale: 0.001, every: 10s"},
		{name: "dc_current", offset: 34, kind: "float32", unit: "A"},
		{name: "dc_voltage", offset: 36, kind: "float32", unit: "V"},
		{name: "dc_power", offset: 38, kind: "float32", unit: "W"},
		{name: "temperature", offset: 40, kind: "float32", unit: "°C", more: "every: 10s"},
		{name: "state", offset: 48, kind: "enum16", more: sunSpecState},
	}},
	{ids: []uint16{120}, name: "nameplate", points: []sunSpecPoint{
		{name: "device_type", offset: 2, kind: "enum16", more: "names: {4: pv, 82: pv_with_storage}, every: 1h"},
		{name: "rated_power", offset: 3, kind: "uint16", factor: 4, unit: "W", more: "every: 1h"},
		{name: "rated_apparent_power", offset: 5, kind: "uint16", factor: 6, unit: "VA", more: "every: 1h"},
		{name: "rated_current", offset: 12, kind: "uint16", factor: 13, unit: "A", more: "every: 1h"},
		{name: "rated_energy", offset: 19, kind: "uint16", factor: 20, unit: "Wh", more: "every: 1h"},
		{name: "rated_charge_power", offset: 23, kind: "uint16", factor: 24, unit: "W", more: "every: 1h"},
		{name: "rated_discharge_power", offset: 25, kind: "uint16", factor: 26, unit: "W", more: "every: 1h"},
	}},
	{ids: []uint16{121}, name: "settings", points: []sunSpecPoint{
		{name: "power_max", offset: 2, kind: "uint16", factor: 22, unit: "W", more: sunSpecSetting},
		{name: "voltage_reference", offset: 3, kind: "uint16", factor: 23, unit: "V", more: sunSpecSetting},
		{name: "voltage_reference_offset", offset: 4, kind: "int16", factor: 24, unit: "V", more: sunSpecSetting},
		{name: "voltage_max", offset: 5, kind: "uint16", factor: 25, unit: "V", more: sunSpecSetting},
		{name: "voltage_min", offset: 6, kind: "uint16", factor: 25, unit: "V", more: sunSpecSetting},
		{name: "apparent_power_max", offset: 7, kind: "uint16", factor: 26, unit: "VA", more: sunSpecSetting},
		{name: "reactive_power_max_q1", offset: 8, kind: "int16", factor: 27, unit: "var", more: sunSpecSetting},
		{name: "reactive_power_max_q2", offset: 9, kind: "int16", factor: 27, unit: "var", more: sunSpecSetting},
		{name: "reactive_power_max_q3", offset: 10, kind: "int16", factor: 27, unit: "var", more: sunSpecSetting},
		{name: "reactive_power_max_q4", offset: 11, kind: "int16", factor: 27, unit: "var", more: sunSpecSetting},
		{name: "ramp_rate", offset: 12, kind: "uint16", factor: 28, unit: "%/s", more: sunSpecSetting},
		{name: "power_factor_min_q1", offset: 13, kind: "int16", factor: 29, more: sunSpecSetting},
		{name: "power_factor_min_q2", offset: 14, kind: "int16", factor: 29, more: sunSpecSetting},
		{name: "power_factor_min_q3", offset: 15, kind: "int16", factor: 29, more: sunSpecSetting},
		{name: "power_factor_min_q4", offset: 16, kind: "int16", factor: 29, more: sunSpecSetting},
		{name: "var_action", offset: 17, kind: "enum16", more: "names: {1: switch, 2: maintain}, " + sunSpecSetting},
		{name: "apparent_power_by", offset: 18, kind: "enum16", more: "names: {1: vector, 2: arithmetic}, " + sunSpecSetting},
		{name: "ramp_rate_max", offset: 19, kind: "uint16", factor: 30, unit: "%", more: sunSpecSetting},
		{name: "frequency_nominal", offset: 20, kind: "uint16", factor: 31, unit: "Hz", more: sunSpecSetting},
		{name: "connected_phase", offset: 21, kind: "enum16", more: "names: {1: l1, 2: l2, 3: l3}, " + sunSpecSetting},
	}},
	{ids: []uint16{122}, name: "status", points: []sunSpecPoint{
		// Not which limits were reached: to read them clears them.
		{name: "pv_status", offset: 2, kind: "bitfield16", more: sunSpecPresence},
		{name: "storage_status", offset: 3, kind: "bitfield16", more: sunSpecPresence},
		{name: "grid_connected", offset: 4, kind: "bitfield16", more: "bit: 0"},
		{name: "energy_total", offset: 5, kind: "acc64", unit: "kWh", more: "scale: 0.001, every: 10s"},
		{name: "apparent_energy_total", offset: 9, kind: "acc64", unit: "kVAh", more: "scale: 0.001, every: 10s"},
		{name: "reactive_power_available", offset: 29, kind: "int16", factor: 30, unit: "var"},
		{name: "power_available", offset: 31, kind: "uint16", factor: 32, unit: "W"},
		{name: "controls", offset: 35, kind: "bitfield32", more: "flags: {0: power, 1: reactive_power, 2: power_factor, 3: volt_var, " +
			"4: freq_watt, 5: freq_watt_curve, 6: dynamic_reactive_current, 7: lvrt, 8: hvrt, 9: watt_pf, 10: volt_watt, 12: scheduled, 13: lfrt, 14: hfrt}"},
		{name: "ride_through", offset: 43, kind: "bitfield16", more: "flags: {0: lvrt, 1: hvrt, 2: lfrt, 3: hfrt}"},
		{name: "isolation_resistance", offset: 44, kind: "uint16", factor: 45, unit: "Ω", more: "every: 1m"},
	}},
	{ids: []uint16{123}, name: "control", points: []sunSpecPoint{
		{name: "connection_window", offset: 2, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "connection_timeout", offset: 3, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "connection", offset: 4, kind: "enum16", more: "names: {0: disconnected, 1: connected}, writable: true, confirm: true"},
		{name: "power_limit", offset: 5, kind: "uint16", factor: 23, unit: "%", more: "min: 0, writable: true, confirm: true"},
		{name: "power_limit_window", offset: 6, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "power_limit_timeout", offset: 7, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "power_limit_ramp", offset: 8, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "power_limit_enabled", offset: 9, kind: "enum16", more: sunSpecEnabled},
		{name: "power_factor_setpoint", offset: 10, kind: "int16", factor: 24, more: "min: -1, max: 1, writable: true, confirm: true"},
		{name: "power_factor_window", offset: 11, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "power_factor_timeout", offset: 12, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "power_factor_ramp", offset: 13, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "power_factor_enabled", offset: 14, kind: "enum16", more: sunSpecEnabled},
		{name: "reactive_power_of_power", offset: 15, kind: "int16", factor: 25, unit: "%", more: "writable: true, confirm: true"},
		{name: "reactive_power_of_max", offset: 16, kind: "int16", factor: 25, unit: "%", more: "writable: true, confirm: true"},
		{name: "reactive_power_of_available", offset: 17, kind: "int16", factor: 25, unit: "%", more: "writable: true, confirm: true"},
		{name: "reactive_power_window", offset: 18, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "reactive_power_timeout", offset: 19, kind: "uint16", unit: "s", more: sunSpecSetting},
		{name: "reactive_power_ramp", offset: 20, kind: "uint16", unit: "s", more: sunSpecSetting},
		{
			name: "reactive_power_mode", offset: 21, kind: "enum16",
			more: "names: {0: none, 1: of_power, 2: of_max, 3: of_available}, " + sunSpecSetting,
		},
		{name: "reactive_power_enabled", offset: 22, kind: "enum16", more: sunSpecEnabled},
	}},
	{ids: []uint16{124}, name: "storage", points: []sunSpecPoint{
		{name: "battery_reserve", offset: 7, kind: "uint16", factor: 21, unit: "%", more: "every: 1m"},
		{name: "battery_soc", offset: 8, kind: "uint16", factor: 22, unit: "%", more: "every: 10s"},
		{name: "battery_voltage", offset: 10, kind: "uint16", factor: 24, unit: "V"},
		{
			name: "battery_state", offset: 11, kind: "enum16",
			more: "names: {1: off, 2: empty, 3: discharging, 4: charging, 5: full, 6: holding, 7: testing}",
		},
	}},
	{
		ids: []uint16{160}, name: "mppt", count: 8, first: 10, stride: 20, prefix: "pv",
		module: []sunSpecPoint{
			{name: "current", offset: 9, kind: "uint16", factor: 2, unit: "A"},
			{name: "voltage", offset: 10, kind: "uint16", factor: 3, unit: "V"},
			{name: "power", offset: 11, kind: "uint16", factor: 4, unit: "W"},
			{name: "energy_total", offset: 12, kind: "acc32", factor: 5, unit: "kWh", more: "scale: 0.001, every: 10s"},
		},
	},
	{ids: []uint16{201, 202, 203, 204}, name: "meter", points: []sunSpecPoint{
		{name: "current", offset: 2, kind: "int16", factor: 6, unit: "A"},
		{name: "current_l1", offset: 3, kind: "int16", factor: 6, unit: "A"},
		{name: "current_l2", offset: 4, kind: "int16", factor: 6, unit: "A", phase: 2},
		{name: "current_l3", offset: 5, kind: "int16", factor: 6, unit: "A", phase: 3},
		{name: "voltage_l1", offset: 8, kind: "int16", factor: 15, unit: "V"},
		{name: "voltage_l2", offset: 9, kind: "int16", factor: 15, unit: "V", phase: 2},
		{name: "voltage_l3", offset: 10, kind: "int16", factor: 15, unit: "V", phase: 3},
		{name: "frequency", offset: 16, kind: "int16", factor: 17, unit: "Hz"},
		{name: "power", offset: 18, kind: "int16", factor: 22, unit: "W"},
		{name: "power_l1", offset: 19, kind: "int16", factor: 22, unit: "W"},
		{name: "power_l2", offset: 20, kind: "int16", factor: 22, unit: "W", phase: 2},
		{name: "power_l3", offset: 21, kind: "int16", factor: 22, unit: "W", phase: 3},
		{name: "apparent_power", offset: 23, kind: "int16", factor: 27, unit: "VA"},
		{name: "reactive_power", offset: 28, kind: "int16", factor: 32, unit: "var"},
		{name: "power_factor", offset: 33, kind: "int16", factor: 37, more: "scale: 0.01"},
		{name: "energy_export", offset: 38, kind: "acc32", factor: 54, unit: "kWh", more: "scale: 0.001, every: 10s"},
		{name: "energy_import", offset: 46, kind: "acc32", factor: 54, unit: "kWh", more: "scale: 0.001, every: 10s"},
	}},
	{ids: []uint16{211, 212, 213, 214}, name: "meter", points: []sunSpecPoint{
		// Not the power factor: its unit is "PF" here and percent in every other model.
		{name: "current", offset: 2, kind: "float32", unit: "A"},
		{name: "current_l1", offset: 4, kind: "float32", unit: "A"},
		{name: "current_l2", offset: 6, kind: "float32", unit: "A", phase: 2},
		{name: "current_l3", offset: 8, kind: "float32", unit: "A", phase: 3},
		{name: "voltage_l1", offset: 12, kind: "float32", unit: "V"},
		{name: "voltage_l2", offset: 14, kind: "float32", unit: "V", phase: 2},
		{name: "voltage_l3", offset: 16, kind: "float32", unit: "V", phase: 3},
		{name: "frequency", offset: 26, kind: "float32", unit: "Hz"},
		{name: "power", offset: 28, kind: "float32", unit: "W"},
		{name: "power_l1", offset: 30, kind: "float32", unit: "W"},
		{name: "power_l2", offset: 32, kind: "float32", unit: "W", phase: 2},
		{name: "power_l3", offset: 34, kind: "float32", unit: "W", phase: 3},
		{name: "apparent_power", offset: 36, kind: "float32", unit: "VA"},
		{name: "reactive_power", offset: 44, kind: "float32", unit: "var"},
		{name: "energy_export", offset: 60, kind: "float32", unit: "kWh", more: "scale: 0.001, every: 10s"},
		{name: "energy_import", offset: 68, kind: "float32", unit: "kWh", more: "scale: 0.001, every: 10s"},
	}},
}
