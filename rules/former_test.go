package rules_test

import (
	"iter"
	"slices"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/rules"
)

// versioned is a folder with former versions of all of its files.
type versioned struct {
	fstest.MapFS
	former []map[string][]byte
}

func (v versioned) Former(string) iter.Seq[map[string][]byte] { return slices.Values(v.former) }

func texts(pairs ...string) map[string][]byte {
	all := make(map[string][]byte)
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = []byte(pairs[i+1])
	}
	return all
}

// A file that is broken when the engine starts has its last good version serve, with what
// it read then, until it is right again.
func TestTheLastGoodVersionServesAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := echo("former", "in")
		reader.reads = "lib.txt"
		book := &logBook{}
		h := newHouse(t, rules.Options{Log: book.logger(), Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{
			"former": reader, "next": echo("next", "in"), "older": echo("older", "in"),
		}}}})
		former := []map[string][]byte{
			texts("a.toy", "not any more"),
			texts("a.toy", "former", "lib.txt", "x"),
			texts("a.toy", "older"),
		}
		load := func(files ...string) error {
			return h.engine.Load(t.Context(), versioned{folder(files...), former})
		}
		heard := func(when string, want ...string) {
			t.Helper()
			before := len(h.bus.Routed("out/+"))
			h.publish(msg("in", ""))
			synctest.Wait()
			var got []string
			for _, m := range h.bus.Routed("out/+")[before:] {
				got = append(got, m.Topic)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", when, diff)
			}
		}
		if err := load("a.toy", "wrong"); err == nil {
			t.Error("nothing is wrong with the file")
		}
		h.run()
		heard("after the start", "out/former")
		if s := h.engine.Status()[0]; s.Err == nil || s.Err.Msg != "no program wrong" || len(s.Rules) != 1 || s.Hash == "" {
			t.Errorf("the status is %+v", s)
		}
		if diff := cmp.Diff([]string{"a.toy"}, h.engine.Broken()); diff != "" {
			t.Error(diff)
		}
		if n := book.with("the last good version of a rule file is in force"); n != 1 {
			t.Errorf("it is said %d times", n)
		}
		if err := load("a.toy", "wrong in another way"); err == nil {
			t.Error("nothing is wrong with the file")
		}
		heard("broken again", "out/former")
		if err := load("a.toy", "next"); err != nil {
			t.Error(err)
		}
		heard("when it is right", "out/next")
		if broken := h.engine.Broken(); broken != nil {
			t.Errorf("%q are broken", broken)
		}
		if err := load(); err != nil {
			t.Error(err)
		}
		heard("when it is gone")
		h.stop()
	})
}

// What no version makes a program of is broken as before.
func TestNoFormerVersionIsRight(t *testing.T) {
	h := newHouse(t, rules.Options{Languages: []rules.Language{&toy{name: "toy", ending: ".toy", programs: map[string]toyProgram{"good": echo("good", "in")}}}})
	bad := func(text string) map[string][]byte { return texts("a.toy", "bad\n"+text) }
	err := h.engine.Load(t.Context(), versioned{folder("a.toy", "wrong"), []map[string][]byte{bad("1"), bad("2"), bad("3"), texts("a.toy", "good")}})
	if s := h.engine.Status()[0]; err == nil || s.Err == nil || len(s.Rules) != 0 {
		t.Errorf("the error is %v, the status %+v", err, s)
	}
	// Versions of the folder that differ in other files count once.
	err = h.engine.Load(t.Context(), versioned{folder("a.toy", "wrong"), []map[string][]byte{bad("1"), bad("1"), bad("1"), bad("2"), texts("a.toy", "good")}})
	if s := h.engine.Status()[0]; err == nil || s.Err == nil || len(s.Rules) != 1 {
		t.Errorf("the error is %v, the status %+v", err, s)
	}
	if err := h.engine.Close(); err != nil {
		t.Error(err)
	}
}
