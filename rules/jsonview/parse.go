package jsonview

import (
	"bytes"
	"unicode/utf8"
)

// Parse checks that text is one JSON value with at most depth brackets open at once, and
// nothing but white space around it, in UTF-8 (RFC 8259 §8.1). The value shares the memory of text, which must not
// be written afterwards. It is nil, and false, if text is no such value.
func Parse(text []byte, depth int) (Value, bool) {
	from := space(text, 0)
	end := check(text, from, depth)
	if end < 0 || space(text, end) != len(text) {
		return nil, false
	}
	return Value(text[from:end:end]), true
}

// Member is a member of an object: its key, which is a String, and its value.
type Member struct{ Key, Value Value }

// ParseListed is [Parse], and in the same go appends to list the members of the value, if
// it is an object, in their order: one more than most of them tells that there are more
// than most.
func ParseListed(text []byte, depth int, list []Member, most int) (Value, []Member, bool) {
	from := space(text, 0)
	if from == len(text) || text[from] != '{' {
		v, ok := Parse(text, depth)
		return v, list, ok
	}
	l := lister{list: list, most: len(list) + most}
	end := checkObject(text, from+1, depth-1, &l)
	if end < 0 || space(text, end) != len(text) {
		return nil, list, false
	}
	return Value(text[from:end:end]), l.list, true
}

// lister takes in members until there are more than most.
type lister struct {
	list []Member
	most int
}

func (l *lister) add(key, value []byte) {
	if len(l.list) <= l.most {
		l.list = append(l.list, Member{Key: key, Value: value})
	}
}

// space is where the white space that may be at i ends.
func space(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
		i++
	}
	return i
}

// check is where the value ends that begins at i, -1 if there is none.
func check(text []byte, i, depth int) int {
	if i >= len(text) {
		return -1
	}
	switch c := text[i]; c {
	case '"':
		return checkString(text, i+1)
	case '{':
		return checkObject(text, i+1, depth-1, nil)
	case '[':
		return checkArray(text, i+1, depth-1)
	case 't':
		return checkWord(text, i, "true")
	case 'f':
		return checkWord(text, i, "false")
	case 'n':
		return checkWord(text, i, "null")
	default:
		return checkNumber(text, i)
	}
}

func checkWord(text []byte, i int, word string) int {
	if end := i + len(word); end <= len(text) && string(text[i:end]) == word {
		return end
	}
	return -1
}

// checkObject is where the object ends whose members begin at i; they are given to l,
// unless it is nil.
func checkObject(text []byte, i, depth int, l *lister) int {
	if depth < 0 {
		return -1
	}
	if i = space(text, i); i < len(text) && text[i] == '}' {
		return i + 1
	}
	for i < len(text) && text[i] == '"' {
		key := i
		if i = checkString(text, i+1); i < 0 {
			return -1
		}
		keyEnd := i
		if i = space(text, i); i >= len(text) || text[i] != ':' {
			return -1
		}
		value := space(text, i+1)
		if i = check(text, value, depth); i < 0 {
			return -1
		}
		if l != nil {
			l.add(text[key:keyEnd:keyEnd], text[value:i:i])
		}
		if i = space(text, i); i >= len(text) {
			return -1
		}
		if text[i] == '}' {
			return i + 1
		}
		if text[i] != ',' {
			return -1
		}
		i = space(text, i+1)
	}
	return -1
}

func checkArray(text []byte, i, depth int) int {
	if depth < 0 {
		return -1
	}
	if i = space(text, i); i < len(text) && text[i] == ']' {
		return i + 1
	}
	for i < len(text) {
		if i = check(text, i, depth); i < 0 {
			return -1
		}
		if i = space(text, i); i >= len(text) {
			return -1
		}
		if text[i] == ']' {
			return i + 1
		}
		if text[i] != ',' {
			return -1
		}
		i = space(text, i+1)
	}
	return -1
}

// plain are the bytes that stand for themselves in a string, each alone.
var plain = func() (plain [256]bool) {
	for c := range plain {
		plain[c] = c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\'
	}
	return plain
}()

func checkString(text []byte, i int) int {
	for {
		for i < len(text) && plain[text[i]] {
			i++
		}
		if i >= len(text) {
			return -1
		}
		switch c := text[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			i = checkEscape(text, i+1)
		case c >= utf8.RuneSelf:
			i = checkWide(text, i)
		default:
			return -1
		}
		if i < 0 {
			return -1
		}
	}
}

// checkWide is where the bytes end that are not ASCII, -1 if they are not UTF-8.
func checkWide(text []byte, i int) int {
	from := i
	for i < len(text) && text[i] >= utf8.RuneSelf {
		i++
	}
	if !utf8.Valid(text[from:i]) {
		return -1
	}
	return i
}

// Misencoded reports whether text is what [Parse] refuses for nothing but a string that is
// not UTF-8, and gives the place of its first such byte, counted from 1.
func Misencoded(text []byte, depth int) (place int, misencoded bool) {
	if utf8.Valid(text) {
		return 0, false
	}
	if _, ok := Parse(bytes.ToValidUTF8(text, []byte("?")), depth); !ok {
		return 0, false
	}
	for {
		r, size := utf8.DecodeRune(text[place:])
		if r == utf8.RuneError && size == 1 {
			return place + 1, true
		}
		place += size
	}
}

func checkEscape(text []byte, i int) int {
	if i >= len(text) {
		return -1
	}
	switch text[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
	default:
		return -1
	}
	end := i + 5
	if end > len(text) {
		return -1
	}
	for _, c := range text[i+1 : end] {
		if c|0x20 < 'a' && (c < '0' || c > '9') || c|0x20 > 'f' {
			return -1
		}
	}
	return end
}

func checkNumber(text []byte, i int) int {
	if i < len(text) && text[i] == '-' {
		i++
	}
	from := i
	if i = digits(text, i); i == from || text[from] == '0' && i > from+1 {
		return -1
	}
	if i < len(text) && text[i] == '.' {
		from = i + 1
		if i = digits(text, from); i == from {
			return -1
		}
	}
	if i < len(text) && text[i]|0x20 == 'e' {
		if i++; i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		from = i
		if i = digits(text, i); i == from {
			return -1
		}
	}
	return i
}

func digits(text []byte, i int) int {
	for i < len(text) && text[i] >= '0' && text[i] <= '9' {
		i++
	}
	return i
}
