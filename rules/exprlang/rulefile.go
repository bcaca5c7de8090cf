package exprlang

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
)

// ruleFile is a YAML file on its way to a program.
type ruleFile struct {
	*yamlFile
	place *rules.Place
	zone  *time.Location
	read  func(name string) ([]byte, error) // nil: there is no folder
	table *table
	rules []*compiled
	names map[string]int // of rules and filters: their lines
	// While the rules of a blueprint are made: the place of its use, and what their names
	// begin with.
	within, prefix string
	uses           int
	// locals are the variables that runs have.
	locals    map[string]bool
	depth     int // of the steps at hand
	stepCount int
	// spelled are the expressions that rules may share.
	spelled map[spelling]*expression
}

// compiled is one rule or filter.
type compiled struct {
	rules.Rule
	when *expression // if, or drop; nil is always, or never
	do   []publish

	redirect *template
	set      []setField

	watch   *memory // of a rule that hears what state() names
	windows []*window
	trigger *trigger // nil: every message makes it run
	gate    *gate    // of a filter; nil: it lets all through
	origin  *origin  // nil: the file itself

	// Of a rule whose actions are more than messages at once, or a part of one.
	flow     *flow
	part     *part
	steps    []*action
	plan     *planStep
	column   int
	idle     bool // nothing triggers it, so another rule must call it
	disabled bool
}

// publish is one entry under "do".
type publish struct {
	topic   *template
	payload *payloadNode // nil is empty
	qos     message.QoS
	retain  bool
	more    *properties // nil: none
}

// setField is one entry under "set".
type setField struct {
	name string
	key  []byte // quoted, with its colon
	x    *expression
}

// compileFile compiles a file. The error joins all that is wrong with it.
func compileFile(src *rules.Source) (*ruleFile, error) {
	f := &ruleFile{
		yamlFile: newYAMLFile(src.Name, src.Text), place: src.Place, zone: src.Zone, read: src.Read,
		table: newTable(), names: make(map[string]int), spelled: make(map[spelling]*expression),
	}
	f.locals = f.table.locals
	if f.zone == nil {
		f.zone = time.Local
	}
	f.table.own = ownNames{vars: src.State, place: src.Place, zone: f.zone, memory: memoryOf(src.State), steady: &steady{}, funcs: src.Funcs}
	if body := f.parse(); body != nil {
		f.document(body)
	}
	if w := f.watch(); w != nil {
		f.rules = append(f.rules, w)
	}
	return f, errors.Join(f.errs...)
}

func (f *ruleFile) document(body ast.Node) {
	pairs, _ := f.mapping(body, "a rule file")
	for _, p := range pairs {
		if p.key != "rules" && p.key != "filters" && p.key != "inputs" {
			f.errorf(p.at, "unknown key %q: a rule file has \"rules\" and \"filters\", a blueprint also \"inputs\"", p.key)
		}
	}
	if isBlueprint(pairs) {
		f.blueprint(pairs)
		return
	}
	f.rulesOf(pairs)
	f.link()
}

// rulesOf reads the rules and filters of a file, or of a blueprint.
func (f *ruleFile) rulesOf(pairs []pair) {
	for _, p := range pairs {
		switch p.key {
		case "rules":
			f.list(p, "rule", f.rule)
		case "filters":
			f.list(p, "filter", f.filter)
		}
	}
}

// list reads the rules or filters of a file.
func (f *ruleFile) list(p pair, what string, one func(at position, pairs []pair)) {
	items, _ := f.sequence(p.value, strconv.Quote(p.key))
	for _, item := range items {
		pairs, ok := f.mapping(item, "a "+what)
		switch {
		case !ok:
		case slices.ContainsFunc(pairs, func(p pair) bool { return p.key == "use" }):
			f.use(f.start(item), pairs)
		default:
			one(f.start(item), pairs)
		}
	}
}

func (f *ruleFile) rule(at position, pairs []pair) {
	since := len(f.errs)
	r := &compiled{Rule: rules.Rule{Stage: rules.After, Line: at.line}, column: at.column, flow: &flow{}}
	r.flow.rule = r
	f.beginRule(r, pairs)
	for _, p := range pairs {
		switch p.key {
		case "name":
			r.Name = f.name(p)
		case "on":
			r.Filters = f.filters(p.value)
		case "if":
			r.when = f.condition(p)
		case "do":
			r.steps = f.steps(p.value, `"do"`)
		case "qos":
			r.QoS = f.qos(p.value)
		case "start":
			r.Start = f.boolean(p)
		case "every", "cron", "at", "sun":
			r.Schedules = append(r.Schedules, f.schedules(p)...)
		default:
			if !f.triggerKey(r, p) && !f.flowKey(r, p) {
				f.errorf(p.at, "unknown key %q: a rule has name, on, every, cron, at, sun, start, hook, retained, offline, online, value, above, below, hysteresis, edge, changed, by, windows, if, do, qos, %s", p.key, flowKeys)
			}
		}
	}
	f.endRule(r, since)
	f.require(since, at, pairs, "rule", "name", "do")
	r.idle = len(f.errs) == since && len(r.Filters) == 0 && len(r.Schedules) == 0 && len(r.Hooks) == 0 && !r.Start && r.flow.silent == nil
	f.finish(r, at, pairs)
	f.add(r)
}

func (f *ruleFile) filter(at position, pairs []pair) {
	since := len(f.errs)
	r := &compiled{Rule: rules.Rule{Stage: rules.Before, OnError: rules.PassOnError, Line: at.line}}
	for _, p := range pairs {
		switch p.key {
		case "name":
			r.Name = f.name(p)
		case "on":
			r.Filters = f.filters(p.value)
		case "drop":
			r.when = f.condition(p)
		case "topic":
			r.redirect = f.topic(p.value)
		case "set":
			r.set = f.set(p.value)
		case "on_error":
			r.OnError = f.onError(p.value)
		default:
			if !f.gateKey(r, p) {
				f.errorf(p.at, "unknown key %q: a filter has name, on, schema, on_invalid, reject, reason, drop, topic, set, on_error, priority and enabled", p.key)
			}
		}
	}
	f.require(since, at, pairs, "filter", "name", "on")
	does := []string{"drop", "topic", "set", "reject", "schema"}
	if len(f.errs) == since && !slices.ContainsFunc(pairs, func(p pair) bool { return slices.Contains(does, p.key) }) {
		f.errorf(at, "the filter does nothing: it wants schema, reject, drop, topic or set")
	}
	f.finishGate(r, pairs)
	f.add(r)
}

// require notes keys that are not there, unless something was wrong since there were
// so many errors: then a key may be lost because of that.
func (f *ruleFile) require(since int, at position, pairs []pair, what string, keys ...string) {
	if len(f.errs) > since {
		return
	}
	for _, key := range keys {
		if !slices.ContainsFunc(pairs, func(p pair) bool { return p.key == key }) {
			f.errorf(at, "the %s has no %q", what, key)
		}
	}
}

func (f *ruleFile) add(r *compiled) {
	r.Prev = f.readsPrev(r)
	f.rules = append(f.rules, r)
}

// readsPrev reports whether an expression of the rule reads the previous message.
func (f *ruleFile) readsPrev(r *compiled) bool {
	found := false
	r.each(func(x *expression) { found = found || f.reads(x, rootPrev) })
	return found
}

// reads reports whether an expression reads a variable.
func (f *ruleFile) reads(x *expression, root root) bool {
	return slices.ContainsFunc(x.slots, func(i int) bool { return f.table.slots[i].root == root })
}

// each visits the rule's expressions.
func (r *compiled) each(visit func(*expression)) {
	if r.when != nil {
		visit(r.when)
	}
	r.trigger.each(visit)
	r.gate.each(visit)
	for _, w := range r.windows {
		w.each(visit)
	}
	if r.flow != nil {
		r.flow.each(visit)
	}
	for i := range r.set {
		if r.set[i].x != nil {
			visit(r.set[i].x)
		}
	}
	r.redirect.each(visit)
	for i := range r.do {
		r.do[i].topic.each(visit)
		r.do[i].payload.each(visit)
		r.do[i].more.each(visit)
	}
}

func (t *template) each(visit func(*expression)) {
	if t == nil {
		return
	}
	for i := range t.parts {
		if t.parts[i].x != nil {
			visit(t.parts[i].x)
		}
	}
}

func (n *payloadNode) each(visit func(*expression)) {
	if n == nil {
		return
	}
	n.text.each(visit)
	for i := range n.pairs {
		n.pairs[i].value.each(visit)
	}
	for i := range n.items {
		n.items[i].each(visit)
	}
}

func (f *ruleFile) name(p pair) string {
	s, ok := f.scalar(p.value, "a name")
	name := f.prefix + strings.TrimSpace(s.value)
	switch line, taken := f.names[name]; {
	case !ok:
	case name == f.prefix:
		f.errorf(f.start(p.value), "the name is empty")
	case len(name) > 200 || strings.ContainsAny(name, "\n\r\x00"):
		f.errorf(f.start(p.value), "a name is one line of at most 200 bytes")
	case taken:
		f.errorf(f.start(p.value), "the name %q is taken by the rule or filter in line %d", name, line)
	default:
		f.names[name] = p.at.line
	}
	return name
}

// oneOrMore are the items of a list, or what stands there alone.
func (f *ruleFile) oneOrMore(n ast.Node, what string) []ast.Node {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return []ast.Node{n}
	}
	if len(list.Values) == 0 {
		f.errorf(f.start(n), "the list of %s is empty", what)
	}
	return list.Values
}

// filters reads one topic filter, or a list of them.
func (f *ruleFile) filters(n ast.Node) []string {
	var all []string
	for _, node := range f.oneOrMore(n, "topic filters") {
		s, ok := f.scalar(node, "a topic filter")
		if !ok {
			continue
		}
		if err := rules.CheckFilter(s.value); err != nil {
			f.errorf(f.start(node), "%v", err)
			continue
		}
		all = append(all, s.value)
	}
	return all
}

func (f *ruleFile) condition(p pair) *expression { return f.valueOf(p, true) }

// spelling is all that an expression of a file depends on, unless it reads what each
// rule has for itself.
type spelling struct {
	source, key string
	condition   bool
}

// expression compiles one, and notes at its place what is wrong with it. Those that are
// spelled alike are one: many rules differ in their topics only.
func (f *ruleFile) expression(s text, key string, condition bool) (*expression, bool) {
	as := spelling{strings.TrimSpace(s.value), key, condition}
	if x := f.spelled[as]; x != nil {
		return x, true
	}
	x, err := compileRule(s.value, f.table, condition)
	if err != nil {
		if err.msg == endsTooEarly && f.commentAfter(s) {
			err.msg += ": in YAML \" #\" begins a comment, so put the expression in quotes"
		}
		s.errorf(err.at, "%s", err.msg)
		return nil, false
	}
	x.key = key
	if !slices.ContainsFunc(x.slots, f.table.ofRule) {
		f.spelled[as] = x
	}
	return x, true
}

// commentAfter reports whether a comment follows in the line in which a text
// begins: it may have been meant as a part of it.
func (f *ruleFile) commentAfter(s text) bool {
	line := f.start(s.node).line
	return line >= 1 && line <= len(f.lines) && strings.Contains(f.lines[line-1], " #")
}

// topic compiles a topic template. One without expressions is checked now.
func (f *ruleFile) topic(n ast.Node) *template {
	s, ok := f.scalar(n, "a topic")
	if !ok {
		return nil
	}
	t, ok := f.template(s)
	if !ok {
		return nil
	}
	literal, whole := t.literal()
	if !whole { // the text around the expressions must do, too
		for i := range t.parts {
			literal += t.parts[i].text
		}
		if strings.ContainsAny(literal, "+#") {
			f.errorf(f.start(n), "a topic to publish to has no wildcards")
		}
		if first := t.parts[0].text; strings.HasPrefix(first, "$SYS/") {
			f.errorf(f.start(n), "%v", rules.CheckTopic(first))
		}
		return t
	}
	if err := rules.CheckTopic(literal); err != nil {
		f.errorf(f.start(n), "%v", err)
	}
	return t
}

func (f *ruleFile) qos(n ast.Node) message.QoS {
	if i, ok := n.(*ast.IntegerNode); ok {
		switch i.GetToken().Value {
		case "0":
			return message.AtMostOnce
		case "1":
			return message.AtLeastOnce
		case "2":
			return message.ExactlyOnce
		}
	}
	if f.plain(n) {
		f.errorf(f.start(n), "qos must be 0, 1 or 2")
	}
	return 0
}

func (f *ruleFile) boolean(p pair) bool {
	b, ok := p.value.(*ast.BoolNode)
	if !ok {
		if f.plain(p.value) {
			f.errorf(f.start(p.value), "%s must be true or false", p.key)
		}
		return false
	}
	return b.Value
}

func (f *ruleFile) onError(n ast.Node) rules.OnError {
	s, ok := f.scalar(n, `"on_error"`)
	switch {
	case !ok:
	case s.value == "reject":
		return rules.RejectOnError
	case s.value != "pass":
		f.errorf(f.start(n), "on_error must be reject or pass")
	}
	return rules.PassOnError
}

func (f *ruleFile) set(n ast.Node) []setField {
	pairs, ok := f.mapping(n, `"set"`)
	if ok && len(pairs) == 0 {
		f.errorf(f.start(n), "\"set\" is empty")
	}
	var all []setField
	for _, p := range pairs {
		s, ok := f.scalar(p.value, "a value of \"set\"")
		if !ok {
			continue
		}
		x, _ := f.expression(s, "", false)
		all = append(all, setField{name: p.key, key: append(appendQuoted(nil, p.key), ':'), x: x})
	}
	return all
}
