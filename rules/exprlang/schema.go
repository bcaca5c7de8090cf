package exprlang

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/rules/jsonschema"
)

// maxSchema is the longest schema, in a file or as JSON.
const maxSchema = 256 << 10

// schemaRoot stands before the names of files, in the addresses of schemas.
const schemaRoot = "rules:///"

// schema compiles a JSON Schema (draft 2020-12, or that of its $schema): the name of a
// file in the folder, or one that stands here.
func (f *ruleFile) schema(n ast.Node) *jsonschema.Schema {
	if _, inline := n.(*ast.MappingNode); !inline {
		if _, inline = n.(*ast.MappingValueNode); !inline {
			s, ok := f.scalar(n, `"schema"`)
			if !ok {
				return nil
			}
			name, err := f.beside(s.value)
			if err != nil {
				f.errorf(f.start(n), "%v", err)
				return nil
			}
			return f.compiledSchema(n)(jsonschema.Load(schemaRoot+name, f.loadSchema))
		}
	}
	doc, ok := f.data(n)
	if !ok {
		return nil
	}
	text, err := json.Marshal(doc)
	if err == nil && len(text) > maxSchema {
		err = fmt.Errorf("the schema has %d bytes, more than %d", len(text), maxSchema)
	}
	if err == nil {
		doc, err = jsonschema.Decode(text)
	}
	if err != nil {
		f.errorf(f.start(n), "%v", err)
		return nil
	}
	return f.compiledSchema(n)(jsonschema.Compile(schemaRoot+f.yamlFile.name, doc, f.loadSchema))
}

// compiledSchema takes what became of the schema at a node.
func (f *ruleFile) compiledSchema(n ast.Node) func(*jsonschema.Schema, error) *jsonschema.Schema {
	return func(schema *jsonschema.Schema, err error) *jsonschema.Schema {
		if err != nil {
			text := strings.ReplaceAll(err.Error(), schemaRoot, "")
			f.errorf(f.start(n), "the schema cannot be used: %s", strings.Join(strings.Fields(text), " "))
			return nil
		}
		return schema
	}
}

// loadSchema loads a schema that others refer to, from the folder of rules only.
func (f *ruleFile) loadSchema(address string) (any, error) {
	name, ok := strings.CutPrefix(address, schemaRoot)
	if !ok {
		return nil, fmt.Errorf("%q is not in the folder of rules", address)
	}
	text, err := f.readOther(name)
	if err != nil {
		return nil, err
	}
	if len(text) > maxSchema {
		return nil, fmt.Errorf("%q has %d bytes, more than %d", name, len(text), maxSchema)
	}
	doc, err := jsonschema.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not JSON: %w", name, err)
	}
	return doc, nil
}

// beside is the path in the folder of a file that is named in this one: from the folder
// on, or, if it begins with a dot, from this file on.
func (f *ruleFile) beside(name string) (string, error) {
	full := name
	if strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../") {
		full = path.Join(path.Dir(f.yamlFile.name), name)
	}
	full = path.Clean(full)
	if name == "" || full == ".." || strings.HasPrefix(full, "../") || strings.HasPrefix(full, "/") {
		return "", fmt.Errorf("%q is no file in the folder of rules", name)
	}
	return full, nil
}

var errNoFolder = errors.New("there is no folder that files could be read from")

// readOther reads another file of the folder.
func (f *ruleFile) readOther(name string) ([]byte, error) {
	if f.read == nil {
		return nil, errNoFolder
	}
	return f.read(name)
}

// data is a node as the value that JSON would have there.
func (f *ruleFile) data(n ast.Node) (any, bool) {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		pairs, ok := f.mapping(n, "a schema")
		object := make(map[string]any, len(pairs))
		for _, p := range pairs {
			value, good := f.data(p.value)
			object[p.key], ok = value, ok && good
		}
		return object, ok
	case *ast.SequenceNode:
		list, ok := make([]any, len(n.Values)), true
		for i, item := range n.Values {
			value, good := f.data(item)
			list[i], ok = value, ok && good
		}
		return list, ok
	case *ast.NullNode:
		if implicit(n) {
			f.errorf(f.start(n), "the value is missing; write null or \"\"")
			return nil, false
		}
		return nil, true
	case *ast.BoolNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode:
		node, ok := f.payloadNumber(n)
		if !ok {
			return nil, false
		}
		return json.Number(node.raw), true
	}
	s, ok := f.scalar(n, "a value")
	return s.value, ok
}
