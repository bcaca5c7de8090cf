package exprlang

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"

	"github.com/gatehouse/gatehouse/rules"
)

// maxPluginCalls is how many functions of plugins one run of a rule may call, up to its
// next wait: each call holds up the rules behind it.
const maxPluginCalls = 16

// pluginFunction is plugin(name, ...) as the virtual machine has it: what it is called
// through stands before its arguments.
var pluginFunction = function{"plugin", callPlugin, []any{new(func(any, string, ...any) any)}}

// pluginSlot is the slot of what functions of plugins are called through.
const pluginSlot = "plugin()"

// pluginError is why a function of a plugin gave nothing. It fails the run of the rule.
type pluginError struct{ msg string }

func (e *pluginError) Error() string { return e.msg }

// plugins is what the expressions of one evaluator call functions through.
type plugins struct {
	e     *evaluator
	ctx   context.Context // of the Run in progress, and of nothing longer
	funcs rules.Funcs
	calls int
	made  []madeCall // while somebody wants to know
	again bool       // they are told once more, not made
	doc   document
}

// madeCall is a call and what came of it.
type madeCall struct {
	what  string
	value any
}

// pluginCall checks a call of plugin() and gives it what it is called through.
func (c *compilation) pluginCall(n *ast.CallNode) {
	if len(n.Arguments) == 0 {
		c.refuse(n, "plugin wants the name of a function: plugin(\"name\", ...)")
		return
	}
	if name, ok := literalText(n.Arguments[0]); !ok || name == "" {
		c.refuse(n.Arguments[0], "plugin wants the name of a function in quotes")
		return
	}
	if _, ok := c.table.index[pluginSlot]; !ok {
		through := func(e *evaluator, _ []step) any { return &e.plugins }
		c.table.add(slot{root: rootGiven, name: pluginSlot, given: &given{get: through, fleeting: true}})
	}
	n.Arguments = append([]ast.Node{at(n, &ast.IdentifierNode{Value: pluginSlot})}, n.Arguments...)
}

// callPlugin is plugin().
func callPlugin(args ...any) (any, error) {
	p, ok := args[0].(*plugins)
	if !ok {
		return nil, errors.New("plugin() cannot be called here")
	}
	name, _ := args[1].(string)
	list := []byte{'['}
	for i, a := range args[2:] {
		if i > 0 {
			list = append(list, ',')
		}
		var err error
		if list, err = p.e.numbers.appendValue(list, a); err != nil {
			return nil, err
		}
	}
	return p.call(name, append(list, ']'))
}

// begin is the beginning of one call of a rule.
func (p *plugins) begin() {
	p.calls = 0
	clear(p.made)
	p.made = p.made[:0]
}

func (p *plugins) call(name string, args []byte) (any, error) {
	what := fmt.Sprintf("plugin(%q, %s", name, args[1:len(args)-1])
	what = strings.TrimSuffix(what, ", ") + ")"
	if p.again {
		for i := range p.made {
			if p.made[i].what == what {
				return p.made[i].value, nil
			}
		}
		return nil, nil
	}
	if p.funcs == nil {
		return nil, &pluginError{fmt.Sprintf("function %q cannot be called: there are no plugins here", name)}
	}
	if p.calls++; p.calls > maxPluginCalls {
		return nil, &pluginError{fmt.Sprintf("function %q is not called: one run calls at most %d functions of plugins", name, maxPluginCalls)}
	}
	began := time.Now()
	result, err := p.funcs.Call(p.ctx, name, args)
	took := time.Since(began).Microseconds()
	if err != nil {
		p.e.tell(what, fmt.Sprintf("%v (%d us)", err, took))
		return nil, &pluginError{err.Error()}
	}
	p.e.tell(what, fmt.Sprintf("%s (%d us)", abridgeTo(string(result), maxFactValue), took))
	p.doc.load(result, true)
	defer p.doc.load(nil, false)
	if p.doc.look() != isJSON {
		return nil, &pluginError{fmt.Sprintf("function %q gave what is no JSON, or nested too deeply", name)}
	}
	v := p.e.numbers.decode(p.doc.value)
	if p.e.facts != nil {
		p.made = append(p.made, madeCall{what: what, value: v})
	}
	return v, nil
}
