package exprlang

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// Bounds of one expression. Nothing stops an expression that runs, so what could
// run long or take much memory does not get that far.
const (
	maxSource    = 16 << 10 // bytes
	maxBrackets  = 256      // nested; the parser recurses
	maxNodes     = 2_000
	maxClosures  = 2      // nested: all, any, count, filter, map, reduce, ...
	maxRange     = 10_000 // elements of a literal range
	maxNested    = 1_000  // elements, where closures are nested
	memoryBudget = 200_000
	maxString    = 1 << 20 // bytes that repeat, join, replace and concat may make
)

// refusal is why an expression is refused, and where.
type refusal struct {
	at  int // rune of the source
	msg string
}

func refuse(n ast.Node, format string, args ...any) *refusal {
	at := 0
	if n != nil {
		at = n.Location().From
	}
	return &refusal{at: at, msg: fmt.Sprintf(format, args...)}
}

// endsTooEarly is said of an expression that stops in its middle.
const endsTooEarly = "the expression ends too early"

// sourceErrors is how the library says what is wrong with a source; it is compiled
// when something is.
var sourceErrors = sync.OnceValue(func() (e struct{ unexpected, expected, mismatched *regexp.Regexp }) {
	e.unexpected = regexp.MustCompile(`^unexpected token \w+\((.+)\)$`)
	e.expected = regexp.MustCompile(`^expected bool, but got (.+)$`)
	e.mismatched = regexp.MustCompile(`^invalid operation: (\S+) \(mismatched types (.+) and (.+)\)$`)
	return e
})

// fromExpr turns an error of the library into a refusal.
func fromExpr(err error) *refusal {
	var fe *file.Error
	if !errors.As(err, &fe) {
		return &refusal{msg: sourceWords(err.Error())}
	}
	return &refusal{at: fe.From, msg: sourceWords(fe.Message)}
}

// sourceWords says what is wrong with a source without the types of Go.
func sourceWords(msg string) string {
	if msg == "unexpected token EOF" {
		return endsTooEarly
	}
	if m := sourceErrors().unexpected.FindStringSubmatch(msg); m != nil {
		return "unexpected " + m[1]
	}
	if m := sourceErrors().expected.FindStringSubmatch(msg); m != nil {
		return "a condition is true or false, not " + goName(m[1])
	}
	if m := sourceErrors().mismatched.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("%s %s %s cannot be calculated", goName(m[2]), m[1], goName(m[3]))
	}
	return strings.TrimSpace(msg)
}

// scanSource refuses what must not reach the parser. Brackets in strings count,
// too: the scan need not be exact, only safe.
func scanSource(source string) *refusal {
	if len(source) > maxSource {
		return &refusal{msg: fmt.Sprintf("the expression has %d bytes, more than %d", len(source), maxSource)}
	}
	depth, at := 0, 0
	for _, r := range source {
		switch r {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth = max(0, depth-1)
		}
		if depth > maxBrackets {
			return &refusal{at: at, msg: fmt.Sprintf("the expression is nested deeper than %d levels", maxBrackets)}
		}
		at++
	}
	return nil
}

// bounds walks over an expression and refuses what could run away.
type bounds struct {
	closures int // around the node at hand
	deepest  int
	refused  *refusal
}

// checkBounds also tells whether closures are nested. Then their lists are bounded,
// too (see few), as their lengths are multiplied.
func checkBounds(root ast.Node) (nested bool, refused *refusal) {
	b := &bounds{}
	b.walk(root)
	nested = b.deepest >= 2
	if b.refused == nil && nested {
		b.nestedRanges(root)
	}
	return nested, b.refused
}

func (b *bounds) refuse(r *refusal) {
	if b.refused == nil {
		b.refused = r
	}
}

func (b *bounds) walk(n ast.Node) {
	if n == nil || b.refused != nil {
		return
	}
	switch n := n.(type) {
	case *ast.PredicateNode:
		b.closures++
		b.deepest = max(b.deepest, b.closures)
		if b.closures > maxClosures {
			b.refuse(refuse(n, "closures are nested deeper than %d", maxClosures))
		}
		defer func() { b.closures-- }()
	case *ast.BinaryNode:
		if size, literal := rangeSize(n); literal && size > maxRange {
			b.refuse(refuse(n, "the range has more than %d elements", maxRange))
		}
	case *ast.BuiltinNode:
		if n.Name == "reduce" && len(n.Arguments) >= 2 {
			b.reduce(n)
		}
	}
	for _, child := range children(n) {
		b.walk(child)
	}
}

// nestedRanges bounds the literal ranges of an expression whose closures are nested.
func (b *bounds) nestedRanges(root ast.Node) {
	eachNode(root, func(n ast.Node) {
		bin, ok := n.(*ast.BinaryNode)
		if !ok {
			return
		}
		if size, literal := rangeSize(bin); literal && size > maxNested {
			b.refuse(refuse(n, "a range in nested closures has at most %d elements", maxNested))
		}
	})
}

// rangeSize is the length of a range whose ends are literal.
func rangeSize(n *ast.BinaryNode) (size int64, literal bool) {
	if n.Operator != ".." {
		return 0, false
	}
	from, ok := literalInt(n.Left)
	to, ok2 := literalInt(n.Right)
	if !ok || !ok2 {
		return 0, false
	}
	if to < from {
		return 0, true
	}
	return int64(to) - int64(from) + 1, true
}

func literalInt(n ast.Node) (int, bool) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return n.Value, true
	case *ast.UnaryNode:
		if i, ok := n.Node.(*ast.IntegerNode); ok && n.Operator == "-" {
			return -i.Value, true
		}
	}
	return 0, false
}

// numericBuiltins are those that #acc may go through.
var numericBuiltins = map[string]bool{
	"abs": true, "min": true, "max": true, "floor": true, "ceil": true, "round": true, "int": true, "float": true,
}

// reduce lets #acc be a number and nothing that grows: text that is doubled 28
// times is 256 MB. What is added is checked again when it runs (see growth).
func (b *bounds) reduce(n *ast.BuiltinNode) {
	if len(n.Arguments) == 3 && isText(n.Arguments[2]) {
		b.refuse(refuse(n.Arguments[2], "reduce is for numbers: it cannot build text"))
		return
	}
	var walk func(ast.Node) bool // reports whether #acc is inside
	walk = func(n ast.Node) bool {
		if p, ok := n.(*ast.PointerNode); ok {
			return p.Name == "acc"
		}
		inside := false
		for _, child := range children(n) {
			inside = walk(child) || inside
		}
		if inside && !passesNumbers(n) {
			b.refuse(refuse(n, "reduce is for numbers: #acc cannot be used here"))
		}
		return inside
	}
	walk(n.Arguments[1])
}

func passesNumbers(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.PredicateNode, *ast.UnaryNode, *ast.ConditionalNode:
		return true
	case *ast.BinaryNode:
		return n.Operator != ".."
	case *ast.BuiltinNode:
		return numericBuiltins[n.Name]
	}
	return false
}

func isText(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.StringNode, *ast.ArrayNode, *ast.MapNode:
		return true
	case *ast.BinaryNode:
		return n.Operator == "+" && (isText(n.Left) || isText(n.Right))
	}
	return false
}

// children are the nodes right below a node.
func children(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.UnaryNode:
		return []ast.Node{n.Node}
	case *ast.BinaryNode:
		return []ast.Node{n.Left, n.Right}
	case *ast.ChainNode:
		return []ast.Node{n.Node}
	case *ast.MemberNode:
		return []ast.Node{n.Node, n.Property}
	case *ast.SliceNode:
		return []ast.Node{n.Node, n.From, n.To}
	case *ast.CallNode:
		return append([]ast.Node{n.Callee}, n.Arguments...)
	case *ast.BuiltinNode:
		return n.Arguments
	case *ast.PredicateNode:
		return []ast.Node{n.Node}
	case *ast.VariableDeclaratorNode:
		return []ast.Node{n.Value, n.Expr}
	case *ast.SequenceNode:
		return n.Nodes
	case *ast.ConditionalNode:
		return []ast.Node{n.Cond, n.Exp1, n.Exp2}
	case *ast.ArrayNode:
		return n.Nodes
	case *ast.MapNode:
		return n.Pairs
	case *ast.PairNode:
		return []ast.Node{n.Key, n.Value}
	}
	return nil
}

// eachNode visits a node and all below it, outside first.
func eachNode(n ast.Node, visit func(ast.Node)) {
	if n == nil {
		return
	}
	visit(n)
	for _, child := range children(n) {
		eachNode(child, visit)
	}
}
