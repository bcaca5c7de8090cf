package drivers

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Config is a node of a device file with its place in it; the driver decodes it
// strictly. It can be sent to another process as its Name and Text.
type Config struct {
	// Device is the device's name: the file's name without its ending.
	Device string
	// File is the file's path, for errors.
	File string
	// Text is the whole file.
	Text []byte

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

// ParseConfig parses a device file. The error is a *ConfigError.
func ParseConfig(device, file string, text []byte) (Config, error) {
	c := Config{Device: device, File: file, Text: text}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		return c, c.wrap(err)
	}
	c.file = parsed
	return c, nil
}

// Decode reads the whole file into the struct v points at, strictly: an unknown
// key, a key given twice or a value of another type is a *ConfigError.
//
// The keys that the [Host] reads itself (driver, topic, together, ...) must be
// part of v: embed [Common].
func (c Config) Decode(v any) error {
	if err := yaml.NewDecoder(bytes.NewReader(c.Text), yaml.Strict()).Decode(v); err != nil {
		return c.wrap(err)
	}
	return nil
}

// Errorf returns a *ConfigError at the place of a YAML path such as
// "$.points.temperature.type"; a path that is not there gives the file's start.
func (c Config) Errorf(path, format string, args ...any) error {
	e := &ConfigError{File: c.File, Line: 1, Column: 1, Msg: fmt.Sprintf(format, args...)}
	p, err := yaml.PathString(path)
	if err != nil || c.file == nil {
		return e
	}
	node, err := p.FilterFile(c.file)
	if err != nil || node == nil {
		return e
	}
	pos := node.GetToken().Position
	e.Line, e.Column = pos.Line, pos.Column
	if snippet, err := p.AnnotateSource(c.Text, false); err == nil {
		e.Snippet = strings.TrimRight(string(snippet), "\n")
	}
	return e
}

func (c Config) wrap(err error) error {
	e := &ConfigError{File: c.File, Line: 1, Column: 1, Msg: err.Error()}
	var at yaml.Error
	if errors.As(err, &at) {
		e.Msg = at.GetMessage()
		if tok := at.GetToken(); tok != nil {
			e.Line, e.Column = tok.Position.Line, tok.Position.Column
		}
		if _, snippet, ok := strings.Cut(at.FormatError(false, true), "\n"); ok {
			e.Snippet = strings.TrimRight(snippet, "\n")
		}
	}
	return e
}
