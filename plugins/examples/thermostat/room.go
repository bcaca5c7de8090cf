package main

import "math"

// How the room behaves.
const (
	leak    = 1.0 / 7200 // it loses 1/e of the difference to the outside in two hours
	heater  = 40         // K above the outside that the heater reaches in the end
	maxStep = 60         // s in one step, so that the heater switches in time
)

// room is a simulated room with a heater that a thermostat switches. All
// temperatures are in °C.
type room struct {
	temperature float64
	setpoint    float64
	outside     float64
	hysteresis  float64 // K
	heating     bool
}

// pass lets seconds pass and reports whether the heater is another than before.
func (r *room) pass(seconds float64) (switched bool) {
	was := r.heating
	for seconds > 0 {
		step := math.Min(seconds, maxStep)
		seconds -= step
		r.step(step)
	}
	return r.heating != was
}

func (r *room) step(seconds float64) {
	switch {
	case r.temperature < r.setpoint-r.hysteresis:
		r.heating = true
	case r.temperature > r.setpoint+r.hysteresis:
		r.heating = false
	}
	target := r.outside
	if r.heating {
		target += heater
	}
	r.temperature += (target - r.temperature) * (1 - math.Exp(-seconds*leak))
}
