//go:build !race

package modbus_test

const raceEnabled = false
