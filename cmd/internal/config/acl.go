package config

import (
	"errors"
	"fmt"

	"github.com/gatehouse/gatehouse/broker/auth"
)

// maxACL bounds an ACL file in bytes.
const maxACL = 1 << 20

// aclFile is an ACL file:
//
//	groups:
//	  operators: [anna, ben]
//	rules:
//	  - {allow: read, topics: ["home/#", "$SYS/#"], groups: [operators]}
//	  - {allow: [publish, receive], topics: ["devices/%c/#"], all: true}
//	  - {deny: write, topics: ["home/+/lock/set"], users: [guest]}
type aclFile struct {
	Groups map[string][]string `yaml:"groups"`
	Rules  []aclRule           `yaml:"rules"`
}

// aclRule is one rule of an ACL file, see [auth.Rule].
type aclRule struct {
	Allow     any      `yaml:"allow"` // a word or a list of words
	Deny      any      `yaml:"deny"`
	Topics    []string `yaml:"topics"`
	Users     []string `yaml:"users"`
	Groups    []string `yaml:"groups"`
	Anonymous bool     `yaml:"anonymous"`
	All       bool     `yaml:"all"`
}

// ParseACL reads the text of an ACL file in YAML, as strictly as the configuration;
// file is its name, for errors, which are of *[Error]. An empty file allows nothing.
func ParseACL(file string, text []byte) (*auth.ACL, error) {
	doc := &Config{file: file, text: text} // it is no configuration, but read like one
	var f aclFile
	if err := doc.decode(&f, maxACL); err != nil {
		return nil, err
	}
	rules := make([]auth.Rule, len(f.Rules))
	for i := range f.Rules {
		r := &f.Rules[i]
		actions, field, err := r.actions()
		if err != nil {
			return nil, doc.errorf(fmt.Sprintf("rules[%d]%s", i, field), "%v", err)
		}
		rules[i] = auth.Rule{
			Users: r.Users, Groups: r.Groups, Anonymous: r.Anonymous, All: r.All,
			Deny: r.Deny != nil, Actions: actions, Topics: r.Topics,
		}
	}
	acl, err := auth.NewACL(f.Groups, rules)
	var wrong *auth.RuleError
	if !errors.As(err, &wrong) {
		return acl, err
	}
	key := fmt.Sprintf("rules[%d]", wrong.Rule)
	if wrong.Field != "" {
		key += "." + wrong.Field
	}
	if wrong.Index >= 0 {
		key += fmt.Sprintf("[%d]", wrong.Index)
	}
	return nil, doc.errorf(key, "%s", wrong.Msg)
}

// actions are what the rule allows or denies; the field is where an error is.
func (r *aclRule) actions() (actions auth.Actions, field string, err error) {
	said, field := r.Allow, ".allow"
	switch {
	case r.Allow != nil && r.Deny != nil:
		return 0, "", errors.New("a rule allows or denies, not both: make it two rules")
	case r.Allow == nil && r.Deny == nil:
		return 0, "", errors.New("what it does is missing: give allow or deny")
	case r.Deny != nil:
		said, field = r.Deny, ".deny"
	}
	list, several := said.([]any)
	if !several {
		list = []any{said}
	}
	for _, item := range list {
		word, ok := item.(string)
		if !ok {
			return 0, field, fmt.Errorf("%v is not a word such as read", item)
		}
		a, err := auth.ActionNamed(word)
		if err != nil {
			return 0, field, err
		}
		actions |= a
	}
	if actions == 0 {
		return 0, field, errors.New("the list is empty")
	}
	return actions, field, nil
}
