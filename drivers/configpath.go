package drivers

import (
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// quoting is how a key stands in a YAML path between quotes. (The YAML library's own
// paths have no way to name a key with a quote in it.)
var quoting = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// PointPath is the YAML path of a point's entry, or of one of its keys, for
// [Config.Errorf]: PointPath("a b", "type") is "$.points.'a b'.type".
func PointPath(point string, keys ...string) string {
	path := "$.points.'" + quoting.Replace(point) + "'"
	for _, k := range keys {
		path += "." + k
	}
	return path
}

// find is the node at a YAML path; if that is not there, the last one on the way to it
// that is, and false.
func (c Config) find(path string) (node ast.Node, there bool) {
	if c.file == nil {
		return nil, false
	}
	for _, doc := range c.file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			node = doc.Body
		}
	}
	path = strings.TrimPrefix(path, "$")
	for path != "" && node != nil {
		var key string
		var next ast.Node
		if strings.HasPrefix(path, "[") {
			key, path, _ = strings.Cut(path[1:], "]")
			next = item(node, key)
		} else {
			key, path = cutKey(strings.TrimPrefix(path, "."))
			next = member(node, key)
		}
		if next == nil {
			return node, false
		}
		node = next
	}
	return node, node != nil
}

// cutKey takes the key off that a path begins with.
func cutKey(path string) (key, rest string) {
	if !strings.HasPrefix(path, "'") {
		if end := strings.IndexAny(path, ".["); end >= 0 {
			return path[:end], path[end:]
		}
		return path, ""
	}
	var b strings.Builder
	for i := 1; i < len(path); i++ {
		switch {
		case path[i] == '\'':
			return b.String(), path[i+1:]
		case path[i] == '\\' && i+1 < len(path):
			i++
		}
		b.WriteByte(path[i])
	}
	return b.String(), ""
}

// member is the value of a key of a mapping; nil is none.
func member(n ast.Node, key string) ast.Node {
	m, ok := n.(ast.MapNode)
	if !ok {
		return nil
	}
	for it := m.MapRange(); it.Next(); {
		if it.Key().GetToken().Value == key {
			return it.Value()
		}
	}
	return nil
}

// item is what a list has at an index; nil is nothing.
func item(n ast.Node, index string) ast.Node {
	list, ok := n.(*ast.SequenceNode)
	i, err := strconv.Atoi(index)
	if !ok || err != nil || i < 0 || i >= len(list.Values) {
		return nil
	}
	return list.Values[i]
}
