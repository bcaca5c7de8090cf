package auth_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/url"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/broker/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Hashes that other programs have made: those of mosquitto by mosquitto_passwd 2.0.11,
// argon2id by the argon2 of its reference implementation, bcrypt from that of
// crypt_blowfish.
const (
	foreign = `
s6:$6$FvImmoOl4XElAvYu$NUoXRXQdtoYuXpuooOBCc0dl8725Ah0bhkZuXI9/4yEgfTk/KoNbM2CjPTjiSdHRUDTth7Gz3TtAojhMZnxK2w==
s7:$7$101$8iNJ3TsevjNxmIb8$uoCMBYft/zHL52Zmgy2QYw3PO5/KMHWsBjicwhYlMVXPcACSVoNQD03iKqdL1XjV8hEjjFkwSUrqXN3F7FKlXA==
argon:$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$PL01amPyeUuxG7H0vIr5X+qHkZvWnHmGBGXFYvh8z2E
bcrypt:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW
`
	// quick is a hash of "pencil" that costs little.
	quick = "$7$101$8iNJ3TsevjNxmIb8$uoCMBYft/zHL52Zmgy2QYw3PO5/KMHWsBjicwhYlMVXPcACSVoNQD03iKqdL1XjV8hEjjFkwSUrqXN3F7FKlXA=="
)

func users(t testing.TB, text string) *auth.Users {
	t.Helper()
	u, err := auth.ParseUsers("users", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func acl(t testing.TB, rules ...auth.Rule) *auth.ACL {
	t.Helper()
	a, err := auth.NewACL(map[string][]string{"staff": {"anna", "ben"}, "nobody": {}}, rules)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// far is a client on another machine.
func far(user string) broker.Identity {
	return broker.Identity{ClientID: "c", Username: user, Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000}}
}

// near is a client on this machine.
func near(user string) broker.Identity {
	return broker.Identity{ClientID: "c", Username: user, Loopback: true, Remote: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4000}}
}

func TestPasswords(t *testing.T) {
	own := "own:" + auth.HashPassword([]byte("pencil")) + "\nscram:" + auth.ScramKeys([]byte("pencil")) + "\n"
	a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, foreign+own)}})
	passwords := map[string]string{"s6": "pencil", "s7": "pencil", "argon": "password", "bcrypt": "U*U", "own": "pencil", "scram": "pencil"}
	for name, password := range passwords {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second time it is remembered
				if principal, err := a.Connect(t.Context(), near(name), []byte(password)); principal != name || err != nil {
					t.Fatalf("the right password gives %q, %v", principal, err)
				}
			}
			for _, wrong := range []string{"", password + "x", password[1:], "\x00" + password} {
				if principal, err := a.Connect(t.Context(), near(name), []byte(wrong)); principal != "" || !errors.Is(err, packet.BadUserNameOrPassword) {
					t.Errorf("the password %q gives %q, %v", wrong, principal, err)
				}
			}
		})
	}
	t.Run("of nobody", func(t *testing.T) {
		for _, name := range []string{"nobody", "", "OWN", "own "} {
			if principal, err := a.Connect(t.Context(), near(name), []byte("pencil")); principal != "" || !errors.Is(err, packet.BadUserNameOrPassword) {
				t.Errorf("%q gives %q, %v", name, principal, err)
			}
		}
	})
	t.Run("with no users at all", func(t *testing.T) {
		a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, ""), Anonymous: true}})
		if principal, err := a.Connect(t.Context(), near("own"), []byte("pencil")); principal != "" || !errors.Is(err, packet.BadUserNameOrPassword) {
			t.Errorf("got %q, %v", principal, err)
		}
	})
}

// A client that waits too long for its turn is told so, and the turn is not lost.
func TestConnectInTime(t *testing.T) {
	a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "own:"+quick)}})
	done, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for range 10 {
		if _, err := a.Connect(done, near("own"), []byte("pencil")); err != nil && !errors.Is(err, packet.ServerBusy) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := a.Connect(t.Context(), near("own"), []byte("pencil")); err != nil {
		t.Error(err)
	}
}

func TestWhoComesIn(t *testing.T) {
	admin := near("")
	admin.Listener = "admin"
	adminAsUser := admin
	adminAsUser.Username = "own"
	cert := func(c x509.Certificate) broker.Identity {
		who := far("somebody else")
		who.Certificate = &c
		return who
	}
	spiffe, err := url.Parse("spiffe://house/press")
	if err != nil {
		t.Fatal(err)
	}
	all := x509.Certificate{
		Subject: pkix.Name{CommonName: "press"}, DNSNames: []string{"press.example", "other.example"},
		EmailAddresses: []string{"press@example"}, URIs: []*url.URL{spiffe},
	}
	withUsers := auth.Policy{Users: users(t, "own:"+quick), Anonymous: true}
	for name, c := range map[string]struct {
		policy   auth.Policy
		who      broker.Identity
		password string
		want     string
		err      error
	}{
		"anonymous, from this machine":             {auth.Policy{Anonymous: true}, near(""), "", "", nil},
		"anonymous, with a name that says nothing": {auth.Policy{Anonymous: true}, near("x"), "y", "", nil},
		"anonymous, from elsewhere":                {auth.Policy{Anonymous: true}, far(""), "", "", packet.NotAuthorized},
		"anonymous, not wanted":                    {auth.Policy{}, near(""), "", "", packet.NotAuthorized},
		"anonymous, beside users":                  {withUsers, near(""), "", "", nil},
		"anonymous, beside users, from elsewhere":  {withUsers, far(""), "", "", packet.NotAuthorized},
		"a user without users":                     {auth.Policy{Anonymous: true}, far("own"), "pencil", "", packet.NotAuthorized},
		"a user":                                   {withUsers, far("own"), "pencil", "own", nil},
		"a user with a wrong password, from here":  {withUsers, near("own"), "x", "", packet.BadUserNameOrPassword},
		"the admin's socket":                       {auth.Policy{}, admin, "", auth.Admin, nil},
		"the admin's socket, as a user":            {withUsers, adminAsUser, "pencil", "own", nil},
		"the admin's socket, as a wrong user":      {withUsers, adminAsUser, "x", "", packet.BadUserNameOrPassword},
		"the admin by name":                        {withUsers, near("$admin"), "", "", packet.BadUserNameOrPassword},
		"a certificate's common name":              {auth.Policy{}, cert(all), "", "press", nil},
		"a certificate's host":                     {auth.Policy{Certificates: auth.DNSName}, cert(all), "", "press.example", nil},
		"a certificate's address":                  {auth.Policy{Certificates: auth.EmailAddress}, cert(all), "", "press@example", nil},
		"a certificate's URI":                      {auth.Policy{Certificates: auth.URI}, cert(all), "", "spiffe://house/press", nil},
		"a certificate without the name":           {auth.Policy{Certificates: auth.URI, Anonymous: true}, cert(x509.Certificate{Subject: all.Subject}), "", "", packet.NotAuthorized},
		"a certificate with the admin's name":      {auth.Policy{}, cert(x509.Certificate{Subject: pkix.Name{CommonName: "$admin"}}), "", "", packet.NotAuthorized},
	} {
		t.Run(name, func(t *testing.T) {
			a := auth.New(auth.Options{AdminListener: "admin", Policy: c.policy})
			got, err := a.Connect(t.Context(), c.who, []byte(c.password))
			if got != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("got %q, %v, want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestWhatTheyMayDo(t *testing.T) {
	open := acl(t, auth.Rule{All: true, Actions: auth.ReadWrite, Topics: []string{"#", "$SYS/#"}})
	is := func(principal string) broker.Identity {
		who := near("")
		who.Principal = principal
		return who
	}
	certified := is("press")
	certified.Certificate = &x509.Certificate{}
	remote := certified
	remote.Loopback = false
	stored := broker.Identity{ClientID: "c", Principal: "press"} // as a store knows it
	for name, c := range map[string]struct {
		policy auth.Policy
		who    broker.Identity
		topic  string
		want   bool
	}{
		"anonymous without ACL":                  {auth.Policy{Anonymous: true}, is(""), "x", true},
		"anonymous without ACL, $SYS":            {auth.Policy{Anonymous: true}, is(""), "$SYS/x", true},
		"anonymous, not wanted any more":         {auth.Policy{}, is(""), "x", false},
		"anonymous with an open ACL":             {auth.Policy{Anonymous: true, ACL: open}, is(""), "x", true},
		"anonymous, not wanted, with an ACL":     {auth.Policy{ACL: open}, is(""), "x", false},
		"anonymous with an empty ACL":            {auth.Policy{Anonymous: true, ACL: acl(t)}, is(""), "x", false},
		"a user without ACL":                     {auth.Policy{Users: users(t, "own:"+quick), Anonymous: true}, is("own"), "x", false},
		"a user with an open ACL":                {auth.Policy{Users: users(t, "own:"+quick), ACL: open}, is("own"), "x", true},
		"a user with an empty ACL":               {auth.Policy{Users: users(t, "own:"+quick), ACL: acl(t)}, is("own"), "x", false},
		"a user who is not there any more":       {auth.Policy{Users: users(t, ""), ACL: open}, is("own"), "x", false},
		"a certificate needs no line":            {auth.Policy{Users: users(t, ""), ACL: open}, certified, "x", true},
		"a certificate without ACL":              {auth.Policy{}, certified, "x", false},
		"a certificate from here, nothing said":  {auth.Policy{Anonymous: true}, certified, "x", true},
		"a certificate from elsewhere":           {auth.Policy{Anonymous: true}, remote, "x", false},
		"a certificate from here, with users":    {auth.Policy{Anonymous: true, Users: users(t, "")}, certified, "x", false},
		"a session from the store, by ACL alone": {auth.Policy{ACL: open}, stored, "x", true},
		"a session from the store, empty ACL":    {auth.Policy{ACL: acl(t)}, stored, "x", false},
		"the admin":                              {auth.Policy{ACL: acl(t)}, is(auth.Admin), "$SYS/x", true},
	} {
		t.Run(name, func(t *testing.T) {
			a := auth.New(auth.Options{Policy: c.policy})
			for _, action := range []broker.Action{broker.ActSubscribe, broker.ActReceive} {
				if err := a.Allow(t.Context(), c.who, action, c.topic); (err == nil) != c.want {
					t.Errorf("to %v: got %v, allowed should be %v", action, err, c.want)
				}
				if a.AllowsAll(c.who, action) && !c.want {
					t.Errorf("to %v it is allowed all, but not this", action)
				}
			}
		})
	}
	t.Run("nobody publishes below $SYS", func(t *testing.T) {
		a := auth.New(auth.Options{Policy: auth.Policy{Anonymous: true}})
		for _, who := range []broker.Identity{is(""), is(auth.Admin)} {
			if a.Allow(t.Context(), who, broker.ActPublish, "$SYS/x") == nil {
				t.Errorf("%q may", who.Principal)
			}
		}
	})
}

func TestStays(t *testing.T) {
	a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "anna:"+quick+"\nben:"+quick+"\n"), Anonymous: true}})
	in := func(name string) broker.Identity {
		who := far(name)
		who.Since = time.Now()
		var err error
		if who.Principal, err = a.Connect(t.Context(), who, []byte("pencil")); err != nil {
			t.Fatal(err)
		}
		return who
	}
	anna, ben, nobody := in("anna"), in("ben"), near("")
	press := far("")
	press.Certificate = &x509.Certificate{Subject: pkix.Name{CommonName: "press"}, DNSNames: []string{"other"}}
	press.Principal = "press"
	for _, who := range []broker.Identity{anna, ben, nobody, press, {Principal: auth.Admin}} {
		if !a.Stays(who) {
			t.Errorf("%q may not stay, though nothing has changed", who.Principal)
		}
	}
	a.Load(auth.Policy{Users: users(t, "# moved\nben:"+quick+"\n"), Anonymous: true})
	if a.Stays(anna) || !a.Stays(ben) || !a.Stays(nobody) {
		t.Errorf("after anna was deleted: anna %v, ben %v, anonymous %v", a.Stays(anna), a.Stays(ben), a.Stays(nobody))
	}
	a.Load(auth.Policy{Users: users(t, "ben:"+auth.HashPassword([]byte("pencil")))})
	if a.Stays(ben) || a.Stays(nobody) {
		t.Errorf("after ben's line changed: ben %v, anonymous %v", a.Stays(ben), a.Stays(nobody))
	}
	if again := in("ben"); !a.Stays(again) {
		t.Error("ben has come again and may not stay")
	}
	a.Load(auth.Policy{Users: users(t, ""), Certificates: auth.DNSName})
	if a.Stays(press) {
		t.Error("another name of the certificate counts now")
	}
}
