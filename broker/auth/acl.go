package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// ACL says who may do what with which topics. Nothing of it changes.
type ACL struct{ rules judge }

// judge is one way to say it.
type judge interface {
	// allows reports whether a client may do it: a topic is a name, or a filter for
	// [broker.ActSubscribe]. An empty user is an anonymous client.
	allows(user, client string, action broker.Action, topic string) bool
	// allowsAll reports whether the client may, whatever the topic is, but for those
	// that begin with "$".
	allowsAll(user string, action broker.Action) bool
}

// Actions are a set of what a rule is about.
type Actions uint8

// The actions, and what people call some of them together.
const (
	Publish Actions = 1 << iota
	Subscribe
	Receive
	Read      = Subscribe | Receive
	Write     = Publish
	ReadWrite = Read | Write
)

// ActionNamed is the set that a word of an ACL file stands for.
func ActionNamed(word string) (Actions, error) {
	switch word {
	case "publish", "write":
		return Publish, nil
	case "subscribe":
		return Subscribe, nil
	case "receive":
		return Receive, nil
	case "read":
		return Read, nil
	case "readwrite":
		return ReadWrite, nil
	default:
		return 0, fmt.Errorf("%q is not one of read, write, readwrite, publish, subscribe, receive", word)
	}
}

// Rule allows or denies some actions on some topics to some clients.
type Rule struct {
	// Users, Groups, Anonymous and All say whom it is about: these users, the members
	// of these groups, clients without a user name, everyone. One at least is needed.
	Users, Groups  []string
	Anonymous, All bool
	// Deny makes it a denial.
	Deny    bool
	Actions Actions
	// Topics are topic filters. %u stands for the user name and %c for the client
	// identifier; one that is empty or has one of / + # in it matches nothing there.
	// As everywhere, a wildcard at the beginning does not match what begins with "$".
	Topics []string
}

// RuleError is something wrong with a rule.
type RuleError struct {
	Rule  int    // its index
	Field string // "users", "groups", "topics", or empty
	Index int    // in the field; below 0 for all of it
	Msg   string
}

// Error says which rule, and what is wrong with it.
func (e *RuleError) Error() string { return fmt.Sprintf("rule %d: %s", e.Rule+1, e.Msg) }

// NewACL makes an ACL of rules. A client may do what at least one rule allows and no
// rule denies: the order of the rules means nothing, and nothing is allowed that no
// rule allows. Publishing and receiving are about concrete topics. A subscription is
// allowed when one allowing filter covers the whole of its filter, and refused when a
// denying one does; where a denial covers a part of it, the subscription stands and
// those messages are not delivered. The error is a *[RuleError].
func NewACL(groups map[string][]string, rules []Rule) (*ACL, error) {
	s := &ruleSet{users: make(map[string]*rights)}
	for i := range rules {
		if err := s.check(i, &rules[i], groups); err != nil {
			return nil, err
		}
	}
	for i := range rules { // whom a rule is about gets rights of his own
		for _, name := range concerned(&rules[i], groups) {
			s.users[name] = &rights{}
		}
	}
	for i := range rules {
		r := &rules[i]
		names := concerned(r, groups)
		if r.All {
			names = slices.Collect(maps.Keys(s.users))
			s.others.add(r)
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			s.users[name].add(r)
		}
		if r.All || r.Anonymous {
			s.anonymous.add(r)
		}
	}
	return &ACL{rules: s}, nil
}

// concerned are the users whom a rule names, alone or in groups.
func concerned(r *Rule, groups map[string][]string) []string {
	names := slices.Clone(r.Users)
	for _, g := range r.Groups {
		names = append(names, groups[g]...)
	}
	return names
}

// ruleSet is an ACL of rules.
type ruleSet struct {
	users             map[string]*rights
	others, anonymous rights
}

func (s *ruleSet) check(i int, r *Rule, groups map[string][]string) error {
	fail := func(field string, index int, format string, args ...any) error {
		return &RuleError{Rule: i, Field: field, Index: index, Msg: fmt.Sprintf(format, args...)}
	}
	if len(r.Users)+len(r.Groups) == 0 && !r.All && !r.Anonymous {
		return fail("", -1, "whom it is about is missing: give users, groups, anonymous: true or all: true")
	}
	if r.Actions == 0 || r.Actions&^ReadWrite != 0 {
		return fail("", -1, "what it allows or denies is missing")
	}
	if len(r.Topics) == 0 {
		return fail("", -1, `topics are missing: "#" is all but those that begin with $`)
	}
	for j, name := range r.Users {
		if name == "" || len(name) > maxName || name[0] == '$' { // names of certificates may have colons
			return fail("users", j, "%q cannot be a user's name", name)
		}
	}
	for j, name := range r.Groups {
		if groups[name] == nil {
			return fail("groups", j, "there is no group %q", name)
		}
	}
	for j, filter := range r.Topics {
		if !topic.ValidFilter(filter) {
			return fail("topics", j, "%q is not a topic filter: + must be a whole level, # the whole last level", filter)
		}
	}
	return nil
}

// rights are those of one user, or of all that have none of their own.
type rights struct {
	allowed, denied [broker.ActReceive + 1][]string
}

func (g *rights) add(r *Rule) {
	to := &g.allowed
	if r.Deny {
		to = &g.denied
	}
	for action, bit := range map[broker.Action]Actions{broker.ActPublish: Publish, broker.ActSubscribe: Subscribe, broker.ActReceive: Receive} {
		if r.Actions&bit != 0 {
			to[action] = append(to[action], r.Topics...)
		}
	}
}

func (s *ruleSet) of(user string) *rights {
	if user == "" {
		return &s.anonymous
	}
	if own := s.users[user]; own != nil {
		return own
	}
	return &s.others
}

func (s *ruleSet) allows(user, client string, action broker.Action, name string) bool {
	g := s.of(user)
	if int(action) >= len(g.allowed) {
		return false
	}
	return anyCovers(g.allowed[action], user, client, name) && !anyCovers(g.denied[action], user, client, name)
}

func (s *ruleSet) allowsAll(user string, action broker.Action) bool {
	g := s.of(user)
	return int(action) < len(g.allowed) && slices.Contains(g.allowed[action], "#") && len(g.denied[action]) == 0
}

func anyCovers(patterns []string, user, client, name string) bool {
	for _, p := range patterns {
		if covers(p, user, client, name) {
			return true
		}
	}
	return false
}

// covers reports whether a pattern, a topic filter with %u and %c, matches a topic
// name, or all that a topic filter does.
func covers(pattern, user, client, name string) bool {
	if name != "" && name[0] == '$' && (pattern[0] == '+' || pattern[0] == '#') {
		return false // [MQTT-4.7.2-1]
	}
	for {
		p, pRest, pMore := strings.Cut(pattern, "/")
		if p == "#" {
			return true
		}
		n, nRest, nMore := strings.Cut(name, "/")
		if n == "#" || p != "+" && (n == "+" || !levelIs(p, user, client, n)) {
			return false
		}
		switch {
		case pMore && nMore:
			pattern, name = pRest, nRest
		case pMore: // "a/#" covers "a"
			return pRest == "#"
		default:
			return !nMore
		}
	}
}

// levelIs reports whether a level of a pattern is the text.
func levelIs(level, user, client, text string) bool {
	for {
		i := strings.IndexByte(level, '%')
		if i < 0 || i+1 == len(level) {
			return level == text
		}
		value := level[i : i+1] // a % that begins nothing
		after := level[i+1:]
		if of, ok := placeholder(level[i+1], user, client); ok {
			if of == "" || strings.ContainsAny(of, "/+#") {
				return false
			}
			value, after = of, level[i+2:]
		}
		var ok bool
		if text, ok = strings.CutPrefix(text, level[:i]); !ok {
			return false
		}
		if text, ok = strings.CutPrefix(text, value); !ok {
			return false
		}
		level = after
	}
}

func placeholder(letter byte, user, client string) (value string, ok bool) {
	switch letter {
	case 'u':
		return user, true
	case 'c':
		return client, true
	default:
		return "", false
	}
}
