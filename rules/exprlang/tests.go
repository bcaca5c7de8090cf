package exprlang

import "github.com/expr-lang/expr/ast"

// test is one simple part of a condition: a slot against a constant. Most rules
// consist of such parts, which are judged without the virtual machine; whatever a
// test cannot decide is left to it, so that both always agree.
type test struct {
	slot  int
	op    testOp
	value any // bool, string, int or float64
}

type testOp uint8

const (
	opTrue testOp = iota
	opNotTrue
	opEqual
	opNotEqual
	opLess
	opLessEqual
	opMore
	opMoreEqual
)

var testOps = map[string]testOp{
	"==": opEqual, "!=": opNotEqual, "<": opLess, "<=": opLessEqual, ">": opMore, ">=": opMoreEqual,
}

// mirrored is the operator with its sides exchanged.
var mirrored = map[testOp]testOp{
	opEqual: opEqual, opNotEqual: opNotEqual, opLess: opMore, opLessEqual: opMoreEqual, opMore: opLess, opMoreEqual: opLessEqual,
}

// decision is what a test came to.
type decision uint8

const (
	holds decision = iota
	fails
	unsure // for the virtual machine
)

// findTests takes the leftmost simple parts of a chain of &&.
func findTests(n ast.Node, t *table, x *expression) {
	if b, ok := n.(*ast.BinaryNode); ok && (b.Operator == "&&" || b.Operator == "and") {
		findTests(b.Left, t, x)
		if !x.all {
			return
		}
		x.all = false
		findTests(b.Right, t, x)
		return
	}
	if one, ok := simple(n, t); ok {
		x.tests, x.all = append(x.tests, one), true
	}
}

func simple(n ast.Node, t *table) (test, bool) {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			slot, ok := truthSlot(n.Node, t)
			return test{slot: slot, op: opNotTrue}, ok
		}
	case *ast.BinaryNode:
		if slot, ok := truthSlot(n, t); ok {
			return test{slot: slot, op: opTrue}, true
		}
		op, ok := testOps[n.Operator]
		if !ok {
			return test{}, false
		}
		if slot, ok := slotOf(n.Left, t); ok {
			value, ok := literal(n.Right)
			return test{slot: slot, op: op, value: value}, ok
		}
		if slot, ok := slotOf(n.Right, t); ok {
			value, ok := literal(n.Left)
			return test{slot: slot, op: mirrored[op], value: value}, ok
		}
	}
	return test{}, false
}

// truthSlot finds the slot in what truth makes of it.
func truthSlot(n ast.Node, t *table) (int, bool) {
	b, ok := n.(*ast.BinaryNode)
	if !ok || b.Operator != "??" || !isBool(b.Right) || b.Right.(*ast.BoolNode).Value {
		return 0, false
	}
	return slotOf(b.Left, t)
}

func slotOf(n ast.Node, t *table) (int, bool) {
	id, ok := n.(*ast.IdentifierNode)
	if !ok {
		return 0, false
	}
	i, ok := t.index[id.Value]
	return i, ok
}

func literal(n ast.Node) (any, bool) {
	switch n := n.(type) {
	case *ast.BoolNode:
		return n.Value, true
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		return n.Value, true
	case *ast.FloatNode:
		return n.Value, true
	case *ast.UnaryNode:
		if n.Operator != "-" {
			return nil, false
		}
		switch v, _ := literal(n.Node); v := v.(type) {
		case int:
			return -v, true
		case float64:
			return -v, true
		}
	}
	return nil, false
}

// decide judges a value.
func (t *test) decide(v any) decision {
	switch t.op {
	case opTrue, opNotTrue:
		b, ok := v.(bool)
		if !ok && v != nil {
			return unsure
		}
		return decided(b == (t.op == opTrue))
	case opEqual, opNotEqual:
		equal, ok := sameValue(v, t.value)
		if !ok {
			return unsure
		}
		return decided(equal == (t.op == opEqual))
	case opLess, opLessEqual, opMore, opMoreEqual:
		return t.order(v)
	}
	return unsure
}

func decided(b bool) decision {
	if b {
		return holds
	}
	return fails
}

// sameValue compares what is of one kind; nil is like nothing else.
func sameValue(a, b any) (equal, ok bool) {
	if a == nil {
		return false, true
	}
	switch b := b.(type) {
	case bool:
		v, ok := a.(bool)
		return v == b, ok
	case string:
		v, ok := a.(string)
		return v == b, ok
	case int:
		if v, ok := a.(int); ok {
			return v == b, true
		}
	}
	x, okX := toFloat(a)
	y, okY := toFloat(b)
	return x == y, okX && okY
}

// order compares numbers; text and what is absent is left to the virtual machine.
func (t *test) order(v any) decision {
	if a, ok := v.(int); ok {
		if b, ok := t.value.(int); ok {
			return decided(ordered(t.op, a, b))
		}
	}
	a, okA := toFloat(v)
	b, okB := toFloat(t.value)
	if !okA || !okB {
		return unsure
	}
	return decided(ordered(t.op, a, b))
}

func ordered[N int | float64](op testOp, a, b N) bool {
	switch op {
	case opLess:
		return a < b
	case opLessEqual:
		return a <= b
	case opMore:
		return a > b
	default:
		return a >= b
	}
}

// findStrict notes the slots that are calculated with, or compared by order,
// whatever else the expression comes to: if one is nil, the result is known.
func findStrict(n ast.Node, t *table, x *expression) {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if n.Operator == "-" || n.Operator == "+" {
			noteStrict(n.Node, t, x)
		}
		findStrict(n.Node, t, x)
	case *ast.ConditionalNode:
		findStrict(n.Cond, t, x)
	case *ast.CallNode:
		for _, arg := range n.Arguments {
			if calculates(n) {
				noteStrict(arg, t, x)
			}
			findStrict(arg, t, x)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "+", "-", "*", "/", "**", "^", "<", "<=", ">", ">=":
			noteStrict(n.Left, t, x)
			noteStrict(n.Right, t, x)
		case "==", "!=", "in":
		default: // && || ?? and what else may stop after its left side
			findStrict(n.Left, t, x)
			return
		}
		findStrict(n.Left, t, x)
		findStrict(n.Right, t, x)
	}
}

// calculates reports whether a call stands for an operator.
func calculates(n *ast.CallNode) bool {
	switch callee := n.Callee.(type) {
	case *ast.IdentifierNode:
		return callee.Value == fnModulo
	case *ast.ConstantNode: // see checkArithmetic
		return true
	}
	return false
}

func noteStrict(n ast.Node, t *table, x *expression) {
	if i, ok := slotOf(n, t); ok {
		x.strict = append(x.strict, i)
	}
}
