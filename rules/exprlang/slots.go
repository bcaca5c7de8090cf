package exprlang

import (
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/gatehouse/gatehouse/rules"
)

// root is the variable that a slot begins at.
type root uint8

const (
	rootPayload root = iota
	rootPrev
	rootTopic
	rootParts
	rootText
	rootQoS
	rootRetain
	rootOrigin
	rootNow
	rootGiven // by its own function
	rootLocal // of a run: with, turn, reply and so on
)

var roots = map[string]root{
	"payload": rootPayload, "prev": rootPrev, "topic": rootTopic, "parts": rootParts, "text": rootText,
	"qos": rootQoS, "retain": rootRetain, "origin": rootOrigin, "now": rootNow,
}

// slot is one variable of a rule file: a root, or a place below payload, prev or
// parts. Each is decoded once a message, when the first expression reads it.
type slot struct {
	root  root
	path  []step
	name  string // as it was written, about
	given *given // of rootGiven
	told  string // as it was written, if name is not
	// missing is what an expression fails with that cannot do without it.
	missing error
}

// step is a key of an object or, if index >= 0, a place in a list.
type step struct {
	key   string
	index int
}

// table is the slots of one rule file.
type table struct {
	slots []slot
	index map[string]int // by name
	own   ownNames
	// locals are the variables that the runs of the file have.
	locals map[string]bool
}

func newTable() *table {
	t := &table{index: make(map[string]int), locals: make(map[string]bool)}
	for _, name := range runNames {
		t.locals[name] = true
	}
	return t
}

// know makes sure that there is a slot for the variable. It reports false for a
// name that is none.
func (t *table) know(name string) bool {
	if _, ok := t.index[name]; ok {
		return true
	}
	if t.locals[name] {
		t.add(slot{root: rootLocal, path: []step{{key: name, index: -1}}, name: name})
		return true
	}
	if r, ok := roots[name]; ok {
		t.add(slot{root: r, name: name})
		return true
	}
	return t.knowOwn(name)
}

func (t *table) add(s slot) {
	s.missing = &notEvaluated{reason: shownName(s.name) + " is absent"}
	t.index[s.name] = len(t.slots)
	t.slots = append(t.slots, s)
}

// ofRule reports whether a slot is a variable that each rule has for itself.
func (t *table) ofRule(slot int) bool { return strings.Contains(t.slots[slot].name, ruleMark) }

// extend returns the name of the slot that is one constant step below the one
// called name, if there can be one.
func (t *table) extend(name string, property ast.Node) (string, bool) {
	i, ok := t.index[name]
	if !ok {
		return "", false
	}
	base := t.slots[i]
	next := step{index: -1}
	switch p := property.(type) {
	case *ast.StringNode:
		next.key = p.Value
	case *ast.IntegerNode:
		next.index = p.Value
	default:
		return "", false
	}
	switch {
	case base.root == rootParts && len(base.path) == 0 && next.index >= 0:
	case base.root == rootPayload || base.root == rootPrev || base.root == rootLocal || base.root == rootGiven && base.given.below(base.path):
	default:
		return "", false
	}
	name += next.String()
	if _, ok := t.index[name]; !ok {
		t.add(slot{root: base.root, path: append(append([]step(nil), base.path...), next), name: name, given: base.given})
	}
	return name, true
}

// String writes the step as an expression does.
func (s step) String() string {
	switch {
	case s.index >= 0:
		return "[" + strconv.Itoa(s.index) + "]"
	case isWord(s.key):
		return "." + s.key
	}
	return "[" + strconv.Quote(s.key) + "]"
}

func isWord(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r < 0x80
	}) < 0
}

// notEvaluated is why a rule could not be judged.
type notEvaluated struct{ reason string }

func (e *notEvaluated) Error() string { return "not evaluated: " + e.reason }
func (e *notEvaluated) Unwrap() error { return rules.ErrNotEvaluated }
