package modbus

// sunSpecState are the operating states of inverters.
const sunSpecState = "names: {1: off, 2: sleeping, 3: starting, 4: mppt, 5: throttled, 6: shutting_down, 7: fault, 8: standby}"

// sunSpecKinds are the models that are known: their points as the SunSpec Alliance
// publishes them (github.com/sunspec/models, json/model_N.json). What only sets
// something is not here: whoever needs it writes the point.
var sunSpecKinds = []sunSpecKind{
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
		ids: []uint16{160}, name: "mppt", count: 8, first: 10, stride: 20,
		module: []sunSpecPoint{
			{name: "current", offset: 9, kind: "uint16", factor: 2, unit: "A"},
			{name: "voltage", offset: 10, kind: "uint16", factor: 3, unit: "V"},
			{name: "power", offset: 11, kind: "uint16", factor: 4, unit: "W"},
			{name: "energy_total", offset: 12, kind: "acc32", factor: 5, unit: "kWh", more: "scale: 0.001, every: 10s"},
		},
	},
	{ids: []uint16{201, 202, 203}, name: "meter", points: []sunSpecPoint{
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
}
