package discovery

import (
	"slices"
	"strings"
	"unicode"
)

// Home Assistant's classes of sensors, of which each allows certain units
// (https://www.home-assistant.io/integrations/sensor/#device-class). It refuses an entity
// whose class does not allow its unit; so what only its newest versions allow, such as
// kVA, has no class.
var unitClasses = map[string]string{
	"°C": "temperature", "°F": "temperature", "K": "temperature",
	"W": "power", "kW": "power", "MW": "power", "GW": "power", "mW": "power",
	"VA": "apparent_power", "var": "reactive_power", "kvar": "reactive_power",
	"Wh": "energy", "kWh": "energy", "MWh": "energy", "GWh": "energy", "GJ": "energy", "MJ": "energy",
	"V": "voltage", "mV": "voltage", "kV": "voltage", "A": "current", "mA": "current",
	"Hz": "frequency", "kHz": "frequency", "MHz": "frequency", "GHz": "frequency",
	"Pa": "pressure", "hPa": "pressure", "kPa": "pressure", "bar": "pressure", "mbar": "pressure", "psi": "pressure",
	"lx": "illuminance", "W/m²": "irradiance", "dB": "sound_pressure", "dBA": "sound_pressure", "dBm": "signal_strength",
	"m³/h": "volume_flow_rate", "L/min": "volume_flow_rate", "L/h": "volume_flow_rate", "m³/s": "volume_flow_rate",
	"L/s": "volume_flow_rate", "mL/s": "volume_flow_rate",
	"m/s": "speed", "km/h": "speed", "kn": "speed", "mm/s": "speed",
	"mm": "distance", "cm": "distance", "m": "distance", "km": "distance",
	"mg": "weight", "g": "weight", "kg": "weight", "m²": "area",
	"ms": "duration", "s": "duration", "min": "duration", "h": "duration", "d": "duration",
	"B": "data_size", "kB": "data_size", "MB": "data_size", "GB": "data_size", "TB": "data_size",
	"KiB": "data_size", "MiB": "data_size", "GiB": "data_size",
	"bit/s": "data_rate", "kbit/s": "data_rate", "Mbit/s": "data_rate", "B/s": "data_rate", "kB/s": "data_rate", "MB/s": "data_rate",
	"mm/h": "precipitation_intensity",
}

// stored are words of an energy that is there, and not counted.
var stored = []string{"stored", "storage", "capacity", "available", "remaining", "rated"}

// namedClasses are those that a unit alone does not tell: the class of a unit whose
// point has one of the words in its name.
var namedClasses = []struct {
	unit, class string
	words       []string
}{
	{"Wh", "energy_storage", stored},
	{"kWh", "energy_storage", stored},
	{"MWh", "energy_storage", stored},
	{"%", "humidity", []string{"humidity", "humid", "rh"}},
	{"%", "battery", []string{"battery", "soc"}},
	{"%", "moisture", []string{"moisture"}},
	{"%", "power_factor", []string{"cosphi", "pf"}},
	{"", "power_factor", []string{"cosphi", "pf"}},
	{"", "ph", []string{"ph"}},
	{"", "aqi", []string{"aqi"}},
	{"ppm", "carbon_dioxide", []string{"co2"}},
	{"ppm", "carbon_monoxide", []string{"co"}},
	{"m³", "gas", []string{"gas"}},
	{"m³", "water", []string{"water"}},
	{"L", "water", []string{"water"}},
	{"m³", "volume_storage", []string{"tank", "level", "storage"}},
	{"L", "volume_storage", []string{"tank", "level", "storage"}},
	{"m³", "volume", nil},
	{"L", "volume", nil},
	{"mL", "volume", nil},
	{"m/s", "wind_speed", []string{"wind"}},
	{"km/h", "wind_speed", []string{"wind"}},
	{"mm", "precipitation", []string{"rain", "precipitation"}},
	{"hPa", "atmospheric_pressure", []string{"barometer", "barometric", "atmospheric"}},
	{"µg/m³", "pm25", []string{"pm25"}},
	{"µg/m³", "pm10", []string{"pm10"}},
	{"µg/m³", "pm1", []string{"pm1"}},
}

// growing are the classes that a meter counts up; Home Assistant allows them no other
// state class than totals. Units that it has no class for, or had none until lately, are
// counted up as well.
var (
	growing      = []string{"energy", "gas", "water", "volume"}
	growingUnits = []string{"varh", "kvarh", "Mvarh", "VAh", "kVAh", "MVAh"}
)

// net are words of a total that goes down, too, as that of a meter which runs backwards.
var net = []string{"net", "balance", "saldo"}

// numberClass is the device class and state class of a number.
func numberClass(name, unit string) (class, state string) {
	named := words(name)
	has := func(some []string) bool {
		return slices.ContainsFunc(some, func(w string) bool { return slices.Contains(named, w) })
	}
	class = unitClasses[unit]
	for _, n := range namedClasses {
		if n.unit == unit && (n.words == nil || has(n.words)) {
			class = n.class
			break
		}
	}
	switch {
	case !slices.Contains(growing, class) && !slices.Contains(growingUnits, unit):
		return class, "measurement"
	case has(net):
		return class, "total"
	}
	return class, "total_increasing"
}

// binaryClasses are the device classes of what is on or off, by a word of the point's
// name (https://www.home-assistant.io/integrations/binary_sensor/#device-class).
var binaryClasses = map[string]string{
	"door": "door", "window": "window", "garage": "garage_door", "gate": "opening", "open": "opening", "contact": "opening",
	"motion": "motion", "pir": "motion", "occupancy": "occupancy", "occupied": "occupancy", "presence": "presence",
	"smoke": "smoke", "gas": "gas", "co": "carbon_monoxide", "leak": "moisture", "flood": "moisture", "tamper": "tamper",
	"vibration": "vibration", "running": "running", "problem": "problem", "fault": "problem", "alarm": "problem", "error": "problem",
	"throttled": "problem", "undervoltage": "problem", "overheated": "heat",
}

// binaryClass is the device class of the last word of a name that has one.
func binaryClass(name string) string {
	all := words(name)
	for i := len(all) - 1; i >= 0; i-- {
		if class := binaryClasses[all[i]]; class != "" {
			return class
		}
	}
	return ""
}

// words are the words of a point's name, in lower case.
func words(name string) []string {
	return strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}
