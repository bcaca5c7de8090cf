package jsonschema

import (
	"encoding/json"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// maxExponent bounds the numbers of a schema, whose digits are written out.
const maxExponent = 400

// numberOf is a value as a number, exactly as its digits say; nil if it is none, or one
// that cannot be calculated with.
func numberOf(v any) *big.Rat {
	var text string
	switch v := v.(type) {
	case int:
		return new(big.Rat).SetInt64(int64(v))
	case int64:
		return new(big.Rat).SetInt64(v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return new(big.Rat).SetInt64(int64(v))
		}
		text = strconv.FormatFloat(v, 'g', -1, 64)
	case json.Number:
		text = string(v)
	default:
		return nil
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		if n, err := strconv.Atoi(text[i+1:]); err != nil || n > maxExponent || n < -maxExponent {
			return nil
		}
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil
	}
	return r
}

// canonical appends a text that two values share if they are equal, as JSON Schema has it.
func canonical(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 'n')
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return strconv.AppendQuote(b, v)
	case []any:
		b = append(b, '[')
		for _, item := range v {
			b = append(canonical(b, item), ',')
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		for _, key := range sortedKeys(v) {
			b = append(canonical(append(strconv.AppendQuote(b, key), ':'), v[key]), ',')
		}
		return append(b, '}')
	}
	if r := numberOf(v); r != nil {
		return append(b, r.RatString()...)
	}
	return append(b, '?')
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// kinds is a set of types.
type kinds uint8

// The types.
const (
	isNull kinds = 1 << iota
	isBoolean
	isInteger
	isFraction
	isString
	isArray
	isObject
	isNumber = isInteger | isFraction
)

var kindNames = map[string]kinds{
	"null": isNull, "boolean": isBoolean, "integer": isInteger, "number": isNumber,
	"string": isString, "array": isArray, "object": isObject,
}

// kindOf is the type of a value.
func kindOf(v any) kinds {
	switch v := v.(type) {
	case nil:
		return isNull
	case bool:
		return isBoolean
	case string:
		return isString
	case []any:
		return isArray
	case map[string]any:
		return isObject
	case int, int64:
		return isInteger
	case float64:
		if v == math.Trunc(v) {
			return isInteger
		}
		return isFraction
	}
	if r := numberOf(v); r != nil && r.IsInt() {
		return isInteger
	}
	return isFraction
}

// String names the types, joined by "or".
func (k kinds) String() string {
	var names []string
	for _, name := range []string{"null", "boolean", "number", "integer", "string", "array", "object"} {
		if set := kindNames[name]; k&set == set {
			names = append(names, name)
			k &^= set
		}
	}
	if k != 0 { // a fraction
		names = append(names, "number")
	}
	return strings.Join(names, " or ")
}
