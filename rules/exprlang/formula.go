package exprlang

import (
	"errors"
	"fmt"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// Formula compiles an expression into a function of the values of named variables:
// the formulas of devices. Besides what expressions of rules have there are the
// functions sin, cos and random (from 0 up to 1) and the constant pi. A variable
// that is not given is nil. The function is for one goroutine; its result is nil,
// bool, int, int64, float64 or string.
func Formula(source string) (func(vars map[string]any) (any, error), error) {
	prog, err := compileFormula(source)
	if err != nil {
		return nil, fmt.Errorf("formula %q, column %d: %s", source, err.at+1, err.msg)
	}
	machine := vm.VM{MemoryBudget: memoryBudget}
	var e evaluator
	return func(vars map[string]any) (any, error) {
		v, err := machine.Run(prog, vars)
		if err != nil {
			var ne *notEvaluated
			if errors.As(e.failure(err), &ne) {
				return nil, errors.New(ne.reason)
			}
			return nil, err
		}
		switch v.(type) {
		case nil, bool, int, int64, float64, string:
			return v, nil
		}
		return nil, fmt.Errorf("the result is %s, not a single value", typeName(v))
	}, nil
}

func compileFormula(source string) (_ *vm.Program, refused *refusal) {
	defer func() {
		if v := recover(); v != nil {
			refused = &refusal{msg: fmt.Sprintf("the formula cannot be compiled: %v", v)}
		}
	}()
	c := &compilation{conf: newConf(formulaFunctions)}
	expr.Env(map[string]any{})(c.conf)
	_, prog, err := c.compile(source, false)
	return prog, err
}
