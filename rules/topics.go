package rules

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse/gatehouse/broker/topic"
)

// CheckFilter returns nil if a rule can hear filter: a valid topic filter (MQTT 5.0
// §4.7) that is not a shared one.
func CheckFilter(filter string) error {
	switch {
	case filter == "":
		return errors.New("topic filter is empty")
	case strings.HasPrefix(filter, "$share/"):
		return fmt.Errorf("topic filter %q is shared, which a rule cannot be", filter)
	case !topic.ValidFilter(filter):
		return fmt.Errorf("topic filter %q is not valid: %s", filter, whyNot(filter, true))
	}
	return nil
}

// CheckTopic returns nil if name is a topic that a rule can publish to: a valid
// topic name, and none below $SYS, where the broker and the engine tell how they are.
func CheckTopic(name string) error {
	switch {
	case isPlain(name):
		return nil
	case name == "":
		return errors.New("topic is empty")
	case name == "$SYS" || strings.HasPrefix(name, "$SYS/"):
		return fmt.Errorf("topic %q belongs to the broker: a rule cannot publish to $SYS", abridged(name))
	case !topic.ValidName(name):
		return fmt.Errorf("topic %q is not valid: %s", abridged(name), whyNot(name, false))
	}
	return nil
}

// isPlain reports whether a name is of letters, digits and the like of ASCII, and short:
// most are, and there is nothing else to look for in them.
func isPlain(name string) bool {
	const short = 100 // fewer levels than topic.MaxLevels, whatever they are
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '+' || c == '#' || c == '$' {
			return false
		}
	}
	return name != "" && len(name) <= short
}

func whyNot(s string, filter bool) string {
	switch {
	case len(s) > topic.MaxLength:
		return fmt.Sprintf("longer than %d bytes", topic.MaxLength)
	case strings.Count(s, "/") >= topic.MaxLevels:
		return fmt.Sprintf("more than %d levels", topic.MaxLevels)
	case !filter && strings.ContainsAny(s, "+#"):
		return "a topic to publish to has no wildcards"
	case filter && strings.ContainsAny(s, "+#"):
		return `"+" stands for a whole level, "#" for all levels at the end`
	}
	return "not UTF-8 text"
}

// abridged keeps a text that came from outside short enough for a log.
func abridged(s string) string {
	const longest = 120
	if len(s) <= longest {
		return s
	}
	return s[:longest] + "..."
}
