package exprlang

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// template is a string with expressions in ${...}.
type template struct {
	parts []templatePart
	// alone is the expression of a string that is one ${...}: the value keeps
	// its type.
	alone *expression
}

type templatePart struct {
	text string
	x    *expression // instead of text
}

// literal is the text of a template without expressions.
func (t *template) literal() (string, bool) {
	switch {
	case t.alone != nil || len(t.parts) > 1:
		return "", false
	case len(t.parts) == 0:
		return "", true
	}
	return t.parts[0].text, t.parts[0].x == nil
}

// template compiles a string.
func (f *ruleFile) template(s text) (*template, bool) {
	t := &template{}
	var literal strings.Builder
	ok := true
	for i := 0; i < len(s.value); {
		next := strings.Index(s.value[i:], "${")
		if next < 0 {
			literal.WriteString(s.value[i:])
			break
		}
		next += i
		if next > i && s.value[next-1] == '$' { // "$${" is a plain "${"
			literal.WriteString(s.value[i:next] + "{")
			i = next + 2
			continue
		}
		literal.WriteString(s.value[i:next])
		end := closingBrace(s.value, next+2)
		if end < 0 {
			s.errorf(runesBefore(s.value, next), "\"${\" without its \"}\"")
			return nil, false
		}
		x, good := f.expression(s.part(next+2, end), "", false)
		ok = ok && good
		t.addText(&literal)
		t.parts = append(t.parts, templatePart{x: x})
		i = end + 1
	}
	t.addText(&literal)
	if len(t.parts) == 1 && t.parts[0].x != nil {
		t.alone = t.parts[0].x
	}
	return t, ok
}

func (t *template) addText(literal *strings.Builder) {
	if literal.Len() > 0 {
		t.parts = append(t.parts, templatePart{text: literal.String()})
		literal.Reset()
	}
}

// closingBrace finds the end of an expression that begins at from: the brace that
// closes none of its own and is in none of its strings.
func closingBrace(s string, from int) int {
	depth, quote := 0, byte(0)
	for i := from; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0:
			if c == '\\' && quote != '`' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == '{':
			depth++
		case c == '}' && depth == 0:
			return i
		case c == '}':
			depth--
		}
	}
	return -1
}

// render appends the text of the template. Nil has no text. isString is false if
// the whole is a value that is no string, written as JSON.
func (t *template) render(e *evaluator, b []byte) (_ []byte, isString bool, err error) {
	if t.alone != nil {
		return e.appendText(b, t.alone)
	}
	for i := range t.parts {
		p := &t.parts[i]
		if p.x == nil {
			b = append(b, p.text...)
			continue
		}
		if b, err = e.appendWord(b, p.x); err != nil {
			return b, true, err
		}
	}
	return b, true, nil
}

// appendWord appends a value that becomes part of a text.
func (e *evaluator) appendWord(b []byte, x *expression) ([]byte, error) {
	from := len(b)
	b, isString, err := e.appendText(b, x)
	if err == nil && !isString && string(b[from:]) == "null" {
		if x.bare >= 0 {
			return b, e.slots[x.bare].missing
		}
		return b, &notEvaluated{reason: "a part of the text is nil"}
	}
	return b, err
}

// topicText is the template as a topic.
func (t *template) topicText(e *evaluator) (string, error) {
	if s, ok := t.literal(); ok {
		return s, nil
	}
	b, err := t.topicBytes(e)
	return string(b), err
}

// topicBytes is the same, until the next topic.
func (t *template) topicBytes(e *evaluator) ([]byte, error) {
	b := e.subject[:0]
	var err error
	if t.alone != nil {
		b, err = e.appendWord(b, t.alone)
	} else {
		b, _, err = t.render(e, b)
	}
	e.subject = b
	return b, err
}

// payloadNode is one value of a payload template.
type payloadNode struct {
	raw   []byte // JSON that is the same for every message
	text  *template
	pairs []payloadPair // of an object
	items []*payloadNode
	kind  nodeKind
}

type payloadPair struct {
	key   []byte // quoted, with its colon
	value *payloadNode
}

type nodeKind uint8

const (
	rawNode nodeKind = iota
	textNode
	objectNode
	listNode
)

// payload compiles what stands under "payload".
func (f *ruleFile) payload(n ast.Node) (*payloadNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return f.payloadObject(n)
	case *ast.SequenceNode:
		node := &payloadNode{kind: listNode}
		ok := true
		for _, item := range n.Values {
			value, good := f.payload(item)
			node.items, ok = append(node.items, value), ok && good
		}
		return node, ok
	case *ast.NullNode:
		if implicit(n) {
			f.errorf(f.start(n), "the value is missing; write null or \"\"")
			return nil, false
		}
		return &payloadNode{raw: []byte("null")}, true
	case *ast.BoolNode:
		return &payloadNode{raw: strconv.AppendBool(nil, n.Value)}, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return f.payloadNumber(n)
	}
	s, ok := f.scalar(n, "a payload")
	if !ok {
		return nil, false
	}
	if str, is := n.(*ast.StringNode); is && isPlainScalar(str) && isNumber(str.Value) {
		return &payloadNode{raw: []byte(str.Value)}, true // too long for YAML, not for us
	}
	t, ok := f.template(s)
	return &payloadNode{kind: textNode, text: t}, ok
}

func (f *ruleFile) payloadObject(n ast.Node) (*payloadNode, bool) {
	pairs, ok := f.mapping(n, "a payload")
	node := &payloadNode{kind: objectNode}
	for _, p := range pairs {
		if strings.Contains(p.key, "${") {
			f.errorf(p.at, "a key cannot hold ${...}")
			ok = false
		}
		value, good := f.payload(p.value)
		ok = ok && good
		node.pairs = append(node.pairs, payloadPair{key: append(appendQuoted(nil, p.key), ':'), value: value})
	}
	return node, ok
}

// payloadNumber keeps a number as it is written, if JSON writes it so, too.
func (f *ruleFile) payloadNumber(n ast.Node) (*payloadNode, bool) {
	written := n.GetToken().Value
	if isNumber(written) {
		return &payloadNode{raw: []byte(written)}, true
	}
	var value any
	switch n := n.(type) {
	case *ast.IntegerNode:
		value = n.Value
	case *ast.FloatNode:
		value = n.Value
	}
	raw, err := json.Marshal(value)
	if v, isFloat := value.(float64); err != nil || value == nil || isFloat && math.IsInf(v, 0) {
		f.errorf(f.start(n), "JSON has no number %s", written)
		return nil, false
	}
	return &payloadNode{raw: raw}, true
}

func isPlainScalar(n *ast.StringNode) bool { return n.Token.Type.String() == "String" }

// isNumber reports whether s is a number of JSON.
func isNumber(s string) bool {
	return s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') && json.Valid([]byte(s))
}

// whole appends the node as a whole payload: text as it is, anything else as JSON.
func (n *payloadNode) whole(e *evaluator, b []byte) ([]byte, error) {
	if n.kind != textNode {
		return n.json(e, b)
	}
	b, _, err := n.text.render(e, b)
	return b, err
}

// json appends the node as JSON.
func (n *payloadNode) json(e *evaluator, b []byte) ([]byte, error) {
	var err error
	switch n.kind {
	case rawNode:
		return append(b, n.raw...), nil
	case textNode:
		if n.text.alone != nil {
			return e.appendJSON(b, n.text.alone)
		}
		text, _, err := n.text.render(e, e.word[:0])
		e.word = text
		return appendQuoted(b, text), err
	case objectNode:
		b = append(b, '{')
		for i := range n.pairs {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, n.pairs[i].key...)
			if b, err = n.pairs[i].value.json(e, b); err != nil {
				return b, err
			}
		}
		return append(b, '}'), nil
	case listNode:
		return appendList(b, n.items, func(b []byte, item *payloadNode) ([]byte, error) { return item.json(e, b) })
	}
	return b, nil
}
