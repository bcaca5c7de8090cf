package drivers

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// checkTree refuses what the decoder would pass over in silence: a tag makes its
// value vanish, and so does a key such as true, with all that stands beside it. And it
// refuses aliases, of which a few lines make more than memory holds.
func (c Config) checkTree() error {
	docs := 0
	for _, doc := range c.file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			docs++
		}
		if docs > 1 {
			return c.at(start(doc.Body), "a device file is one YAML document")
		}
	}
	if docs == 0 {
		return c.at(nil, "the file is empty")
	}
	w := &strictWalk{}
	for _, doc := range c.file.Docs {
		ast.Walk(w, doc)
	}
	if w.token != nil {
		return c.at(w.token, w.msg)
	}
	return nil
}

// strictWalk finds the first node that a device file may not have.
type strictWalk struct {
	token *token.Token
	msg   string
}

// Visit implements ast.Visitor.
func (w *strictWalk) Visit(n ast.Node) ast.Visitor {
	if w.token != nil {
		return nil
	}
	switch n := n.(type) {
	case *ast.TagNode:
		w.token, w.msg = n.GetToken(), fmt.Sprintf("YAML tags such as %q are not allowed", n.GetToken().Value)
	case *ast.AnchorNode:
		w.refuseAnchor("&", n.GetToken(), n.Name)
	case *ast.AliasNode:
		w.refuseAnchor("*", n.GetToken(), n.Value)
	case *ast.MappingValueNode:
		switch key := n.Key.(type) {
		case *ast.StringNode, *ast.LiteralNode, *ast.IntegerNode, *ast.MergeKeyNode:
		case *ast.AliasNode, *ast.AnchorNode: // refused when they are visited
		default:
			w.token, w.msg = key.GetToken(), fmt.Sprintf("the key %s must be quoted", key.GetToken().Value)
		}
	}
	return w
}

// refuseAnchor refuses an anchor or an alias of it.
func (w *strictWalk) refuseAnchor(mark string, tok *token.Token, name ast.Node) {
	w.token, w.msg = tok, fmt.Sprintf("YAML anchors and aliases such as %q are not allowed", mark+name.GetToken().Value)
}

// at returns a *ConfigError at a token; nil is the file's start.
func (c Config) at(tok *token.Token, msg string) *ConfigError {
	e := &ConfigError{File: c.File, Line: 1, Column: 1, Msg: msg}
	if tok == nil || tok.Position == nil {
		return e
	}
	e.Line, e.Column = tok.Position.Line, tok.Position.Column
	shown := &yaml.SyntaxError{Message: msg, Token: tok}
	if _, snippet, ok := strings.Cut(shown.FormatError(false, true), "\n"); ok {
		e.Snippet = strings.TrimRight(snippet, "\n")
	}
	return e
}

// wrap makes a *ConfigError of what the YAML library says.
func (c Config) wrap(err error) error {
	var known *ConfigError
	if errors.As(err, &known) {
		return known
	}
	if errors.Is(err, io.EOF) {
		return c.at(nil, "the file is empty")
	}
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) {
		return c.at(wrong.Token, describe(wrong))
	}
	var other *yaml.UnexpectedNodeTypeError
	if errors.As(err, &other) {
		return c.at(other.Token, "this must be a "+map[bool]string{true: "mapping", false: "list"}[other.Expected == ast.MappingType])
	}
	var at yaml.Error
	if errors.As(err, &at) {
		return c.at(at.GetToken(), at.GetMessage())
	}
	return c.at(c.quoted(err.Error()), err.Error())
}

// describe says a type error in the words of the file, not of Go.
func describe(e *yaml.TypeError) string {
	if e.DstType == reflect.TypeFor[time.Duration]() {
		return `this must be a duration such as "500ms" or "5s"`
	}
	switch e.DstType.Kind() {
	case reflect.Bool:
		return "this must be true or false"
	case reflect.String:
		return "this must be text"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "this must be a whole number"
	case reflect.Float32, reflect.Float64:
		return "this must be a number"
	case reflect.Slice, reflect.Array:
		return "this must be a list"
	case reflect.Map, reflect.Struct:
		return "this must be a mapping"
	default:
		return e.GetMessage()
	}
}

// quoted finds the text that an error without a place quotes at its end, as
// time.ParseDuration's do.
func (c Config) quoted(msg string) *token.Token {
	if c.file == nil {
		return nil
	}
	f := &quotedWalk{msg: msg}
	for _, doc := range c.file.Docs {
		ast.Walk(f, doc)
	}
	return f.token
}

type quotedWalk struct {
	msg   string
	token *token.Token
}

// Visit implements ast.Visitor.
func (w *quotedWalk) Visit(n ast.Node) ast.Visitor {
	if s, ok := n.(*ast.StringNode); ok && w.token == nil && strings.HasSuffix(w.msg, strconv.Quote(s.Value)) {
		w.token = s.GetToken()
	}
	return w
}

// recovered turns a panic of the YAML library into a *ConfigError.
func (c Config) recovered(panicked any, err error) error {
	if panicked == nil {
		return err
	}
	return c.at(nil, fmt.Sprintf("the file cannot be read: %v", panicked))
}
