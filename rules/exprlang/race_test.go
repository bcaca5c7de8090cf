//go:build race

package exprlang_test

// raceEnabled says that allocations are not those of the program.
const raceEnabled = true
