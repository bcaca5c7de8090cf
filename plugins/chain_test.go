package plugins_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/plugins"
)

// A driver in a process of its own keeps the contract like any other.
func TestSuite(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "thermostat", "thermostat", "drivers: [thermostat]")
	h := start(t, dir, quick(&logs{}))
	running(t, h, "thermostat")
	drivertest.Run(t, find(t, h, "thermostat"), drivertest.Config(t, "living", "driver: thermostat\noutside: -3\n"))
}

// The devices of a plugin live in drivers.Host like any others: they wait for the
// plugin, go offline when it crashes, and come back.
func TestDevicesOfAPlugin(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "thermostat", "thermostat", "drivers: [thermostat]")
	h := start(t, dir, quick(&logs{}))
	devices, err := drivers.NewHost(drivers.Options{Lookup: h.Lookup, RetryFirst: 10 * time.Millisecond, RetryMost: 100 * time.Millisecond})
	must(t, err)
	must(t, devices.Load(t.Context(), fstest.MapFS{
		"living.yaml": {Data: []byte("driver: thermostat\nevery: 50ms\nsetpoint: 20\n")},
	}))
	bus := drivertest.NewBus()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- devices.Run(ctx, bus) }()
	go func() { done <- follow(ctx, h, devices) }()
	defer func() {
		cancel()
		for range 2 {
			must(t, <-done)
		}
	}()

	bus.WaitRetained(t, "living/status", "online")
	bus.WaitRetained(t, "living/setpoint", "20")
	bus.WaitRetained(t, "living/heating", "true")
	must(t, bus.Publish(t.Context(), message.Message{Topic: "living/setpoint/set", Payload: []byte("21.25")}))
	bus.WaitRetained(t, "living/setpoint", "21.25")

	said := len(bus.Messages("living/status"))
	crash(t, running(t, h, "thermostat"))
	if m := bus.Wait(t, "living/status", said+1); string(m.Payload) != "offline" {
		t.Errorf("status is %q after the crash", m.Payload)
	}
	bus.WaitRetained(t, "living/status", "online")
	bus.WaitRetained(t, "living/setpoint", "20") // as in its file: it is a new one
	if st := devices.Status(); len(st) != 1 || st[0].Name != "living" {
		t.Errorf("devices are %+v", st)
	}
}

// follow tells the devices when drivers come and go, as the gateway does.
func follow(ctx context.Context, h *plugins.Host, devices *drivers.Host) error {
	for {
		changed := h.Changed()
		if err := devices.Refresh(); err != nil && !strings.Contains(err.Error(), "not running") {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
