package topic

import (
	"strings"
	"unicode/utf8"
)

// MaxLevels is how many levels a topic name or filter may have. The standard sets
// no bound; without one, a topic of 65,000 slashes costs a tree 65,000 nodes.
const MaxLevels = 128

// MaxLength is the longest topic name or filter in bytes (MQTT 5.0 §1.5.4).
const MaxLength = 65535

// ValidName reports whether s is a topic name that can be published to: 1 to
// [MaxLength] bytes of UTF-8, at most [MaxLevels] levels, without NUL or wildcard
// ([MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3], [MQTT3-4.7.1-1],
// [MQTT3-4.7.3-1], [MQTT3-4.7.3-2], [MQTT3-4.7.3-3]).
func ValidName(s string) bool {
	return isPlain(s) || validText(s) && !strings.ContainsAny(s, "+#")
}

// isPlain reports whether s is short and of nothing but ASCII that may stand in a name:
// most are, and one pass tells.
func isPlain(s string) bool {
	const short = MaxLevels // no more levels than that, whatever they are
	if s == "" || len(s) >= short {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c == 0 || c >= 0x80 || c == '+' || c == '#' {
			return false
		}
	}
	return true
}

// ValidFilter reports whether s is a topic filter: as [ValidName], but a level may
// be "+", and the last one "#"; neither shares its level with other characters
// ([MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT3-4.7.1-2], [MQTT3-4.7.1-3]).
func ValidFilter(s string) bool {
	if !validText(s) {
		return false
	}
	for rest := s; ; {
		level, after, more := strings.Cut(rest, "/")
		switch {
		case level == "#":
			return !more
		case level != "+" && strings.ContainsAny(level, "+#"):
			return false
		case !more:
			return true
		}
		rest = after
	}
}

func validText(s string) bool {
	if len(s) == 0 || len(s) > MaxLength || !utf8.ValidString(s) {
		return false
	}
	return strings.IndexByte(s, 0) < 0 && strings.Count(s, "/") < MaxLevels
}

// Match reports whether a valid filter matches a valid name (MQTT 5.0 §4.7.1). A
// filter that begins with a wildcard does not match a name that begins with "$"
// ([MQTT-4.7.2-1], [MQTT3-4.7.2-1]).
func Match(filter, name string) bool {
	if name != "" && name[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, fRest, fMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		n, nRest, nMore := strings.Cut(name, "/")
		if f != "+" && f != n { // [MQTT-4.7.3-4], [MQTT3-4.7.3-4]
			return false
		}
		switch {
		case fMore && nMore:
			filter, name = fRest, nRest
		case fMore: // "a/#" matches "a"
			return fRest == "#"
		default:
			return !nMore
		}
	}
}
