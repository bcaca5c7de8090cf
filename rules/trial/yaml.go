package trial

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of a test file. The parser recurses for each level, so the depth is bounded
// before it sees the file.
const (
	maxFileBytes = 1 << 20
	maxDepth     = 200
)

// reader reads one test file, and collects what is wrong with it.
type reader struct {
	file string
	errs []error
}

// maxErrors is how many errors of one file are told.
const maxErrors = 20

func (r *reader) errorf(n ast.Node, format string, args ...any) {
	line, column := place(n)
	r.errorAt(line, column, format, args...)
}

func (r *reader) errorAt(line, column int, format string, args ...any) {
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, &rules.Error{File: r.file, Line: line, Column: column, Msg: fmt.Sprintf(format, args...)})
	}
}

// parse returns the body of the file, nil if it is wrong.
func (r *reader) parse(text []byte) (body ast.Node) {
	if line, msg := tooMuch(text); msg != "" {
		r.errorAt(line, 1, "%s", msg)
		return nil
	}
	defer func() {
		if v := recover(); v != nil { // the parser's, not ours
			r.errorAt(1, 1, "the file is not YAML: %v", v)
			body = nil
		}
	}()
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil && at.GetToken().Position != nil {
			r.errorAt(at.GetToken().Position.Line, at.GetToken().Position.Column, "%s", at.GetMessage())
			return nil
		}
		r.errorAt(1, 1, "the file is not YAML: %v", err)
		return nil
	}
	for _, doc := range parsed.Docs {
		if _, comment := doc.Body.(*ast.CommentGroupNode); comment || doc.Body == nil {
			continue
		}
		if body != nil {
			r.errorf(doc.Body, `a test file holds one document, without "---"`)
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		r.errorAt(1, 1, `the file is empty: it has a list "tests"`)
	}
	return body
}

// tooMuch says what must not reach the parser, and in which line it is.
func tooMuch(text []byte) (line int, msg string) {
	if len(text) > maxFileBytes {
		return 1, fmt.Sprintf("the file has %d bytes, more than %d", len(text), maxFileBytes)
	}
	if !utf8.Valid(text) {
		return 1, "the file is not UTF-8 text"
	}
	open := 0
	for i, l := range strings.Split(string(text), "\n") {
		rest := strings.TrimLeft(l, " ")
		marks := strings.Count(rest, "- ") + strings.Count(rest, "? ") + strings.Count(rest, ": ")
		opened := strings.Count(rest, "[") + strings.Count(rest, "{")
		if len(l)-len(rest) > 2*maxDepth || marks > 2*maxDepth || open+opened > maxDepth {
			return i + 1, fmt.Sprintf("the file is nested deeper than %d levels", maxDepth)
		}
		open = max(0, open+opened-strings.Count(rest, "]")-strings.Count(rest, "}"))
	}
	return 0, ""
}

// place is where a node begins.
func place(n ast.Node) (line, column int) {
	switch n := n.(type) {
	case nil:
		return 1, 1
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return place(n.Values[0])
		}
	case *ast.MappingValueNode:
		return place(n.Key)
	}
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return tk.Position.Line, max(1, tk.Position.Column)
	}
	return 1, 1
}

// field is one key of a mapping with its value.
type field struct {
	key   string
	node  ast.Node // of the key
	value ast.Node
}

// fields returns those of a mapping, which it must be.
func (r *reader) fields(n ast.Node, what string) ([]field, bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.errorf(n, "%s must be a mapping of keys and values", what)
		return nil, false
	}
	all := make([]field, 0, len(values))
	for _, v := range values {
		key := v.Key.GetToken()
		if _, merge := v.Key.(*ast.MergeKeyNode); merge || key == nil {
			r.errorf(v.Key, "a key must be plain text")
			return nil, false
		}
		all = append(all, field{key: strings.TrimSpace(key.Value), node: v.Key, value: v.Value})
	}
	return all, true
}

// list returns the entries of a list, which it must be.
func (r *reader) list(n ast.Node, what string) []ast.Node {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.errorf(n, "%s must be a list", what)
		return nil
	}
	return s.Values
}

// text returns a scalar as it is written.
func (r *reader) text(n ast.Node, what string) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value
	}
	r.errorf(n, "%s must be text", what)
	return ""
}

// value returns what JSON can hold: nil, bool, json.Number, string, []any, or
// map[string]any.
func (r *reader) value(n ast.Node) any {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode:
		return json.Number(fmt.Sprint(n.Value))
	case *ast.FloatNode:
		if text := n.GetToken().Value; json.Valid([]byte(text)) {
			return json.Number(text)
		}
		b, _ := json.Marshal(n.Value) // a float that is finite
		return json.Number(b)
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.SequenceNode:
		all := make([]any, 0, len(n.Values))
		for _, v := range n.Values {
			all = append(all, r.value(v))
		}
		return all
	case *ast.MappingNode, *ast.MappingValueNode:
		fields, _ := r.fields(n, "a value")
		all := make(map[string]any, len(fields))
		for _, f := range fields {
			all[f.key] = r.value(f.value)
		}
		return all
	}
	r.errorf(n, "a value is what JSON can hold: no tags, anchors, aliases, .inf or .nan")
	return nil
}
