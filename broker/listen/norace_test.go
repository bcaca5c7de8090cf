//go:build !race

package listen_test

const raceDetector = false
