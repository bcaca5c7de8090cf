package trial

import (
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Ending is what the names of test files end in.
const Ending = ".test.yaml"

// File is a test file.
type File struct {
	// Name is its path in the folder of rules, with slashes.
	Name string
	// Tests are in the order of the file.
	Tests []Test
}

// Test is one test: steps in a world of its own.
type Test struct {
	Name string
	Line int
	// Clock is what the wall clock says at first; the zero time if nothing is said.
	Clock time.Time
	// Rules are the rule files that are in force, by their paths in the folder; nil is
	// those beside the test file. All is the whole folder.
	Rules []string
	All   bool
	steps []step
}

// step is one thing to do or to look for.
type step struct {
	line int
	what string // as in the file: "expect home/hall/light/set"
	do   action
}

// Parse reads a test file. Name is its path in the folder of rules. What is wrong with
// the file is a *rules.Error, or several joined.
func Parse(name string, text []byte) (*File, error) {
	r := &reader{file: name}
	f := &File{Name: name}
	if body := r.parse(text); body != nil {
		fields, _ := r.fields(body, "a test file")
		for _, field := range fields {
			if field.key != "tests" {
				r.errorf(field.node, "unknown key %q: a test file has the key tests", field.key)
				continue
			}
			for _, n := range r.list(field.value, "tests") {
				f.Tests = append(f.Tests, r.test(name, n))
			}
		}
		if len(f.Tests) == 0 && len(r.errs) == 0 {
			r.errorf(body, "there is no test")
		}
	}
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return f, r.unique(f)
}

// unique refuses two tests of one name.
func (r *reader) unique(f *File) error {
	names := make(map[string]bool)
	for _, t := range f.Tests {
		if names[t.Name] {
			r.errorAt(t.Line, 1, "two tests are named %q", t.Name)
		}
		names[t.Name] = true
	}
	return errors.Join(r.errs...)
}

func (r *reader) test(file string, n ast.Node) Test {
	t := Test{}
	t.Line, _ = place(n)
	fields, ok := r.fields(n, "a test")
	if !ok {
		return t
	}
	for _, f := range fields {
		switch f.key {
		case "name":
			t.Name = r.text(f.value, "name")
		case "clock":
			t.Clock = r.time(f.value)
		case "rules":
			t.Rules, t.All = r.rules(file, f.value)
		case "steps":
			for _, s := range r.list(f.value, "steps") {
				t.steps = append(t.steps, r.step(s))
			}
		default:
			r.errorf(f.node, "unknown key %q: a test has name, clock, rules and steps", f.key)
		}
	}
	switch {
	case t.Name == "":
		r.errorf(n, "the test has no name")
	case len(t.steps) == 0:
		r.errorf(n, "the test has no steps")
	}
	return t
}

// rules are the files of a test, which are given as seen from the test file.
func (r *reader) rules(file string, n ast.Node) (names []string, all bool) {
	if s, ok := n.(*ast.StringNode); ok {
		if s.Value == "all" {
			return nil, true
		}
		r.errorf(n, `rules are a list of files, or "all"`)
		return nil, false
	}
	for _, entry := range r.list(n, "rules") {
		name := path.Join(path.Dir(file), r.text(entry, "a rule file"))
		if name == ".." || strings.HasPrefix(name, "../") || path.IsAbs(name) {
			r.errorf(entry, "the rule file is not in the folder of rules")
		}
		if slices.Contains(names, name) {
			r.errorf(entry, "the rule file is given twice")
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		r.errorf(n, "no rule file is given")
	}
	return names, false
}

// time is one with an offset.
func (r *reader) time(n ast.Node) time.Time {
	text := r.text(n, "a time")
	t, err := time.Parse(time.RFC3339Nano, text)
	switch {
	case text == "":
	case err != nil:
		r.errorf(n, "%q is not a time such as 2026-11-25T18:00:00+01:00", text)
	case !inRange(t):
		r.errorf(n, "the clock cannot show the year %d: the years are 1885 to 2157", t.Year())
	}
	return t
}

// longest is how far a step moves the clock at most.
const longest = 10 * 366 * 24 * time.Hour

// duration is one of 0 to ten years; days are 24 hours.
func (r *reader) duration(n ast.Node) time.Duration {
	text := r.text(n, "a duration")
	if text == "" {
		return 0
	}
	d, err := parseDuration(text)
	if err != nil || d < 0 || d > longest {
		r.errorf(n, "%q is not a duration from 0 to 10 years, such as 30s, 5m, 1h30m or 7d", text)
		return 0
	}
	return d
}

// parseDuration reads what time.ParseDuration does, with days in front if wanted.
func parseDuration(text string) (time.Duration, error) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		return time.ParseDuration(text)
	}
	whole, err := time.ParseDuration(days + "h")
	if err != nil || rest == "" {
		return 24 * whole, err
	}
	more, err := time.ParseDuration(rest)
	return 24*whole + more, err
}
