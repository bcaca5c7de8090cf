// Package drivers makes topics of equipment. It owns the [Driver] interface, which
// drivers/modbus, drivers/serial and drivers/sim implement, and the [Host], which
// runs devices: it polls them, publishes their readings and obeys their control
// topics.
//
// A driver is a kind of equipment; a device is one open piece of it, described by
// one YAML file; a point is one value of a device; a reading is what a point was at
// a moment, with its quality.
//
//	DEVICE/POINT             the value as JSON, retained
//	DEVICE/POINT/set         the control topic: publish a value here to write it
//	DEVICE/POINT/set/result  what became of it
//	DEVICE/status            online or offline, retained
//	DEVICE/status/detail     the same with its reason, as JSON, retained
//
// A reading carries its quality and time as user properties, or in its payload. DEVICE is the file's "topic" key, by default the file's name.
package drivers
