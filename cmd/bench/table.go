package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// table collects the results and prints them.
type table struct {
	sides   []side
	against string // the side that the others are divided by
	rows    []row
	cells   map[[2]string]*cell // by row and side
	others  map[string]float64  // by row, the share of the processors that others used
}

// cell is one broker in one row.
type cell struct {
	values map[metric]map[int]float64 // by run
	faults faults                     // of all runs
	err    error                      // of the run that failed
}

func newTable(sides []side) *table {
	t := &table{sides: sides, against: sides[0].name, cells: map[[2]string]*cell{}, others: map[string]float64{}}
	for _, s := range sides {
		if s.name == "mosquitto" || s.name == "node-red" {
			t.against = s.name
		}
	}
	return t
}

func (t *table) cell(row, side string) *cell {
	at := [2]string{row, side}
	if t.cells[at] == nil {
		t.cells[at] = &cell{values: map[metric]map[int]float64{}}
	}
	return t.cells[at]
}

func (t *table) add(row, side string, run int, r result, err error) {
	c := t.cell(row, side)
	c.faults.add(r.faults)
	if err != nil {
		c.err = err
		return
	}
	for m, v := range r.values {
		if c.values[m] == nil {
			c.values[m] = map[int]float64{}
		}
		c.values[m][run] = v
	}
}

func (t *table) failed(row, side string) bool { return t.cell(row, side).err != nil }

// faulty reports whether one of ours failed or lost its way with messages.
func (t *table) faulty() bool {
	for _, s := range t.sides {
		for _, r := range t.rows {
			if c := t.cell(r.name, s.name); s.ours && (c.err != nil || c.faults != (faults{})) {
				return true
			}
		}
	}
	return false
}

// String prints a line for each row and metric: what each broker has, what ours is
// of the one that is compared with, the bound, whether it is kept, and what was
// wrong.
func (t *table) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	head := []string{"row", "metric"}
	for _, s := range t.sides {
		head = append(head, s.name)
	}
	for _, s := range t.compared() {
		head = append(head, s.name+" / "+t.against)
	}
	fmt.Fprintln(w, strings.Join(append(head, "bound", "met", ""), "\t"))
	for _, r := range t.rows {
		label, remark := r.name, t.remark(r)
		for _, m := range metrics {
			if line := t.line(r, m); line != nil {
				fmt.Fprintln(w, strings.Join(append(append([]string{label}, line...), remark), "\t"))
				label, remark = "", ""
			}
		}
		if label != "" { // nobody has a value
			fmt.Fprintln(w, label+"\t"+strings.Repeat("\t", len(head))+"\t"+remark)
		}
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}

// compared are the sides that are divided by another.
func (t *table) compared() (sides []side) {
	for _, s := range t.sides {
		if s.ours && s.name != t.against {
			sides = append(sides, s)
		}
	}
	return sides
}

// line is all of a row's line but its name and remark; nil if nobody has a value.
func (t *table) line(r row, m metric) []string {
	line, any := []string{string(m)}, false
	for _, s := range t.sides {
		values := t.values(r.name, s.name, m)
		line, any = append(line, spread(values)), any || len(values) > 0
	}
	if !any {
		return nil
	}
	for _, s := range t.compared() {
		line = append(line, spread(t.ratios(r.name, s.name, m)))
	}
	for _, b := range r.bounds {
		if b.metric == m {
			var met []string
			for _, s := range t.sides {
				if s.ours {
					met = append(met, t.met(r, b, s.name))
				}
			}
			return append(line, b.String(), strings.Join(met, ", "))
		}
	}
	return append(line, "", "")
}

// met judges one of ours by a bound.
func (t *table) met(r row, b bound, side string) string {
	values := t.values(r.name, side, b.metric)
	if b.of == timesPeer || b.of == peerTimes {
		if values = nil; t.against == "mosquitto" {
			values = t.ratios(r.name, side, b.metric)
		}
	}
	switch c := t.cell(r.name, side); {
	case c.err != nil, c.faults != (faults{}):
		return "NO"
	case len(values) == 0:
		return "?"
	case b.of.more() == (middle(values) > b.value), middle(values) == b.value:
		return "yes"
	default:
		return "NO"
	}
}

// remark says what was wrong.
func (t *table) remark(r row) string {
	var say []string
	for _, s := range t.sides {
		c := t.cell(r.name, s.name)
		if c.faults != (faults{}) {
			say = append(say, "VOID for "+s.name+": "+c.faults.String())
		}
		if c.err != nil {
			text, _, _ := strings.Cut(c.err.Error(), "\n")
			say = append(say, s.name+": "+text)
		}
	}
	if o := t.others[r.name]; o > noisy {
		say = append(say, fmt.Sprintf("others used %.0f %% of the processors", 100*o))
	}
	return strings.Join(say, "; ")
}

// values are those of one metric in all runs, the least first.
func (t *table) values(row, side string, m metric) (values []float64) {
	for _, v := range t.cell(row, side).values[m] {
		values = append(values, v)
	}
	slices.Sort(values)
	return values
}

// ratios are those to the other side in the same run, the least first.
func (t *table) ratios(row, side string, m metric) (ratios []float64) {
	theirs := t.cell(row, t.against).values[m]
	for run, v := range t.cell(row, side).values[m] {
		if other, ok := theirs[run]; ok && other != 0 {
			ratios = append(ratios, v/other)
		}
	}
	slices.Sort(ratios)
	return ratios
}

func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

// spread is the median, and the least and the most behind it.
func spread(sorted []float64) string {
	switch len(sorted) {
	case 0:
		return "-"
	case 1:
		return number(sorted[0])
	default:
		return fmt.Sprintf("%s (%s-%s)", number(middle(sorted)), number(sorted[0]), number(sorted[len(sorted)-1]))
	}
}

// number gives about three digits.
func number(v float64) string {
	switch {
	case math.Abs(v) < 10:
		return fmt.Sprintf("%.2f", v)
	case math.Abs(v) < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
