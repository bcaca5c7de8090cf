package auth_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/auth"
)

func TestParseUsersRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a line without a colon":    {"# users\n\nanna", "users:3: the line is not NAME:HASH"},
		"a name that is empty":      {":x", "users:1: a user name has 1 to 1024 bytes"},
		"a name that is reserved":   {"$admin:x", `users:1: user name "$admin"`},
		"a name that is no text":    {"a\xff:x", "is not text"},
		"a name with a control":     {"a\x01b:x", "is not text"},
		"a password in clear":       {"anna:secret", `users:1: user "anna": the hash is none of`},
		"an empty hash":             {"anna:", "the hash is none of"},
		"a user twice":              {"anna:$6$YQ==$" + sum64 + "\nanna:$6$YQ==$" + sum64, `users:2: user "anna" is there twice`},
		"argon2 that is cut":        {"a:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21l", "the argon2id hash is not right"},
		"argon2 of another version": {"a:$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHRzb21l$c29tZXNhbHRzb21lc29tZXNhbHQ", "v=19"},
		"argon2 with too much":      {"a:$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21l$c29tZXNhbHRzb21lc29tZXNhbHQ", "beyond"},
		"argon2 with nothing":       {"a:$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHRzb21l$c29tZXNhbHRzb21lc29tZXNhbHQ", "beyond"},
		"argon2 with no parameters": {"a:$argon2id$v=19$m=x$c29tZXNhbHRzb21l$c29tZXNhbHRzb21lc29tZXNhbHQ", "m=..,t=..,p=.. are not right"},
		"bcrypt that is cut":        {"a:$2b$10$abc", "the 2b hash is not right"},
		"bcrypt that takes years":   {"a:$2b$31$" + strings.Repeat("a", 53), "its cost is 31"},
		"mosquitto without a salt":  {"a:$6$abc", "SALT$HASH"},
		"mosquitto with a bad hash": {"a:$6$YQ==$YQ==", "it has 1 bytes, not 64"},
		"mosquitto without rounds":  {"a:$7$abc", "ROUNDS$SALT$HASH"},
		"mosquitto with too many":   {"a:$7$99999999$YQ==$" + sum64, "rounds are not a number from 1"},
		"mosquitto, no base64":      {"a:$6$*$" + sum64, "salt: it is not base64"},
		"SCRAM that is cut":         {"a:SCRAM-SHA-256$4096:YWFhYWFhYWE=", "ROUNDS:SALT$STOREDKEY:SERVERKEY"},
		"SCRAM with too few rounds": {"a:SCRAM-SHA-256$1:YWFhYWFhYWE=$a:b", "from 4096"},
		"SCRAM with short keys":     {"a:SCRAM-SHA-256$4096:YWFhYWFhYWE=$YQ==:YQ==", "stored key: it has 1 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := auth.ParseUsers("users", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%v shows what may be a password", err)
			}
		})
	}
	t.Run("and tells all mistakes at once", func(t *testing.T) {
		_, err := auth.ParseUsers("users", []byte("a\nb:\n"))
		if err == nil || !strings.Contains(err.Error(), "users:1:") || !strings.Contains(err.Error(), "users:2:") {
			t.Errorf("got %v", err)
		}
	})
}

// sum64 is base64 of 64 bytes.
var sum64 = strings.Repeat("QUFB", 21) + "QQ=="

func TestParseUsersTakes(t *testing.T) {
	u, err := auth.ParseUsers("users", []byte("\xef\xbb\xbf# made by hand\r\n\r\n  anna:$6$YQ==$"+sum64+"\r\nben :$7$101$YQ==$"+sum64+"\n"))
	if err != nil || u.Len() != 2 {
		t.Errorf("got %v, %v", u, err)
	}
	if u, err := auth.ParseUsers("users", nil); err != nil || u.Len() != 0 {
		t.Errorf("an empty file gives %v, %v", u, err)
	}
}

func TestEditUsers(t *testing.T) {
	const file = "# ours\nanna:1\nben:2"
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"adds at the end":           {auth.SetUser([]byte(file), "carl", "3"), "# ours\nanna:1\nben:2\ncarl:3\n"},
		"changes in place":          {auth.SetUser([]byte(file), "anna", "9"), "# ours\nanna:9\nben:2"},
		"begins a file":             {auth.SetUser(nil, "anna", "1"), "anna:1\n"},
		"takes a name as it is":     {auth.SetUser([]byte("ann:1\nanna2:2\n"), "anna", "3"), "ann:1\nanna2:2\nanna:3\n"},
		"leaves comments alone":     {auth.SetUser([]byte("# anna:1\n"), "anna", "3"), "# anna:1\nanna:3\n"},
		"knows a name with a space": {auth.SetUser([]byte(" anna :1\n"), "anna", "3"), "anna:3\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, string(c.got)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("deletes", func(t *testing.T) {
		got, found := auth.RemoveUser([]byte(file), "anna")
		if !found || string(got) != "# ours\nben:2" {
			t.Errorf("got %q, %v", got, found)
		}
		if got, found := auth.RemoveUser([]byte(file), "nobody"); found || string(got) != file {
			t.Errorf("got %q, %v", got, found)
		}
	})
}
