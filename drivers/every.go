package drivers

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// checkEvery judges each key "every" that the file has, at its own place: a driver's
// points no longer tell one that is nothing from one that is not there, nor whose
// it was. What is no duration is left to who decodes the file.
func (c Config) checkEvery() error {
	var points ast.Node
	for _, doc := range c.file.Docs {
		err := eachMember(doc.Body, func(key string, n ast.Node) error {
			switch key {
			case "every":
				return c.judgeEvery(n, "")
			case "points":
				points = n
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return eachMember(points, func(name string, point ast.Node) error {
		return eachMember(point, func(key string, n ast.Node) error {
			if key != "every" {
				return nil
			}
			return c.judgeEvery(n, fmt.Sprintf("point %q: ", name))
		})
	})
}

// judgeEvery refuses a duration that is too short.
func (c Config) judgeEvery(n ast.Node, whose string) error {
	s, ok := n.(*ast.StringNode)
	if !ok {
		return nil
	}
	if d, err := time.ParseDuration(s.Value); err == nil && d < ShortestEvery {
		return c.at(start(n), fmt.Sprintf("%severy must be at least %v", whose, ShortestEvery))
	}
	return nil
}

// eachMember calls f with what a mapping has; anything else has nothing.
func eachMember(n ast.Node, f func(key string, value ast.Node) error) error {
	m, ok := n.(ast.MapNode)
	if !ok {
		return nil
	}
	for it := m.MapRange(); it.Next(); {
		if err := f(it.Key().GetToken().Value, it.Value()); err != nil {
			return err
		}
	}
	return nil
}
