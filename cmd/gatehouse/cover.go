package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"sync"

	"github.com/gatehouse/gatehouse/rules"
)

// coverage is what tests had rules do.
type coverage struct {
	rules map[coveredRule]*covered

	mu    sync.Mutex
	conds map[condition]*judged
}

// condition is one of a rule, in the words of its facts: "if payload.open".
type condition struct {
	coveredRule
	text string
}

// judged says what a condition came to.
type judged struct{ yes, no bool }

// observe notes what the conditions of a run came to.
func (c *coverage) observe(p testPlace, r rules.Ran) {
	if r.Rule.Hidden || r.Rule.Name == "" {
		return // a part of a rule, or the file itself
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range r.Entry.Facts {
		if f.Value != "true" && f.Value != "false" || !conditional.MatchString(f.What) {
			continue
		}
		if c.conds == nil {
			c.conds = make(map[condition]*judged)
		}
		at := condition{coveredRule{p.path(r.File), r.Rule.Line, r.Rule.Name}, f.What}
		if c.conds[at] == nil {
			c.conds[at] = &judged{}
		}
		c.conds[at].yes = c.conds[at].yes || f.Value == "true"
		c.conds[at].no = c.conds[at].no || f.Value == "false"
	}
}

// conditional are the words by which the facts of conditions begin.
var conditional = regexp.MustCompile(`^(if|drop|reject|when|while|until|for|choose)\b`)

// coveredRule names a rule: where it stands, and as what.
type coveredRule struct {
	file string
	line int
	name string
}

// covered is what one rule did in all tests.
type covered struct{ heard, fired uint64 }

// add adds what the rules of an engine did.
func (c *coverage) add(p testPlace, files []rules.FileStatus) {
	if c.rules == nil {
		c.rules = make(map[coveredRule]*covered)
	}
	for _, f := range files {
		for _, r := range f.Rules {
			if r.Stage == rules.Watch || r.Called {
				continue
			}
			name := coveredRule{p.path(f.File), r.Line, r.Name}
			sum := c.rules[name]
			if sum == nil {
				sum = &covered{}
				c.rules[name] = sum
			}
			sum.heard += r.Counters.Heard
			sum.fired += r.Counters.Fired
		}
	}
}

// tell prints how many rules fired, and those that did not.
func (c *coverage) tell(out io.Writer) {
	names := make([]coveredRule, 0, len(c.rules))
	fired := 0
	for name, sum := range c.rules {
		names = append(names, name)
		if sum.fired > 0 {
			fired++
		}
	}
	slices.SortFunc(names, func(a, b coveredRule) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.name, b.name))
	})
	percent := 100.0
	if len(names) > 0 {
		percent = 100 * float64(fired) / float64(len(names))
	}
	fmt.Fprintf(out, "coverage: %.1f%% of rules fired, %d of %d\n", percent, fired, len(names))
	for _, name := range names {
		if sum := c.rules[name]; sum.fired == 0 {
			fmt.Fprintf(out, "    %s:%d: %s: never fired, of %d runs\n", name.file, name.line, name.name, sum.heard)
		}
	}
	c.tellConditions(out)
}

// tellConditions prints how many conditions came to both, and the others.
func (c *coverage) tellConditions(out io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.conds) == 0 {
		return
	}
	all := slices.SortedFunc(maps.Keys(c.conds), func(a, b condition) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.name, b.name), cmp.Compare(a.text, b.text))
	})
	both := 0
	for _, at := range all {
		if j := c.conds[at]; j.yes && j.no {
			both++
		}
	}
	fmt.Fprintf(out, "coverage: %.1f%% of conditions were both true and false, %d of %d\n", 100*float64(both)/float64(len(all)), both, len(all))
	for _, at := range all {
		switch j := c.conds[at]; {
		case !j.yes:
			fmt.Fprintf(out, "    %s:%d: %s: never true: %s\n", at.file, at.line, at.name, at.text)
		case !j.no:
			fmt.Fprintf(out, "    %s:%d: %s: never false: %s\n", at.file, at.line, at.name, at.text)
		}
	}
}

// rulesSay is a log of which only the lines of rules are printed.
func rulesSay(out io.Writer) *slog.Logger { return slog.New(&saying{out: out}) }

type saying struct {
	out   io.Writer
	attrs []slog.Attr
}

func (s *saying) Enabled(context.Context, slog.Level) bool { return true }

func (s *saying) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "rule says" && r.Level < slog.LevelWarn {
		return nil
	}
	line := fmt.Sprintf("    %s: %s", r.Level, r.Message)
	for _, a := range s.attrs {
		line += " " + a.String()
	}
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	_, err := fmt.Fprintln(s.out, line)
	return err
}

func (s *saying) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &saying{out: s.out, attrs: append(slices.Clone(s.attrs), attrs...)}
}

func (s *saying) WithGroup(string) slog.Handler { return s }
