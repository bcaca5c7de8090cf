package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Error is something wrong at a place of the configuration.
type Error struct {
	File         string // empty for the environment
	Line, Column int    // from 1; 0 is unknown
	Key          string // "broker.listeners[0].address", or the variable's name
	Msg          string
	Snippet      string // the source lines and a caret
}

// Error gives file:line:column: key: message, then the snippet on lines of its own.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Msg)
	if e.Snippet != "" {
		b.WriteString("\n" + e.Snippet)
	}
	return b.String()
}

// errorf returns an *Error at the place of key in the file, or without a place if
// the value is a default or came from the environment.
func (c *Config) errorf(key, format string, args ...any) error {
	e := &Error{Key: key, Msg: fmt.Sprintf(format, args...)}
	path, err := yaml.PathString("$." + key)
	if err != nil || c.body == nil {
		return e
	}
	node, err := path.FilterNode(c.body)
	if err != nil || node == nil {
		return e
	}
	pos := node.GetToken().Position
	e.File, e.Line, e.Column = c.file, pos.Line, pos.Column
	e.Snippet = c.snippet(e.Line, e.Column)
	return e
}

// findTrap finds a YAML tag, anchor or alias, or a key without a value: "address: !x"
// and "console:" would else be null values, and what they stand for would vanish. It
// finds items such as 007, too, which would stand for another user. It returns nil if
// there is none.
func findTrap(body ast.Node) error {
	f := &trapFinder{}
	ast.Walk(f, body)
	if f.token == nil {
		return nil
	}
	return &yaml.SyntaxError{Message: f.msg, Token: f.token}
}

type trapFinder struct {
	token *token.Token // of the first trap
	msg   string
}

func (f *trapFinder) found(n ast.Node, format string) {
	f.token = n.GetToken()
	f.msg = fmt.Sprintf(format, f.token.Value)
}

func (f *trapFinder) Visit(n ast.Node) ast.Visitor {
	if f.token != nil {
		return nil
	}
	switch n := n.(type) {
	case *ast.TagNode:
		f.found(n, "YAML tag %q is not allowed: quote the text if it is meant")
	case *ast.AnchorNode, *ast.AliasNode:
		f.found(n, "YAML anchors and aliases (%q) are not allowed: quote the text if it is meant")
	case *ast.SequenceNode:
		if i := slices.IndexFunc(n.Values, otherText); i >= 0 {
			f.found(n.Values[i], "%q is not text to YAML, and would become another one: quote it")
		}
	case *ast.MappingValueNode:
		if _, text := n.Key.(*ast.StringNode); !text { // the decoder would drop the whole mapping
			f.found(n.Key, "key %q is not text")
			return nil
		}
		if _, null := n.Value.(*ast.NullNode); null {
			f.found(n.Key, "key %q has no value: give one, or leave the key out")
		}
	}
	return f
}

// otherText reports whether the decoder makes another text of an item, as 7 of 007.
func otherText(item ast.Node) bool {
	switch item.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode, *ast.NullNode:
		scalar, ok := item.(ast.ScalarNode)
		return ok && fmt.Sprint(scalar.GetValue()) != item.GetToken().Value
	default:
		return false
	}
}

// place turns an error of the YAML decoder into an *Error.
func (c *Config) place(err error) error {
	e := &Error{File: c.file, Line: 1, Column: 1, Msg: err.Error()}
	var at yaml.Error
	if !errors.As(err, &at) {
		return e
	}
	e.Msg = at.GetMessage()
	if tok := at.GetToken(); tok != nil {
		e.Line, e.Column = tok.Position.Line, tok.Position.Column
	}
	e.Snippet = c.snippet(e.Line, e.Column)
	return e
}

// snippet is a line of the file as it was written, the two before it, and a caret.
func (c *Config) snippet(line, column int) string {
	const before = 2
	lines := strings.Split(string(c.text), "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	var b strings.Builder
	for n := max(1, line-before); n <= line; n++ {
		fmt.Fprintf(&b, "%5d | %s\n", n, strings.TrimRight(lines[n-1], "\r"))
	}
	fmt.Fprintf(&b, "      | %s^", strings.Repeat(" ", max(0, column-1)))
	return b.String()
}
