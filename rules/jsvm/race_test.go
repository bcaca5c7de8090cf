//go:build race

package jsvm_test

// raceEnabled says that the worker carries the race detector's memory as well.
const raceEnabled = true
