package disk

import (
	"math"
	"time"

	"github.com/gatehouse/gatehouse/broker/store"
)

// epoch is one run of a store, from its opening on.
type epoch struct {
	run uint32 // openings of the store, from 1
	store.Clock
}

// asItIs has points in time kept as they are: those that count from the Unix epoch.
var asItIs = &epoch{}

// expires is an expiry that was saved in a run, at that much after its start.
func (e *epoch) expires(kept time.Time, run uint32, passed time.Duration) time.Time {
	if run != e.run || passed == math.MaxInt64 || passed == math.MinInt64 {
		return e.Kept(kept)
	}
	return e.Start.Add(passed)
}
