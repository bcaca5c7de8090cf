//go:build !race

package main_test

// raceDetector says that the tests run with it, and so should the program.
const raceDetector = false
