package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

var unmarshalerType = reflect.TypeFor[yaml.NodeUnmarshaler]()

// findPart finds a value of a whole number that is none: the decoder would take 1 of
// 1.5, and of text that looks like it. It returns nil if there is none. What is wrong
// otherwise is for the decoder to find.
func findPart(node ast.Node, t reflect.Type) error {
	if t == reflect.TypeFor[time.Duration]() || reflect.PointerTo(t).Implements(unmarshalerType) {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return findPart(node, t.Elem())
	case reflect.Int, reflect.Int64:
		return whole(node)
	case reflect.Slice:
		if list, ok := node.(*ast.SequenceNode); ok {
			for _, item := range list.Values {
				if err := findPart(item, t.Elem()); err != nil {
					return err
				}
			}
		}
	case reflect.Struct, reflect.Map:
		for key, value := range mapping(node) {
			of, ok := typeOf(t, key)
			if !ok {
				continue
			}
			if err := findPart(value, of); err != nil {
				return err
			}
		}
	default:
	}
	return nil
}

// mapping iterates the keys and values of a mapping.
func mapping(node ast.Node) func(yield func(string, ast.Node) bool) {
	return func(yield func(string, ast.Node) bool) {
		m, ok := node.(ast.MapNode)
		if !ok {
			return
		}
		for i := m.MapRange(); i.Next(); {
			if !yield(i.Key().GetToken().Value, i.Value()) {
				return
			}
		}
	}
}

// typeOf is that of the value of a key.
func typeOf(t reflect.Type, key string) (reflect.Type, bool) {
	if t.Kind() == reflect.Map {
		return t.Elem(), true
	}
	for field := range t.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); name == key {
			return field.Type, true
		}
	}
	return nil, false
}

// whole refuses a scalar that is not a whole number.
func whole(node ast.Node) error {
	switch node.(type) {
	case *ast.FloatNode, *ast.StringNode, *ast.InfinityNode, *ast.NanNode:
	default:
		return nil
	}
	at := node.GetToken()
	if _, err := strconv.ParseInt(at.Value, 10, 64); err == nil {
		return nil
	}
	return &yaml.SyntaxError{Message: fmt.Sprintf("%q is not a whole number", at.Value), Token: at}
}
