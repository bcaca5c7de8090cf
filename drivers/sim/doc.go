// Package sim is a driver for equipment that is not there: a device made of
// formulas, for demonstrations, tests, and rules that are tried before the hardware
// has come.
//
//	driver: sim
//	topic: home/hall
//	points:
//	  open: {formula: "t % 20 < 4", every: 500ms}
//	  temperature: {formula: "round(21 + 3*sin(t/30), 1)", unit: "°C"}
//	  heat: {formula: "heater ? min(value + dt, 90) : max(value - dt, 20)", initial: 20}
//	  heater: {initial: false, writable: true}
//
// A point has a formula, or an initial value, or both. A formula is worked out when
// the point is read, and once when the device is opened, in the order of the file.
// It may use
//
//	t      whole seconds since the device was opened
//	ms     whole milliseconds since then
//	dt     seconds since this point was last worked out, with a fraction; 0 at first
//	value  the point's own last value; before the first, the initial one or nil
//	NAME   the last value of the point NAME, in which "_" stands for each
//	       character that is not a letter, digit or "_"
//
// A point that is called like one of the first four cannot be used by others. A
// formula that fails, or gives nothing or no finite number, is a bad reading.
//
// A writable point without a formula holds what is written to it; it takes values
// of the kind of its initial one only (and a number as a switch). With a formula,
// what is written stands instead of the formula for the time of the key "hold", or
// until the device is opened again if there is none.
package sim
