package discovery_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/discovery"
)

const homieHall = "homie/5/gatehouse-hall/"

func TestHomieDescription(t *testing.T) {
	in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
		h.have(hall())
		h.sayHall()
		h.start()
		get := tree(t, h.bus.Retained(homieHall+"$description"))
		for path, want := range map[string]any{
			"homie": "5.0", "version": 1.0, "name": "hall", "root": "gatehouse", "type": "gatehouse/modbus",
			"nodes.points.properties.temperature": map[string]any{"name": "Temperature", "datatype": "float", "unit": "°C"},
			"nodes.points.properties.door":        map[string]any{"name": "Door", "datatype": "boolean"},
			"nodes.points.properties.heater":      map[string]any{"name": "Heater", "datatype": "boolean", "settable": true},
			"nodes.points.properties.setpoint": map[string]any{
				"name": "Setpoint", "datatype": "float", "unit": "°C", "settable": true, "format": "5:30:0.5",
			},
			"nodes.points.properties.mode":    map[string]any{"name": "Mode", "datatype": "string", "settable": true}, // its names have commas
			"nodes.points.properties.reset":   map[string]any{"name": "Reset", "datatype": "enum", "settable": true, "format": "reset"},
			"nodes.points.properties.breaker": map[string]any{"name": "Breaker", "datatype": "boolean"},
			"nodes.points.properties.faults":  map[string]any{"name": "Faults", "datatype": "json"},
			"nodes.energy.properties.total":   map[string]any{"name": "Total", "datatype": "integer", "unit": "kWh"},
			"nodes.points.properties.silent":  nil,
		} {
			if diff := cmp.Diff(want, get(path)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
		for topic, want := range map[string]string{
			"$state": "ready", "points/temperature": "21.5", "points/label": "Hall", "points/label/$target": "Hall",
			"points/temperature/$target": "", "energy/total": "12345678901234567", "points/faults": `{"overheated":false,"fan_stuck":true}`,
		} {
			if got := h.bus.Retained(homieHall + topic); got != want {
				t.Errorf("want %s %q, got %q", topic, want, got)
			}
		}
		root := tree(t, h.bus.Retained("homie/5/gatehouse/$description"))
		if diff := cmp.Diff([]any{"gatehouse-hall"}, root("children")); diff != "" || h.bus.Retained("homie/5/gatehouse/$state") != "ready" {
			t.Errorf("want the gateway ready, with the hall as its child (-want +got):\n%s", diff)
		}
		order := topics(h, "homie/5/gatehouse-hall/#")
		if order[0] != homieHall+"$state" || order[1] != homieHall+"$description" || order[len(order)-1] != homieHall+"$state" {
			t.Errorf("want init, the description, values and ready, got %v", order)
		}
		for _, m := range h.bus.Messages("homie/#") {
			if !m.Retain || m.QoS != message.AtLeastOnce {
				t.Errorf("want %s retained at QoS 1", m.Topic)
			}
		}
		h.stop()
		if h.bus.Retained(homieHall+"$state") != "disconnected" || h.bus.Retained("homie/5/gatehouse/$state") != "disconnected" {
			t.Error("want all disconnected at the end")
		}
	})
}

func TestHomieValues(t *testing.T) {
	in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
		h.have(hall())
		h.sayHall()
		h.start()
		h.say("home/hall/temperature", "22.25")
		h.say("home/hall/label", `""`)
		h.say("home/hall/door", "null") // Homie cannot say so
		h.say("home/hall/setpoint", "9", message.Property{Key: "quality", Value: "bad"})
		for topic, want := range map[string]string{
			"points/temperature": "22.25", "points/label": "\x00", "points/door": "true", "points/setpoint": "20.5",
		} {
			if got := h.bus.Retained(homieHall + topic); got != want {
				t.Errorf("want %s %q, got %q", topic, want, got)
			}
		}
		h.say("home/hall/status", "offline")
		if got := h.bus.Retained(homieHall + "$state"); got != "lost" {
			t.Errorf("want a device that does not answer lost, got %s", got)
		}
		h.say("home/hall/status", "online")
		if got := h.bus.Retained(homieHall + "$state"); got != "ready" {
			t.Errorf("want it ready when it is back, got %s", got)
		}
	})
}

func TestHomieSet(t *testing.T) {
	for _, c := range []struct {
		property, payload string
		want              string // the command; empty is none
	}{
		{"points/heater", "true", "home/hall/heater/set true"},
		{"points/heater", "TRUE", ""},
		{"points/setpoint", "22.5", "home/hall/setpoint/set 22.5"},
		{"points/setpoint", "2.25e1", "home/hall/setpoint/set 22.5"},
		{"points/setpoint", "warm", ""},
		{"points/setpoint", "30.5", ""},                            // above what may be written
		{"points/setpoint", "20.3", "home/hall/setpoint/set 20.5"}, // between two steps: the nearest (Homie 5, Formats)
		{"points/setpoint", "20.25", "home/hall/setpoint/set 20.5"},
		{"points/setpoint", "30.2", "home/hall/setpoint/set 30"}, // the bounds are for what is rounded
		{"points/setpoint", "30.25", ""},
		{"points/setpoint", "4.75", "home/hall/setpoint/set 5"},
		{"points/setpoint", "4.74", ""},
		{"points/label", "21", `home/hall/label/set "21"`},
		{"points/label", "\x00", `home/hall/label/set ""`},
		{"points/label", "", ""},
		{"points/reset", "reset", `home/hall/reset/set "reset"`},
		{"points/reset", "Reset", ""},
		{"points/temperature", "1", ""},
		{"points/breaker", "true", ""},
		{"points/zz", "true", ""},
	} {
		t.Run(c.property+" takes "+c.payload+" as it should", func(t *testing.T) {
			in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
				h.have(hall())
				h.sayHall()
				h.start()
				target := h.bus.Retained(homieHall + c.property + "/$target")
				h.order(homieHall+c.property+"/set", c.payload)
				got := ""
				for _, m := range h.bus.Messages("home/hall/+/set") {
					got += m.Topic + " " + string(m.Payload)
				}
				if got != c.want {
					t.Errorf("want %q, got %q", c.want, got)
				}
				if c.want != "" {
					target = c.payload // byte by byte
				}
				if is := h.bus.Retained(homieHall + c.property + "/$target"); is != target {
					t.Errorf("want the target %q, got %q", target, is)
				}
			})
		})
	}
	t.Run("a retained command is none", func(t *testing.T) {
		in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
			h.have(hall())
			h.sayHall()
			h.start()
			h.bus.Deliver(discovery.SubscriptionName, message.Message{Topic: homieHall + "points/heater/set", Payload: []byte("true"), Retain: true})
			h.pass(time.Second)
			if n := len(h.bus.Messages("home/hall/+/set")); n > 0 {
				t.Errorf("want no command, got %d", n)
			}
		})
	})
}

// A controller counts steps from the least, else from the greatest value: they are told if
// they are those of the device, which counts from 0 without a least one.
func TestHomieSteps(t *testing.T) {
	in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
		d := drivers.Description{Name: "hall", Topic: "home/hall"}
		want := make(map[string]any)
		for i, c := range []struct {
			low, high, step drivers.Value
			format          any
		}{
			{dec(1, -1), drivers.Value{}, dec(5, -1), "0.1::0.5"},
			{drivers.Value{}, dec(300, -1), dec(5, -1), ":30:0.5"},
			{drivers.Value{}, dec(302, -1), dec(5, -1), ":30.2"},
			{drivers.Value{}, drivers.Value{}, dec(5, -1), "::0.5"},
			{dec(1, -1), dec(302, -1), dec(5, -1), "0.1:30.2:0.5"},
			{drivers.Value{}, drivers.Value{}, drivers.Value{}, nil},
		} {
			p := drivers.Point{Name: fmt.Sprintf("p%d", i), Writable: true, Min: c.low, Max: c.high, Step: c.step}
			d.Points, want[p.Name] = append(d.Points, p), c.format
			h.say("home/hall/"+p.Name, "1.5")
		}
		h.have(d)
		h.start()
		get := tree(t, h.bus.Retained(homieHall+"$description"))
		for name, format := range want {
			if got := get("nodes.points.properties." + name + ".format"); got != format {
				t.Errorf("%s: want %v, got %v", name, format, got)
			}
		}
	})
}

func TestHomieChanges(t *testing.T) {
	t.Run("a point that goes leaves no topic, and the version goes up", func(t *testing.T) {
		in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
			h.have(hall())
			h.sayHall()
			h.start()
			d := hall()
			d.Points = slices.DeleteFunc(d.Points, func(p drivers.Point) bool { return p.Name == "heater" })
			h.have(d)
			if a, b := h.bus.Retained(homieHall+"points/heater"), h.bus.Retained(homieHall+"points/heater/$target"); a+b != "" {
				t.Errorf("want no heater, got %q, %q", a, b)
			}
			get := tree(t, h.bus.Retained(homieHall+"$description"))
			if get("version") != 2.0 || get("nodes.points.properties.heater") != nil {
				t.Errorf("want version 2 without the heater, got %v", get("version"))
			}
			states := h.bus.Payloads(homieHall + "$state")
			if diff := cmp.Diff([]string{"init", "ready", "init", "ready"}, states); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("a device that goes leaves no topic, also one that went while nobody ran", func(t *testing.T) {
		in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
			attic := hall()
			attic.Name, attic.Topic = "attic", "attic"
			h.have(hall(), attic)
			h.sayHall()
			h.say("attic/heater", "true")
			h.start()
			h.stop()
			h.have(hall())
			h.start()
			h.have()
			for _, m := range h.bus.Messages("homie/5/+/#") {
				if strings.HasPrefix(m.Topic, "homie/5/gatehouse-") && h.bus.Retained(m.Topic) != "" {
					t.Errorf("want nothing left, got %s %s", m.Topic, h.bus.Retained(m.Topic))
				}
			}
			if get := tree(t, h.bus.Retained("homie/5/gatehouse/$description")); get("children") != nil {
				t.Errorf("want no children, got %v", get("children"))
			}
		})
	})
	t.Run("a restart says nothing new of what is as it was", func(t *testing.T) {
		in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
			h.have(hall())
			h.sayHall()
			h.start()
			h.stop()
			h.start()
			if n := len(h.bus.Messages(homieHall + "$description")); n != 1 {
				t.Errorf("want the description once, got %d", n)
			}
			if got := h.bus.Retained(homieHall + "$state"); got != "ready" {
				t.Errorf("want it ready, got %s", got)
			}
			versions := map[any]bool{}
			for _, p := range h.bus.Payloads("homie/5/gatehouse/$description") {
				versions[tree(t, p)("version")] = true
			}
			if n := len(h.bus.Messages("homie/5/gatehouse/$description")); len(versions) != n {
				t.Errorf("want each description of the root to have a version of its own, got %v", slices.Collect(maps.Keys(versions)))
			}
		})
	})
}

// validLevel is what a level of a topic may be (Homie 5, Topic IDs), or an attribute.
var validLevel = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?|\$[a-z]+)$`)

func TestHomieIDs(t *testing.T) {
	in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
		var all []drivers.Description
		for _, name := range []string{"Hall", "hall", "hall-", "ÄÖ", "a b"} {
			d := drivers.Description{Name: name, Topic: name}
			for _, p := range []string{"T", "t", "-", "温", "x/Y/z", "x-Y/z", "points/a", "a"} {
				d.Points = append(d.Points, drivers.Point{Name: p})
			}
			all = append(all, d)
		}
		h.opts.Node = "My_Gate"
		h.have(all...)
		for _, d := range all {
			for _, p := range d.Points {
				h.say(d.Topic+"/"+p.Name, "1")
			}
		}
		h.start()
		values := make(map[string]bool)
		for _, m := range h.bus.Messages("homie/#") {
			for level := range strings.SplitSeq(m.Topic, "/") {
				if !validLevel.MatchString(level) {
					t.Errorf("%s: %q is no identifier", m.Topic, level)
				}
			}
			if !strings.Contains(m.Topic, "$") {
				values[m.Topic] = true
			}
		}
		if want := len(all) * 8; len(values) != want {
			t.Errorf("want a topic for each of %d points, got %d", want, len(values))
		}
	})
}

// A device that has not answered yet has no value, and its points are of no kind so far.
func TestHomiePayloadObjectWithoutAValue(t *testing.T) {
	in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
		hall := hall()
		hall.Object = true
		h.have(hall)
		h.say("home/hall/status", "online")
		h.say("home/hall/temperature", `{"value":null,"quality":"stale","reason":"the device is offline: no answer"}`,
			message.Property{Key: "quality", Value: "stale"})
		h.start()
		if got := h.bus.Retained(homieHall + "points/temperature"); got != "" {
			t.Errorf("want no value, got %s", got)
		}
		h.say("home/hall/temperature", `{"value":21.5,"quality":"good","at":"2026-05-01T10:00:00.000Z"}`,
			message.Property{Key: "quality", Value: "good"})
		h.pass(2 * time.Second)
		description := tree(t, h.bus.Retained(homieHall+"$description"))
		if got := description("nodes.points.properties.temperature.datatype"); got != "float" {
			t.Errorf("want a number, got %v", got)
		}
		if got := h.bus.Retained(homieHall + "points/temperature"); got != "21.5" {
			t.Errorf("want 21.5, got %s", got)
		}
	})
}

// A device takes the identifier that another one gives up as it comes: what the former has
// left is gone before.
func TestHomieIdentifierThatChangesHands(t *testing.T) {
	in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
		device := func(name string) drivers.Description {
			h.say(name+"/status", "online")
			h.say(name+"/x", "1")
			return drivers.Description{Name: name, Topic: name, Points: []drivers.Point{{Name: "x"}}}
		}
		old := device("hall_1")
		h.have(old)
		h.start()
		h.have(old, device("hall-1"))
		for _, topic := range []string{"$state", "$description", "points/x"} {
			if h.bus.Retained("homie/5/gatehouse-hall-1/"+topic) == "" {
				t.Errorf("hall-1 has no %s", topic)
			}
		}
	})
}
