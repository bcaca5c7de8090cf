package discovery_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/discovery"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a bus with devices, and a Publisher on it. It runs in the virtual time of
// the test.
type house struct {
	t    *testing.T
	bus  *drivertest.Bus
	opts discovery.Options
	late bool // what is retained comes late
	stop func()

	mu      sync.Mutex
	devices []drivers.Description
	changed chan struct{}
}

func (h *house) described() ([]drivers.Description, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.devices), h.changed
}

// have makes these the devices that there are.
func (h *house) have(devices ...drivers.Description) {
	h.mu.Lock()
	h.devices = devices
	close(h.changed)
	h.changed = make(chan struct{})
	h.mu.Unlock()
	h.pass(2 * time.Second)
}

// start starts a Publisher and waits until it has announced what it knows.
func (h *house) start() {
	p, err := discovery.New(h.opts)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	var bus message.Bus = h.bus
	if h.late {
		bus = lateBus{bus}
	}
	go func() { done <- p.Run(ctx, bus) }()
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				h.t.Errorf("Run: %v", err)
			}
		})
	}
	h.pass(2 * time.Second)
}

func (h *house) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// say publishes as a device does: retained.
func (h *house) say(topic, payload string, properties ...message.Property) {
	h.publish(message.Message{Topic: topic, Payload: []byte(payload), Retain: true, UserProperties: properties, Origin: "device/x"})
}

func (h *house) publish(m message.Message) {
	h.t.Helper()
	if err := h.bus.Publish(h.t.Context(), m); err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
}

// order publishes as a client does.
func (h *house) order(topic, payload string) {
	h.t.Helper()
	h.publish(message.Message{Topic: topic, Payload: []byte(payload), Origin: "client/host", Hops: 2})
}

// in runs a test with a house that is empty.
func in(t *testing.T, all []string, f func(t *testing.T, h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, bus: drivertest.NewBus(), changed: make(chan struct{}), stop: func() {}}
		h.opts = discovery.Options{Devices: h.described, Retained: h.bus.Standing, All: all, Version: "1.2"}
		f(t, h)
		h.stop()
	})
}

// hall is a device with a point of each sort.
func hall() drivers.Description {
	return drivers.Description{
		Name: "hall", Driver: "modbus", Topic: "home/hall",
		Points: []drivers.Point{
			{Name: "temperature", Unit: "°C"},
			{Name: "door"},
			{Name: "heater", Writable: true},
			{Name: "setpoint", Unit: "°C", Writable: true, Min: dec(50, -1), Max: dec(300, -1), Step: dec(5, -1)},
			{Name: "mode", Writable: true, Names: drivers.Names{{Value: drivers.IntValue(0), Name: "off"}, {Value: drivers.IntValue(1), Name: "eco, day"}}},
			{Name: "label", Writable: true},
			{Name: "energy/total", Unit: "kWh"},
			{Name: "breaker", Writable: true, Confirm: true},
			{Name: "reset", Writable: true, Names: drivers.Names{{Value: drivers.IntValue(1), Name: "reset"}}},
			{Name: "faults", Flags: drivers.Flags{{Bit: 0, Name: "overheated"}, {Bit: 3, Name: "fan_stuck"}}},
			{Name: "silent"},
		},
	}
}

func dec(n int64, exponent int) drivers.Value { return drivers.DecimalValue(n, exponent) }

// sayHall has the hall say what it is.
func (h *house) sayHall() {
	h.say("home/hall/status", "online")
	for topic, payload := range map[string]string{
		"temperature": "21.5", "door": "true", "heater": "false", "setpoint": "20.5", "mode": `"off"`, "label": `"Hall"`,
		"energy/total": "12345678901234567", "breaker": "true", "reset": "0", "faults": `{"overheated":false,"fan_stuck":true}`,
	} {
		h.say("home/hall/"+topic, payload)
	}
}

// tree is a JSON payload, by paths such as "cmps.door.p".
func tree(t *testing.T, payload string) func(path string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(payload), &v); err != nil {
		t.Fatalf("%v: %s", err, payload)
	}
	return func(path string) any {
		at := v
		for key := range strings.SplitSeq(path, ".") {
			m, _ := at.(map[string]any)
			at = m[key]
		}
		return at
	}
}

func TestNew(t *testing.T) {
	devices := func() ([]drivers.Description, <-chan struct{}) { return nil, nil }
	retained := drivertest.NewBus().Standing
	for _, c := range []struct {
		behaviour string
		opts      discovery.Options
		want      string
	}{
		{"somebody has to tell the devices", discovery.Options{}, "nobody to tell which"},
		{"somebody has to tell what is retained", discovery.Options{Devices: devices}, "nobody to tell what"},
		{"a convention has a name", discovery.Options{Devices: devices, Retained: retained, All: []string{"knx"}}, `"knx" is not one of homeassistant, sparkplug, homie`},
		{"a node is a word", discovery.Options{Devices: devices, Retained: retained, Node: "a/b"}, `the node "a/b" may have letters`},
		{"a node has a letter", discovery.Options{Devices: devices, Retained: retained, Node: "--"}, `needs a letter or digit`},
		{"a group is one level", discovery.Options{Devices: devices, Retained: retained, Sparkplug: discovery.SparkplugOptions{Group: "a/b"}}, `"a/b" is not one level`},
		{"a prefix is a topic", discovery.Options{Devices: devices, Retained: retained, HomeAssistant: discovery.HomeAssistantOptions{Prefix: "a/#"}}, `"a/#" is not a topic`},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			if _, err := discovery.New(c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

func TestNothingIsSwitchedOn(t *testing.T) {
	in(t, nil, func(t *testing.T, h *house) {
		h.have(hall())
		h.start()
		h.sayHall()
		before := len(h.bus.Messages("#"))
		h.pass(time.Minute)
		h.stop()
		if after := len(h.bus.Messages("#")); after != before {
			t.Errorf("want nothing published, got %v", h.bus.Messages("#")[before:])
		}
	})
}

func TestDeviceFileWins(t *testing.T) {
	in(t, []string{discovery.Homie}, func(t *testing.T, h *house) {
		none, other := hall(), hall()
		none.Name, none.Topic, none.Discovery = "none", "none", []string{}
		other.Name, other.Topic, other.Discovery = "other", "other", []string{discovery.HomeAssistant}
		h.have(hall(), none, other)
		h.sayHall()
		h.say("none/door", "true")
		h.say("other/door", "true")
		h.start()
		if h.bus.Retained("homie/5/gatehouse-hall/$state") != "ready" {
			t.Error("want the hall told by Homie, as all are")
		}
		for _, topic := range []string{"homie/5/gatehouse-none/$state", "homie/5/gatehouse-other/$state", "homeassistant/device/gatehouse_hall/config"} {
			if got := h.bus.Retained(topic); got != "" {
				t.Errorf("want nothing on %s, got %s", topic, got)
			}
		}
		if h.bus.Retained("homeassistant/device/gatehouse_other/config") == "" {
			t.Error("want the other one told to Home Assistant")
		}
	})
}
