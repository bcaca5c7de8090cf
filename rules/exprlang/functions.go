package exprlang

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
)

// function is one function that expressions may call.
type function struct {
	name  string
	call  func(args ...any) (any, error)
	types []any
}

// The names of functions that only a transformed tree calls.
const (
	fnModulo = "%"
	fnNumber = "number"
	fnFew    = "few"
)

// ruleFunctions stand instead of the library's where those would make text without
// a bound.
var ruleFunctions = []function{
	{fnModulo, modulo, []any{new(func(any, any) any)}},
	{fnNumber, onlyNumber, []any{new(func(any) any)}},
	{fnFew, few, []any{new(func(any) any)}},
	{"round", round, []any{new(func(any) float64), new(func(any, int) float64)}},
	{"repeat", repeat, []any{new(func(string, int) string)}},
	{"replace", replace, []any{new(func(string, string, string) string), new(func(string, string, string, int) string)}},
	{"join", join, []any{new(func([]any, string) string), new(func([]any) string), new(func([]string, string) string), new(func([]string) string)}},
}

// formulaFunctions are those of devices that are made of formulas, besides.
var formulaFunctions = append([]function{
	{"sin", float1(math.Sin), []any{new(func(any) float64)}},
	{"cos", float1(math.Cos), []any{new(func(any) float64)}},
	{"random", func(...any) (any, error) { return rand.Float64(), nil }, []any{new(func() float64)}},
}, ruleFunctions...)

// formulaConstants are names with a value.
var formulaConstants = map[string]float64{"pi": math.Pi}

var errTooLong = fmt.Errorf("the text would have more than %d bytes", maxString)

func float1(f func(float64) float64) func(...any) (any, error) {
	return func(args ...any) (any, error) {
		x, ok := toFloat(args[0])
		if !ok {
			return nil, fmt.Errorf("wants a number, not %s", typeName(args[0]))
		}
		return f(x), nil
	}
}

// round rounds to a whole number, or to so many decimals: halves away from zero.
func round(args ...any) (any, error) {
	x, ok := toFloat(args[0])
	if !ok {
		return nil, fmt.Errorf("round wants a number, not %s", typeName(args[0]))
	}
	if len(args) == 1 {
		return math.Round(x), nil
	}
	digits, ok := args[1].(int)
	if !ok || digits < 0 || digits > 15 {
		return nil, errors.New("round wants 0 to 15 decimals")
	}
	scale := math.Pow10(digits)
	if math.Abs(x) >= 1<<53/scale {
		return x, nil // it has no more decimals than that
	}
	return math.Round(x*scale) / scale, nil
}

// modulo is the remainder of whole numbers, however they are held.
func modulo(args ...any) (any, error) {
	a, okA := toWhole(args[0])
	b, okB := toWhole(args[1])
	switch {
	case !okA || !okB:
		return nil, fmt.Errorf("%% wants whole numbers, not %s and %s", typeName(args[0]), typeName(args[1]))
	case b == 0:
		return nil, errors.New("remainder of a division by zero")
	}
	if rest := a % b; int64(int(rest)) == rest {
		return int(rest), nil
	}
	return float64(a % b), nil
}

func onlyNumber(args ...any) (any, error) {
	if _, ok := toFloat(args[0]); !ok {
		return nil, fmt.Errorf("reduce is for numbers, not %s", typeName(args[0]))
	}
	return args[0], nil
}

// few passes a list that is short enough for nested closures.
func few(args ...any) (any, error) {
	size := 0
	switch list := args[0].(type) {
	case []any:
		size = len(list)
	case map[string]any:
		size = len(list)
	default:
		if v := reflect.ValueOf(args[0]); v.Kind() == reflect.Slice || v.Kind() == reflect.Array || v.Kind() == reflect.Map {
			size = v.Len()
		}
	}
	if size > maxNested {
		return nil, fmt.Errorf("a list of %d elements is too long for nested closures", size)
	}
	return args[0], nil
}

func repeat(args ...any) (any, error) {
	s, n := args[0].(string), args[1].(int)
	if n < 0 || len(s) > 0 && n > maxString/len(s) {
		return nil, errTooLong
	}
	return strings.Repeat(s, n), nil
}

func replace(args ...any) (any, error) {
	s, from, to := args[0].(string), args[1].(string), args[2].(string)
	n := -1
	if len(args) == 4 {
		n = args[3].(int)
	}
	times := strings.Count(s, from)
	if n >= 0 {
		times = min(times, n)
	}
	if len(to) > len(from) && times > maxString/(len(to)-len(from)) {
		return nil, errTooLong
	}
	return strings.Replace(s, from, to, n), nil
}

func join(args ...any) (any, error) {
	glue := ""
	if len(args) == 2 {
		glue = args[1].(string)
	}
	var parts []string
	switch list := args[0].(type) {
	case []string:
		parts = list
	case []any:
		for _, v := range list {
			s, ok := v.(string)
			if !ok {
				return nil, fmt.Errorf("join wants text, not %s", typeName(v))
			}
			parts = append(parts, s)
		}
	default:
		return nil, fmt.Errorf("join wants a list, not %s", typeName(args[0]))
	}
	size := len(glue) * len(parts)
	for _, p := range parts {
		if size += len(p); size > maxString {
			return nil, errTooLong
		}
	}
	return strings.Join(parts, glue), nil
}

// toFloat is any number as a float64.
func toFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

func toWhole(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	}
	return 0, false
}

// typeName names what a value is, for people.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "nil"
	case bool:
		return "true or false"
	case string:
		return "text"
	case []any, []string:
		return "a list"
	case map[string]any:
		return "an object"
	}
	if _, ok := toFloat(v); ok {
		return "a number"
	}
	return fmt.Sprintf("%T", v)
}
