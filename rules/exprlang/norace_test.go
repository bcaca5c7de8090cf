//go:build !race

package exprlang_test

const raceEnabled = false
