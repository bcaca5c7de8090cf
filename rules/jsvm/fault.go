package jsvm

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
)

// errDeadline ends an event that runs too long.
var errDeadline = errors.New("did not return in time")

// maxFault bounds the text of an error.
const maxFault = 2048

// compile parses and compiles a script.
func compile(name, text string) (*goja.Program, error) {
	tree, err := parser.ParseFile(nil, name, text, 0, parser.WithDisableSourceMaps)
	if err != nil {
		return nil, err
	}
	return goja.CompileAST(tree, false)
}

// faultOf says what err was and where in the script it happened. It may run code of
// the script (a toString), so that it belongs below the watch.
func (s *script) faultOf(err error) *fault {
	var list parser.ErrorList
	var syntax *goja.CompilerSyntaxError
	var reference *goja.CompilerReferenceError
	var interrupted *goja.InterruptedError
	var overflow *goja.StackOverflowError
	var thrown *goja.Exception
	var known *fault
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &list) && len(list) > 0:
		first := list[0]
		return &fault{Line: first.Position.Line, Column: first.Position.Column, Msg: cut(lowerFirst(first.Message), maxFault)}
	case errors.As(err, &syntax):
		return compilerFault(&syntax.CompilerError)
	case errors.As(err, &reference):
		return compilerFault(&reference.CompilerError)
	case errors.As(err, &interrupted):
		return s.at(interrupted.Stack(), s.watch.deadlineText())
	case errors.As(err, &overflow):
		return s.at(overflow.Stack(), fmt.Sprintf("more than %d calls within each other", maxStack))
	case errors.As(err, &thrown):
		return s.at(thrown.Stack(), s.thrownText(thrown))
	case errors.Is(err, errDeadline):
		return &fault{Msg: s.watch.deadlineText()}
	default:
		return &fault{Msg: cut(err.Error(), maxFault)}
	}
}

// panicFault is the fault for what came out of the engine as a panic: an interrupt
// between two functions, or a mistake of its own.
func (s *script) panicFault(p any) *fault {
	if err, ok := p.(error); ok {
		var interrupted *goja.InterruptedError
		var overflow *goja.StackOverflowError
		if errors.As(err, &interrupted) || errors.As(err, &overflow) {
			return s.faultOf(err)
		}
	}
	return &fault{Msg: cut(fmt.Sprintf("the JavaScript engine failed: %v", p), maxFault)}
}

func compilerFault(e *goja.CompilerError) *fault {
	f := &fault{Msg: cut(lowerFirst(e.Message), maxFault)}
	if e.File != nil {
		pos := e.File.Position(e.Offset)
		f.Line, f.Column = pos.Line, pos.Column
	}
	return f
}

// thrownText is the text of a thrown value, whose toString may throw in its turn.
func (s *script) thrownText(ex *goja.Exception) string {
	text := "an error that cannot be shown"
	func() {
		defer func() {
			// An interrupt, or the engine's own fault: the value stays unnamed.
			_ = recover()
		}()
		_ = s.rt.Try(func() { text = ex.Value().String() })
	}()
	return cut(strings.TrimPrefix(text, "Error: "), maxFault)
}

func (s *script) at(stack []goja.StackFrame, msg string) *fault {
	for i := range stack {
		if !s.isOurs(stack[i].SrcName()) {
			continue
		}
		pos := stack[i].Position()
		f := &fault{Line: pos.Line, Column: pos.Column, Msg: msg}
		if stack[i].SrcName() != s.name {
			f.File = stack[i].SrcName()
		}
		return f
	}
	return &fault{Msg: msg}
}

// cut shortens s to at most n bytes, between characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "..."
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
