package jsonview

import (
	"bytes"
	"encoding/json"
)

// Value is the text of one value, without white space around it. Nil is no value. Make
// none but by Parse and by the methods of one that it gave.
type Value []byte

// Kind is what a value is.
type Kind uint8

// The kinds; None is that of a nil Value.
const (
	None Kind = iota
	Null
	False
	True
	Number
	String
	Array
	Object
)

// Kind tells what the value is.
func (v Value) Kind() Kind {
	if len(v) == 0 {
		return None
	}
	switch v[0] {
	case '"':
		return String
	case '{':
		return Object
	case '[':
		return Array
	case 't':
		return True
	case 'f':
		return False
	case 'n':
		return Null
	default:
		return Number
	}
}

// Member is the last member of an object with that key, nil if there is none, or v is no
// object.
func (v Value) Member(key string) (found Value) {
	for name, member := range v.Members {
		if name.Is(key) {
			found = member
		}
	}
	return found
}

// Element is the nth element, from 0, of an array, nil if it has none, or v is no array.
func (v Value) Element(n int) Value {
	for element := range v.Elements {
		if n == 0 {
			return element
		}
		n--
	}
	return nil
}

// Members gives the members of an object in their order: the key, which is a String, and
// the value. Anything else has none.
func (v Value) Members(yield func(key, member Value) bool) {
	if v.Kind() != Object {
		return
	}
	for i := space(v, 1); v[i] != '}'; {
		end := endOfString(v, i+1)
		key := v[i:end:end]
		i = space(v, space(v, end)+1) // behind the colon
		end = endOf(v, i)
		if !yield(key, v[i:end:end]) {
			return
		}
		if i = space(v, end); v[i] == ',' {
			i = space(v, i+1)
		}
	}
}

// Elements gives the elements of an array in their order. Anything else has none.
func (v Value) Elements(yield func(element Value) bool) {
	if v.Kind() != Array {
		return
	}
	for i := space(v, 1); v[i] != ']'; {
		end := endOf(v, i)
		if !yield(v[i:end:end]) {
			return
		}
		if i = space(v, end); v[i] == ',' {
			i = space(v, i+1)
		}
	}
}

// Tokens gives all that a value consists of, in its order, in one pass however deep it is
// nested: strings, numbers and words as values, and each of the brackets, commas and colons
// around them as one byte, which is no value and has no use for the other methods.
func (v Value) Tokens(yield func(token Value) bool) {
	for i := space(v, 0); i < len(v); {
		end := i + 1
		switch v[i] {
		case '{', '}', '[', ']', ',', ':':
		default:
			end = endOf(v, i)
		}
		if !yield(v[i:end:end]) {
			return
		}
		i = space(v, end)
	}
}

// Text is what a String says, without quotes and escapes. Half of a surrogate pair
// becomes U+FFFD. Of anything else it is "".
func (v Value) Text() string {
	if v.Kind() != String {
		return ""
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	return v.unescaped()
}

// AppendText appends what Text says.
func (v Value) AppendText(b []byte) []byte {
	if v.Kind() == String && bytes.IndexByte(v, '\\') < 0 {
		return append(b, v[1:len(v)-1]...)
	}
	return append(b, v.Text()...)
}

func (v Value) unescaped() (text string) {
	_ = json.Unmarshal(v, &text) // Parse has checked it
	return text
}

// Is reports whether a String says text. It must be one.
func (v Value) Is(text string) bool {
	if len(v)-2 < len(text) { // an escape is longer than what it stands for
		return false
	}
	if string(v[1:len(v)-1]) == text {
		return bytes.IndexByte(v, '\\') < 0
	}
	return len(v)-2 > len(text) && bytes.IndexByte(v, '\\') >= 0 && v.unescaped() == text
}

// endOf is where the value ends that begins at i.
func endOf(text []byte, i int) int {
	switch text[i] {
	case '"':
		return endOfString(text, i+1)
	case '{', '[':
		return endOfBracket(text, i+1)
	}
	for i < len(text) && text[i] > ' ' && text[i] != ',' && text[i] != ']' && text[i] != '}' {
		i++
	}
	return i
}

// endOfString is where a string ends whose text begins at i.
func endOfString(text []byte, i int) int {
	const short = 32 // bytes, that are looked at one by one
	for most := min(len(text), i+short); i < most && text[i] != '\\'; i++ {
		if text[i] == '"' {
			return i + 1
		}
	}
	for end := i - 1; ; {
		if i > end { // what was found was escaped
			end = i + bytes.IndexByte(text[i:], '"')
		}
		escape := bytes.IndexByte(text[i:end], '\\')
		if escape < 0 {
			return end + 1
		}
		i += escape + 2
	}
}

func endOfBracket(text []byte, i int) int {
	for open := 1; ; i++ {
		switch text[i] {
		case '"':
			i = endOfString(text, i+1) - 1
		case '{', '[':
			open++
		case '}', ']':
			if open--; open == 0 {
				return i + 1
			}
		}
	}
}
