// Package rulestest tests rule languages and what uses the rules engine: [Suite]
// holds what every language must do, and [Bus] is a message bus without a broker.
//
//	func TestLanguage(t *testing.T) {
//		rulestest.Suite(t, exprlang.New(), rulestest.Sources{Extension: ".yaml", ...})
//	}
package rulestest

import "github.com/gatehouse/gatehouse/rules/trial"

// Bus is the bus of trials.
type Bus = trial.Bus
