package exprlang

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of blueprints.
const (
	maxInputs = 100
	maxUses   = 500 // in one file
)

// input is one parameter of a blueprint.
type input struct {
	name, kind, description string
	value                   any // its default
	has                     bool
}

// inputKinds are the types of inputs, with what each is called.
var inputKinds = map[string]string{
	"any": "anything", "text": "text", "number": "a number", "boolean": "true or false", "duration": "a duration such as 5m",
	"topic": "a topic", "filter": "a topic filter", "list": "a list", "object": "a mapping",
}

// isBlueprint reports whether a file has inputs, so that it makes no rules by itself.
func isBlueprint(pairs []pair) bool {
	return slices.ContainsFunc(pairs, func(p pair) bool { return p.key == "inputs" })
}

// blueprint checks a file with inputs. If all have defaults, its rules are compiled with
// them, only to see that they can be.
func (f *ruleFile) blueprint(pairs []pair) {
	inputs := f.inputs(pairs)
	values := make(map[string]any)
	complete := true
	for _, in := range inputs {
		values[in.name] = in.value
		complete = complete && in.has
	}
	since := len(f.errs)
	f.substitute(pairs, inputs, values)
	if complete && len(f.errs) == since {
		f.rulesOf(pairs)
		f.link()
	}
	f.rules, f.table.own.watched = nil, nil
}

// inputs reads what a blueprint wants to be told.
func (f *ruleFile) inputs(pairs []pair) []*input {
	var all []*input
	for _, p := range pairs {
		if p.key != "inputs" {
			continue
		}
		entries, ok := f.mapping(p.value, `"inputs"`)
		if ok && len(entries) > maxInputs {
			f.errorf(p.at, "%d inputs are more than %d", len(entries), maxInputs)
			return nil
		}
		for _, e := range entries {
			if !isWord(e.key) {
				f.errorf(e.at, "the name of an input is one word")
				continue
			}
			all = append(all, f.input(e))
		}
	}
	return all
}

func (f *ruleFile) input(p pair) *input {
	in := &input{name: p.key, kind: "any"}
	if null, ok := p.value.(*ast.NullNode); ok && implicit(null) {
		return in
	}
	keys, _ := f.mapping(p.value, "an input")
	for _, k := range keys {
		switch k.key {
		case "type":
			s, ok := f.scalar(k.value, `"type"`)
			if _, known := inputKinds[s.value]; ok && !known {
				f.errorf(f.start(k.value), "the type of an input is any, text, number, boolean, duration, topic, filter, list or object")
			} else if ok {
				in.kind = s.value
			}
		case "description":
			s, _ := f.scalar(k.value, `"description"`)
			in.description = s.value
		case "default":
			in.value, in.has = f.data(k.value)
		default:
			f.errorf(k.at, "unknown key %q: an input has type, default and description", k.key)
		}
	}
	if in.has && !in.takes(in.value) {
		f.errorf(p.at, "the default of %q must be %s", in.name, inputKinds[in.kind])
	}
	return in
}

// takes reports whether a value is of the input's type.
func (in *input) takes(v any) bool {
	text, isText := v.(string)
	switch in.kind {
	case "text":
		return isText
	case "number":
		_, ok := v.(json.Number)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "duration":
		_, err := time.ParseDuration(text) // below 0, too: an offset
		if err != nil {
			_, err = parseDuration(text, longestRule)
		}
		return err == nil
	case "topic":
		return isText && rules.CheckTopic(text) == nil
	case "filter":
		return isText && rules.CheckFilter(text) == nil
	case "list":
		_, ok := v.([]any)
		return ok
	case "object":
		_, ok := v.(map[string]any)
		return ok
	}
	return true
}

// use is an entry of a list of rules that stands for those of a blueprint.
func (f *ruleFile) use(at position, pairs []pair) {
	if f.uses++; f.uses > maxUses {
		f.errorf(at, "the file uses blueprints more than %d times", maxUses)
		return
	}
	if f.within != "" {
		f.errorf(at, "a blueprint cannot use another one")
		return
	}
	var from text
	var prefix string
	given, values := []pair(nil), make(map[string]any)
	ok := true
	for _, p := range pairs {
		good := true
		switch p.key {
		case "use":
			from, good = f.scalar(p.value, `"use"`)
		case "name":
			var s text
			s, good = f.scalar(p.value, "a name")
			prefix = s.value + ": "
		case "with":
			if given, good = f.mapping(p.value, `"with"`); good {
				for _, v := range given {
					var fine bool
					values[v.key], fine = f.data(v.value)
					good = good && fine
				}
			}
		default:
			f.errorf(p.at, "unknown key %q: a blueprint is used with use, with and name", p.key)
			good = false
		}
		ok = ok && good
	}
	if !ok {
		return
	}
	name, err := f.beside(from.value)
	var source []byte
	if err == nil {
		source, err = f.readOther(name)
	}
	if err != nil {
		from.errorf(0, "the blueprint cannot be used: %v", err)
		return
	}
	f.build(at, newYAMLFile(name, source), given, values, prefix)
}

// build makes the rules of a blueprint for one use of it.
func (f *ruleFile) build(at position, from *yamlFile, given []pair, values map[string]any, prefix string) {
	user, first, o := f.yamlFile, len(f.rules), &origin{from, f.location(at)}
	back := f.enter(o)
	f.within, f.prefix = o.place, prefix
	defer func() {
		back()
		f.within, f.prefix = "", ""
		for _, r := range f.rules[first:] {
			r.Line, r.column, r.origin = at.line, at.column, o
		}
	}()
	body := f.parse()
	if body == nil {
		if len(from.errs) == 0 {
			user.errorf(at, "%q is empty", from.name)
		}
		return
	}
	pairs, ok := f.mapping(body, "a blueprint")
	if !ok {
		return
	}
	if !isBlueprint(pairs) {
		user.errorf(at, "%q is no blueprint: it has no \"inputs\"", from.name)
		return
	}
	inputs := f.inputs(pairs)
	if !fill(user, at, inputs, given, values) || len(from.errs) > 0 {
		return
	}
	if f.substitute(pairs, inputs, values); len(from.errs) == 0 {
		f.rulesOf(pairs)
	}
}

// origin is the blueprint that a rule is made of, and the place of its use.
type origin struct {
	file  *yamlFile
	place string
}

// enter has errors be those of a blueprint, until back is called.
func (f *ruleFile) enter(o *origin) (back func()) {
	if o == nil {
		return func() {}
	}
	user := f.yamlFile
	f.yamlFile = o.file
	return func() {
		f.yamlFile = user
		for _, err := range o.file.errs {
			var e *rules.Error
			if errors.As(err, &e) && len(user.errs) < maxErrors {
				e.Msg += " (used by " + o.place + ")"
				user.errs = append(user.errs, e)
			}
		}
		o.file.errs = nil
	}
}

func (f *ruleFile) location(at position) string {
	return fmt.Sprintf("%s:%d:%d", f.yamlFile.name, at.line, at.column)
}

// fill completes the values of a use with defaults, and notes in the file that uses the
// blueprint what is missing or wrong.
func fill(user *yamlFile, at position, inputs []*input, given []pair, values map[string]any) bool {
	since := len(user.errs)
	byName := make(map[string]*input)
	names := make([]string, 0, len(inputs))
	for _, in := range inputs {
		byName[in.name] = in
		names = append(names, in.name)
	}
	for _, p := range given {
		switch in := byName[p.key]; {
		case in == nil:
			user.errorf(p.at, "the blueprint has no input %q: it has %s", p.key, strings.Join(names, ", "))
		case !in.takes(values[p.key]):
			user.errorf(user.start(p.value), "%s must be %s", p.key, inputKinds[in.kind])
		}
	}
	for _, in := range inputs {
		if _, ok := values[in.name]; ok {
			continue
		}
		if !in.has {
			about := ""
			if in.description != "" {
				about = " (" + in.description + ")"
			}
			user.errorf(at, "the blueprint wants %q%s under \"with\"", in.name, about)
			continue
		}
		values[in.name] = in.value
	}
	return len(user.errs) == since
}

// substitute puts the values in the place of $(name), in everything but the inputs.
func (f *ruleFile) substitute(pairs []pair, inputs []*input, values map[string]any) {
	s := &substitution{file: f.yamlFile, inputs: inputs, values: values}
	for i := range pairs {
		if pairs[i].key != "inputs" {
			pairs[i].value = s.node(pairs[i].value)
		}
	}
}

// substitution is one pass over a blueprint.
type substitution struct {
	file   *yamlFile
	inputs []*input
	values map[string]any
}

// node returns what stands in the place of a node.
func (s *substitution) node(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			s.pair(v)
		}
	case *ast.MappingValueNode:
		s.pair(n)
	case *ast.SequenceNode:
		for i := range n.Values {
			n.Values[i] = s.node(n.Values[i])
		}
	case *ast.StringNode:
		if name, alone := onlyInput(n.Value); alone {
			if v, ok := s.value(n, name); ok {
				return s.literal(n, v)
			}
			return n
		}
		s.text(n, n)
	case *ast.LiteralNode:
		s.text(n, n.Value)
	}
	return n
}

func (s *substitution) pair(v *ast.MappingValueNode) {
	if key, ok := v.Key.(*ast.StringNode); ok {
		s.text(key, key)
	}
	v.Value = s.node(v.Value)
}

// onlyInput is the name in a text that is one $(name).
func onlyInput(text string) (string, bool) {
	name, ok := strings.CutPrefix(text, "$(")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, ")")
	return name, ok && isWord(name)
}

// value is what an input was given.
func (s *substitution) value(at ast.Node, name string) (any, bool) {
	names := make([]string, 0, len(s.inputs))
	for _, in := range s.inputs {
		if in.name == name {
			return s.values[name], true
		}
		names = append(names, in.name)
	}
	s.file.errorf(s.file.start(at), "$(%s) is no input: the inputs are %s", name, strings.Join(names, ", "))
	return nil, false
}

// text replaces $(name) within a text; "$$(" is a plain "$(".
func (s *substitution) text(at ast.Node, n *ast.StringNode) {
	if !strings.Contains(n.Value, "$(") {
		return
	}
	var b strings.Builder
	rest := n.Value
	for {
		before, after, found := strings.Cut(rest, "$(")
		b.WriteString(before)
		if !found {
			break
		}
		name, behind, closed := strings.Cut(after, ")")
		switch {
		case strings.HasSuffix(before, "$"):
			b.WriteString("(")
			rest = after
			continue
		case !closed || !isWord(name):
			s.file.errorf(s.file.start(at), "\"$(\" wants the name of an input and \")\"; a plain one is \"$$(\"")
			return
		}
		rest = behind
		if v, ok := s.value(at, name); ok {
			s.write(&b, at, name, v)
		}
	}
	n.Value = b.String()
	s.file.replace(at)
}

// write appends a value as a part of a text.
func (s *substitution) write(b *strings.Builder, at ast.Node, name string, v any) {
	switch v := v.(type) {
	case nil:
	case string:
		b.WriteString(v)
	case json.Number:
		b.WriteString(v.String())
	case bool:
		fmt.Fprintf(b, "%t", v)
	default:
		s.file.errorf(s.file.start(at), "$(%s) is %s, so it cannot be a part of a text", name, map[bool]string{true: "a list", false: "a mapping"}[isList(v)])
	}
}

func isList(v any) bool {
	_, ok := v.([]any)
	return ok
}

// literal is a node with a value, at the place of another one.
func (s *substitution) literal(at ast.Node, v any) ast.Node {
	if text, ok := v.(string); ok {
		n := ast.String(token.New(text, text, at.GetToken().Position))
		n.Token.Type, n.Value = token.DoubleQuoteType, text
		s.file.replace(n)
		return n
	}
	written, err := json.Marshal(v) // which is YAML, too
	if err != nil {
		s.file.errorf(s.file.start(at), "the value cannot be used here: %v", err)
		return at
	}
	parsed, err := parser.ParseBytes(written, 0)
	if err != nil || len(parsed.Docs) != 1 || parsed.Docs[0].Body == nil {
		s.file.errorf(s.file.start(at), "the value %s cannot be used here", written)
		return at
	}
	body := parsed.Docs[0].Body
	ast.Walk(placed{s.file, at.GetToken().Position}, body)
	return body
}

// placed gives the nodes below one the place of another.
type placed struct {
	file *yamlFile
	at   *token.Position
}

func (p placed) Visit(n ast.Node) ast.Visitor {
	if tk := n.GetToken(); tk != nil {
		at := *p.at
		tk.Position = &at
	}
	p.file.replace(n)
	return p
}

// replace notes that a node's text does not stand in the file.
func (f *yamlFile) replace(n ast.Node) {
	if f.replaced == nil {
		f.replaced = make(map[ast.Node]bool)
	}
	f.replaced[n] = true
}
