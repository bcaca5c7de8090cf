package rules_test

import (
	"testing"
	"testing/fstest"

	"github.com/gatehouse/gatehouse/rules"
)

// slow is a language that has to be prepared.
type slow struct {
	toy
	prepared int
}

func (s *slow) Prepare() { s.prepared++ }

func TestPrepareGoesByTheNamesOfFiles(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  int
	}{
		"none":                    {nil, 0},
		"one":                     {[]string{"a.slow"}, 1},
		"several, of which below": {[]string{"a.slow", "sub/b.slow", "c.toy"}, 1},
		"only below":              {[]string{"sub/deep/b.slow"}, 1},
		"of another language":     {[]string{"a.toy"}, 0},
		"not of the folder":       {[]string{".hidden.slow", ".git/c.slow", "a.test.slow", "notes.txt"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			lang := &slow{toy: toy{name: "slow", ending: ".slow"}}
			engine, err := rules.New(rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy"}, lang}})
			if err != nil {
				t.Fatal(err)
			}
			folder := fstest.MapFS{}
			for _, file := range c.files {
				folder[file] = &fstest.MapFile{Data: []byte("broken")}
			}
			engine.Prepare(folder)
			if compiled, _ := lang.seen(); lang.prepared != c.want || len(compiled) != 0 {
				t.Errorf("prepared %d times and compiled %v, want %d times and nothing", lang.prepared, compiled, c.want)
			}
		})
	}
}
