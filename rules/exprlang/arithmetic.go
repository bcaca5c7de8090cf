package exprlang

import (
	"fmt"
	"math"
	"reflect"
	"strconv"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/vm/runtime"
)

// The operators that stand instead of the library's, which wrap around in silence
// where a whole number gets too large. Their types are among those that the virtual
// machine calls directly, without a list of arguments on the heap.
var checked = map[string]func(a, b any) any{"+": plus, "-": minus, "*": times}

// checkArithmetic makes of a tree, whose types are known, one that says what it
// cannot calculate with whole numbers. It comes before the library folds constants.
func checkArithmetic(n ast.Node) ast.Node {
	below(n, checkArithmetic)
	switch n := n.(type) {
	case *ast.UnaryNode:
		if _, constant := literal(n.Node); n.Operator == "-" && !constant && mayBeWhole(n.Node) {
			return direct(n, negated, n.Node)
		}
	case *ast.BinaryNode:
		if f := checked[n.Operator]; f != nil && mayBeWhole(n.Left) && mayBeWhole(n.Right) && !fits(n) {
			return direct(n, f, n.Left, n.Right)
		}
	case *ast.BuiltinNode:
		switch {
		case n.Name == "abs" && len(n.Arguments) == 1 && mayBeWhole(n.Arguments[0]):
			return direct(n, absolute, n.Arguments[0])
		case n.Name == "sum":
			return checkedSum(n)
		}
	}
	return n
}

// below replaces what is right below a node.
func below(n ast.Node, with func(ast.Node) ast.Node) {
	all := func(nodes []ast.Node) {
		for i := range nodes {
			nodes[i] = with(nodes[i])
		}
	}
	one := func(place *ast.Node) {
		if *place != nil {
			*place = with(*place)
		}
	}
	switch n := n.(type) {
	case *ast.UnaryNode:
		one(&n.Node)
	case *ast.BinaryNode:
		one(&n.Left)
		one(&n.Right)
	case *ast.ChainNode:
		one(&n.Node)
	case *ast.MemberNode:
		one(&n.Node)
		one(&n.Property)
	case *ast.SliceNode:
		one(&n.Node)
		one(&n.From)
		one(&n.To)
	case *ast.CallNode:
		one(&n.Callee)
		all(n.Arguments)
	case *ast.BuiltinNode:
		all(n.Arguments)
	case *ast.PredicateNode:
		one(&n.Node)
	case *ast.VariableDeclaratorNode:
		one(&n.Value)
		one(&n.Expr)
	case *ast.SequenceNode:
		all(n.Nodes)
	case *ast.ConditionalNode:
		one(&n.Cond)
		one(&n.Exp1)
		one(&n.Exp2)
	case *ast.ArrayNode:
		all(n.Nodes)
	case *ast.MapNode:
		all(n.Pairs)
	case *ast.PairNode:
		one(&n.Key)
		one(&n.Value)
	}
}

// mayBeWhole reports whether the type of a node does not exclude a whole number.
func mayBeWhole(n ast.Node) bool {
	t := n.Type()
	return t == nil || t.Kind() == reflect.Interface || t == reflect.TypeFor[int]() || t == reflect.TypeFor[int64]()
}

// fits reports whether both sides are constants and their result is within bounds:
// the library may calculate it once and for all.
func fits(n *ast.BinaryNode) bool {
	a, okA := literal(n.Left)
	b, okB := literal(n.Right)
	if !okA || !okB {
		return false
	}
	x, okA := held(a)
	y, okB := held(b)
	if !okA || !okB {
		return true // floats and text
	}
	_, ok := whole(n.Operator, x, y)
	return ok
}

// direct is a call of a function that has no name, in the place of n.
func direct(n ast.Node, f any, args ...ast.Node) ast.Node {
	callee := at(n, &ast.ConstantNode{Value: f})
	callee.SetType(reflect.TypeOf(f))
	call := at(n, &ast.CallNode{Callee: callee, Arguments: args})
	call.SetNature(*n.Nature())
	return call
}

// checkedSum is a sum as a reduce, whose additions are checked.
func checkedSum(n *ast.BuiltinNode) ast.Node {
	var value ast.Node = at(n, &ast.PointerNode{})
	if len(n.Arguments) == 2 {
		value = n.Arguments[1]
		if p, ok := value.(*ast.PredicateNode); ok {
			value = p.Node
		}
	}
	add := direct(n, plus, value, at(n, &ast.PointerNode{Name: "acc"}))
	zero := at(n, &ast.IntegerNode{})
	zero.SetType(reflect.TypeFor[int]())
	sum := at(n, &ast.BuiltinNode{Name: "reduce", Arguments: []ast.Node{n.Arguments[0], at(n, &ast.PredicateNode{Node: add}), zero}})
	sum.SetNature(*n.Nature())
	return sum
}

// plus, minus and times calculate with whole numbers; anything else is left to the
// library. They panic as its own operators do: the virtual machine makes an error of
// that.
func plus(a, b any) any {
	if x, y, ok := bothHeld(a, b); ok {
		return mustFit("+", x, y)
	}
	return runtime.Add(a, b)
}

func minus(a, b any) any {
	if x, y, ok := bothHeld(a, b); ok {
		return mustFit("-", x, y)
	}
	return runtime.Subtract(a, b)
}

func times(a, b any) any {
	if x, y, ok := bothHeld(a, b); ok {
		return mustFit("*", x, y)
	}
	return runtime.Multiply(a, b)
}

func negated(a any) any {
	x, ok := held(a)
	if !ok {
		return runtime.Negate(a)
	}
	result, ok := whole("-", 0, x)
	if !ok {
		panic(beyond(fmt.Sprintf("-(%d)", x)))
	}
	return result
}

func absolute(a any) any {
	if x, ok := held(a); ok && x < 0 {
		result, ok := whole("-", 0, x)
		if !ok {
			panic(beyond(fmt.Sprintf("abs(%d)", x)))
		}
		return result
	}
	return builtin.Abs(a)
}

func mustFit(op string, a, b int64) int {
	result, ok := whole(op, a, b)
	if !ok {
		panic(beyond(fmt.Sprintf("%d %s %d", a, op, b)))
	}
	return result
}

func beyond(what string) error {
	return fmt.Errorf("%s is beyond %d bits", what, strconv.IntSize)
}

// whole calculates; ok is false if an int cannot hold the result.
func whole(op string, a, b int64) (result int, ok bool) {
	var r int64
	switch op {
	case "+":
		r = a + b
		ok = (r > a) == (b > 0)
	case "-":
		r = a - b
		ok = (r < a) == (b > 0)
	case "*":
		r = a * b
		small := int64(int32(a)) == a && int64(int32(b)) == b
		ok = small || a == 0 || r/a == b && (a != -1 || b != math.MinInt64)
	}
	return int(r), ok && int64(int(r)) == r
}

func bothHeld(a, b any) (x, y int64, ok bool) {
	x, okA := held(a)
	y, okB := held(b)
	return x, y, okA && okB
}

// held is a value that is held as a whole number.
func held(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	}
	return 0, false
}
