package exprlang

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

var errNoTime = errors.New("it must be above 0")

// mostDays is more days than anything lasts here, and few enough for a time.Duration.
const mostDays = 100_000

var errNoDays = errors.New("no number of days")

// parseDuration reads "5s", "1h30m" or "7d".
func parseDuration(s string, longest time.Duration) (time.Duration, error) {
	s = strings.TrimSpace(s)
	d, err := time.ParseDuration(s)
	if days, found := strings.CutSuffix(s, "d"); found {
		var n float64
		if n, err = strconv.ParseFloat(days, 64); err == nil && !(math.Abs(n) <= mostDays) { // NaN is not, either
			err = errNoDays
		}
		if err == nil {
			d = time.Duration(n * float64(24*time.Hour))
		}
	}
	switch {
	case err != nil && isNumber(s):
		return 0, fmt.Errorf("%q has no unit: write %ss, %sm or %sh", s, s, s, s)
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration such as 10s, 5m, 1h30m or 2d", abridge(s))
	case d < 0:
		return 0, fmt.Errorf("%v is below 0", d)
	case d > longest:
		return 0, fmt.Errorf("%v is longer than %v", d, longest)
	}
	return d, nil
}

// abridge keeps a text short enough for a message.
func abridge(s string) string {
	const longest = 100
	if len(s) <= longest {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(s[:longest], "") + "..."
}

// durationText compiles a duration that may hold ${...}; a literal one is checked.
func (f *ruleFile) durationText(p pair) *template {
	t := f.textOf(p)
	if t == nil {
		return nil
	}
	if s, ok := t.literal(); ok {
		d, err := parseDuration(s, longestWait)
		if err == nil && d == 0 {
			err = errNoTime
		}
		if err != nil {
			f.errorf(f.start(p.value), "%s: %v", p.key, err)
		}
	}
	return t
}

func (f *ruleFile) waitStep(s *action, verb pair, _ map[string]pair) {
	switch verb.value.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		s.kind = stepWait
		s.text = f.durationText(verb)
		return
	}
	s.kind = stepUntil
	w := &waitStep{at: verb.at}
	s.wait = w
	pairs, _ := f.mapping(verb.value, `"wait"`)
	for _, p := range pairs {
		switch p.key {
		case "until":
			w.until = f.condition(p)
		case "on":
			w.filters = f.filters(p.value)
		case "timeout":
			w.timeout = f.durationText(p)
		case "else":
			word, ok := f.scalar(p.value, `"else"`)
			if w.goOn = word.value == "continue"; ok && !w.goOn && word.value != "stop" {
				f.errorf(f.start(p.value), "else must be stop or continue")
			}
		default:
			f.errorf(p.at, "unknown key %q: a wait has until, on, timeout and else", p.key)
		}
	}
	if w.until == nil && len(w.filters) == 0 && len(pairs) > 0 {
		f.errorf(verb.at, "a wait has until, on, or both")
	}
	if w.until != nil {
		w.anywhere = !f.readsMessage(w.until)
		if len(w.filters) == 0 {
			w.filters = f.topicsOf(w.until)
		}
	}
}

// readsMessage reports whether an expression reads the message that is judged.
func (f *ruleFile) readsMessage(x *expression) bool {
	for _, i := range x.slots {
		switch f.table.slots[i].root {
		case rootPayload, rootPrev, rootTopic, rootParts, rootText, rootQoS, rootRetain, rootOrigin:
			return true
		case rootLocal:
			if f.table.slots[i].path[0].key == "heard" {
				return true
			}
		case rootGiven:
			if f.table.slots[i].given.ofMessage {
				return true
			}
		default:
		}
	}
	return false
}

func (f *ruleFile) httpStep(s *action, verb pair, _ map[string]pair) {
	s.kind = stepHTTP
	h := &httpStep{method: http.MethodGet, as: "reply"}
	s.http = h
	pairs, _ := f.mapping(verb.value, `"http"`)
	for _, p := range pairs {
		switch p.key {
		case "url":
			h.url = f.url(p)
		case "method":
			h.method = f.method(p)
		case "header":
			h.header = f.header(p)
		case "body":
			h.body, _ = f.payload(p.value)
		case "timeout":
			h.timeout = f.duration(p, longestHTTP)
		case "retries":
			h.retries = f.integer(p, 0, maxRetries)
		case "as":
			h.as = f.localName(p)
		default:
			f.errorf(p.at, "unknown key %q: a request has url, method, header, body, timeout, retries and as", p.key)
		}
	}
	if h.url == nil && len(pairs) > 0 && len(f.errs) == 0 {
		f.errorf(verb.at, "the request has no \"url\"")
	}
	f.locals[h.as] = true
}

func (f *ruleFile) url(p pair) *template {
	t := f.textOf(p)
	if t == nil {
		return nil
	}
	first := ""
	if len(t.parts) > 0 {
		first = t.parts[0].text
	}
	literal, whole := t.literal()
	parsed, err := url.Parse(literal)
	switch {
	case whole && (err != nil || parsed.Host == ""), first != "" && !strings.HasPrefix(first, "http://") && !strings.HasPrefix(first, "https://"):
		f.errorf(f.start(p.value), "url must begin with http:// or https:// and a host")
	}
	return t
}

func (f *ruleFile) method(p pair) string {
	s, ok := f.scalar(p.value, `"method"`)
	switch s.value {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return s.value
	}
	if ok {
		f.errorf(f.start(p.value), "method must be GET, HEAD, POST, PUT, PATCH or DELETE")
	}
	return http.MethodGet
}

func (f *ruleFile) header(p pair) []headerField {
	pairs, _ := f.mapping(p.value, `"header"`)
	if len(pairs) > maxHeaderKeys {
		f.errorf(p.at, "a request has at most %d header fields", maxHeaderKeys)
		return nil
	}
	var all []headerField
	for _, q := range pairs {
		if !isToken(q.key) {
			f.errorf(q.at, "%q is no name of a header field", q.key)
		}
		all = append(all, headerField{name: q.key, value: f.textOf(q)})
	}
	return all
}

// isToken reports whether s is a token of HTTP (RFC 9110 §5.6.2).
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}) < 0
}

// localName reads the name of a variable of the run.
func (f *ruleFile) localName(p pair) string {
	s, ok := f.scalar(p.value, strconv.Quote(p.key))
	name := s.value
	_, taken := roots[name]
	switch {
	case !ok:
	case !isWord(name):
		f.errorf(f.start(p.value), "%q is no name for a variable: it has letters, digits and _ and does not begin with a digit", name)
	case taken || slices.Contains(runNames, name) || slices.Contains(otherNames, name):
		f.errorf(f.start(p.value), "the name %q is taken", name)
	default:
		return name
	}
	return "reply"
}

// runNames are the variables that every run has.
var runNames = []string{"with", "turn", "error", "heard", "trigger", "timed_out"}

// otherNames are names that no variable of a run may have besides.
var otherNames = []string{"vars", "time", "sun", "windows", "edge", "properties", "not", "and", "or", "in", "let", "if", "else", "true", "false", "nil"}
