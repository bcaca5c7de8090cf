package discovery_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/discovery"
)

// haUnits are the units that each device class of a sensor or number accepts: those in
// the lists of both home-assistant.io/integrations/sensor/#device-class (2025) and
// developers.home-assistant.io/docs/core/entity/sensor (2026). Home Assistant refuses an
// entity whose unit its class does not accept. An empty unit is none.
var haUnits = map[string]string{
	"apparent_power": "mVA VA", "aqi": "", "area": "m² cm² km² mm² in² ft² yd² mi² ac ha",
	"atmospheric_pressure": "cbar bar hPa mmHg inHg kPa mbar Pa psi", "battery": "%", "carbon_dioxide": "ppm", "carbon_monoxide": "ppm",
	"current": "A mA", "data_rate": "bit/s kbit/s Mbit/s Gbit/s B/s kB/s MB/s GB/s KiB/s MiB/s GiB/s",
	"data_size": "bit kbit Mbit Gbit B kB MB GB TB PB EB ZB YB KiB MiB GiB TiB PiB EiB ZiB YiB",
	"distance":  "km m cm mm mi nmi yd in", "duration": "d h min s ms µs",
	"energy":         "J kJ MJ GJ mWh Wh kWh MWh GWh TWh cal kcal Mcal Gcal",
	"energy_storage": "J kJ MJ GJ mWh Wh kWh MWh GWh TWh cal kcal Mcal Gcal",
	"frequency":      "Hz kHz MHz GHz", "gas": "L m³ ft³ CCF", "humidity": "%", "illuminance": "lx", "irradiance": "W/m² BTU/(h⋅ft²)",
	"moisture": "%", "ph": "", "pm1": "µg/m³", "pm25": "µg/m³", "pm10": "µg/m³", "power": "mW W kW MW GW TW", "power_factor": " %",
	"precipitation": "cm in mm", "precipitation_intensity": "in/d in/h mm/d mm/h", "pressure": "Pa kPa hPa bar cbar mbar mmHg inHg psi",
	"reactive_power": "var kvar", "signal_strength": "dB dBm", "sound_pressure": "dB dBA",
	"speed": "ft/s in/d in/h in/s km/h kn m/s mph mm/d mm/s", "temperature": "°C °F K", "voltage": "V mV µV kV MV",
	"volume": "L mL gal m³ ft³ CCF", "volume_flow_rate": "m³/h m³/s ft³/min L/h L/min L/s gal/min mL/s", "volume_storage": "L mL gal m³ ft³ CCF",
	"water": "L gal m³ ft³ CCF", "weight": "kg g mg µg oz lb st", "wind_direction": "°", "wind_speed": "ft/s km/h kn m/s mph",
}

// haTotals are the classes of what is counted, which have no other state class than a
// total; all others are measured here (developers.home-assistant.io/docs/core/entity/sensor,
// "Entities not representing a total amount").
var haTotals = []string{"energy", "gas", "volume", "water"}

// haBinary are the device classes of home-assistant.io/integrations/binary_sensor.
var haBinary = strings.Fields(`battery battery_charging carbon_monoxide cold connectivity door garage_door gas heat light lock
	moisture motion moving occupancy opening plug power presence problem running safety smoke sound tamper update vibration window`)

// haKeys are the keys that we use of those that each platform's page documents
// (home-assistant.io/integrations/sensor.mqtt and so on), abbreviated as in
// home-assistant.io/integrations/mqtt/#supported-abbreviations; the required ones first.
var haKeys = map[string]struct{ required, optional string }{
	"sensor":        {"stat_t", "val_tpl json_attr_t json_attr_tpl dev_cla stat_cla unit_of_meas ops ent_cat"},
	"binary_sensor": {"stat_t", "val_tpl dev_cla pl_on pl_off ent_cat"},
	"switch":        {"cmd_t", "cmd_tpl stat_t val_tpl pl_on pl_off stat_on stat_off dev_cla ent_cat"},
	"number":        {"cmd_t", "cmd_tpl stat_t val_tpl json_attr_t json_attr_tpl min max step mode dev_cla unit_of_meas ent_cat"},
	"select":        {"cmd_t ops", "cmd_tpl stat_t val_tpl json_attr_t json_attr_tpl ent_cat"},
	"text":          {"cmd_t", "cmd_tpl stat_t val_tpl min max mode pattern ent_cat"},
	"button":        {"cmd_t", "cmd_tpl pl_prs dev_cla ent_cat"},
}

// haRefuses is why Home Assistant would not take a component, or warn of it; empty if it
// would.
func haRefuses(c map[string]any) string {
	text := func(key string) string { s, _ := c[key].(string); return s }
	platform, class, state, unit := text("p"), text("dev_cla"), text("stat_cla"), text("unit_of_meas")
	keys, known := haKeys[platform]
	if !known {
		return "no such platform"
	}
	allowed := strings.Fields("p name unique_id " + keys.required + " " + keys.optional) // both are required of a device's components
	for key := range c {
		if !slices.Contains(allowed, key) {
			return key + " is no key of it"
		}
	}
	for _, key := range strings.Fields("name unique_id " + keys.required) {
		if c[key] == nil {
			return key + " is missing"
		}
	}
	options, _ := c["ops"].([]any)
	switch {
	case platform == "binary_sensor" && class != "" && !slices.Contains(haBinary, class):
		return "no such class"
	case (platform == "switch" || platform == "select" || platform == "text" || platform == "button") && class != "":
		return "a class that we do not know of"
	case c["ops"] != nil && (len(options) == 0 || state != "" || unit != "" || platform == "sensor" && class != "enum"):
		return "options are for an enum alone"
	case class == "enum" && len(options) == 0:
		return "an enum without options"
	case (platform == "sensor" || platform == "number") && class != "" && class != "enum":
		units, known := haUnits[class]
		if !known || !slices.Contains(strings.Split(units, " "), unit) {
			return "its unit is not one of the class"
		}
	}
	if total := strings.HasPrefix(state, "total"); platform == "sensor" && class != "" && class != "enum" && total != slices.Contains(haTotals, class) {
		return "its state class is not one of the class"
	}
	if platform == "number" {
		low, high, step := c["min"].(float64), c["max"].(float64), c["step"].(float64)
		if low >= high || step < 0.001 {
			return "its bounds are none"
		}
	}
	return ""
}

// haUnitsOfPoints are units as device files have them.
var haUnitsOfPoints = strings.Fields(`°C °F K W kW MW GW mW VA kVA MVA var kvar Mvar Wh kWh MWh GWh GJ MJ varh kvarh VAh kVAh V mV kV µV A mA µA Hz kHz MHz
	GHz mHz Pa hPa kPa MPa bar mbar psi mmHg lx W/m² dB dBA dBm m³/h L/min L/h L/s m³/s m³/min l/min mL/s m/s km/h kn mph mm/s mm/min mm cm m km g kg mg t
	µs ms s min h d B kB MB GB TB KiB MiB GiB TiB bit/s kbit/s Mbit/s Gbit/s B/s kB/s MB/s KiB/s mm/h % ppm ppb m³ L l mL m3 µg/m³ g/m³ ° rpm 1/min Ω kΩ
	µS/cm mS/cm m² pH J kJ kcal Ah °C/h %/s € count`)

// Everything that we tell Home Assistant is taken by it.
func TestHomeAssistantTakesWhatIsTold(t *testing.T) {
	d := drivers.Description{Name: "d", Topic: "d"}
	values := make(map[string]string)
	add := func(p drivers.Point, value string) {
		p.Name = fmt.Sprintf("%s/%d", p.Name, len(d.Points))
		d.Points, values["d/"+p.Name] = append(d.Points, p), value
	}
	for _, unit := range append(haUnitsOfPoints, "") { // with each word that a class goes by
		for _, name := range []string{
			"x", "humidity", "battery", "soc", "moisture", "cosphi", "pf", "ph", "aqi", "co2", "co", "gas", "water", "tank", "level", "storage", "rated",
			"available", "net", "wind", "rain", "precipitation", "barometer", "pm25", "pm10", "pm1",
		} {
			add(drivers.Point{Name: name, Unit: unit}, "1")
			add(drivers.Point{Name: name, Unit: unit, Writable: true}, "1.5")
		}
		add(drivers.Point{Name: "mode", Unit: unit, Names: drivers.Names{{Value: drivers.IntValue(0), Name: "a"}, {Value: drivers.IntValue(1), Name: "b"}}}, `"a"`)
		add(drivers.Point{Name: "text", Unit: unit, Writable: true}, `"a"`)
		add(drivers.Point{Name: "flag", Unit: unit}, `true`)
	}
	for _, word := range strings.Fields("door window garage gate open contact motion pir occupancy occupied presence smoke gas co leak flood tamper vibration running problem fault alarm error throttled undervoltage overheated other") {
		add(drivers.Point{Name: word}, "true")
		add(drivers.Point{Name: "all", Flags: drivers.Flags{{Bit: 0, Name: word}}}, fmt.Sprintf(`{%q:true}`, word))
	}
	for _, bounds := range [][3]drivers.Value{
		{drivers.IntValue(2e9)},
		{{}, drivers.IntValue(-2e9)},
		{drivers.IntValue(5), drivers.IntValue(5)},
		{{}, {}, dec(1, -6)},
		{dec(-1, 30), dec(1, 30)},
		{{}, {}, dec(1, 300)},
		{dec(1, 308)},
		{{}, dec(-1, 308)},
	} {
		add(drivers.Point{Name: "bounds", Writable: true, Min: bounds[0], Max: bounds[1], Step: bounds[2]}, "5")
	}
	in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
		h.have(d)
		h.say("d/status", "online")
		for topic, value := range values {
			h.say(topic, value)
		}
		h.start()
		told := 0
		for _, topic := range []string{"homeassistant/device/gatehouse_d/config", "homeassistant/device/gatehouse/config"} {
			for key, c := range tree(t, h.bus.Retained(topic))("cmps").(map[string]any) {
				told++
				if why := haRefuses(c.(map[string]any)); why != "" {
					t.Errorf("%s: %s: %v", key, why, c)
				}
			}
		}
		if told < len(d.Points) {
			t.Errorf("want all %d points told, got %d", len(d.Points), told)
		}
	})
}
