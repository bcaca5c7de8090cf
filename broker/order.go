package broker

import (
	"sync/atomic"

	"github.com/gatehouse/gatehouse/broker/message"
)

// runBits is where the store's run is in a [message.Message.Order]: what a run has given
// out is below what the next one does, whatever of it the store has. A run has room for
// 10,000 messages a second in 13 years, and there may be four million runs.
const runBits = 42

// orders gives out each [message.Message.Order].
type orders struct{ last atomic.Uint64 }

// begin has a run go on above what those before have given out.
func (o *orders) begin(run uint32, kept []*message.Message) {
	last := uint64(run) << runBits
	for _, m := range kept { // of a store that has forgotten its runs
		last = max(last, m.Order)
	}
	o.last.Store(last)
}

// take gives out n orders that follow each other, and returns what is before the first.
// Who takes them for messages that are retained, or queued in the store, holds commitMu, in
// which these are put in order; for others nobody does, and they get theirs before anybody
// hears one of them: so whatever is published because of it gets a later one.
func (o *orders) take(n int) uint64 { return o.last.Add(uint64(n)) - uint64(n) }
