package exprlang

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/optimizer"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
)

// expression is one compiled expression.
type expression struct {
	prog *vm.Program // as small as it runs
	// slots are the variables that prog reads, and strict those of them that it
	// cannot do without.
	slots, strict []int
	payload       bool // it reads the message's
	// tests are the leftmost parts of a condition that need no virtual machine;
	// with all set they are the whole of it.
	tests []test
	all   bool
	// bare is the slot that is the whole expression, or -1: then there is no prog.
	bare int
	// key and source are what is written.
	key, source string
}

// The variables of rules and their types; payload and prev may be anything.
var ruleVariables = map[string]any{
	"topic": "", "text": "", "origin": "", "parts": []string{}, "qos": 0, "retain": false, "now": time.Time{},
}

const variableNames = "payload, prev, text, topic, parts, qos, retain, origin, properties, vars, time, sun, windows and edge"

// compilation is the way of one expression from source to bytecode.
type compilation struct {
	conf  *conf.Config
	table *table // nil for a formula: every name is a variable
	lets  []string
	// nested says that closures are nested.
	nested bool
	err    *refusal
}

// ruleConfs are the library's configurations of rules that are not in use: making one
// takes 30 KB, and using it in two places at once is not foreseen.
var ruleConfs = sync.Pool{New: func() any {
	c := newConf(append(slices.Clip(ruleFunctions), pluginFunction))
	expr.Env(ruleVariables)(c)
	return c
}}

// compileRule compiles an expression of a rule file. A condition is a bool, and nil
// is false in it.
func compileRule(source string, t *table, condition bool) (_ *expression, refused *refusal) {
	defer func() {
		if v := recover(); v != nil {
			refused = &refusal{msg: fmt.Sprintf("the expression cannot be compiled: %v", v)}
		}
	}()
	c := &compilation{conf: ruleConfs.Get().(*conf.Config), table: t}
	c.conf.Expect, c.conf.ExpectAny = reflect.Invalid, false
	if condition {
		expr.AsBool()(c.conf)
	}
	root, prog, err := c.compile(source, condition)
	ruleConfs.Put(c.conf) // not after a panic
	if err != nil {
		return nil, err
	}
	x := &expression{bare: -1, source: strings.TrimSpace(source)}
	c.findSlots(root, x)
	findStrict(root, t, x)
	if condition {
		findTests(root, t, x)
	}
	if id, ok := root.(*ast.IdentifierNode); ok {
		x.bare = t.index[id.Value]
	} else {
		x.prog = lean(prog)
	}
	return x, nil
}

// lean is a program without the tree and the places of what it was compiled from, which
// take most of its memory: what goes wrong is told in words of ours, without a place.
func lean(prog *vm.Program) *vm.Program {
	for _, op := range []vm.Opcode{vm.OpLoadFunc, vm.OpCall0, vm.OpCall1, vm.OpCall2, vm.OpCall3} {
		if slices.Contains(prog.Bytecode, op) {
			return prog // it has functions, which the library does not give
		}
	}
	variables := 0
	eachNode(prog.Node(), func(n ast.Node) {
		if _, ok := n.(*ast.VariableDeclaratorNode); ok {
			variables++
		}
	})
	return vm.NewProgram(file.Source{}, nil, nil, variables, slices.Clone(prog.Constants),
		slices.Clone(prog.Bytecode), slices.Clone(prog.Arguments), nil, nil, nil)
}

// newConf is the library's configuration, with our functions and bounds.
func newConf(functions []function) *conf.Config {
	c := conf.CreateNew()
	c.MaxNodes = maxNodes
	for _, f := range functions {
		expr.Function(f.name, f.call, f.types...)(c)
	}
	c.Disabled["now"] = true
	delete(c.Builtins, "now")
	return c
}

// compile returns the tree as it is before the library optimizes it, too.
func (c *compilation) compile(source string, condition bool) (ast.Node, *vm.Program, *refusal) {
	c.conf.Strict = false
	trimmed := strings.TrimSpace(source)
	if trimmed == "" {
		return nil, nil, &refusal{msg: "the expression is empty"}
	}
	if r := scanSource(source); r != nil {
		return nil, nil, r
	}
	tree, err := parser.ParseWithConfig(source, c.conf)
	if err != nil {
		return nil, nil, fromExpr(err)
	}
	nested, refused := checkBounds(tree.Node)
	if refused != nil {
		return nil, nil, refused
	}
	c.nested = nested
	tree.Node = c.transform(tree.Node)
	c.checkGiven(tree.Node)
	if condition {
		tree.Node = truth(tree.Node)
	}
	if c.err != nil {
		return nil, nil, c.err
	}
	if _, err := checker.Check(tree, c.conf); err != nil {
		return nil, nil, fromExpr(err)
	}
	tree.Node = checkArithmetic(tree.Node)
	root := tree.Node
	if err := optimizer.Optimize(&tree.Node, c.conf); err != nil {
		return nil, nil, fromExpr(err)
	}
	prog, err := compiler.Compile(tree, c.conf)
	if err != nil {
		return nil, nil, fromExpr(err)
	}
	return root, prog, nil
}

func (c *compilation) refuse(n ast.Node, format string, args ...any) {
	if c.err == nil {
		c.err = refuse(n, format, args...)
	}
}

// transform makes of a parsed tree what the library is to compile: paths into the
// payload become single variables, nil counts as false where a bool is wanted and
// has no fields, and % takes any whole numbers.
func (c *compilation) transform(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return c.name(n)
	case *ast.UnaryNode:
		n.Node = c.transform(n.Node)
		if n.Operator == "!" || n.Operator == "not" {
			n.Node = truth(n.Node)
		}
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ChainNode:
		n.Node = c.transform(n.Node)
		if _, flat := n.Node.(*ast.IdentifierNode); flat {
			return n.Node
		}
	case *ast.MemberNode:
		return c.member(n)
	case *ast.CallNode:
		return c.call(n)
	case *ast.BuiltinNode:
		return c.builtin(n)
	case *ast.VariableDeclaratorNode:
		n.Value = c.transform(n.Value)
		c.lets = append(c.lets, n.Name)
		n.Expr = c.transform(n.Expr)
		c.lets = c.lets[:len(c.lets)-1]
	case *ast.ConditionalNode:
		n.Cond = truth(c.transform(n.Cond))
		n.Exp1, n.Exp2 = c.transform(n.Exp1), c.transform(n.Exp2)
	default:
		c.inside(n)
	}
	return n
}

// inside transforms what is below a node that stays what it is.
func (c *compilation) inside(n ast.Node) {
	switch n := n.(type) {
	case *ast.SliceNode:
		n.Node = c.transform(n.Node)
		if n.From != nil {
			n.From = c.transform(n.From)
		}
		if n.To != nil {
			n.To = c.transform(n.To)
		}
	case *ast.PredicateNode:
		n.Node = c.transform(n.Node)
	case *ast.SequenceNode:
		c.each(n.Nodes)
	case *ast.ArrayNode:
		c.each(n.Nodes)
	case *ast.MapNode:
		c.each(n.Pairs)
	case *ast.PairNode:
		n.Key, n.Value = c.transform(n.Key), c.transform(n.Value)
	}
}

func (c *compilation) each(nodes []ast.Node) {
	for i := range nodes {
		nodes[i] = c.transform(nodes[i])
	}
}

// name resolves a variable.
func (c *compilation) name(n *ast.IdentifierNode) ast.Node {
	if slices.Contains(c.lets, n.Value) {
		return n
	}
	if c.table == nil {
		if value, ok := formulaConstants[n.Value]; ok {
			return at(n, &ast.FloatNode{Value: value})
		}
		return n
	}
	if n.Value == "windows" || n.Value == "edge" {
		return c.ruleName(n)
	}
	if !c.table.know(n.Value) {
		c.refuse(n, "unknown name %q: the variables are %s", n.Value, variableNames)
	}
	return n
}

func (c *compilation) binary(n *ast.BinaryNode) ast.Node {
	n.Left, n.Right = c.transform(n.Left), c.transform(n.Right)
	switch n.Operator {
	case "&&", "||", "and", "or":
		n.Left, n.Right = truth(n.Left), truth(n.Right)
	case "%":
		return callOf(fnModulo, n.Left, n.Right)
	}
	return n
}

// member makes one variable of a path with constant steps, and lets nil have no
// fields elsewhere.
func (c *compilation) member(n *ast.MemberNode) ast.Node {
	n.Node, n.Property = c.transform(n.Node), c.transform(n.Property)
	if id, ok := n.Node.(*ast.IdentifierNode); ok && c.table != nil && !slices.Contains(c.lets, id.Value) {
		c.checkField(id.Value, n.Property)
		if name, ok := c.table.extend(id.Value, n.Property); ok {
			return at(n, &ast.IdentifierNode{Value: name})
		}
	}
	n.Optional = true
	return at(n, &ast.ChainNode{Node: n})
}

// withMethods are the variables that have methods.
var withMethods = map[string]bool{"now": true, "sunrise()": true, "sunset()": true}

func (c *compilation) call(n *ast.CallNode) ast.Node {
	if given := c.givenCall(n); given != nil {
		return given
	}
	c.each(n.Arguments)
	if callee, ok := n.Callee.(*ast.IdentifierNode); ok && callee.Value == pluginFunction.name && c.table != nil {
		c.pluginCall(n)
	}
	switch callee := n.Callee.(type) {
	case *ast.IdentifierNode:
		if callee.Value == "now" && c.table != nil {
			if len(n.Arguments) > 0 {
				c.refuse(n, "now() takes no arguments")
			}
			c.table.know("now")
			return at(n, &ast.IdentifierNode{Value: "now"})
		}
		if c.conf.Functions[callee.Value] == nil {
			c.refuse(n, "unknown function %q", callee.Value)
		}
	case *ast.MemberNode: // a method, of a time
		callee.Node = c.transform(callee.Node)
		if id, ok := callee.Node.(*ast.IdentifierNode); ok && c.table != nil && !withMethods[id.Value] && !slices.Contains(c.lets, id.Value) {
			c.refuse(n, "%s has no functions", shownName(id.Value))
		}
	default:
		c.refuse(n, "this cannot be called")
	}
	return n
}

// predicateBuiltins are those whose closure gives true or false.
var predicateBuiltins = map[string]bool{
	"all": true, "none": true, "any": true, "one": true, "filter": true, "count": true,
	"find": true, "findIndex": true, "findLast": true, "findLastIndex": true,
}

func (c *compilation) builtin(n *ast.BuiltinNode) ast.Node {
	c.each(n.Arguments)
	if len(n.Arguments) < 2 {
		return n
	}
	p, ok := n.Arguments[1].(*ast.PredicateNode)
	if ok && c.nested {
		n.Arguments[0] = callOf(fnFew, n.Arguments[0])
	}
	switch {
	case !ok:
	case predicateBuiltins[n.Name]:
		p.Node = truth(p.Node)
	case n.Name == "reduce":
		p.Node = growth(p.Node)
	}
	return n
}

// growth checks, when it runs, that each sum in the body of a reduce is one of
// numbers.
func growth(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.BinaryNode:
		n.Left, n.Right = growth(n.Left), growth(n.Right)
		if n.Operator == "+" {
			n.Left, n.Right = number(n.Left), number(n.Right)
		}
	case *ast.UnaryNode:
		n.Node = growth(n.Node)
	case *ast.ConditionalNode:
		n.Cond, n.Exp1, n.Exp2 = growth(n.Cond), growth(n.Exp1), growth(n.Exp2)
	case *ast.BuiltinNode:
		for i := range n.Arguments {
			n.Arguments[i] = growth(n.Arguments[i])
		}
	}
	return n
}

func number(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return n
	}
	return callOf(fnNumber, n)
}

// callOf is a call of a function of ours.
func callOf(name string, args ...ast.Node) ast.Node {
	return at(args[0], &ast.CallNode{Callee: at(args[0], &ast.IdentifierNode{Value: name}), Arguments: args})
}

// truth makes nil false where a bool is wanted: n ?? false.
func truth(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.NilNode:
		return at(n, &ast.BoolNode{Value: false})
	case *ast.IdentifierNode:
		if _, typed := ruleVariables[n.Value]; typed {
			return n
		}
	case *ast.MemberNode, *ast.ChainNode, *ast.PointerNode, *ast.CallNode, *ast.BuiltinNode:
		if b, ok := n.(*ast.BuiltinNode); ok && (b.Name == "all" || b.Name == "none" || b.Name == "any" || b.Name == "one") {
			return n
		}
	case *ast.ConditionalNode, *ast.VariableDeclaratorNode, *ast.SequenceNode:
	case *ast.BinaryNode:
		if n.Operator != "??" || isBool(n.Right) {
			return n
		}
	default:
		return n
	}
	return at(n, &ast.BinaryNode{Operator: "??", Left: n, Right: at(n, &ast.BoolNode{Value: false})})
}

func isBool(n ast.Node) bool {
	_, ok := n.(*ast.BoolNode)
	return ok
}

// at gives a node that we made the place of the one that it stands for.
func at[N ast.Node](place ast.Node, n N) N {
	n.SetLocation(place.Location())
	return n
}

// findSlots notes the variables that are read.
func (c *compilation) findSlots(root ast.Node, x *expression) {
	eachNode(root, func(n ast.Node) {
		id, ok := n.(*ast.IdentifierNode)
		if !ok {
			return
		}
		if i, ok := c.table.index[id.Value]; ok && !slices.Contains(x.slots, i) {
			x.slots = append(x.slots, i)
			x.payload = x.payload || c.table.slots[i].root == rootPayload
		}
	})
}

// runesBefore is how many runes of s stand before byte i.
func runesBefore(s string, i int) int { return utf8.RuneCountInString(s[:i]) }
