package jsvm

import (
	"fmt"
	"path"
	"strings"

	"github.com/dop251/goja"
)

// moduleFile is a file that the script may require.
type moduleFile struct {
	name   string
	prog   *goja.Program // nil for JSON
	text   string        // of JSON
	module *goja.Object  // once it was required
}

// compileAll compiles the script and what it may require. What it gives for the script
// is a module's function if that is so.
func (s *script) compileAll(l *loadRecord) (prog *goja.Program, module bool, err error) {
	s.modules = make(map[string]*moduleFile, len(l.Files))
	for _, f := range l.Files {
		m := &moduleFile{name: f.Name}
		s.modules[f.Name] = m
		if path.Ext(f.Name) == ".json" {
			m.text = string(f.Text)
		} else if m.prog, err = compileModule(f.Name, string(f.Text)); err != nil {
			return nil, false, s.inFile(f.Name, err)
		}
	}
	if module = needsTransform(l.Name, string(l.Text)); module {
		prog, err = compileModule(l.Name, string(l.Text))
	} else {
		prog, err = compile(l.Name, string(l.Text))
	}
	return prog, module, err
}

// inFile makes an error of the parser one of that file.
func (s *script) inFile(name string, err error) error {
	f := s.faultOf(err)
	f.File = name
	return f
}

// runTop runs the top level.
func (s *script) runTop(prog *goja.Program, module bool) error {
	if !module {
		_, err := s.rt.RunProgram(prog)
		return err
	}
	f, err := s.rt.RunProgram(prog)
	if err != nil {
		return err
	}
	_, err = s.callModule(f, s.name, s.newModule())
	return err
}

// newModule is what a module knows as module.
func (s *script) newModule() *goja.Object {
	m := s.rt.NewObject()
	_ = m.Set("exports", s.rt.NewObject()) // a plain new object takes everything
	return m
}

func (s *script) callModule(f goja.Value, name string, m *goja.Object) (goja.Value, error) {
	call, ok := goja.AssertFunction(f)
	if !ok {
		panic("jsvm: a module that is no function") // we made it one
	}
	return call(goja.Undefined(), m.Get("exports"), s.rt.ToValue(s.requireFrom(name)), m)
}

// requireFrom is the require of a file.
func (s *script) requireFrom(from string) native {
	return func(call goja.FunctionCall) goja.Value {
		if !goja.IsString(call.Argument(0)) {
			panic(s.rt.NewTypeError("require needs a path such as \"./lib/rooms\""))
		}
		return s.require(from, call.Argument(0).String())
	}
}

func (s *script) require(from, spec string) goja.Value {
	base, err := resolve(from, spec)
	if err != nil {
		panic(s.newError("cannot require %s: %v", quoteTopic(spec), err))
	}
	names := candidates(base)
	for _, name := range names {
		if m := s.modules[name]; m != nil {
			return s.exports(m)
		}
	}
	if base == s.name || strings.TrimSuffix(s.name, path.Ext(s.name)) == base {
		panic(s.newError("cannot require %s: it is the script itself", quoteTopic(spec)))
	}
	panic(s.newError("cannot require %s: there is no %s; the path must be written out as plain text", quoteTopic(spec), strings.Join(names, ", ")))
}

// exports runs a module when it is first required.
func (s *script) exports(m *moduleFile) goja.Value {
	if m.module != nil {
		return m.module.Get("exports") // within a circle: what it exports so far
	}
	if m.prog == nil {
		s.capJSON(m.text)
		v, err := s.parseJSON(goja.Undefined(), s.rt.ToValue(m.text))
		if err != nil {
			panic(s.newError("cannot require %q: %v", m.name, err))
		}
		m.module = s.newModule()
		_ = m.module.Set("exports", v)
		return v
	}
	f, err := s.rt.RunProgram(m.prog)
	if err == nil {
		m.module = s.newModule()
		if _, err = s.callModule(f, m.name, m.module); err == nil {
			return m.module.Get("exports")
		}
	}
	m.module = nil // to fail again
	panic(err)
}

// isOurs reports whether a position in that file is one of the script's.
func (s *script) isOurs(file string) bool { return file == s.name || s.modules[file] != nil }

// Error makes a fault an error.
func (f *fault) Error() string { return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Msg) }
