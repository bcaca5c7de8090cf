//go:build !race

package jsvm_test

const raceEnabled = false
