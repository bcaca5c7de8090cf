// Package gpio is a driver for the lines of GPIO chips, by version 2 of the kernel's
// character device (Linux 5.10 or later), without a library.
//
//	driver: gpio
//	points:
//	  door:  {line: GPIO17, pull: up, active_low: true, debounce: 10ms}
//	  water: {line: GPIO5, count: rising, debounce: 2ms}
//	  relay: {line: GPIO27, output: true}
//	  bell:  {line: GPIO22, output: true, pulse: 500ms}
//
// An input is true while it is active, and is told with each edge. A counting input is
// the number of edges since the device was opened. It is exact also when more come than
// the kernel keeps, as edges carry the number that they have. An output is writable;
// with a pulse it falls back by itself.
//
// Every line is requested for itself and held until the device is closed.
package gpio
