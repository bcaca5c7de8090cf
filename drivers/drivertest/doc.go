// Package drivertest tests drivers. [Run] is the suite that every driver passes;
// [Bus] is a message.Bus in memory that remembers what was published.
//
//	func TestSuite(t *testing.T) {
//		drivertest.Run(t, sim.New(formula), drivertest.Config(t, "hall", "driver: sim\npoints: {open: {formula: t > 4}}\n"))
//	}
//
// The suite opens each configuration several times, so the equipment behind it
// must be there for the whole test.
package drivertest
