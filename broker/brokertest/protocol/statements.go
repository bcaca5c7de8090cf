package main

import (
	_ "embed" // the statements
	"fmt"
	"slices"
	"strings"
)

//go:embed statements-5.0.txt
var statements5 string

//go:embed statements-3.1.1.txt
var statements3 string

//go:embed should.txt
var shoulds string

// statement is one normative statement.
type statement struct {
	tag     string // as tags in code have it, without brackets
	version string
	section string // the first two numbers, such as 3.1
	whom    string // empty: a server; client, moot, open
	why     string // of moot and open
	text    string
}

// statements reads both files, in the order of the standards.
func statements() ([]statement, error) {
	five, err := parse("5.0", "MQTT-", statements5)
	if err != nil {
		return nil, err
	}
	three, err := parse("3.1.1", "MQTT3-", statements3)
	if err != nil {
		return nil, err
	}
	return slices.Concat(five, three), nil
}

func parse(version, prefix, file string) ([]statement, error) {
	var all []statement
	seen := make(map[string]bool)
	for n, line := range strings.Split(file, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		head, text, ok := strings.Cut(line, " | ")
		id, whom, _ := strings.Cut(head, " ")
		kind, why, _ := strings.Cut(whom, ": ")
		parts := strings.Split(id, ".")
		s := statement{tag: prefix + id, version: version, whom: kind, why: why, text: text}
		switch {
		case !ok || text == "" || len(parts) != 3 || !tagged.MatchString("["+s.tag+"]"):
			return nil, fmt.Errorf("statements of %s, line %d: not \"ID [WHOM] | TEXT\": %q", version, n+1, line)
		case !slices.Contains([]string{"", "client", "moot", "open"}, kind), (kind == "moot" || kind == "open") != (why != ""):
			return nil, fmt.Errorf("statements of %s, line %d: cannot make sense of %q", version, n+1, whom)
		case seen[id]:
			return nil, fmt.Errorf("statements of %s, line %d: %s is there twice", version, n+1, id)
		}
		seen[id] = true
		s.section = parts[0] + "." + parts[1]
		all = append(all, s)
	}
	return all, nil
}

// recommendation is a SHOULD that has no number.
type recommendation struct{ where, what, answer string }

func recommendations() ([]recommendation, error) {
	var all []recommendation
	for n, line := range strings.Split(shoulds, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != 3 {
			return nil, fmt.Errorf("recommendations, line %d: not \"SECTION | WHAT | ANSWER\": %q", n+1, line)
		}
		all = append(all, recommendation{parts[0], parts[1], parts[2]})
	}
	return all, nil
}
