package serial

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// template is what is sent, with places for what is known only then. It is a text, or
// "hex:" and pairs of hexadecimal digits.
type template struct {
	hex   bool
	parts []part
}

// part is bytes, or a place.
type part struct {
	literal []byte
	name    string // empty for bytes
}

// parseTemplate understands places of these names.
func parseTemplate(s string, names ...string) (template, error) {
	rest, isHex := strings.CutPrefix(s, "hex:")
	t := template{hex: isHex}
	for {
		literal, after, more := strings.Cut(rest, "${")
		b := []byte(literal)
		if isHex {
			var err error
			if b, err = parseBytes("hex:" + literal); err != nil {
				return t, err
			}
		}
		if len(b) > 0 {
			t.parts = append(t.parts, part{literal: b})
		}
		if !more {
			return t, nil
		}
		name, behind, closed := strings.Cut(after, "}")
		if !closed || !slices.Contains(names, name) {
			return t, fmt.Errorf("%s known here, not ${%s", placesOf(names), clip(after))
		}
		t.parts = append(t.parts, part{name: name})
		rest = behind
	}
}

// placesOf says which places are known.
func placesOf(names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = "${" + name + "}"
	}
	switch n := len(all); n {
	case 0:
		return "no places are"
	case 1:
		return "only " + all[0] + " is"
	default:
		return "only " + strings.Join(all[:n-1], ", ") + " and " + all[n-1] + " are"
	}
}

func (t template) empty() bool { return len(t.parts) == 0 }

// fill fills the places in. A value with control characters is refused in a text: with
// a line break in it, one command would be two.
func (t template) fill(value func(name string) ([]byte, error)) ([]byte, error) {
	var all []byte
	for _, p := range t.parts {
		if p.name == "" {
			all = append(all, p.literal...)
			continue
		}
		b, err := value(p.name)
		if err != nil {
			return nil, err
		}
		if !t.hex && bytes.ContainsFunc(b, unicode.IsControl) {
			return nil, errors.New("the value has control characters")
		}
		all = append(all, b...)
	}
	return all, nil
}
