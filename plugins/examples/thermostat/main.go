// Thermostat is a whole Gatehouse plugin: one driver, thermostat, and one function,
// dew_point, in a process of its own. It is made to be copied; see docs/plugins.md for how it is built, pinned
// and used.
//
// The equipment is simulated: a room that cools down and a heater that switches
// with a hysteresis around the setpoint. A device has three points:
//
//	temperature  °C, read every so often
//	setpoint     °C, 5 to 30, writable
//	heating      true or false, pushed at the moment it switches
package main

import (
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins/sdk"
)

func main() {
	sdk.Serve(sdk.Plugin{
		Name:    "thermostat",
		Version: "1.0.0",
		Drivers: map[string]drivers.Driver{"thermostat": driver{}},
		Funcs:   []sdk.Func{{Name: "dew_point", Doc: "dew_point(°C, %): in °C", Call: dewPoint}},
	})
}
