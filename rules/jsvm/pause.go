package jsvm

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of debounces and throttles. Of what one waits with, what is over them is not
// kept, and lost with the runtime.
const (
	maxPaces      = 200     // of a script
	maxPaceKeys   = 1000    // of one
	maxPauses     = 4000    // keys of a script
	maxPauseBytes = 1 << 20 // of them, and what they wait with
	maxPauseArgs  = 62 << 10
)

// paceSpec is a debounce or a throttle that the top level made.
type paceSpec struct {
	Name     string // "debounce save", unique in the script
	Interval time.Duration
	Throttle bool
}

// timer is the name of the timers of a debounce, and under which a rule handles them.
func (p *paceSpec) timer() string { return "(" + p.Name + ")" }

// milliseconds is the interval in the unit of the steady time.
func (p *paceSpec) milliseconds() int64 { return p.Interval.Milliseconds() }

// paceKey is a key of one.
type paceKey struct {
	pace int // index of its spec
	key  string
}

// pause is what a debounce or a throttle knows of a key; times are steady ones.
type pause struct {
	At int64 // when it was last called; of a throttle, when it last ran
	// Of a debounce: when its timer is due, which looks then whether the burst is over,
	// and what it was last called with, nil if that cannot be kept.
	Due  int64
	Args []byte
}

// paced is what an event did to one.
type paced struct {
	Pace int
	Key  string
	Over bool // it waits no longer
	pause
}

// setPause makes a change.
func (r *recall) setPause(p paced) {
	key := paceKey{p.Pace, p.Key}
	if old, ok := r.pauses[key]; ok {
		r.held -= len(p.Key) + len(old.Args)
		r.keys[p.Pace]--
		delete(r.pauses, key)
	}
	if p.Over {
		return
	}
	if r.pauses == nil {
		r.pauses, r.keys = make(map[paceKey]pause), make(map[int]int)
	}
	r.keys[p.Pace]++
	r.held += len(p.Key) + len(p.Args)
	r.pauses[key] = p.pause
}

func (w *encoder) pauses(r *recall) {
	w.count(len(r.pauses))
	for _, key := range slices.SortedFunc(maps.Keys(r.pauses), func(a, b paceKey) int {
		return cmp.Or(cmp.Compare(a.pace, b.pace), strings.Compare(a.key, b.key))
	}) {
		w.onePaced(&paced{Pace: key.pace, Key: key.key, pause: r.pauses[key]})
	}
}

func (r *decoder) pauses(to *recall) {
	for _, p := range r.paced() {
		p.Args = slices.Clone(p.Args)
		if to.setPause(p); to.held > 2*maxPauseBytes {
			r.fail("what waits")
			return
		}
	}
}

func (w *encoder) paced(list []paced) {
	w.count(len(list))
	for i := range list {
		w.onePaced(&list[i])
	}
}

func (w *encoder) onePaced(p *paced) {
	w.count(p.Pace)
	w.text(p.Key)
	w.bool(p.Over)
	w.int(p.At)
	w.int(p.Due)
	w.bytes(p.Args)
}

func (r *decoder) paced() []paced {
	n := r.count(6)
	if n > 2*maxPauses {
		r.fail("number of keys that wait")
	}
	var list []paced
	for i := 0; i < n && r.err == nil; i++ {
		list = append(list, paced{
			Pace: r.small(), Key: r.text(), Over: r.bool(),
			pause: pause{At: r.int(), Due: r.int(), Args: r.bytes()},
		})
	}
	return list
}

func (w *encoder) paceSpecs(list []paceSpec) {
	w.count(len(list))
	for _, p := range list {
		w.text(p.Name)
		w.span(p.Interval)
		w.bool(p.Throttle)
	}
}

func (r *decoder) paceSpecs() []paceSpec {
	n := r.count(3)
	if n > maxPaces {
		r.fail("number of debounces and throttles")
		return nil
	}
	var list []paceSpec
	for range n {
		list = append(list, paceSpec{Name: r.text(), Interval: r.span(), Throttle: r.bool()})
	}
	return list
}
