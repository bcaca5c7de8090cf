package exprlang

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/gatehouse/gatehouse/rules"
)

// given is a variable with a function of its own: the state of topics, the file's
// variables, the time, the sun, windows.
type given struct {
	// get is the value below a path.
	get func(e *evaluator, path []step) any
	// fields are the only names below it, one of which must follow; nil if anything may.
	fields []string
	// open is the one of them that has names of its own; "" is none.
	open string
	// fleeting says that the value may change while a message is judged.
	fleeting bool
	// ofMessage says that it is one of the message that is judged.
	ofMessage bool
}

// below reports whether a step may follow a path.
func (g *given) below(path []step) bool {
	return g.fields == nil || len(path) == 0 || g.open != "" && path[0].key == g.open
}

// ownNames is what the names of a rule file stand for, besides the message.
type ownNames struct {
	vars   *rules.State
	place  *rules.Place
	zone   *time.Location
	memory *memory
	// watched are the topic filters that state() names.
	watched []string
	// filters are those that hear what state() gives.
	filters map[*given]string
	steady  *steady
	funcs   rules.Funcs
	// rule are those of the rule that is compiled; nil outside of one.
	rule *ruleNames
}

// ruleNames are the names that each rule has for itself.
type ruleNames struct {
	number int // tells the rules of a file apart
	rule   *compiled
	edge   bool
}

// knowOwn makes sure that there is a slot for a name that is given.
func (t *table) knowOwn(name string) bool {
	switch name {
	case "vars":
		t.add(slot{root: rootGiven, name: name, given: &given{get: t.own.variable, fleeting: true}})
	case "time":
		t.add(slot{root: rootGiven, name: name, given: &given{get: t.own.timeField, fields: timeFields}})
	case "properties":
		t.add(slot{root: rootGiven, name: name, given: &given{get: (*evaluator).property, fields: propertyKeys, open: userFields, ofMessage: true}})
	case "sun":
		t.add(slot{root: rootGiven, name: name, given: &given{get: t.own.sunField, fields: []string{"up", "elevation"}}})
	default:
		return false
	}
	return true
}

// ruleMark stands in the names of such slots, which no expression can write.
const ruleMark = "\x00"

// ruleName is the variable that a rule has for itself: windows and edge.
func (c *compilation) ruleName(n *ast.IdentifierNode) ast.Node {
	names := c.table.own.rule
	switch {
	case names == nil && n.Value == "windows":
		c.refuse(n, "windows are for rules, not for filters")
	case names == nil:
		c.refuse(n, "edge is for rules, not for filters")
	case n.Value == "windows" && len(names.rule.windows) == 0:
		c.refuse(n, "the rule has no \"windows\" before this")
	case n.Value == "edge" && !names.edge:
		c.refuse(n, "edge is that of a rule with \"value\", \"offline\" or \"online\"")
	default:
		return at(n, &ast.IdentifierNode{Value: c.table.knowRule(n.Value, names)})
	}
	return n
}

// mark makes the name of a slot that of the rule alone.
func (n *ruleNames) mark() string { return ruleMark + strconv.Itoa(n.number) + "\x01" }

// knowRule makes sure that there is a slot for a variable of the rule.
func (t *table) knowRule(what string, names *ruleNames) string {
	name := what + names.mark()
	r := names.rule
	g := &given{fleeting: true, fields: []string{}}
	if what == "edge" {
		g.fields = nil
		g.get = func(e *evaluator, path []step) any { return walk(r.trigger.edgeNow(e), path) }
	} else {
		g.get = func(e *evaluator, path []step) any { return r.windowValue(e, path) }
		for _, w := range r.windows {
			g.fields = append(g.fields, w.name)
		}
	}
	if i, ok := t.index[name]; ok { // another window may be there meanwhile
		t.slots[i].given.fields = g.fields
		return name
	}
	t.add(slot{root: rootGiven, name: name, given: g})
	return name
}

// shownName is the name of a slot as it is written.
func shownName(name string) string {
	before, rest, ok := strings.Cut(name, ruleMark)
	if !ok {
		return name
	}
	_, after, _ := strings.Cut(rest, "\x01")
	return before + after
}

// add1 makes sure that there is a slot of that name, which get gives.
func (t *table) add1(name string, get func(e *evaluator, path []step) any) {
	if _, ok := t.index[name]; !ok {
		t.add(slot{root: rootGiven, name: name, given: &given{get: get}})
	}
}

// givenOf is what the slot of a name is given by, nil if there is none such.
func (c *compilation) givenOf(name string) *slot {
	if c.table == nil || slices.Contains(c.lets, name) {
		return nil
	}
	if i, ok := c.table.index[name]; ok && c.table.slots[i].root == rootGiven {
		return &c.table.slots[i]
	}
	return nil
}

// checkField refuses a field that a given variable has not.
func (c *compilation) checkField(name string, property ast.Node) {
	s := c.givenOf(name)
	field, ok := property.(*ast.StringNode)
	if s == nil || s.given.fields == nil || len(s.path) > 0 || !ok || slices.Contains(s.given.fields, field.Value) {
		return
	}
	c.refuse(property, "%s has no %q: it has %s", shownName(s.name), field.Value, strings.Join(s.given.fields, ", "))
}

// checkGiven refuses a variable without the field that it needs, and the sun without a
// place.
func (c *compilation) checkGiven(root ast.Node) {
	eachNode(root, func(n ast.Node) {
		id, ok := n.(*ast.IdentifierNode)
		if !ok {
			return
		}
		s := c.givenOf(id.Value)
		switch {
		case s == nil:
		case s.given.fields != nil && len(s.path) == 0:
			c.refuse(n, "%s wants a field: %s", shownName(s.name), strings.Join(s.given.fields, ", "))
		case strings.HasPrefix(s.name, "sun.") && c.table.own.place == nil:
			c.refuse(n, "%v", errNoPlace)
		}
	})
}

// givenCall is the slot that a call stands for, nil if it is a call like any other.
func (c *compilation) givenCall(n *ast.CallNode) ast.Node {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok || c.table == nil {
		return nil
	}
	var name string
	var refused *refusal
	switch callee.Value {
	case "state":
		name, refused = c.stateCall(n)
	case "between":
		name, refused = c.betweenCall(n)
	case "sunrise", "sunset":
		name, refused = c.sunCall(n, callee.Value)
	default:
		return nil
	}
	if refused != nil {
		if c.err == nil {
			c.err = refused
		}
		return at(n, &ast.NilNode{})
	}
	return at(n, &ast.IdentifierNode{Value: name})
}

// variable is one of the file's variables, or all of them.
func (o *ownNames) variable(e *evaluator, path []step) any {
	if o.vars == nil {
		return nil
	}
	if len(path) > 0 && path[0].index < 0 {
		return e.fromVariable(o.vars.Value(path[0].key), path[1:])
	}
	if len(path) > 0 {
		return nil
	}
	all := make(map[string]any)
	for key, value := range o.vars.Snapshot() {
		if !strings.HasPrefix(key, ownKey("")) {
			all[key] = e.fromVariable(value, nil)
		}
	}
	return all
}

// fromVariable decodes what stands below a path in the JSON of a variable.
func (e *evaluator) fromVariable(value []byte, path []step) any {
	if value == nil {
		return nil
	}
	e.variable.load(value, true)
	if e.variable.look() != isJSON {
		return nil
	}
	return e.numbers.decode(e.variable.find(path))
}

// walk goes down a path in a value that is decoded already.
func walk(v any, path []step) any {
	for _, s := range path {
		switch below := v.(type) {
		case map[string]any:
			v = nil
			if s.index < 0 {
				v = below[s.key]
			}
		case []any:
			v = nil
			if s.index >= 0 && s.index < len(below) {
				v = below[s.index]
			}
		default:
			return nil
		}
	}
	return v
}

// literalText is the text of an argument that is one.
func literalText(n ast.Node) (string, bool) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		return "", false
	}
	return s.Value, true
}

// slotName is a name for a slot that no expression can write.
func slotName(format string, args ...any) string { return fmt.Sprintf(format, args...) }
