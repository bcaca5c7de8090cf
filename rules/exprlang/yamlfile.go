package exprlang

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of a rule file, checked by a scan before the parser sees it: the parser
// recurses for each level.
const (
	maxFileBytes = 256 << 10
	maxYAMLDepth = 256
	maxLineMarks = 1_000 // of "- ", "? ", ": ", "!" and "&" in one line
)

// yamlFile is a rule file while it is compiled. It collects what is wrong with it.
type yamlFile struct {
	name  string
	text  string
	lines []string
	errs  []error
	// replaced are nodes that a blueprint's inputs were put into.
	replaced map[ast.Node]bool
}

// position is a place in a file; line and column count from 1, columns in runes.
type position struct{ line, column int }

func newYAMLFile(name string, text []byte) *yamlFile {
	s := strings.TrimPrefix(string(text), "\uFEFF")
	return &yamlFile{name: name, text: s, lines: strings.Split(s, "\n")}
}

// maxErrors is how many errors of one file are told.
const maxErrors = 20

// errorf notes an error at a place.
func (f *yamlFile) errorf(at position, format string, args ...any) {
	if len(f.errs) >= maxErrors {
		return
	}
	f.errs = append(f.errs, &rules.Error{
		File:    f.name,
		Line:    at.line,
		Column:  at.column,
		Msg:     fmt.Sprintf(format, args...),
		Snippet: f.snippet(at),
	})
}

// snippet is the line of a place and a caret below it.
func (f *yamlFile) snippet(at position) string {
	const longest = 160
	if at.line < 1 || at.line > len(f.lines) {
		return ""
	}
	line := []rune(strings.ReplaceAll(strings.TrimRight(f.lines[at.line-1], "\r"), "\t", " "))
	column := min(max(at.column, 1), len(line)+1)
	cut := 0
	if len(line) > longest {
		cut = max(0, min(column-longest/2, len(line)-longest))
		line = line[cut : cut+longest]
	}
	text := strings.ToValidUTF8(string(line), "\uFFFD")
	return fmt.Sprintf("%4d | %s\n     | %s^", at.line, text, strings.Repeat(" ", column-1-cut))
}

// scan refuses what must not reach the parser.
func (f *yamlFile) scan() bool {
	if len(f.text) > maxFileBytes {
		f.errorf(position{}, "the file has %d bytes, more than %d", len(f.text), maxFileBytes)
		return false
	}
	if !utf8.ValidString(f.text) {
		f.errorf(position{}, "the file is not UTF-8 text")
		return false
	}
	var indents []int
	brackets := 0
	for i, line := range f.lines {
		rest := strings.TrimLeft(line, " ")
		marks := countMarks(rest)
		if marks > maxLineMarks {
			f.errorf(position{i + 1, 1}, "the line is too complex")
			return false
		}
		brackets = max(0, brackets+strings.Count(rest, "[")+strings.Count(rest, "{")-strings.Count(rest, "]")-strings.Count(rest, "}"))
		if strings.TrimSpace(rest) == "" {
			continue
		}
		indent := len(line) - len(rest)
		for len(indents) > 0 && indents[len(indents)-1] >= indent {
			indents = indents[:len(indents)-1]
		}
		indents = append(indents, indent)
		if len(indents) > maxYAMLDepth || brackets > maxYAMLDepth {
			f.errorf(position{i + 1, 1}, "the file is nested deeper than %d levels", maxYAMLDepth)
			return false
		}
	}
	return true
}

func countMarks(line string) int {
	n := 0
	for _, mark := range []string{"- ", "? ", ": ", "!", "&", "[", "{", "-\t", ":\t", "?\t"} {
		n += strings.Count(line, mark)
	}
	return n
}

// parse returns the body of the file, nil if it is empty or wrong.
func (f *yamlFile) parse() (body ast.Node) {
	if !f.scan() {
		return nil
	}
	defer func() {
		if v := recover(); v != nil { // the parser's, not ours
			f.errorf(position{}, "the file is not YAML: %v", v)
			body = nil
		}
	}()
	parsed, err := parser.ParseBytes([]byte(f.text), 0)
	if err != nil {
		f.syntaxError(err)
		return nil
	}
	for _, doc := range parsed.Docs {
		if doc.Body == nil {
			continue
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); comment {
			continue
		}
		if body != nil {
			f.errorf(f.start(doc.Body), "a rule file holds one document, without \"---\"")
			return nil
		}
		body = doc.Body
	}
	return body
}

func (f *yamlFile) syntaxError(err error) {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil || at.GetToken().Position == nil {
		f.errorf(position{}, "the file is not YAML: %v", err)
		return
	}
	p := at.GetToken().Position
	f.errorf(position{p.Line, p.Column}, "%s", at.GetMessage())
}

// start is where a node begins.
func (f *yamlFile) start(n ast.Node) position {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return f.start(n.Values[0])
		}
	case *ast.MappingValueNode:
		return f.start(n.Key)
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return position{}
	}
	return position{tk.Position.Line, max(1, tk.Position.Column)}
}

// pair is one key of a mapping with its value.
type pair struct {
	key   string
	at    position
	value ast.Node
}

// mapping returns the pairs of a mapping node; ok is false, and an error noted, for
// anything else.
func (f *yamlFile) mapping(n ast.Node, what string) (pairs []pair, ok bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		if f.plain(n) {
			f.errorf(f.start(n), "%s must be a mapping of keys and values, not %s", what, kindOf(n))
		}
		return nil, false
	}
	ok = true
	for _, v := range values {
		key, isText := keyOf(v.Key)
		if !isText {
			f.errorf(f.start(v.Key), "a key must be plain text")
			ok = false
			continue
		}
		pairs = append(pairs, pair{key: key, at: f.start(v.Key), value: v.Value})
	}
	return pairs, ok
}

func keyOf(n ast.MapKeyNode) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.NullNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// sequence returns the entries of a list.
func (f *yamlFile) sequence(n ast.Node, what string) ([]ast.Node, bool) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		if f.plain(n) {
			f.errorf(f.start(n), "%s must be a list, not %s", what, kindOf(n))
		}
		return nil, false
	}
	return s.Values, true
}

// plain notes an error for what rule files do not have: tags, anchors, aliases, and
// values that are not there. It is asked before a node is used as a scalar, or
// complained about.
func (f *yamlFile) plain(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.TagNode:
		f.errorf(f.start(n), "%q is a YAML tag, so what follows is lost: put the value in quotes, or write \"not\" instead of \"!\"", n.GetToken().Value)
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		f.errorf(f.start(n), "anchors, aliases and merge keys are not for rule files")
	case *ast.NullNode:
		if n.Token != nil && n.Token.Value != "" && !implicit(n) {
			f.errorf(f.start(n), "the value is null")
		} else {
			f.errorf(f.start(n), "the value is missing")
		}
	case nil:
		f.errorf(position{}, "the value is missing")
	default:
		return true
	}
	return false
}

// implicit reports whether nothing was written where a value should be.
func implicit(n *ast.NullNode) bool {
	return n.Token == nil || n.Token.Type.String() == "ImplicitNull"
}

// kindOf names what a node is, for errors.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.NullNode:
		return "null"
	}
	return "text"
}

// text is a string of the file that knows where its runes come from.
type text struct {
	file  *yamlFile
	node  ast.Node
	value string
	skip  int // runes of the node's string before value
}

// scalar returns a scalar as it is written. The text is not the parser's, which would keep
// the memory around it in use, too.
func (f *yamlFile) scalar(n ast.Node, what string) (text, bool) {
	t := text{file: f, node: n}
	if !f.plain(n) {
		return t, false
	}
	switch n := n.(type) {
	case *ast.StringNode:
		t.value = n.Value
	case *ast.LiteralNode:
		t.value = n.Value.Value
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		t.value = n.GetToken().Value
	default:
		f.errorf(f.start(n), "%s must be text, not %s", what, kindOf(n))
		return t, false
	}
	t.value = strings.Clone(t.value)
	return t, true
}

// part is the text from byte from to byte to.
func (t text) part(from, to int) text {
	t.skip += utf8.RuneCountInString(t.value[:from])
	t.value = t.value[from:to]
	return t
}

// errorf notes an error at the rune of the text.
func (t text) errorf(rune int, format string, args ...any) {
	t.file.errorf(t.at(rune), format, args...)
}

// at is where a rune of the text stands in the file. YAML folds lines and has
// escapes, so the runes are sought one after the other in the source, which is
// right unless an escape stands for a rune that also follows it.
func (t text) at(offset int) position {
	p := t.file.start(t.node)
	if p.line < 1 || p.line > len(t.file.lines) || t.file.replaced[t.node] {
		return p
	}
	whole, block := t.whole()
	if block {
		p = position{p.line + 1, 1}
	}
	s := seeker{lines: t.file.lines, at: p}
	if !block && s.skipQuote() {
		p = s.at
	}
	wanted := t.skip + offset
	for i, r := range []rune(whole) {
		s.seek(r)
		if i >= wanted {
			return s.at
		}
		s.next()
	}
	return s.at
}

// whole is the node's string, and whether it is a block.
func (t text) whole() (s string, block bool) {
	switch n := t.node.(type) {
	case *ast.StringNode:
		return n.Value, false
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return t.node.GetToken().Value, false
}

// seeker walks over the runes of a file.
type seeker struct {
	lines []string
	at    position
	line  []rune // the line at hand
	is    int    // its number, 0 before the first
}

func (s *seeker) skipQuote() bool {
	r, ok := s.peek()
	if ok && (r == '"' || r == '\'') {
		s.next()
		return true
	}
	return false
}

// peek is the rune at hand; a line ends in '\n'.
func (s *seeker) peek() (rune, bool) {
	if s.at.line < 1 || s.at.line > len(s.lines) {
		return 0, false
	}
	if s.is != s.at.line {
		s.line, s.is = []rune(s.lines[s.at.line-1]), s.at.line
	}
	if s.at.column > len(s.line) {
		return '\n', s.at.line < len(s.lines)
	}
	return s.line[s.at.column-1], true
}

func (s *seeker) next() {
	r, ok := s.peek()
	switch {
	case !ok:
	case r == '\n':
		s.at = position{s.at.line + 1, 1}
	default:
		s.at.column++
	}
}

// seek goes on to the next r. White space matches any, as lines are folded.
func (s *seeker) seek(r rune) {
	const farthest = 4_000
	from := s.at
	for range farthest {
		got, ok := s.peek()
		if !ok {
			break
		}
		if got == r || isSpace(r) && isSpace(got) {
			return
		}
		if isSpace(r) {
			break // folded away
		}
		s.next()
	}
	s.at = from
}

func isSpace(r rune) bool { return r == ' ' || r == '\n' || r == '\t' || r == '\r' }
