package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Totals counts tests and subtests. A package that failed without a failed
// test of its own (it did not build, it panicked, it timed out) counts as one
// failure.
type Totals struct {
	Passed, Failed, Skipped int
}

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// summary is the state between two events.
type summary struct {
	out    io.Writer
	totals Totals
	// kept is what running tests wrote, by package and test.
	kept map[[2]string]*strings.Builder
	// failed counts the failed tests of a package that still runs.
	failed map[string]int
}

// Summarize reads events until in ends and writes the report to out. A line
// that is no event is passed on as it is.
func Summarize(in io.Reader, out io.Writer) (Totals, error) {
	s := &summary{out: out, kept: map[[2]string]*strings.Builder{}, failed: map[string]int{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			s.line(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return s.totals, fmt.Errorf("cannot read the events: %w", err)
		}
	}
	_, err := fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", s.totals.Passed, s.totals.Failed, s.totals.Skipped)
	return s.totals, err
}

func (s *summary) line(line string) {
	var e event
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
		s.print(line)
		return
	}
	switch {
	case e.Action == "build-output":
		s.print(e.Output)
	case e.Test == "":
		s.packageEvent(e)
	default:
		s.testEvent(e)
	}
}

// packageEvent passes on the verdict of a package and what it wrote outside
// its tests, less the noise of packages that pass.
func (s *summary) packageEvent(e event) {
	switch e.Action {
	case "output":
		if e.Output != "PASS\n" && !strings.HasPrefix(e.Output, "-test.shuffle ") &&
			!strings.Contains(e.Output, "[no test files]") {
			s.print(e.Output)
		}
	case "fail":
		if s.failed[e.Package] == 0 {
			s.totals.Failed++
		}
		s.unfinished(e.Package)
	}
}

// unfinished prints what tests wrote whose end was never told, as when the
// whole binary died.
func (s *summary) unfinished(name string) {
	keys := slices.SortedFunc(maps.Keys(s.kept), func(a, b [2]string) int { return strings.Compare(a[1], b[1]) })
	for _, key := range keys {
		if key[0] == name {
			s.print(s.kept[key].String())
			delete(s.kept, key)
		}
	}
}

func (s *summary) testEvent(e event) {
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "output":
		if s.kept[key] == nil {
			s.kept[key] = &strings.Builder{}
		}
		s.kept[key].WriteString(e.Output)
		return
	case "pass":
		s.totals.Passed++
	case "skip":
		s.totals.Skipped++
	case "fail":
		s.totals.Failed++
		s.failed[e.Package]++
		if kept := s.kept[key]; kept != nil {
			s.print(kept.String())
		}
	default:
		return // run, pause, cont
	}
	delete(s.kept, key)
}

// print ignores errors: the totals still tell the verdict.
func (s *summary) print(text string) {
	_, _ = io.WriteString(s.out, text)
}
