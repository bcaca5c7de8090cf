package exprlang

import (
	"slices"
	"strconv"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsonview"
)

var (
	_ rules.Sieve  = (*program)(nil)
	_ rules.Reuser = (*program)(nil)
)

// sieve finds the rules that a message may concern by one value of it: most of many
// rules on one topic filter want it to be a constant, each its own.
type sieve struct {
	slot    slot
	texts   map[string][]int // places of the rules that want this text
	floats  map[float64][]int
	truths  [2][]int // false, true
	always  []int    // those that want something else
	all     []int
	payload document
}

// Sieve indexes rules by a value that most of them compare with a constant first of all.
func (p *program) Sieve(list []int) func(m *message.Message, picked []int) []int {
	wanted := make(map[int]int) // slots, and how many rules want a constant there
	best := -1
	for _, i := range list {
		for _, t := range p.equalities(p.rules[i]) {
			wanted[t.slot]++
			if best < 0 || wanted[t.slot] > wanted[best] {
				best = t.slot
			}
		}
	}
	if best < 0 || wanted[best] < 2 {
		return nil
	}
	s := &sieve{slot: p.table.slots[best], texts: make(map[string][]int), floats: make(map[float64][]int)}
	for at, i := range list {
		s.all = append(s.all, at)
		tests := p.equalities(p.rules[i])
		k := slices.IndexFunc(tests, func(t test) bool { return t.slot == best })
		if k < 0 {
			s.always = append(s.always, at)
			continue
		}
		switch v := tests[k].value.(type) {
		case string:
			s.texts[v] = append(s.texts[v], at)
		case bool:
			s.truths[truthIndex(v)] = append(s.truths[truthIndex(v)], at)
		default:
			f, _ := toFloat(v)
			s.floats[f] = append(s.floats[f], at)
		}
	}
	return s.pick
}

func truthIndex(b bool) int {
	if b {
		return 1
	}
	return 0
}

// equalities are the comparisons with a constant that a rule's condition begins with: if
// one of them fails, so does the condition, and nothing else comes of it. There are none
// where a message leaves something behind even if the condition fails.
func (p *program) equalities(r *compiled) []test {
	if r.when == nil || r.Stage != rules.After || r.trigger != nil || len(r.windows) > 0 || r.part != nil || r.flow != nil && r.flow.timed() {
		return nil
	}
	var all []test
	for _, t := range r.when.tests {
		if t.op != opEqual && t.op != opNotEqual {
			break // it may have no result, which is to be told
		}
		if t.op == opEqual && p.indexed(t.slot) {
			all = append(all, t)
		}
	}
	return all
}

// indexed reports whether a sieve can read a slot.
func (p *program) indexed(slot int) bool {
	switch s := &p.table.slots[slot]; s.root {
	case rootPayload, rootTopic:
		return true
	case rootParts:
		return len(s.path) > 0
	default:
		return false
	}
}

// pick appends the places of the rules that the message may concern.
func (s *sieve) pick(m *message.Message, picked []int) []int {
	var found []int
	switch s.slot.root {
	case rootTopic:
		found = s.texts[m.Topic]
	case rootParts:
		if text, ok := level(m.Topic, s.slot.path[0].index); ok {
			found = s.texts[text]
		}
	default:
		s.payload.load(m.Payload, true)
		switch s.payload.look() {
		case isJSON:
			found = s.find(s.payload.find(s.slot.path))
		case isPlain:
			if len(s.slot.path) == 0 {
				found = s.texts[string(m.Payload)]
			}
		default: // they are to say what is wrong with it
			found = s.all
		}
		s.payload.load(nil, false)
	}
	return merge(picked, found, s.always)
}

// find is the rules that want a value of JSON.
func (s *sieve) find(v jsonview.Value) []int {
	switch v.Kind() {
	case jsonview.String:
		return s.texts[v.Text()]
	case jsonview.True:
		return s.truths[1]
	case jsonview.False:
		return s.truths[0]
	case jsonview.Number:
		if f, err := strconv.ParseFloat(string(v), 64); err == nil {
			return s.floats[f]
		}
	case jsonview.None, jsonview.Null, jsonview.Array, jsonview.Object:
	}
	return nil
}

// merge appends two lists of places to picked, in order, each once.
func merge(picked, a, b []int) []int {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			picked, a = append(picked, a[0]), a[1:]
		case len(a) == 0 || b[0] < a[0]:
			picked, b = append(picked, b[0]), b[1:]
		default:
			picked, a, b = append(picked, a[0]), a[1:], b[1:]
		}
	}
	return picked
}
