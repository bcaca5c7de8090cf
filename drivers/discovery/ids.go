package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
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

// identify gives each name an identifier of its own: that of clean, or, if that is
// empty or another's already, one with a mark that is made of the name. So identifiers
// stay what they are while the names and their order do.
func identify(names []string, clean func(string) string, separator string) map[string]string {
	ids := make(map[string]string, len(names))
	taken := make(map[string]bool, len(names))
	for _, name := range names {
		id := clean(name)
		if strings.Trim(id, "_-") == "" || taken[id] {
			sum := sha256.Sum256([]byte(name))
			id = strings.TrimLeft(id+separator+hex.EncodeToString(sum[:4]), separator)
		}
		ids[name], taken[id] = id, true
	}
	return ids
}
