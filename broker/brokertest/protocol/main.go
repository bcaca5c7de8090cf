package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// document is where the document is, below the root of the repository.
const document = "docs/protocol.md"

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: protocol ROOT, where ROOT is the folder of go.mod"))
	}
	text, missing, err := generate(os.Args[1])
	if err != nil {
		fail(err)
	}
	if err := write(filepath.Join(os.Args[1], document), text); err != nil {
		fail(err)
	}
	for _, m := range missing {
		fmt.Fprintln(os.Stderr, m)
	}
	if len(missing) > 0 {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "protocol:", err)
	os.Exit(1)
}

// write writes a file of the source tree, which need not survive a crash.
func write(name string, text []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := bytes.NewReader(text).WriteTo(f); err != nil {
		_ = f.Close() // the first error counts
		return err
	}
	return f.Close()
}

// generate makes the document of the repository at root, and says what is missing in
// it.
func generate(root string) (text []byte, missing []string, err error) {
	all, err := statements()
	if err != nil {
		return nil, nil, err
	}
	recommended, err := recommendations()
	if err != nil {
		return nil, nil, err
	}
	found, err := scan(root)
	if err != nil {
		return nil, nil, err
	}
	return render(all, recommended, found), check(all, found), nil
}

// check lists the statements that have no place or no test, or should have none, and
// the tags that name no statement.
func check(all []statement, found *tags) []string {
	var missing []string
	known := make(map[string]bool)
	for i := range all {
		s := &all[i]
		known[s.tag] = true
		switch kept, shown := len(found.code[s.tag]) > 0, len(found.tests[s.tag]) > 0; {
		case s.whom == "" && !kept:
			missing = append(missing, fmt.Sprintf("[%s] is kept nowhere: %s", s.tag, s.text))
		case s.whom == "" && !shown:
			missing = append(missing, fmt.Sprintf("[%s] is shown by no test: %s", s.tag, s.text))
		case s.whom == "open" && kept && shown:
			missing = append(missing, fmt.Sprintf("[%s] is kept and shown, but said to be open: %s", s.tag, s.text))
		}
	}
	for _, places := range []map[string][]string{found.code, found.tests} {
		for tag, at := range places {
			if !known[tag] {
				missing = append(missing, fmt.Sprintf("[%s] is no statement, but named in %s", tag, at[0]))
			}
		}
	}
	return missing
}
