package jsvm

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
	"github.com/evanw/esbuild/pkg/api"
)

// wrapping stands around a module, which it makes a function.
const (
	wrapBegin = "(function (exports, require, module) {\n"
	wrapEnd   = "\n})"
)

// moduleSyntax finds an import or export at the beginning of a line.
var moduleSyntax = regexp.MustCompile(`(?m)^[ \t]*(?:import\b[ \t]*[\w"'{*$]|export\b[ \t]*[\w{*])`)

// needsTransform reports whether the engine cannot read a script as it is.
func needsTransform(name, text string) bool {
	return path.Ext(name) == ".ts" || moduleSyntax.MatchString(text)
}

// compileModule turns TypeScript, or JavaScript with import and export, into a program
// whose value is the function of a CommonJS module. Positions in it are those of the
// text. An error may be a *fault.
func compileModule(name, text string) (*goja.Program, error) {
	loader := api.LoaderJS
	if path.Ext(name) == ".ts" {
		loader = api.LoaderTS
	}
	out := api.Transform(text, api.TransformOptions{
		Loader: loader, Format: api.FormatCommonJS, Target: api.ES2017, Charset: api.CharsetASCII,
		Sourcemap: api.SourceMapExternal, SourcesContent: api.SourcesContentExclude, Sourcefile: path.Base(name),
		LegalComments: api.LegalCommentsNone, LogLevel: api.LogLevelSilent,
	})
	if len(out.Errors) > 0 {
		return nil, transformFault(name, &out.Errors[0])
	}
	positions, err := shiftMap(out.Map)
	if err != nil {
		return nil, &fault{File: name, Msg: "cannot tell its positions: " + err.Error()}
	}
	code := wrapBegin + string(out.Code) + wrapEnd +
		"\n//# sourceMappingURL=data:application/json;base64," + base64.StdEncoding.EncodeToString(positions)
	tree, err := parser.ParseFile(nil, name, code, 0, parser.WithSourceMapLoader(func(string) ([]byte, error) { return nil, nil }))
	if err != nil {
		return nil, err
	}
	return goja.CompileAST(tree, false)
}

// transformFault is what esbuild does not like, whose columns are bytes from 0.
func transformFault(name string, m *api.Message) *fault {
	f := &fault{File: name, Msg: cut(lowerFirst(m.Text), maxFault)}
	if strings.HasPrefix(m.Text, "Top-level await") {
		f.Msg = "await stands in no async function"
	}
	if at := m.Location; at != nil {
		f.Line = at.Line
		f.Column = utf8.RuneCountInString(at.LineText[:min(max(at.Column, 0), len(at.LineText))]) + 1
	}
	return f
}

// shiftMap makes a source map of esbuild fit the engine and the wrapping: lines begin
// one later, and columns of both sides count from 1.
func shiftMap(text []byte) ([]byte, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	var mappings string
	if err := json.Unmarshal(m["mappings"], &mappings); err != nil {
		return nil, err
	}
	lines := strings.Split(mappings, ";")
	sourceShifted := false
	for i, line := range lines {
		first, rest, more := strings.Cut(line, ",")
		if first == "" {
			continue
		}
		fields, err := decodeVLQ(first)
		if err != nil {
			return nil, err
		}
		fields[0]++ // the column begins anew with each line
		if len(fields) >= 4 && !sourceShifted {
			fields[3]++ // that of the source goes on from the one before
			sourceShifted = true
		}
		lines[i] = encodeVLQ(fields)
		if more {
			lines[i] += "," + rest
		}
	}
	m["mappings"], _ = json.Marshal(";" + strings.Join(lines, ";")) // a string has a JSON form
	return json.Marshal(m)
}

// digitsVLQ are those of base 64 in source maps (ECMA-426 §5).
const digitsVLQ = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

func decodeVLQ(s string) (values []int, err error) {
	value, shift := 0, 0
	for i := range len(s) {
		digit := strings.IndexByte(digitsVLQ, s[i])
		if digit < 0 || shift > 30 {
			return nil, fmt.Errorf("%q is no position", s)
		}
		value |= digit & 31 << shift
		if digit&32 != 0 {
			shift += 5
			continue
		}
		if value&1 != 0 {
			values = append(values, -(value >> 1))
		} else {
			values = append(values, value>>1)
		}
		value, shift = 0, 0
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("%q is no position", s)
	}
	return values, nil
}

func encodeVLQ(values []int) string {
	var b strings.Builder
	for _, v := range values {
		rest := v << 1
		if v < 0 {
			rest = -v<<1 | 1
		}
		for {
			digit := rest & 31
			if rest >>= 5; rest > 0 {
				digit |= 32
			}
			b.WriteByte(digitsVLQ[digit])
			if rest == 0 {
				break
			}
		}
	}
	return b.String()
}
