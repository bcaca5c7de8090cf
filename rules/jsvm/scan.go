package jsvm

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/rules"
)

// scanSource looks at a script before it is parsed, because the parser recurses at
// every bracket: size, encoding and nesting. It goes over the text once and knows
// strings, templates, comments and, by what stands before it, a regular expression.
// What it misreads at worst reaches the parser, in the worker.
func scanSource(name string, text []byte) error {
	if len(text) > maxSource {
		return &rules.Error{File: name, Msg: fmt.Sprintf("the script has %d bytes; at most %d are allowed", len(text), maxSource)}
	}
	if !utf8.Valid(text) {
		return &rules.Error{File: name, Msg: "the script is not UTF-8 text"}
	}
	s := scanner{text: string(text)}
	if at := s.tooDeep(); at >= 0 {
		line, column := position(s.text, at)
		return &rules.Error{
			File: name, Line: line, Column: column,
			Msg:     fmt.Sprintf("brackets are nested deeper than %d", maxNesting),
			Snippet: snippet(s.text, line, column),
		}
	}
	return nil
}

// usesRegexps reports whether a script may match a regular expression: it has one, or
// the words to make one.
func usesRegexps(text string) bool {
	for _, word := range []string{"RegExp", "match", "search", "replace", "split", "constructor"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	s := scanner{text: text}
	_ = s.tooDeep()
	return s.regexp
}

// reachesBytes reports whether a script may come by the constructors of binary data: it has
// the name of one, or a way to the global object, where a name that is calculated finds
// all of them. Names may be written with escapes.
func reachesBytes(text string) bool {
	for _, word := range []string{"8Array", "ClampedArray", "16Array", "32Array", "64Array", "ArrayBuffer", "DataView", "this", "globalThis", `\u`} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

type scanner struct {
	text string
	i    int
	last byte  // the last byte that was not white space
	tick []int // depths at which a ${ of a template was opened

	regexp bool // it met a regular expression
}

// tooDeep is where the nesting goes over the limit, or -1.
func (s *scanner) tooDeep() int {
	depth := 0
	for s.i < len(s.text) {
		c := s.text[s.i]
		switch {
		case c == '"' || c == '\'':
			s.skipQuoted(c)
		case c == '`':
			s.skipTemplate(&depth)
		case c == '/':
			s.skipSlash()
		case c == '(' || c == '[' || c == '{':
			depth++
			if depth > maxNesting {
				return s.i
			}
		case c == '}' && len(s.tick) > 0 && s.tick[len(s.tick)-1] == depth:
			s.tick = s.tick[:len(s.tick)-1]
			depth--
			s.skipTemplate(&depth)
		case c == ')' || c == ']' || c == '}':
			depth = max(depth-1, 0)
		}
		if s.i < len(s.text) && !strings.ContainsRune(" \t\r\n", rune(s.text[s.i])) {
			s.last = s.text[s.i]
		}
		s.i++
		if depth > maxNesting {
			return s.i - 1
		}
	}
	return -1
}

// skipQuoted goes to the quote that ends a string, or the end of its line.
func (s *scanner) skipQuoted(quote byte) {
	for s.i++; s.i < len(s.text) && s.text[s.i] != quote && s.text[s.i] != '\n'; s.i++ {
		if s.text[s.i] == '\\' {
			s.i++
		}
	}
}

// skipTemplate goes to the end of a template, or to a ${ within it.
func (s *scanner) skipTemplate(depth *int) {
	for s.i++; s.i < len(s.text) && s.text[s.i] != '`'; s.i++ {
		switch {
		case s.text[s.i] == '\\':
			s.i++
		case strings.HasPrefix(s.text[s.i:], "${"):
			s.i++
			*depth++
			s.tick = append(s.tick, *depth)
			return
		}
	}
}

// skipSlash goes over a comment or a regular expression; a division is one byte.
func (s *scanner) skipSlash() {
	rest := s.text[s.i:]
	switch {
	case strings.HasPrefix(rest, "//"):
		s.skipTo("\n")
	case strings.HasPrefix(rest, "/*"):
		s.i++
		s.skipTo("*/")
	case s.last == 0 || strings.IndexByte("(,=:[!&|?{};+-*%<>~^\n", s.last) >= 0 || s.afterReturn():
		s.skipRegexp()
	}
}

func (s *scanner) afterReturn() bool {
	before := strings.TrimRight(s.text[:s.i], " \t")
	return strings.HasSuffix(before, "return") || strings.HasSuffix(before, "typeof")
}

func (s *scanner) skipTo(end string) {
	n := strings.Index(s.text[s.i+1:], end)
	if n < 0 {
		s.i = len(s.text)
		return
	}
	s.i += n + len(end)
}

func (s *scanner) skipRegexp() {
	s.regexp = true
	class := false
	for s.i++; s.i < len(s.text) && s.text[s.i] != '\n'; s.i++ {
		switch s.text[s.i] {
		case '\\':
			s.i++
		case '[':
			class = true
		case ']':
			class = false
		case '/':
			if !class {
				return
			}
		}
	}
}

// position is the line and column, both from 1, of a byte.
func position(text string, at int) (line, column int) {
	before := text[:at]
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
}

// snippet is a line of the text, cut around the column, and a caret below it.
func snippet(text string, line, column int) string {
	if line < 1 {
		return ""
	}
	for range line - 1 {
		_, after, more := strings.Cut(text, "\n")
		if !more {
			return ""
		}
		text = after
	}
	source, _, _ := strings.Cut(text, "\n")
	runes := []rune(strings.ReplaceAll(strings.TrimRight(source, "\r"), "\t", " "))
	const width = 120
	at := min(max(column-1, 0), len(runes))
	from := 0
	if at > width*3/4 {
		from = at - width/2
	}
	runes = runes[from:min(len(runes), from+width)]
	out := "  | " + string(runes)
	if column > 0 {
		out += "\n  | " + strings.Repeat(" ", at-from) + "^"
	}
	return out
}
