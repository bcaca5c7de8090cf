package trial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// Result is what came of one test.
type Result struct {
	Test *Test
	Took time.Duration // of the machine's time
	// Failure is what the rules did not do as the test says, or why the test could not
	// be run; nil if all was well.
	Failure *Failure
}

// Failure is a step that failed.
type Failure struct {
	File string
	Line int
	Step string // as in the file; empty if it is not about a step
	Text string // several lines
	// Timeline is what had happened by then, a line each: the last steps, runs of rules
	// and messages in their order, in virtual time, and what the other rules waited for.
	Timeline []string
}

// Error gives file:line: step: the first line of the text.
func (f *Failure) Error() string {
	first, _, _ := strings.Cut(f.Text, "\n")
	if f.Step != "" {
		first = f.Step + ": " + first
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, first)
}

// Run plays one test of the file in a world of its own. Options.Folder is the whole
// folder of rules, of which the test's files are in force; Options.Start is for a test
// that does not say what the clock says.
func (f *File) Run(ctx context.Context, o Options, t *Test) Result {
	began := time.Now()
	res := Result{Test: t}
	res.Failure = f.play(ctx, o, t)
	res.Took = time.Since(began)
	return res
}

func (f *File) play(ctx context.Context, o Options, t *Test) *Failure {
	if err := f.choose(&o, t); err != nil {
		return &Failure{File: f.Name, Line: t.Line, Text: err.Error()}
	}
	if !t.Clock.IsZero() {
		o.Start = t.Clock
	}
	var failure *Failure
	line := &timeline{}
	o.ran = line.ran
	err := Run(ctx, o, func(ctx context.Context, w *World) error {
		for _, s := range t.steps {
			line.begin(w, s)
			err := s.do.run(ctx, w)
			if err == nil {
				continue
			}
			failure = &Failure{File: f.Name, Line: s.line, Step: s.what, Text: err.Error()}
			failure.Timeline = line.told(w)
			return nil
		}
		return nil
	})
	if failure == nil && err != nil {
		failure = &Failure{File: f.Name, Line: t.Line, Text: err.Error()}
	}
	return failure
}

// choose puts the files of the test into force, and nothing else of the folder.
func (f *File) choose(o *Options, t *Test) error {
	if t.All {
		return nil
	}
	names := t.Rules
	if names == nil {
		var err error
		if names, err = Beside(o.Folder, f.Name, o.Engine.Languages); err != nil {
			return err
		}
	}
	for _, name := range names {
		if _, err := fs.Stat(o.Folder, name); err != nil {
			return fmt.Errorf("there is no rule file %q", name)
		}
		if !compiled(path.Base(name), o.Engine.Languages) {
			return fmt.Errorf("%q is not a rule file: no language knows what it ends in", name)
		}
	}
	o.Folder = selection{FS: o.Folder, names: names}
	return nil
}

// Beside are the rule files of a test file: those whose names differ in their ending
// only.
func Beside(folder fs.FS, name string, languages []rules.Language) ([]string, error) {
	stem := strings.TrimSuffix(path.Base(name), Ending)
	entries, err := fs.ReadDir(folder, path.Dir(name))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range entries {
		ending, found := strings.CutPrefix(d.Name(), stem+".")
		if found && !d.IsDir() && !strings.Contains(ending, ".") && compiled(d.Name(), languages) {
			names = append(names, path.Join(path.Dir(name), d.Name()))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf(`there is no rule file %q beside the test: name those that it is about with "rules:"`, stem+".*")
	}
	return names, nil
}

// compiled reports whether a language knows a file by its name.
func compiled(base string, languages []rules.Language) bool {
	return slices.ContainsFunc(languages, func(l rules.Language) bool {
		return slices.ContainsFunc(l.Extensions(), func(e string) bool { return strings.HasSuffix(base, e) })
	})
}

// errNoTest is what Find gives for a folder without a test.
var errNoTest = errors.New("no test files (*" + Ending + ")")

// Find returns the names of the test files of a folder, in order. Those below folders
// that begin with a dot are none.
func Find(folder fs.FS) ([]string, error) {
	var names []string
	err := fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
		case !d.IsDir() && strings.HasSuffix(d.Name(), Ending):
			names = append(names, name)
		}
		return nil
	})
	if err == nil && len(names) == 0 {
		err = errNoTest
	}
	return names, err
}
