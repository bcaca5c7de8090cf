package auth

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// ParseMosquittoACL reads the text of an ACL file of mosquitto; file is its name, for
// errors, which are of *[LineError], joined. It means what it means to mosquitto 2:
//
//   - "topic [read|write|readwrite|deny] FILTER" is about the user of the "user" line
//     before it, and about anonymous clients when there is none.
//   - "pattern [read|write|readwrite|deny] FILTER", with %u and %c, is about everyone,
//     and is looked at when no topic line has decided. A client whose user name or
//     identifier has a + or # in it is then denied; a pattern with %u is not about
//     anonymous clients.
//   - Among topic lines, and among patterns, denials come first; then the first line
//     that matches decides. What no line allows is denied.
//   - Every subscription is accepted: read is asked about each message.
func ParseMosquittoACL(file string, text []byte) (*ACL, error) {
	m := &mosquittoRules{users: make(map[string]*mosquittoList)}
	var errs []error
	user := ""
	for i, line := range lines(text) {
		if line == "" || line[0] == '#' {
			continue
		}
		var err error
		if user, err = m.line(line, user); err != nil {
			errs = append(errs, &LineError{File: file, Line: i + 1, Err: err})
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &ACL{rules: m}, nil
}

// mosquittoRules are what an ACL file of mosquitto says.
type mosquittoRules struct {
	users    map[string]*mosquittoList // "" is anonymous clients
	patterns mosquittoList
}

// mosquittoList are lines about the same clients.
type mosquittoList struct {
	denied  []string
	allowed []mosquittoLine
}

type mosquittoLine struct {
	actions Actions
	filter  string
}

// line takes one line in, and returns the user whom the next ones are about.
func (m *mosquittoRules) line(line, user string) (string, error) {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "user":
		if rest == "" {
			return user, errors.New("the user's name is missing")
		}
		return rest, nil
	case "topic":
		if m.users[user] == nil {
			m.users[user] = &mosquittoList{}
		}
		return user, m.users[user].add(rest)
	case "pattern":
		return user, m.patterns.add(rest)
	default:
		return user, fmt.Errorf("%q is not one of user, topic, pattern", word)
	}
}

func (l *mosquittoList) add(rest string) error {
	access, filter, two := strings.Cut(rest, " ")
	filter = strings.TrimSpace(filter)
	if !two {
		access, filter = "readwrite", rest
	}
	if !topic.ValidFilter(filter) {
		return fmt.Errorf("%q is not a topic filter", filter)
	}
	switch access {
	case "deny":
		l.denied = append(l.denied, filter)
	case "read", "write", "readwrite":
		actions, err := ActionNamed(access)
		if err != nil {
			return err
		}
		l.allowed = append(l.allowed, mosquittoLine{actions: actions, filter: filter})
	default:
		return fmt.Errorf("access %q is not one of read, write, readwrite, deny", access)
	}
	return nil
}

// decide reports what the lines say, if they do.
func (l *mosquittoList) decide(action Actions, matches func(filter string) bool) (allowed, decided bool) {
	for _, filter := range l.denied {
		if matches(filter) {
			return false, true
		}
	}
	for _, line := range l.allowed {
		if line.actions&action != 0 && matches(line.filter) {
			return true, true
		}
	}
	return false, false
}

func (m *mosquittoRules) allows(user, client string, action broker.Action, name string) bool {
	if action == broker.ActSubscribe {
		return true
	}
	asked := Publish
	if action == broker.ActReceive {
		asked = Receive
	}
	if own := m.users[user]; own != nil {
		if allowed, decided := own.decide(asked, func(filter string) bool { return topic.Match(filter, name) }); decided {
			return allowed
		}
	}
	if strings.ContainsAny(user, "+#") || strings.ContainsAny(client, "+#") {
		return false
	}
	allowed, _ := m.patterns.decide(asked, func(filter string) bool {
		if !strings.Contains(filter, "%") {
			return topic.Match(filter, name)
		}
		if user == "" && strings.Contains(filter, "%u") {
			return false
		}
		return topic.Match(strings.NewReplacer("%u", user, "%c", client).Replace(filter), name)
	})
	return allowed
}

func (m *mosquittoRules) allowsAll(user string, action broker.Action) bool {
	own := m.users[user]
	if action == broker.ActSubscribe || own == nil || len(own.denied) > 0 {
		return action == broker.ActSubscribe
	}
	for _, line := range own.allowed {
		if line.filter == "#" && (action == broker.ActPublish && line.actions&Publish != 0 || action == broker.ActReceive && line.actions&Receive != 0) {
			return true
		}
	}
	return false
}
