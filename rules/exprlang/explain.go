package exprlang

import (
	"slices"
	"strconv"

	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of what is told about one call.
const (
	maxFacts     = 64
	maxFactWhat  = 200 // bytes
	maxFactValue = 120 // bytes of what a condition read
)

// explain has the evaluator tell what it finds out to the outcome of a call, if that is
// wanted.
func (e *evaluator) explain(call *rules.Call, out *rules.Outcome) {
	e.facts = nil
	if call.Explain {
		e.facts = &out.Facts
	}
}

// tell adds a fact, unless it was told already.
func (e *evaluator) tell(what, value string) {
	if e.facts == nil || len(*e.facts) >= maxFacts {
		return
	}
	f := rules.Fact{What: abridgeTo(what, maxFactWhat), Value: abridgeTo(value, maxFactWhat)}
	if !slices.Contains(*e.facts, f) {
		*e.facts = append(*e.facts, f)
	}
}

// tellCondition tells what a condition came to, and all that it reads.
func (e *evaluator) tellCondition(x *expression, holds bool, err error) {
	value := strconv.FormatBool(holds)
	if err != nil {
		value = err.Error()
	}
	e.tell(x.written(), value)
	e.tellRead(x)
}

// tellRead tells what an expression reads.
func (e *evaluator) tellRead(x *expression) {
	for _, i := range x.slots {
		s := &e.slots[i]
		if s.name == pluginSlot { // the calls are told
			continue
		}
		if s.told == "" {
			e.tell(shownName(s.name), e.shown(e.slot(i)))
		} else {
			e.tell(s.told, e.shown(e.slot(i)))
		}
	}
}

// shown is a value in a few words.
func (e *evaluator) shown(v any) string {
	if v == nil {
		return "nil"
	}
	b, err := e.numbers.appendValue(nil, v)
	if err != nil {
		return err.Error()
	}
	return abridgeTo(string(b), maxFactValue)
}

// written is an expression as it stands in the file, with its key.
func (x *expression) written() string {
	if x.key == "" {
		return x.source
	}
	return x.key + " " + x.source
}

// tellTrigger tells what a trigger looked at, and why it lets the rule run or not.
func (e *evaluator) tellTrigger(t *trigger, err error) {
	e.plugins.again = true
	defer func() { e.plugins.again = false }()
	for _, x := range []*expression{t.value, t.above, t.below} {
		if x == nil {
			continue
		}
		if v, err := e.run(x); err != nil {
			e.tell(x.written(), err.Error())
		} else {
			e.tell(x.written(), e.shown(v))
		}
	}
	switch {
	case err != nil:
		e.tell("edge", err.Error())
	case t.now == "":
		e.tell("edge", "none")
	case t.now != plainEdge:
		e.tell("edge", t.now)
	}
}
