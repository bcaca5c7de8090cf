package main

import (
	"fmt"
	"io"
	"strings"
)

// edit is a line of a comparison: ' ' is in both, '-' in the old text only, '+' in the new.
type edit struct {
	kind byte
	text string
}

// mostCells bounds the table of a comparison: texts that differ in more are shown as
// replaced.
const mostCells = 4 << 20

// compared are the edits that make the new lines of the old ones.
func compared(old, new []string) []edit {
	head := 0
	for head < len(old) && head < len(new) && old[head] == new[head] {
		head++
	}
	tail := 0
	for tail < len(old)-head && tail < len(new)-head && old[len(old)-1-tail] == new[len(new)-1-tail] {
		tail++
	}
	all := make([]edit, 0, len(old)+len(new))
	for _, line := range old[:head] {
		all = append(all, edit{' ', line})
	}
	all = append(all, between(old[head:len(old)-tail], new[head:len(new)-tail])...)
	for _, line := range old[len(old)-tail:] {
		all = append(all, edit{' ', line})
	}
	return all
}

// between is compared without what both begin and end with: it keeps the longest lines
// that both have in common.
func between(old, new []string) []edit {
	var all []edit
	i, j := 0, 0
	if width := len(new) + 1; (len(old)+1)*width <= mostCells {
		common := make([]int32, (len(old)+1)*width) // of old from i and new from j
		for i := len(old) - 1; i >= 0; i-- {
			for j := len(new) - 1; j >= 0; j-- {
				common[i*width+j] = max(common[(i+1)*width+j], common[i*width+j+1])
				if old[i] == new[j] {
					common[i*width+j] = common[(i+1)*width+j+1] + 1
				}
			}
		}
		for i < len(old) && j < len(new) {
			switch {
			case old[i] == new[j]:
				all = append(all, edit{' ', old[i]})
				i, j = i+1, j+1
			case common[(i+1)*width+j] >= common[i*width+j+1]:
				all = append(all, edit{'-', old[i]})
				i++
			default:
				all = append(all, edit{'+', new[j]})
				j++
			}
		}
	}
	for _, line := range old[i:] {
		all = append(all, edit{'-', line})
	}
	for _, line := range new[j:] {
		all = append(all, edit{'+', line})
	}
	return all
}

// writeDiff writes what differs between two texts, as diff -u does.
func writeDiff(out io.Writer, oldName, newName, old, new string) {
	const around = 3
	edits := compared(lines(old), lines(new))
	fmt.Fprintf(out, "--- %s\n+++ %s\n", oldName, newName)
	oldLine, newLine := 1, 1
	for at := 0; at < len(edits); {
		if edits[at].kind == ' ' {
			at, oldLine, newLine = at+1, oldLine+1, newLine+1
			continue
		}
		from := max(0, at-around)
		to := at
		for same := 0; to < len(edits) && same <= 2*around; to++ {
			if same++; edits[to].kind != ' ' {
				same = 0
			}
		}
		for to > at && edits[to-1].kind == ' ' {
			to--
		}
		to = min(len(edits), to+around)
		hunk := edits[from:to]
		removed, added := count(hunk)
		fmt.Fprintf(out, "@@ -%d,%d +%d,%d @@\n", oldLine-(at-from), removed, newLine-(at-from), added)
		for _, e := range hunk {
			fmt.Fprintf(out, "%c%s\n", e.kind, e.text)
		}
		removed, added = count(edits[at:to])
		at, oldLine, newLine = to, oldLine+removed, newLine+added
	}
}

// count is how many lines of the old and of the new text the edits have.
func count(edits []edit) (old, new int) {
	for _, e := range edits {
		if e.kind != '+' {
			old++
		}
		if e.kind != '-' {
			new++
		}
	}
	return old, new
}

// lines are those of a text, without their ends.
func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
