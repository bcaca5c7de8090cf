package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// table collects the results and prints them.
type table struct {
	scenarios []string // in the order in which they came
	sides     []string
	results   map[[2]string][]result // by scenario and side
}

func (t *table) add(scenario, side string, r result) {
	if t.results == nil {
		t.results = map[[2]string][]result{}
	}
	if !slices.Contains(t.scenarios, scenario) {
		t.scenarios = append(t.scenarios, scenario)
	}
	if !slices.Contains(t.sides, side) {
		t.sides = append(t.sides, side)
	}
	at := [2]string{scenario, side}
	t.results[at] = append(t.results[at], r)
}

// faults are those of all runs.
func (t *table) faults(scenario, side string) (f faults) {
	for _, r := range t.results[[2]string{scenario, side}] {
		f.add(r.faults)
	}
	return f
}

func (t *table) faulty(side string) bool {
	return slices.ContainsFunc(t.scenarios, func(s string) bool { return t.faults(s, side) != faults{} })
}

// String prints a line for each scenario and metric, a ratio of the two medians
// behind it, and what was wrong with the messages.
func (t *table) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "scenario\tmetric\t%s\t\t%s\t\tratio\t\n", t.sides[0], t.sides[1])
	for _, scenario := range t.scenarios {
		label := scenario
		for _, metric := range []string{cpuPerMessage, rate, median, p99, perConnection, idleSize} {
			ours, theirs := t.values(scenario, t.sides[0], metric), t.values(scenario, t.sides[1], metric)
			if len(ours) == 0 || len(theirs) == 0 {
				continue
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\n", label, metric, number(middle(ours)), spread(ours),
				number(middle(theirs)), spread(theirs), middle(ours)/middle(theirs), t.remark(scenario))
			label = ""
		}
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}

func (t *table) remark(scenario string) string {
	var say []string
	for _, side := range t.sides {
		if f := t.faults(scenario, side); f != (faults{}) {
			say = append(say, side+": "+f.String())
		}
	}
	return strings.Join(say, "; ")
}

// values are those of one metric in all runs, the least first.
func (t *table) values(scenario, side, metric string) (values []float64) {
	for _, r := range t.results[[2]string{scenario, side}] {
		if v, ok := r.values[metric]; ok {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return values
}

func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

func spread(sorted []float64) string {
	return fmt.Sprintf("(%s to %s)", number(sorted[0]), number(sorted[len(sorted)-1]))
}

// number gives about three digits.
func number(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
