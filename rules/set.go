package rules

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// unit is one version of one file, in force.
type unit struct {
	file   string
	lane   int // index of its language
	hash   string
	reads  map[string]string // see library
	loaded time.Time
	prog   Program
	state  *State
	rules  []*judge // as the program lists them
	own    *judge   // what starts and timers did
	refs   atomic.Int64

	// Of whoever holds the lane.
	started bool
	timers  map[string]*timer
	// torn says that a run was cut short by the end, and what it did is not kept: it is
	// made again in the next process, so nothing that is saved may know of it.
	torn bool
}

// judge is one rule of a unit, with what is told about it.
type judge struct {
	*Rule
	unit   *unit
	index  int // in unit.rules
	origin string
	bundle *bundle       // nil: it is asked about each message
	picked atomic.Uint64 // messages that went through the bundle's sieve to it
	fed    *fed          // of whoever holds the lane; nil if nothing of it may come again
	tally
}

func newUnit(file string, lane int, hash string, prog Program, state *State) *unit {
	u := &unit{file: file, lane: lane, hash: hash, prog: prog, state: state}
	u.own = &judge{Rule: &Rule{}, unit: u, index: -1, origin: "rule/" + file}
	rules := prog.Rules()
	judges := make([]judge, len(rules)) // at once: what lives on does not lie among what does not
	for i := range rules {
		j := &judges[i]
		j.Rule, j.unit, j.index, j.origin = &rules[i], u, i, "rule/"+rules[i].Name
		u.rules = append(u.rules, j)
	}
	u.bundle()
	return u
}

// hearsBy reports whether a rule of the unit hears by a subscription. A Watch rule hears by
// both if one of the others is kept: what stands on a topic is known before what came
// after it is judged.
func (u *unit) hearsBy(r *Rule, ear int) bool {
	switch {
	case r.Stage == Before:
		return false
	case r.Stage == Watch && ear == keptEar:
		return slices.ContainsFunc(u.rules, func(j *judge) bool { return j.ear() == keptEar && len(j.Filters) > 0 })
	}
	return r.ear() == ear
}

// outdated reports whether the program was compiled from what was remembered, wrongly.
func (u *unit) outdated() bool {
	p, ok := u.prog.(Provisional)
	return ok && p.Outdated()
}

// ruleSet is all rules in force between two swaps. It never changes; users counts
// those who run its programs, and one for being in force.
type ruleSet struct {
	units  []*unit // by file name
	before stage
	after  []stage // by language and ear
	users  atomic.Int64
}

// stage is the rules of one stage (and language), found by topic name.
type stage struct {
	judges []*judge // in the order in which they judge
	spans  []span   // the judges of one program lie together
	// What hears a topic, as places in judges or, below 0, in bundles: ^place. Filters
	// without wildcards are found at once, and take less memory than in a tree.
	exact map[string][]int
	tree  topic.Tree[int]
	// bundles are the judges that are not there themselves.
	bundles []gathered
	// filters are what the judges hear, sorted, each once.
	filters []string
}

type span struct {
	unit     *unit
	from, to int
}

// newSet builds the set of units, which it sorts. Each unit is held once more.
func newSet(units []*unit, languages int) *ruleSet {
	slices.SortFunc(units, func(a, b *unit) int { return cmp.Compare(a.file, b.file) })
	s := &ruleSet{units: units, after: make([]stage, languages*ears)}
	s.users.Store(1)
	for _, u := range units {
		u.refs.Add(1)
		s.before.add(u, func(r *Rule) bool { return r.Stage == Before })
		for ear := range ears {
			s.stage(u.lane, ear).add(u, func(r *Rule) bool { return u.hearsBy(r, ear) })
		}
	}
	s.before.rank()
	s.before.build()
	for i := range s.after {
		s.after[i].build()
	}
	return s
}

// stage is the rules of a language that hear by one of its subscriptions.
func (s *ruleSet) stage(lane, ear int) *stage { return &s.after[lane*ears+ear] }

// add appends the unit's rules that belong to the stage: filters by name, and those that
// watch before the others, which are as they stand in the file.
func (s *stage) add(u *unit, belongs func(*Rule) bool) {
	from := len(s.judges)
	for _, j := range u.rules {
		if len(j.Filters) > 0 && belongs(j.Rule) {
			s.judges = append(s.judges, j)
		}
	}
	slices.SortStableFunc(s.judges[from:], func(a, b *judge) int {
		if a.Stage == Before && b.Stage == Before {
			return cmp.Compare(a.Name, b.Name)
		}
		return cmp.Compare(b.Stage, a.Stage)
	})
	if len(s.judges) > from {
		s.spans = append(s.spans, span{unit: u, from: from, to: len(s.judges)})
	}
}

// rank has judges of a higher priority come first; the others stay in their order.
func (s *stage) rank() {
	slices.SortStableFunc(s.judges, func(a, b *judge) int { return cmp.Compare(b.Priority, a.Priority) })
	s.spans = s.spans[:0]
	for i, j := range s.judges {
		if last := len(s.spans) - 1; last >= 0 && s.spans[last].unit == j.unit {
			s.spans[last].to = i + 1
			continue
		}
		s.spans = append(s.spans, span{unit: j.unit, from: i, to: i + 1})
	}
}

func (s *stage) build() {
	known := make(map[*bundle]int)
	for i, j := range s.judges {
		at := i
		if j.bundle != nil {
			b, ok := known[j.bundle]
			if !ok {
				b = len(s.bundles)
				known[j.bundle], s.bundles = b, append(s.bundles, gathered{bundle: j.bundle})
			}
			s.bundles[b].places = append(s.bundles[b].places, i)
			if at = ^b; ok {
				continue
			}
		}
		for _, f := range j.Filters {
			s.hear(f, at)
			s.filters = append(s.filters, f)
		}
	}
	slices.Sort(s.filters)
	s.filters = slices.Compact(s.filters)
}

func (s *stage) hear(filter string, at int) {
	if strings.ContainsAny(filter, "+#") {
		s.tree.Add(filter, at)
		return
	}
	if s.exact == nil {
		s.exact = make(map[string][]int)
	}
	s.exact[filter] = append(s.exact[filter], at)
}

// hears reports whether a rule hears the topic.
func (s *stage) hears(name string) bool {
	if len(s.exact[name]) > 0 {
		return true
	}
	for range s.tree.Match(name) {
		return true
	}
	return false
}

// match appends to found the positions from position from on of the judges that
// hear the topic, in order.
func (s *stage) match(found []int, name string, from int) []int {
	start := len(found)
	for _, i := range s.exact[name] {
		if i >= from {
			found = append(found, i)
		}
	}
	for i := range s.tree.Match(name) {
		if i >= from {
			found = append(found, i)
		}
	}
	if len(found)-start < 2 {
		return found
	}
	slices.Sort(found[start:])
	return found[:start+len(slices.Compact(found[start:]))]
}

// concern appends to found the positions of the judges that a message may concern, in
// order.
func (s *stage) concern(found []int, m *message.Message, now time.Time, every time.Duration) []int {
	for _, i := range s.exact[m.Topic] {
		found = s.pick(found, i, m, now, every)
	}
	for i := range s.tree.Match(m.Topic) {
		found = s.pick(found, i, m, now, every)
	}
	if len(found) < 2 {
		return found
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func (s *stage) pick(found []int, i int, m *message.Message, now time.Time, every time.Duration) []int {
	if i < 0 {
		return s.bundles[^i].pick(found, m, now, every)
	}
	return append(found, i)
}

// acquire returns the set in force, whose programs stay open until release.
func (e *Engine) acquire() *ruleSet {
	for {
		s := e.set.Load()
		if n := s.users.Load(); n > 0 && s.users.CompareAndSwap(n, n+1) {
			return s
		}
	}
}

// release gives a set back. Programs of no set any more are queued to be closed.
func (e *Engine) release(s *ruleSet) {
	if s.users.Add(-1) > 0 {
		return
	}
	e.mu.Lock()
	for _, u := range s.units {
		if u.refs.Add(-1) == 0 {
			e.closing = append(e.closing, u)
		}
	}
	e.mu.Unlock()
	signal(e.reapKick)
}

// signal wakes whoever waits for c, a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will wake anyway
	}
}

// reap closes the programs that nobody runs any more.
func (e *Engine) reap() {
	e.mu.Lock()
	gone := e.closing
	e.closing = nil
	e.mu.Unlock()
	for _, u := range gone {
		if err := closeProgram(u.prog); err != nil {
			e.log.Warn("rule file did not close", "file", u.file, "error", err)
		}
	}
}

func closeProgram(p Program) (err error) {
	defer recovered(&err)
	return p.Close()
}
