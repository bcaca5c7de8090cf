package trial

import (
	"context"

	"github.com/gatehouse/gatehouse/rules"
)

// Ran is one run of a rule, or of a file itself, as a program made it.
type Ran struct {
	File    string
	Rule    *rules.Rule // nil for a start, and for a timer that is no rule's
	Call    *rules.Call
	Outcome *rules.Outcome
}

// observed are the languages of an engine whose runs are told to somebody.
func observed(languages []rules.Language, tell func(Ran)) []rules.Language {
	if tell == nil {
		return languages
	}
	all := make([]rules.Language, len(languages))
	for i, l := range languages {
		all[i] = watched{l, tell}
	}
	return all
}

type watched struct {
	rules.Language
	tell func(Ran)
}

// Compile compiles a file into a program that tells of its runs.
func (w watched) Compile(ctx context.Context, src rules.Source) (rules.Program, error) {
	p, err := w.Language.Compile(ctx, src)
	if err != nil {
		return nil, err
	}
	return &watchedProgram{Program: p, file: src.Name, rules: p.Rules(), tell: w.tell}, nil
}

type watchedProgram struct {
	rules.Program
	file  string
	rules []rules.Rule
	tell  func(Ran)
}

// Run makes the calls and tells what came of them.
func (w *watchedProgram) Run(ctx context.Context, calls []rules.Call) []rules.Outcome {
	outs := w.Program.Run(ctx, calls)
	for i := range min(len(outs), len(calls)) {
		r := Ran{File: w.file, Call: &calls[i], Outcome: &outs[i]}
		switch c := r.Call; {
		case c.Trigger == rules.OnMessage || c.Trigger == rules.OnSchedule:
			if r.Rule = &w.rules[c.Rule]; r.Rule.Hidden {
				if r.Rule = nil; r.Outcome.For > 0 && r.Outcome.For <= len(w.rules) {
					r.Rule = &w.rules[r.Outcome.For-1]
				}
			}
		case r.Outcome.For > 0 && r.Outcome.For <= len(w.rules):
			r.Rule = &w.rules[r.Outcome.For-1]
		}
		w.tell(r)
	}
	return outs
}
