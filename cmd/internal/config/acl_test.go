package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

const aclText = `# who may do what
groups:
  operators: [anna, ben]
rules:
  - {allow: read, topics: ["home/#"], groups: [operators]}
  - allow: [publish, receive]
    topics: ["clients/%c/#"]
    all: true
  - {deny: write, topics: ["home/lock"], users: [anna]}
  - {allow: write, topics: ["home/#"], users: [anna]}
  - {allow: read, topics: [lobby], anonymous: true}
  - {allow: write, topics: [door], users: [4711, "007"]}
`

func TestParseACL(t *testing.T) {
	acl, err := config.ParseACL("acl.yaml", []byte(aclText))
	if err != nil {
		t.Fatal(err)
	}
	a := auth.New(auth.Options{Policy: auth.Policy{ACL: acl, Anonymous: true}})
	for _, q := range []struct {
		user   string
		action broker.Action
		topic  string
		want   bool
	}{
		{"anna", broker.ActReceive, "home/x", true},
		{"anna", broker.ActSubscribe, "home/#", true},
		{"anna", broker.ActPublish, "home/x", true},
		{"anna", broker.ActPublish, "home/lock", false},
		{"ben", broker.ActPublish, "home/x", false},
		{"carl", broker.ActReceive, "home/x", false},
		{"carl", broker.ActPublish, "clients/c/x", true},
		{"carl", broker.ActSubscribe, "clients/c/x", false},
		{"4711", broker.ActPublish, "door", true},
		{"007", broker.ActPublish, "door", true},
		{"7", broker.ActPublish, "door", false},
		{"", broker.ActReceive, "lobby", true},
		{"anna", broker.ActReceive, "lobby", false},
	} {
		if err := a.Allow(t.Context(), broker.Identity{Principal: q.user, ClientID: "c"}, q.action, q.topic); (err == nil) != q.want {
			t.Errorf("%q to %v %q: got %v, allowed should be %v", q.user, q.action, q.topic, err, q.want)
		}
	}
}

func TestParseACLRefuses(t *testing.T) {
	rule := func(text string) string { return "rules:\n  - {" + text + "}\n" }
	for name, tt := range map[string]struct{ text, at, says string }{
		"an unknown key":         {"rule: []\n", "f.yaml:1:1:", `unknown field "rule"`},
		"a list that is none":    {"rules: {allow: read}\n", "f.yaml:1:", ""},
		"both":                   {rule("allow: read, deny: write, topics: [a], all: true"), "f.yaml:2:", "not both"},
		"neither":                {rule("topics: [a], all: true"), "f.yaml:2:", "give allow or deny"},
		"a word that is none":    {rule("allow: reed, topics: [a], all: true"), "f.yaml:2:13:", `"reed" is not one of`},
		"no words":               {rule("allow: [], topics: [a], all: true"), "f.yaml:2:", "the list is empty"},
		"what is no word":        {rule("allow: [1], topics: [a], all: true"), "f.yaml:2:", "1 is not a word"},
		"nobody":                 {rule("allow: read, topics: [a]"), "f.yaml:2:", "whom it is about is missing"},
		"no topics":              {rule("allow: read, all: true"), "f.yaml:2:", "topics are missing"},
		"a filter that is none":  {rule("allow: read, all: true, topics: [a, 'b#']"), "f.yaml:2:", `"b#" is not a topic filter`},
		"a group that is not":    {rule("allow: read, topics: [a], groups: [x]"), "f.yaml:2:", `no group "x"`},
		"a YAML tag":             {rule("allow: !read x, topics: [a], all: true"), "f.yaml:2:13:", "tag"},
		"a key without a value":  {"rules:\n", "f.yaml:1:1:", "no value"},
		"another user to YAML":   {rule("allow: read, topics: [a], users: [4711, 007]"), "f.yaml:2:46:", `"007" is not text to YAML`},
		"a group of nobody":      {"groups: {g: [null]}\n", "f.yaml:1:14:", `"null" is not text`},
		"a file that is no YAML": {"rules: [", "f.yaml:1:", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.ParseACL("f.yaml", []byte(tt.text))
			var e *config.Error
			if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), tt.at) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(e.Snippet, "^") {
				t.Errorf("got  %v\nwant %s ... %s", err, tt.at, tt.says)
			}
		})
	}
	t.Run("and an empty file allows nothing", func(t *testing.T) {
		for _, text := range []string{"", "# nobody\n", "{}\n", "rules: []\n"} {
			acl, err := config.ParseACL("f.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			a := auth.New(auth.Options{Policy: auth.Policy{ACL: acl, Anonymous: true}})
			if a.Allow(t.Context(), broker.Identity{}, broker.ActPublish, "x") == nil {
				t.Errorf("%q opens everything", text)
			}
		}
	})
}

func FuzzParseACL(f *testing.F) {
	f.Add([]byte(aclText))
	f.Add([]byte("rules: [{allow: [read, 1], deny: {}, topics: [\"%u%c%%\"]}]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		acl, err := config.ParseACL("f.yaml", text)
		if err != nil {
			return
		}
		a := auth.New(auth.Options{Policy: auth.Policy{ACL: acl, Anonymous: true}})
		if a.Allow(t.Context(), broker.Identity{Principal: "anna"}, broker.ActPublish, "x") == nil && !strings.Contains(string(text), "allow") {
			t.Error("it allows without the word")
		}
	})
}
