//go:build race

package modbus_test

// raceEnabled says that allocations are not those of the program.
const raceEnabled = true
