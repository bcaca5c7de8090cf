package auth_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/broker/topic"
)

func FuzzParseUsers(f *testing.F) {
	f.Add([]byte(foreign))
	f.Add([]byte("# x\n\nanna:SCRAM-SHA-256$4096:YWFhYWFhYWE=$YQ==:YQ==\nanna:\n:\n$a:$7$1$$"))
	f.Add([]byte("a:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21l$c29tZXNhbHRzb21lc29tZXNhbHQ\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		u, err := auth.ParseUsers("users", text)
		if err != nil {
			var line *auth.LineError
			if !errors.As(err, &line) || line.Line < 1 {
				t.Errorf("the error has no line: %v", err)
			}
			return
		}
		// What is right stays right when a user comes and goes.
		more := auth.SetUser(text, "fuzz user", quick)
		again, err := auth.ParseUsers("users", more)
		if err != nil || again.Len() < u.Len() || again.Len() > u.Len()+1 {
			t.Fatalf("with one more: %d users of %d, %v", again.Len(), u.Len(), err)
		}
		less, found := auth.RemoveUser(more, "fuzz user")
		if rest, err := auth.ParseUsers("users", less); err != nil || !found || rest.Len() != again.Len()-1 {
			t.Errorf("with one less: %v, %v", err, found)
		}
	})
}

func FuzzParseMosquittoACL(f *testing.F) {
	f.Add([]byte(mosquittoFile), "anna", "c", "home/x")
	f.Add([]byte("topic\nuser\npattern deny %u/#\n"), "+", "#", "$SYS/x")
	f.Fuzz(func(t *testing.T, text []byte, user, client, name string) {
		list, err := auth.ParseMosquittoACL("acl", text)
		if err != nil {
			var line *auth.LineError
			if !errors.As(err, &line) || line.Line < 1 {
				t.Errorf("the error has no line: %v", err)
			}
			return
		}
		if !topic.ValidName(name) {
			return
		}
		a := auth.New(auth.Options{Policy: auth.Policy{ACL: list, Anonymous: true}})
		who := broker.Identity{ClientID: client, Principal: user}
		for _, action := range []broker.Action{broker.ActPublish, broker.ActReceive} {
			allowed := a.Allow(t.Context(), who, action, name) == nil
			if a.AllowsAll(who, action) && name[0] != '$' && !allowed {
				t.Errorf("all is allowed, but not to %v %q", action, name)
			}
			if allowed && !strings.Contains(string(text), "topic") && !strings.Contains(string(text), "pattern") {
				t.Errorf("no line allows to %v %q", action, name)
			}
		}
	})
}

func FuzzScram(f *testing.F) {
	f.Add([]byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), []byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hv,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	f.Add([]byte("y,a=x,n=a=2Cb=3D,r=1,x=y"), []byte("c=,r=,p="))
	f.Add([]byte("p=tls-unique,,n=,r="), []byte(",p=,p="))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		if m, err := auth.ParseFirst(first); err == nil {
			if auth.CheckName(m.Name()) != nil || m.Nonce() == "" || len(first) > 4096 {
				t.Errorf("%q is taken as %q", first, m.Name())
			}
		}
		if m, err := auth.ParseFinal(final); err == nil && len(m.Proof()) != 32 {
			t.Errorf("%q has a proof of %d bytes", final, len(m.Proof()))
		}
		a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "user:"+scramUser)}})
		x, err := a.Exchange(near(""), scram)
		if err != nil {
			t.Fatal(err)
		}
		if _, done, err := x.Step(t.Context(), first); done || err != nil {
			return
		}
		if _, done, _ := x.Step(t.Context(), final); done {
			t.Errorf("%q and %q are let in", first, final)
		}
	})
}

// scramUser are keys of a password that nobody knows.
const scramUser = "SCRAM-SHA-256$4096:YWFhYWFhYWE=$YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="
