package drivers

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Config is a node of a device file with its place in it; the driver decodes it
// strictly. It can be sent to another process as its Name and Text.
type Config struct {
	// Device is the device's name: the file's name without its ending.
	Device string
	// File is the file's path, for errors.
	File string
	// Folder is what the paths in it count from; empty is the folder of File.
	Folder string
	// Text is the whole file, without a byte order mark.
	Text []byte
	// Included are the files that it names, by the name there, for an [Includer].
	Included map[string]Included
	// Insist has Open ask equipment nevertheless that is left alone for a while because it
	// did not answer, as [Insister].Insist does for a Read: somebody asks for it.
	Insist bool

	file *ast.File
}

// ConfigError is something wrong at a place in a device file.
type ConfigError struct {
	File         string
	Line, Column int // from 1; 0 is unknown
	Msg          string
	Snippet      string // the source lines and a caret, when known
}

// Error gives file:line:column: message, then the snippet on lines of its own.
func (e *ConfigError) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
	if e.Snippet != "" {
		s += "\n" + e.Snippet
	}
	return s
}

// Is makes a ConfigError an [ErrConfig].
func (e *ConfigError) Is(target error) bool { return target == ErrConfig }

// ParseConfig parses a device file: one YAML document, a mapping, without YAML tags
// (!x), anchors (&x) and aliases (*x), with keys that are text, of at most
// [MaxFileBytes] and not nested too deep. A byte order mark at the beginning is passed
// over. The error is a *ConfigError.
func ParseConfig(device, file string, text []byte) (c Config, err error) {
	c = Config{Device: device, File: file, Text: bytes.TrimPrefix(text, []byte("\ufeff"))}
	if err := c.scan(); err != nil {
		return c, err
	}
	defer func() { err = c.recovered(recover(), err) }()
	parsed, err := parser.ParseBytes(c.Text, 0)
	if err != nil {
		return c, c.wrap(err)
	}
	c.file = parsed
	return c, c.checkTree()
}

// Decode reads the whole file into the struct v points at, strictly: an unknown
// key, a key given twice or a value of another type is a *ConfigError.
//
// The keys that the [Host] reads itself (driver, topic, together, ...) must be
// part of v: embed [Common] with the yaml tag ",inline".
func (c Config) Decode(v any) error {
	return c.decode(v, yaml.Strict())
}

// decode reads the file as it was parsed: to parse ten thousand points takes longer than
// all else that is done with them.
func (c Config) decode(v any, opts ...yaml.DecodeOption) (err error) {
	defer func() { err = c.recovered(recover(), err) }()
	if root, there := c.find("$"); there {
		err = yaml.NewDecoder(bytes.NewReader(nil), opts...).DecodeFromNode(root, v)
	} else {
		err = yaml.NewDecoder(bytes.NewReader(c.Text), opts...).Decode(v)
	}
	if err != nil {
		return c.wrap(err)
	}
	return nil
}

// Common reads the keys that the [Host] knows and passes over the rest. The error
// is a *ConfigError.
func (c Config) Common() (common Common, err error) {
	return common, c.decode(&common)
}

// Keys lists the keys of the mapping at a YAML path such as "$.points", in the
// order of the file; a path that is not a mapping has none.
func (c Config) Keys(path string) []string {
	node, there := c.find(path)
	m, ok := node.(ast.MapNode)
	if !there || !ok {
		return nil
	}
	var keys []string
	for it := m.MapRange(); it.Next(); {
		keys = append(keys, it.Key().GetToken().Value)
	}
	return keys
}

// Errorf returns a *ConfigError at the place of a YAML path such as
// "$.points.temperature.type"; of a path that is not there, at the last key of it that
// is, or the file's start.
func (c Config) Errorf(path, format string, args ...any) error {
	node, _ := c.find(path)
	return c.at(start(node), fmt.Sprintf(format, args...))
}

// start is the first token of a node, nil of none; that of a mapping would be a colon.
func start(node ast.Node) *token.Token {
	switch n := node.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return node.GetToken()
}
