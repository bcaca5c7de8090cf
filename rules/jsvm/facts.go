package jsvm

import (
	"fmt"
	"strings"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of what is told about an event.
const (
	maxFacts     = 100
	maxFactValue = 200
)

// fact notes what the event in progress looked at or did, if that is asked for.
func (s *script) fact(what string, value []byte) {
	if !s.explain || s.in == nil || len(s.in.facts) >= maxFacts {
		return
	}
	s.in.facts = append(s.in.facts, rules.Fact{What: cut(what, maxFactValue), Value: abridged(value)})
}

// abridged is a value as a fact shows it.
func abridged(value []byte) string {
	if len(value) > maxFactValue {
		return strings.ToValidUTF8(string(value[:maxFactValue]), "\uFFFD") + "..."
	}
	return strings.ToValidUTF8(string(value), "\uFFFD")
}

// facts adds how the event ended to what it did.
func (p *program) facts(w *wireOutcome, out *rules.Outcome) []rules.Fact {
	facts := w.Facts
	switch out.Verdict.Action {
	case message.Drop:
		facts = append(facts, rules.Fact{What: "return false", Value: "dropped"})
	case message.Replace:
		facts = append(facts, rules.Fact{What: "return " + cut(out.Verdict.Message.Topic, maxFactValue), Value: abridged(out.Verdict.Message.Payload)})
	case message.Pass, message.Reject:
	}
	if w.Fault == nil {
		return facts
	}
	e := p.faultError(w.Fault, 0)
	place := e.File
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
	}
	return append(facts, rules.Fact{What: "threw at " + place, Value: cut(e.Msg, maxFactValue)})
}

func (w *encoder) facts(list []rules.Fact) {
	w.count(len(list))
	for _, f := range list {
		w.text(f.What)
		w.text(f.Value)
	}
}

func (r *decoder) facts() []rules.Fact {
	var list []rules.Fact
	for range min(r.count(2), maxFacts) {
		list = append(list, rules.Fact{What: r.text(), Value: r.text()})
	}
	return list
}
