package auth_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// asked is one question to an ACL, and the answer that it should give.
type asked struct {
	user, client string
	action       broker.Action
	topic        string
	want         bool
}

const (
	pub = broker.ActPublish
	sub = broker.ActSubscribe
	rcv = broker.ActReceive
)

func (q asked) String() string {
	return fmt.Sprintf("%q as %q: %v %s", q.user, q.client, q.action, q.topic)
}

// ask puts the questions to an authority, to which users come by certificate.
func ask(t *testing.T, list *auth.ACL, questions []asked) {
	t.Helper()
	a := auth.New(auth.Options{Policy: auth.Policy{ACL: list, Anonymous: true}})
	for _, q := range questions {
		who := broker.Identity{ClientID: q.client, Principal: q.user}
		if err := a.Allow(t.Context(), who, q.action, q.topic); (err == nil) != q.want {
			t.Errorf("%v: got %v, allowed should be %v", q, err, q.want)
		}
	}
}

func TestRules(t *testing.T) {
	list := acl(t,
		auth.Rule{Users: []string{"anna"}, Actions: auth.ReadWrite, Topics: []string{"home/#"}},
		auth.Rule{Groups: []string{"staff"}, Actions: auth.Write, Topics: []string{"plant/+/set"}},
		auth.Rule{All: true, Actions: auth.Read, Topics: []string{"public/#", "users/%u/inbox", "clients/dev-%c/#", "odd/100%/%x"}},
		auth.Rule{Anonymous: true, Actions: auth.Read, Topics: []string{"lobby"}},
		auth.Rule{All: true, Deny: true, Actions: auth.ReadWrite, Topics: []string{"home/secret/#"}},
		auth.Rule{Groups: []string{"staff"}, Deny: true, Actions: auth.Receive, Topics: []string{"public/noise"}},
		auth.Rule{Users: []string{"chief"}, Actions: auth.Read, Topics: []string{"#", "$SYS/#"}},
		auth.Rule{Users: []string{"writer"}, Actions: auth.Publish | auth.Subscribe, Topics: []string{"w/#"}},
	)
	ask(t, list, []asked{
		{"anna", "c", pub, "home/hall", true},
		{"anna", "c", pub, "home", true},
		{"anna", "c", pub, "homes/hall", false},
		{"anna", "c", sub, "home/#", true},
		{"anna", "c", sub, "home/+/door", true},
		{"anna", "c", sub, "#", false},
		{"anna", "c", sub, "+/hall", false},
		{"anna", "c", rcv, "home/hall", true},
		// Deny wins, wherever it stands; a subscription only when all of it is denied.
		{"anna", "c", pub, "home/secret/x", false},
		{"anna", "c", rcv, "home/secret", false},
		{"anna", "c", sub, "home/secret/#", false},
		{"anna", "c", sub, "home/secret/x", false},
		{"anna", "c", sub, "home/+/x", true},
		{"anna", "c", rcv, "public/noise", false},
		{"anna", "c", sub, "public/noise", true},
		// Groups.
		{"ben", "c", pub, "plant/press/set", true},
		{"ben", "c", rcv, "plant/press/set", false},
		{"ben", "c", pub, "plant/press/x/set", false},
		{"carl", "c", pub, "plant/press/set", false},
		// All, with placeholders.
		{"carl", "c", rcv, "public/x", true},
		{"carl", "c", rcv, "users/carl/inbox", true},
		{"carl", "c", rcv, "users/anna/inbox", false},
		{"carl", "c", sub, "users/+/inbox", false},
		{"carl", "7", sub, "clients/dev-7/#", true},
		{"carl", "7", rcv, "clients/dev-8/x", false},
		{"carl", "c", rcv, "odd/100%/%x", true},
		{"", "c", rcv, "users//inbox", false},
		{"", "c", rcv, "public/x", true},
		{"", "c", rcv, "lobby", true},
		{"carl", "c", rcv, "lobby", false},
		// Names that would widen a filter match nothing.
		{"+", "c", sub, "users/+/inbox", false},
		{"#", "#", sub, "clients/dev-#/#", false},
		{"carl", "+", sub, "clients/dev-+/#", false},
		{"a/b", "c", rcv, "users/a/b/inbox", false},
		// $ topics are for those who name them.
		{"chief", "c", rcv, "$SYS/broker/uptime", true},
		{"chief", "c", sub, "$SYS/#", true},
		{"chief", "c", sub, "#", true},
		{"chief", "c", rcv, "$other/x", false},
		{"chief", "c", pub, "x", false},
		{"anna", "c", rcv, "$SYS/broker/uptime", false},
		// To subscribe and to receive are two things.
		{"writer", "c", sub, "w/x", true},
		{"writer", "c", rcv, "w/x", false},
		{"writer", "c", pub, "w/x", true},
		{"writer", "c", broker.Action(99), "w/x", false},
	})
}

func TestAllowsAll(t *testing.T) {
	list := acl(t,
		auth.Rule{Users: []string{"anna", "ben"}, Actions: auth.ReadWrite, Topics: []string{"a", "#"}},
		auth.Rule{Users: []string{"ben"}, Deny: true, Actions: auth.Receive, Topics: []string{"x"}},
	)
	a := auth.New(auth.Options{Policy: auth.Policy{ACL: list}})
	for _, q := range []asked{{"anna", "", rcv, "", true}, {"ben", "", rcv, "", false}, {"ben", "", pub, "", true}, {"carl", "", pub, "", false}} {
		if got := a.AllowsAll(broker.Identity{Principal: q.user}, q.action); got != q.want {
			t.Errorf("%s %v: got %v", q.user, q.action, got)
		}
	}
}

func TestNewACLRefuses(t *testing.T) {
	ok := auth.Rule{All: true, Actions: auth.Read, Topics: []string{"x"}}
	for name, c := range map[string]struct {
		change func(*auth.Rule)
		want   string
	}{
		"a rule about nobody":       {func(r *auth.Rule) { r.All = false }, "rule 2: whom it is about is missing"},
		"a rule that does nothing":  {func(r *auth.Rule) { r.Actions = 0 }, "rule 2: what it allows or denies is missing"},
		"a rule without topics":     {func(r *auth.Rule) { r.Topics = nil }, "rule 2: topics are missing"},
		"a filter that is none":     {func(r *auth.Rule) { r.Topics = []string{"x", "a#"} }, `rule 2: "a#" is not a topic filter`},
		"a group that is not there": {func(r *auth.Rule) { r.Groups = []string{"x"} }, `there is no group "x"`},
		"a user without a name":     {func(r *auth.Rule) { r.Users = []string{""} }, `"" cannot be a user's name`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := ok
			c.change(&bad)
			_, err := auth.NewACL(nil, []auth.Rule{ok, bad})
			var wrong *auth.RuleError
			if !errors.As(err, &wrong) || wrong.Rule != 1 || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// What covers a filter matches every name that the filter matches.
func TestCovers(t *testing.T) {
	level := rapid.SampledFrom([]string{"a", "b", "", "$s", "%", "c%d"})
	filterLevel := rapid.OneOf(level, rapid.Just("+"))
	filter := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(filterLevel, 1, 4).Draw(t, "levels")
		if rapid.Bool().Draw(t, "all") {
			levels[len(levels)-1] = "#"
		}
		return strings.Join(levels, "/")
	}).Filter(topic.ValidFilter)
	name := rapid.Map(rapid.SliceOfN(level, 1, 4), func(l []string) string { return strings.Join(l, "/") }).Filter(topic.ValidName)
	rapid.Check(t, func(t *rapid.T) {
		wide, narrow, topicName := filter.Draw(t, "wide"), filter.Draw(t, "narrow"), name.Draw(t, "name")
		if auth.Covers(wide, "u", "c", narrow) && topic.Match(narrow, topicName) && !topic.Match(wide, topicName) {
			t.Errorf("%q covers %q, but does not match %q", wide, narrow, topicName)
		}
		if got, want := auth.Covers(wide, "u", "c", topicName), topic.Match(wide, topicName); got != want {
			t.Errorf("%q covers %q: %v, matches it: %v", wide, topicName, got, want)
		}
		if !auth.Covers(narrow, "u", "c", narrow) {
			t.Errorf("%q does not cover itself", narrow)
		}
	})
}

const mosquittoFile = `
# who is nobody
topic read $SYS/#
topic lobby

user anna
topic home/#
topic deny home/secret
topic write write only/x y
topic deny blocked

user ben
topic read home/+

user anna
topic readwrite more
topic write #

pattern read users/%u/inbox
pattern write clients/%c/state
pattern deny blocked/#
pattern readwrite blocked/anyway
pattern readwrite both/%u/%c
`

func TestMosquitto(t *testing.T) {
	list, err := auth.ParseMosquittoACL("acl", []byte(mosquittoFile))
	if err != nil {
		t.Fatal(err)
	}
	ask(t, list, []asked{
		{"", "c", rcv, "$SYS/broker/uptime", true},
		{"", "c", pub, "lobby", true},
		{"", "c", rcv, "home/x", false},
		{"anna", "c", rcv, "lobby", false},
		{"anna", "c", rcv, "$SYS/broker/uptime", false},
		{"anna", "c", rcv, "home/x", true},
		{"anna", "c", rcv, "home/secret", false},
		{"anna", "c", pub, "home/secret", false}, // denials come first, though # may be written
		{"anna", "c", pub, "write only/x y", true},
		{"anna", "c", rcv, "write only/x y", false},
		{"anna", "c", pub, "anything", true},
		{"anna", "c", pub, "$dollar", false},
		{"anna", "c", rcv, "more", true},
		{"anna", "c", pub, "blocked/x", true}, // her own lines decide before the patterns
		{"ben", "c", rcv, "home/x", true},
		{"ben", "c", pub, "home/x", false},
		{"ben", "c", rcv, "home/x/y", false},
		{"ben", "c", sub, "whatever/#", true},
		{"carl", "c", rcv, "users/carl/inbox", true},
		{"carl", "c", rcv, "users/ben/inbox", false},
		{"carl", "7", pub, "clients/7/state", true},
		{"carl", "7", rcv, "clients/7/state", false},
		{"carl", "c", rcv, "blocked/anyway", false},
		{"carl", "7", rcv, "both/carl/7", true},
		{"", "7", pub, "clients/7/state", true},
		{"", "7", rcv, "users//inbox", false},
		{"+", "c", rcv, "users/+/inbox", false},
		{"carl", "#", pub, "clients/x/state", false},
		{"%c", "x", rcv, "both/%c/x", true}, // replaced once
		{"%c", "x", rcv, "both/x/x", false},
	})
}

func TestMosquittoRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a word that is none":   {"\ntopics x", `acl:2: "topics" is not one of user, topic, pattern`},
		"a user without name":   {"user", "acl:1: the user's name is missing"},
		"a topic without topic": {"topic", `acl:1: "" is not a topic filter`},
		"an access that is not": {"topic reads x", `acl:1: access "reads" is not one of`},
		"a filter that is none": {"pattern read a#", `"a#" is not a topic filter`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := auth.ParseMosquittoACL("acl", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	t.Run("and an empty file allows nothing", func(t *testing.T) {
		list, err := auth.ParseMosquittoACL("acl", nil)
		if err != nil {
			t.Fatal(err)
		}
		ask(t, list, []asked{{"", "c", pub, "x", false}, {"anna", "c", rcv, "x", false}})
	})
}
