package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
)

// wordID is a name of letters, digits, "_" and "-", as Home Assistant has them in
// topics. What else a name has becomes "_".
func wordID(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, name)
}

// homieID is a name of "a" to "z", digits and "-", which it does not begin or end with
// (Homie 5, Topic IDs). What else a name has becomes "-".
func homieID(name string) string {
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name)
	return strings.Trim(mapped, "-")
}

// levelID is a name as one level of a topic, as Sparkplug has it (§4.1): without
// "/", "+" and "#".
func levelID(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == '+' || r == '#' || r < ' ' {
			return '_'
		}
		return r
	}, name)
}

// identify gives each name an identifier of its own: that of clean, or one with a mark
// that is made of the name, where others could be meant by that of clean: another name
// has the same or is it, or letters were lost. So of two names that both are no
// identifiers neither gets that of the other: both get a mark. A name that is an
// identifier has it always, also if another one, of the same letters, had it before.
func identify(names []string, clean func(string) string, separator string) map[string]string {
	ids := make(map[string]string, len(names))
	claims := make(map[string]int, len(names))
	for _, name := range names {
		ids[name] = clean(name)
		claims[ids[name]]++
	}
	for name, id := range ids {
		if id != name && (claims[id] > 1 || lost(name, id)) || strings.Trim(id, "_-") == "" {
			sum := sha256.Sum256([]byte(name))
			ids[name] = strings.TrimLeft(id+separator+hex.EncodeToString(sum[:4]), separator)
		}
	}
	return ids
}

// lost reports whether letters or digits of the name, not only signs, are missing in its
// identifier.
func lost(name, id string) bool {
	return strings.ContainsFunc(name, func(r rune) bool {
		return r > unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsNumber(r)) && !strings.ContainsRune(id, r)
	})
}
