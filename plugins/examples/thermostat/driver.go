package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// The range of the setpoint, in °C.
const (
	lowest  = 5
	highest = 30
)

// fastest is the highest speed: more time in a tick than can be simulated in one
// would stop the device.
const fastest = 1e6

// tick is how often the simulation goes on and the heater may switch.
const tick = 100 * time.Millisecond

// driver is the thermostat as a kind of equipment.
type driver struct{}

// file is a device file of a thermostat.
type file struct {
	drivers.Common `yaml:",inline"`
	// Setpoint is what to start with, in °C; without it, 21.
	Setpoint float64 `yaml:"setpoint"`
	// Hysteresis is how far the temperature may be off before the heater
	// switches, in K; without it, 0.5.
	Hysteresis float64 `yaml:"hysteresis"`
	// Outside is the temperature outside, in °C.
	Outside float64 `yaml:"outside"`
	// Speed is how many seconds pass in the room in one of ours; without it,
	// 60.
	Speed float64 `yaml:"speed"`
}

func decode(cfg drivers.Config) (file, error) {
	f := file{Setpoint: 21, Hysteresis: 0.5, Speed: 60}
	if err := cfg.Decode(&f); err != nil {
		return f, err
	}
	switch { // YAML knows .nan and .inf, and nothing is true of .nan
	case !(f.Setpoint >= lowest && f.Setpoint <= highest):
		return f, cfg.Errorf("$.setpoint", "setpoint %g is outside of %d to %d °C", f.Setpoint, lowest, highest)
	case !(f.Hysteresis > 0):
		return f, cfg.Errorf("$.hysteresis", "hysteresis must be above 0")
	case !(math.Abs(f.Outside) <= 100):
		return f, cfg.Errorf("$.outside", "outside %g is no temperature", f.Outside)
	case !(f.Speed > 0 && f.Speed <= fastest):
		return f, cfg.Errorf("$.speed", "speed must be above 0 and at most %g", fastest)
	}
	return f, nil
}

func (f file) points() []drivers.Point {
	celsius := drivers.PointCommon{Unit: "°C"}
	setpoint := drivers.PointCommon{Unit: "°C", Writable: true}
	return []drivers.Point{
		celsius.Polled("temperature", f.Common),
		setpoint.Polled("setpoint", f.Common),
		drivers.PointCommon{}.Pushed("heating"),
	}
}

// Check implements drivers.Driver.
func (driver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	f, err := decode(cfg)
	if err != nil {
		return nil, err
	}
	return f.points(), nil
}

// Open implements drivers.Driver.
func (driver) Open(_ context.Context, cfg drivers.Config) (drivers.Device, error) {
	f, err := decode(cfg)
	if err != nil {
		return nil, err
	}
	t := &thermostat{
		name:   cfg.Device,
		log:    slog.Default(), // the gateway's, set by sdk.Serve
		points: f.points(),
		speed:  f.Speed,
		room:   room{temperature: f.Setpoint - 2, setpoint: f.Setpoint, outside: f.Outside, hysteresis: f.Hysteresis},
		words:  make(chan drivers.Pushed),
		done:   make(chan struct{}),
	}
	t.running.Go(t.run)
	t.log.Info("thermostat open", "device", t.name, "setpoint", f.Setpoint)
	return t, nil
}

// thermostat is one open thermostat.
type thermostat struct {
	name   string
	log    *slog.Logger
	points []drivers.Point
	speed  float64

	mu   sync.Mutex
	room room

	words   chan drivers.Pushed
	done    chan struct{} // closed by Close
	running sync.WaitGroup
}

var _ drivers.Pusher = (*thermostat)(nil)

// run lets time pass and says so when the heater switches.
func (t *thermostat) run() {
	defer close(t.words)
	clock := time.NewTicker(tick)
	defer clock.Stop()
	t.say() // what it is at the start
	for {
		select {
		case <-t.done:
			return
		case <-clock.C:
		}
		t.mu.Lock()
		switched := t.room.pass(t.speed * tick.Seconds())
		t.mu.Unlock()
		if switched {
			t.say()
		}
	}
}

// say pushes whether the heater is on.
func (t *thermostat) say() {
	select {
	case t.words <- drivers.Pushed{Readings: []drivers.Reading{t.read("heating")}}:
	case <-t.done:
	}
}

// Points implements drivers.Device.
func (t *thermostat) Points() []drivers.Point { return t.points }

// Pushed implements drivers.Pusher.
func (t *thermostat) Pushed() <-chan drivers.Pushed { return t.words }

// Read implements drivers.Device.
func (t *thermostat) Read(_ context.Context, points []string) ([]drivers.Reading, error) {
	readings := make([]drivers.Reading, len(points))
	for i, name := range points {
		readings[i] = t.read(name)
	}
	return readings, nil
}

func (t *thermostat) read(name string) drivers.Reading {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := drivers.Reading{Point: name, At: time.Now()}
	switch name {
	case "temperature":
		r.Value = hundredths(t.room.temperature)
	case "setpoint":
		r.Value = hundredths(t.room.setpoint)
	case "heating":
		r.Value = drivers.BoolValue(t.room.heating)
	default:
		r.Quality, r.Err = drivers.Bad, fmt.Errorf("there is no point %q", name)
	}
	return r
}

// hundredths is f as an exact decimal, as a real thermostat would tell it.
func hundredths(f float64) drivers.Value {
	return drivers.DecimalValue(int64(math.Round(f*100)), -2)
}

// Write implements drivers.Device.
func (t *thermostat) Write(_ context.Context, point string, v drivers.Value) error {
	if point != "setpoint" {
		return fmt.Errorf("point %q cannot be written", point)
	}
	f, ok := v.Float()
	if !ok {
		return fmt.Errorf("setpoint %s is not a number", v)
	}
	if f < lowest || f > highest {
		return fmt.Errorf("setpoint %g is outside of %d to %d °C", f, lowest, highest)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.room.setpoint = f
	return nil
}

// Close implements drivers.Device.
func (t *thermostat) Close() error {
	close(t.done)
	t.running.Wait()
	t.log.Info("thermostat closed", "device", t.name)
	return nil
}
