package rules

import (
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Sieve is a [Program] that can tell, for less than a call each, which of many rules
// that hear the same a message has nothing to do with.
type Sieve interface {
	// Sieve returns a function that appends to picked, in their order, the places in rules
	// (After rules that hear the same topics, as indices of Program.Rules) of those that a
	// message may concern: for all others a call would come to the zero Outcome, and leave
	// nothing behind. It is called by one goroutine at a time, never while the program
	// runs. It is nil if that is not worth while.
	Sieve(rules []int) func(m *message.Message, picked []int) []int
}

// fewest is how many rules must hear the same for a sieve to be made.
const fewest = 4

// bundle is the rules of a unit that hear the same, behind a sieve. It stays what it is
// in all sets of the unit.
type bundle struct {
	unit   *unit
	judges []*judge
	sieve  func(m *message.Message, picked []int) []int
	picked []int // of whoever holds the lane

	sifted    atomic.Uint64 // messages
	explained atomic.Int64  // when all rules were last asked, in Unix milliseconds
}

// bundle finds the rules of a unit that a sieve is good for.
func (u *unit) bundle() {
	sieve, ok := u.prog.(Sieve)
	if !ok {
		return
	}
	alike := make(map[string][]*judge)
	var order []string
	for _, j := range u.rules {
		if j.Stage != After || j.Prev || j.Hidden || len(j.Filters) != 1 { // of two, a topic may match both
			continue
		}
		key := string(rune('0'+j.ear())) + j.Filters[0]
		if alike[key] == nil {
			order = append(order, key)
		}
		alike[key] = append(alike[key], j)
	}
	for _, key := range order {
		if len(alike[key]) < fewest {
			continue
		}
		b := &bundle{unit: u, judges: alike[key]}
		rules := make([]int, len(b.judges))
		for i, j := range b.judges {
			rules[i] = j.index
		}
		if b.sieve = sieve.Sieve(rules); b.sieve == nil {
			continue
		}
		for _, j := range b.judges {
			j.bundle = b
		}
	}
}

// gathered is a bundle in a stage, with the places of its judges there.
type gathered struct {
	*bundle
	places []int
}

// pick appends the places of the judges that a message may concern. Every so often it
// is all of them, so that the others can tell why they do not run.
func (g *gathered) pick(found []int, m *message.Message, now time.Time, every time.Duration) []int {
	ms, last := now.UnixMilli(), g.explained.Load()
	if every < 0 || ms >= last+every.Milliseconds() || ms < last || m.Hops >= deep {
		g.explained.Store(ms)
		return append(found, g.places...)
	}
	g.picked = g.sieve(m, g.picked[:0])
	for _, i := range g.picked {
		g.judges[i].picked.Add(1)
		found = append(found, g.places[i])
	}
	g.sifted.Add(1)
	return found
}

// unasked is how many messages the judge has heard without a call.
func (j *judge) unasked() uint64 {
	if j.bundle == nil {
		return 0
	}
	picked := j.picked.Load() // first: it is counted before sifted is
	return max(j.bundle.sifted.Load(), picked) - picked
}
