package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
)

func TestSuite(t *testing.T) {
	drivertest.Run(t, driver{}, drivertest.Config(t, "living", "driver: thermostat\nsetpoint: 19.5\n"))
}

func TestThermostatKeepsTheSetpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := drivertest.Config(t, "living", "driver: thermostat\nsetpoint: 20\noutside: -10\nspeed: 60\n")
		dev, err := driver{}.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = dev.Close() }()
		switches := 0
		hours := time.NewTimer(30 * time.Minute) // 30 hours in the room
		for over := false; !over; {
			select {
			case p := <-dev.(drivers.Pusher).Pushed():
				switches++
				if p.Err != nil || len(p.Readings) != 1 || p.Readings[0].Point != "heating" {
					t.Errorf("pushed %+v", p)
				}
			case <-hours.C:
				over = true
			}
		}
		if switches < 10 || switches > 500 {
			t.Errorf("the heater switched %d times", switches)
		}
		temperature := value(t, dev, "temperature")
		if temperature < 18.5 || temperature > 21.5 {
			t.Errorf("the temperature is %g", temperature)
		}
	})
}

func value(t *testing.T, dev drivers.Device, point string) float64 {
	t.Helper()
	rs, err := dev.Read(context.Background(), []string{point})
	if err != nil || len(rs) != 1 {
		t.Fatalf("Read = %v, %v", rs, err)
	}
	f, ok := rs[0].Value.Float()
	if !ok {
		t.Fatalf("%s = %s", point, rs[0].Value)
	}
	return f
}

func TestDeviceFileIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		"setpoint: 31\n":         "living.yaml:2:11: setpoint 31 is outside of 5 to 30 °C",
		"hysteresis: 0\n":        "living.yaml:2:13: hysteresis must be above 0",
		"setpoint: .nan\n":       "living.yaml:2:11: setpoint NaN is outside of 5 to 30 °C",
		"hysteresis: .nan\n":     "living.yaml:2:13: hysteresis must be above 0",
		"outside: .inf\n":        "living.yaml:2:10: outside +Inf is no temperature",
		"speed: -1\n":            "living.yaml:2:8: speed must be above 0",
		"speed: .nan\n":          "living.yaml:2:8: speed must be above 0",
		"speed: .inf\n":          "living.yaml:2:8: speed must be above 0 and at most 1e+06",
		"setpoint: warm\n":       "living.yaml:2:11: ",
		"points: {heating: 1}\n": "living.yaml:2:1: unknown field",
	} {
		_, err := driver{}.Check(drivertest.Config(t, "living", "driver: thermostat\n"+text))
		if !errors.Is(err, drivers.ErrConfig) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestWrite(t *testing.T) {
	dev, err := driver{}.Open(t.Context(), drivertest.Config(t, "living", "driver: thermostat\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dev.Close() }()
	for _, tt := range []struct {
		point string
		value drivers.Value
		want  string
	}{
		{"setpoint", drivers.DecimalValue(195, -1), ""},
		{"setpoint", drivers.IntValue(4), "setpoint 4 is outside of 5 to 30 °C"},
		{"setpoint", drivers.TextValue("warm"), "setpoint warm is not a number"},
		{"temperature", drivers.IntValue(20), `point "temperature" cannot be written`},
	} {
		err := dev.Write(t.Context(), tt.point, tt.value)
		if got := errorText(err); got != tt.want {
			t.Errorf("writing %s to %q: %q, want %q", tt.value, tt.point, got, tt.want)
		}
	}
	if got := value(t, dev, "setpoint"); got != 19.5 {
		t.Errorf("setpoint = %g", got)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
