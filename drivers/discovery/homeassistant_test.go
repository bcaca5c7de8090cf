package discovery_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/discovery"
)

const hallConfig = "homeassistant/device/gatehouse_hall/config"

func TestHomeAssistantConfig(t *testing.T) {
	in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
		h.have(hall())
		h.sayHall()
		h.start()
		get := tree(t, h.bus.Retained(hallConfig))
		for path, want := range map[string]any{
			"dev.ids": []any{"gatehouse_hall"}, "dev.name": "hall", "dev.mdl": "modbus", "dev.via_device": "gatehouse",
			"o.name": "Gatehouse", "o.sw": "1.2", "avty_mode": "all",
			"avty": []any{map[string]any{"t": "home/hall/status"}, map[string]any{"t": "gatehouse/gateway/status"}},

			"cmps.temperature": map[string]any{
				"p": "sensor", "name": "Temperature", "unique_id": "gatehouse_hall_temperature", "stat_t": "home/hall/temperature",
				"val_tpl": "{{ value_json }}", "dev_cla": "temperature", "stat_cla": "measurement", "unit_of_meas": "°C",
			},
			"cmps.door": map[string]any{
				"p": "binary_sensor", "name": "Door", "unique_id": "gatehouse_hall_door", "stat_t": "home/hall/door",
				"val_tpl": "{{ value_json }}", "pl_on": "True", "pl_off": "False", "dev_cla": "door",
			},
			"cmps.heater": map[string]any{
				"p": "switch", "name": "Heater", "unique_id": "gatehouse_hall_heater", "stat_t": "home/hall/heater", "val_tpl": "{{ value_json }}",
				"stat_on": "True", "stat_off": "False", "cmd_t": "home/hall/heater/set", "pl_on": "true", "pl_off": "false",
			},
			"cmps.setpoint": map[string]any{
				"p": "number", "name": "Setpoint", "unique_id": "gatehouse_hall_setpoint", "stat_t": "home/hall/setpoint",
				"val_tpl":       "{% set v = value_json %}{{ v if v is number and 5 <= v <= 30 else None }}",
				"json_attr_t":   "home/hall/setpoint",
				"json_attr_tpl": `{% set v = value_json %}{{ ({} if v is not defined or v is none or v is number and 5 <= v <= 30 else {"reading": v}) | to_json }}`,
				"cmd_t":         "home/hall/setpoint/set", "min": 5.0, "max": 30.0, "step": 0.5, "mode": "box", "dev_cla": "temperature", "unit_of_meas": "°C",
			},
			"cmps.mode": map[string]any{
				"p": "select", "name": "Mode", "unique_id": "gatehouse_hall_mode", "stat_t": "home/hall/mode",
				"val_tpl":       "{% set v = value_json %}{{ v if v is string else None }}",
				"json_attr_t":   "home/hall/mode",
				"json_attr_tpl": `{% set v = value_json %}{{ ({} if v is not defined or v is none or v is string else {"reading": v}) | to_json }}`,
				"cmd_t":         "home/hall/mode/set", "cmd_tpl": "{{ value | to_json }}", "ops": []any{"off", "eco, day"},
			},
			"cmps.label.p":                     "text",
			"cmps.energy_total.stat_t":         "home/hall/energy/total",
			"cmps.energy_total.dev_cla":        "energy",
			"cmps.energy_total.stat_cla":       "total_increasing",
			"cmps.energy_total.name":           "Energy total",
			"cmps.breaker.p":                   "binary_sensor", // it wants to be confirmed
			"cmps.breaker.cmd_t":               nil,
			"cmps.reset":                       map[string]any{"p": "button", "name": "Reset", "unique_id": "gatehouse_hall_reset", "cmd_t": "home/hall/reset/set", "pl_prs": `"reset"`},
			"cmps.faults_overheated.p":         "binary_sensor",
			"cmps.faults_overheated.dev_cla":   "heat",
			"cmps.faults_fan_stuck.val_tpl":    `{{ (value_json or {}).get("fan_stuck") }}`,
			"cmps.faults_fan_stuck.name":       "Faults fan stuck",
			"cmps.silent":                      nil,
			"cmps.temperature.unknown_of_ours": nil,
		} {
			if diff := cmp.Diff(want, get(path)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
		get = tree(t, h.bus.Retained("homeassistant/device/gatehouse/config"))
		if get("cmps.status.dev_cla") != "connectivity" || get("cmps.status.stat_t") != "gatehouse/gateway/status" {
			t.Errorf("want the gateway itself told, which others are behind, got %v", get("cmps"))
		}
		if h.bus.Retained("gatehouse/gateway/status") != "online" {
			t.Error("want the gateway online")
		}
		h.stop()
		if h.bus.Retained("gatehouse/gateway/status") != "offline" || h.bus.Retained(hallConfig) == "" {
			t.Error("want the gateway offline at the end, and the device still described")
		}
	})
}

func TestHomeAssistantTogether(t *testing.T) {
	in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
		d := hall()
		d.Together = true
		h.have(d)
		h.say("home/hall/status", "online")
		h.say("home/hall", `{"temperature":21.5,"door":true,"heater":false,"setpoint":20,"label":"x","faults":{"overheated":true}}`)
		h.start()
		get := tree(t, h.bus.Retained(hallConfig))
		for path, want := range map[string]any{
			"cmps.temperature.stat_t":        "home/hall",
			"cmps.temperature.val_tpl":       `{{ value_json.get("temperature") }}`,
			"cmps.heater.cmd_t":              "home/hall/set",
			"cmps.heater.pl_on":              `{"heater":true}`,
			"cmps.setpoint.cmd_tpl":          `{{ {"setpoint": value} | to_json }}`,
			"cmps.label.cmd_tpl":             `{{ {"label": value} | to_json }}`,
			"cmps.faults_overheated.val_tpl": `{{ (value_json.get("faults") or {}).get("overheated") }}`,
		} {
			if diff := cmp.Diff(want, get(path)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	})
}

// What Home Assistant would pass over, and go on showing the state before, is unknown to
// it; the reading stands in an attribute.
func TestHomeAssistantDoesNotKeepAFormerState(t *testing.T) {
	var lines, want []string
	in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
		d := hall()
		d.Points = append(d.Points, drivers.Point{Name: "phase", Names: d.Points[4].Names}, drivers.Point{Name: "total", Writable: true})
		h.have(d)
		h.sayHall()
		h.say("home/hall/phase", `"off"`)
		h.say("home/hall/total", "5")
		h.start()
		get := tree(t, h.bus.Retained(hallConfig))
		for _, c := range []struct{ entity, payload, state, attributes string }{
			{"setpoint", "5", "5", "{}"},
			{"setpoint", "30", "30", "{}"},
			{"setpoint", "30.5", "None", `{"reading": 30.5}`},
			{"setpoint", "-1", "None", `{"reading": -1}`},
			{"setpoint", "null", "None", "{}"},
			{"total", "-4294967295", "-4294967295", "{}"}, // beyond what a number is without bounds
			{"mode", `"off"`, "off", "{}"},
			{"mode", "7", "None", `{"reading": 7}`},
			{"phase", `"eco, day"`, "eco, day", "{}"},
			{"phase", "7", "None", `{"reading": 7}`},
			{"phase", "", "None", "{}"},
		} {
			for key, result := range map[string]string{"val_tpl": c.state, "json_attr_tpl": c.attributes} {
				template, _ := get("cmps." + c.entity + "." + key).(string)
				line, err := json.Marshal([]string{template, c.payload})
				if err != nil {
					t.Fatal(err)
				}
				lines, want = append(lines, string(line)), append(want, result)
			}
		}
	})
	for i, got := range render(t, lines) {
		if got != want[i] {
			t.Errorf("%s: want %s, got %s", lines[i], want[i], got)
		}
	}
}

func TestHomeAssistantChanges(t *testing.T) {
	t.Run("a point that comes to speak is added", func(t *testing.T) {
		in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
			h.have(hall())
			h.start()
			if got := h.bus.Retained(hallConfig); got != "" {
				t.Errorf("want nothing told of a device that has not spoken, got %s", got)
			}
			h.sayHall()
			h.say("home/hall/silent", `"no more"`)
			h.pass(time.Second)
			if tree(t, h.bus.Retained(hallConfig))("cmps.silent.p") != "sensor" {
				t.Error("want silent as a sensor")
			}
		})
	})
	t.Run("a point that goes is removed by its platform, then left out", func(t *testing.T) {
		in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
			h.have(hall())
			h.sayHall()
			h.start()
			d := hall()
			d.Points = d.Points[1:]
			h.have(d)
			all := h.bus.Payloads(hallConfig)
			if len(all) != 3 {
				t.Fatalf("want three configurations, got %d", len(all))
			}
			if diff := cmp.Diff(map[string]any{"p": "sensor"}, tree(t, all[1])("cmps.temperature")); diff != "" {
				t.Errorf("want only its platform first (-want +got):\n%s", diff)
			}
			if tree(t, all[2])("cmps.temperature") != nil || tree(t, all[2])("cmps.door.p") != "binary_sensor" {
				t.Errorf("want it left out then: %s", all[2])
			}
		})
	})
	t.Run("a device that goes is cleared, also one that went while nobody ran", func(t *testing.T) {
		in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
			attic, cellar := hall(), hall()
			attic.Name, attic.Topic, cellar.Name, cellar.Topic = "attic", "attic", "cellar", "cellar"
			h.have(hall(), attic, cellar)
			h.sayHall()
			h.say("attic/door", "true")
			h.say("cellar/door", "true")
			foreign := `{"dev":{"ids":["x"],"via_device":"z2m"},"o":{"name":"Zigbee2MQTT"},"cmps":{}}`
			h.say("homeassistant/device/x/config", foreign)
			h.start()
			h.have(hall(), attic)
			if got := h.bus.Retained("homeassistant/device/gatehouse_cellar/config"); got != "" {
				t.Errorf("want the cellar cleared, got %s", got)
			}
			h.stop()
			h.have(hall())
			h.start()
			if got := h.bus.Retained("homeassistant/device/gatehouse_attic/config"); got != "" {
				t.Errorf("want the attic cleared, got %s", got)
			}
			if h.bus.Retained(hallConfig) == "" || h.bus.Retained("homeassistant/device/x/config") != foreign {
				t.Error("want the hall and what is not ours left alone")
			}
			if n := len(h.bus.Messages(hallConfig)); n != 1 {
				t.Errorf("want what stands not published again, got %d", n)
			}
		})
	})
	t.Run("the birth of Home Assistant has all told again, after a while", func(t *testing.T) {
		in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
			h.have(hall())
			h.sayHall()
			h.start()
			h.order("homeassistant/status", "offline")
			h.order("homeassistant/status", "online")
			h.order("homeassistant/status", "online")
			h.pass(6 * time.Second)
			if got := h.bus.Payloads(hallConfig); len(got) != 2 || got[0] != got[1] {
				t.Errorf("want the configuration twice, got %d", len(got))
			}
			if n := len(h.bus.Messages("homeassistant/device/gatehouse/config")); n != 2 {
				t.Errorf("want the gateway twice, got %d", n)
			}
		})
	})
}

func TestHomeAssistantIDs(t *testing.T) {
	in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
		a, b, c := hall(), hall(), hall()
		a.Name, a.Topic, b.Name, b.Topic, c.Name, c.Topic = "a b", "1", "a_b", "2", "温度", "3"
		a.Points = []drivers.Point{{Name: "x/y"}, {Name: "x_y"}}
		h.have(a, b, c)
		h.say("1/x/y", "1")
		h.say("1/x_y", "2")
		h.say("2/door", "true")
		h.say("3/door", "true")
		h.start()
		for _, topic := range []string{"a_b", "a_b_c8687a08", "3732e264"} {
			if h.bus.Retained("homeassistant/device/gatehouse_"+topic+"/config") == "" {
				t.Errorf("want a device %s, got %v", topic, topics(h, "homeassistant/device/+/config"))
			}
		}
		get := tree(t, h.bus.Retained("homeassistant/device/gatehouse_a_b_c8687a08/config"))
		if get("cmps.x_y.stat_t") != "1/x_y" {
			t.Errorf("want x_y as itself, got %v", get("cmps"))
		}
		if n := len(get("cmps").(map[string]any)); n != 2 {
			t.Errorf("want two components, got %d", n)
		}
	})
}

// Of two devices whose names become the same identifier both get a mark.
func TestDevicesThatAreCalledAlike(t *testing.T) {
	in(t, discovery.Conventions(), func(t *testing.T, h *house) {
		device := func(name string) drivers.Description {
			topic := fmt.Sprintf("%x", name)
			h.say(topic+"/status", "online")
			h.say(topic+"/x", "1")
			return drivers.Description{Name: name, Topic: topic, Points: []drivers.Point{{Name: "x"}}}
		}
		first := []drivers.Description{device("hall.1"), device("温1"), device("b+c")}
		h.have(first...)
		h.start()
		h.have(append(first, device("hall 1"), device("水1"), device("b#c"))...)
		for _, topic := range []string{
			"homeassistant/device/gatehouse_hall_1_8a8e2c4b/config", "homeassistant/device/gatehouse_hall_1_e59b34d3/config",
			"homeassistant/device/gatehouse_1_634b4e89/config", "homeassistant/device/gatehouse_1_0cd5a7fd/config",
			"homie/5/gatehouse-hall-1-8a8e2c4b/$state", "homie/5/gatehouse-hall-1-e59b34d3/$state",
		} {
			if h.bus.Retained(topic) == "" {
				t.Errorf("want %s, got %v", topic, topics(h, "+/+/+/#"))
			}
		}
		for _, topic := range []string{"homeassistant/device/gatehouse_hall_1/config", "homie/5/gatehouse-hall-1/$state"} {
			if got := h.bus.Retained(topic); got != "" {
				t.Errorf("want nothing on %s any more, got %s", topic, got)
			}
		}
		var told []string
		for _, topic := range topics(h, "spBv1.0/Gatehouse/+/gatehouse/#") {
			if strings.Contains(topic, "b_c") {
				told = append(told, strings.TrimPrefix(topic, "spBv1.0/Gatehouse/"))
			}
		}
		want := []string{"DBIRTH/gatehouse/b_c", "DBIRTH/gatehouse/b_c_32c513c1", "DDEATH/gatehouse/b_c", "DBIRTH/gatehouse/b_c_214abfc4"}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// topics are those that were published.
func topics(h *house, filter string) []string {
	var all []string
	for _, m := range h.bus.Messages(filter) {
		all = append(all, m.Topic)
	}
	return all
}

func TestHomeAssistantClasses(t *testing.T) {
	for _, c := range []struct{ name, unit, class, state string }{
		{"temp", "°C", "temperature", "measurement"},
		{"humidity", "%", "humidity", "measurement"},
		{"valve", "%", "", "measurement"},
		{"battery/level", "%", "battery", "measurement"},
		{"power", "W", "power", "measurement"},
		{"import", "kWh", "energy", "total_increasing"},
		{"net_energy", "kWh", "energy", "total"},
		{"battery_available", "Wh", "energy_storage", "measurement"},
		{"reactive_import", "kvarh", "", "total_increasing"},
		{"apparent_power", "kVA", "", "measurement"},
		{"flow", "L/s", "volume_flow_rate", "measurement"},
		{"gas_total", "m³", "gas", "total_increasing"},
		{"tank_level", "L", "volume_storage", "measurement"},
		{"total", "L", "volume", "total_increasing"},
		{"co2", "ppm", "carbon_dioxide", "measurement"},
		{"wind_speed", "m/s", "wind_speed", "measurement"},
		{"belt", "m/s", "speed", "measurement"},
		{"uptime", "s", "duration", "measurement"},
		{"count", "", "", "measurement"},
		{"odd", "furlong", "", "measurement"},
	} {
		t.Run(c.name+" "+c.unit, func(t *testing.T) {
			in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
				h.have(drivers.Description{Name: "d", Topic: "d", Points: []drivers.Point{{Name: c.name, Unit: c.unit}}})
				h.say("d/"+c.name, "1")
				h.start()
				cmps := tree(t, h.bus.Retained("homeassistant/device/gatehouse_d/config"))("cmps").(map[string]any)
				for _, e := range cmps {
					e := e.(map[string]any)
					if class, _ := e["dev_cla"].(string); class != c.class || e["stat_cla"] != c.state {
						t.Errorf("want %q %q, got %v", c.class, c.state, e)
					}
				}
			})
		})
	}
}

// Twice a bound is a number, too.
func TestHomeAssistantHugeBounds(t *testing.T) {
	in(t, []string{discovery.HomeAssistant}, func(t *testing.T, h *house) {
		huge, _ := drivers.ParseNumber("1e308")
		low, _ := drivers.ParseNumber("-1e308")
		h.have(drivers.Description{Name: "big", Topic: "big", Points: []drivers.Point{
			{Name: "most", Writable: true, Min: huge}, {Name: "least", Writable: true, Max: low}, {Name: "ok"},
		}})
		h.say("big/status", "online")
		for _, name := range []string{"most", "least", "ok"} {
			h.say("big/"+name, "1.5")
		}
		h.start()
		if got := h.bus.Retained("homeassistant/device/gatehouse_big/config"); !strings.Contains(got, `"ok"`) {
			t.Errorf("got %q", got)
		}
	})
}
