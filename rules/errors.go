package rules

import (
	"errors"
	"fmt"
)

// ErrNotEvaluated says that a rule could not be judged for this message: a field
// that it calculates with is absent, or the payload is not what it expects. The
// rule did nothing.
var ErrNotEvaluated = errors.New("not evaluated")

// Error is something wrong at a place in a rule file. Line and Column count from 1;
// 0 means unknown.
type Error struct {
	File   string
	Line   int
	Column int
	Msg    string
	// Snippet is the source line and a caret below it, when known.
	Snippet string
}

// Error gives file:line:column: message, then the snippet on lines of its own.
func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d", e.Line)
		if e.Column > 0 {
			s += fmt.Sprintf(":%d", e.Column)
		}
	}
	s += ": " + e.Msg
	if e.Snippet != "" {
		s += "\n" + e.Snippet
	}
	return s
}
