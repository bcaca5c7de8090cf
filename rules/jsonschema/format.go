package jsonschema

import (
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// format is a named form of texts.
type format struct {
	name string
	is   func(string) bool
}

// formatOf is the format of a name; nil if it is not known.
func formatOf(name string) *format {
	is := map[string]func(string) bool{
		"date-time": isDateTime, "date": isDate, "time": isTime, "duration": isDuration,
		"email": isEmail, "idn-email": isEmail, "hostname": isHostname, "idn-hostname": isIDNHostname,
		"ipv4": isIPv4, "ipv6": isIPv6,
		"uri": isURI, "iri": isURI, "uri-reference": isURIReference, "iri-reference": isURIReference, "uri-template": isURITemplate,
		"uuid": isUUID, "json-pointer": isPointer, "relative-json-pointer": isRelativePointer, "regex": isRegex,
	}[name]
	if is == nil {
		return nil
	}
	return &format{name: name, is: is}
}

func isDate(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}

// isTime is full-time of RFC 3339, in which a leap second ends a day of UTC.
func isTime(s string) bool {
	if len(s) < len("00:00:00Z") || strings.Contains(s, ",") {
		return false
	}
	leap := s[6:8] == "60"
	if leap {
		s = s[:6] + "59" + s[8:]
	}
	t, err := time.Parse("15:04:05Z07:00", strings.ToUpper(s))
	if err != nil {
		return false
	}
	if zone := s[len(s)-6:]; strings.ContainsAny(zone[:1], "+-") && (zone[1:3] > "23" || zone[4:] > "59") {
		return false
	}
	t = t.UTC()
	return !leap || t.Hour() == 23 && t.Minute() == 59
}

func isDateTime(s string) bool {
	if len(s) < 11 || s[10] != 'T' && s[10] != 't' {
		return false
	}
	return isDate(s[:10]) && isTime(s[11:])
}

var duration = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^P(\d+W|(\d+Y(\d+M(\d+D)?)?|\d+M(\d+D)?|\d+D)(T(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S))?|T(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S))$`)
})

// isDuration is that of RFC 3339, appendix A.
func isDuration(s string) bool { return duration().MatchString(s) }

func isEmail(s string) bool {
	a, err := mail.ParseAddress("<" + s + ">")
	if err != nil || a.Name != "" {
		return false
	}
	at := strings.LastIndexByte(s, '@')
	host := s[at+1:]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		six, isSix := strings.CutPrefix(inner, "IPv6:")
		return ok && (isSix && isIPv6(six) || !isSix && isIPv4(inner))
	}
	return isIDNHostname(host)
}

// isHostname is that of RFC 1123.
func isHostname(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return isIDNHostname(s)
}

// isIDNHostname allows letters of all scripts.
func isIDNHostname(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if r < utf8.RuneSelf && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return false
			}
		}
	}
	return true
}

func isIPv4(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6() && a.Zone() == ""
}

func isURI(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && isURIReference(s)
}

func isURIReference(s string) bool {
	u, err := url.Parse(s)
	return err == nil && !strings.ContainsAny(s, " \\<>\"{}|^`") && strings.Count(s, "#") < 2 && validPort(u)
}

func validPort(u *url.URL) bool {
	_, err := strconv.ParseUint("0"+u.Port(), 10, 32)
	return err == nil
}

// isURITemplate looks at the braces of RFC 6570, and at the rest as a URI.
func isURITemplate(s string) bool {
	open := false
	plain := make([]rune, 0, len(s))
	for _, r := range s {
		switch {
		case r == '{' && !open:
			open = true
		case r == '}' && open:
			open = false
			plain = append(plain, 'x')
		case r == '{' || r == '}':
			return false
		case !open:
			plain = append(plain, r)
		}
	}
	return !open && isURIReference(string(plain))
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (s[i] == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isPointer is that of RFC 6901.
func isPointer(s string) bool {
	if s != "" && s[0] != '/' {
		return false
	}
	for i := strings.IndexByte(s, '~'); i >= 0; {
		if i+1 >= len(s) || s[i+1] != '0' && s[i+1] != '1' {
			return false
		}
		s = s[i+2:]
		i = strings.IndexByte(s, '~')
	}
	return true
}

func isRelativePointer(s string) bool {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	if digits == 0 || digits > 1 && s[0] == '0' {
		return false
	}
	return s[digits:] == "#" || isPointer(s[digits:])
}

func isRegex(s string) bool {
	_, err := regexp.Compile(s)
	return err == nil
}
