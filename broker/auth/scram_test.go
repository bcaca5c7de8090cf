package auth_test

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

const scram = "SCRAM-SHA-256"

// begin begins an exchange.
func begin(t *testing.T, a *auth.Authority) broker.Exchange {
	t.Helper()
	x, err := a.Exchange(near(""), scram)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// The example of RFC 7677 §3.
func TestScramVector(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "user:"+auth.NewScramKeys([]byte("pencil"), salt, 4096))}})
	a.SetNonce("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
	x := begin(t, a)
	answer, done, err := x.Step(t.Context(), []byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"))
	want := "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	if string(answer) != want || done || err != nil {
		t.Fatalf("got %q, %v, %v\nwant %q", answer, done, err, want)
	}
	answer, done, err = x.Step(t.Context(), []byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	want = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	if string(answer) != want || !done || err != nil {
		t.Fatalf("got %q, %v, %v\nwant %q", answer, done, err, want)
	}
	if x.Principal() != "user" {
		t.Errorf("the principal is %q", x.Principal())
	}
	if _, _, err := x.Step(t.Context(), []byte("n,,n=user,r=x")); err == nil {
		t.Error("an exchange that is over goes on")
	}
}

// scramClient is the client's side.
type scramClient struct{ name, password, header, nonce string }

func (c *scramClient) first() string { return c.header + "n=" + c.name + ",r=" + c.nonce }

// final answers a server-first-message; signature is what the server has to say then.
func (c *scramClient) final(t testing.TB, serverFirst string) (message, signature string) {
	t.Helper()
	parts := strings.Split(serverFirst, ",")
	if len(parts) != 3 {
		t.Fatalf("the server says %q", serverFirst)
	}
	salt, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(parts[1], "s="))
	if err != nil {
		t.Fatal(err)
	}
	rounds, err := strconv.Atoi(strings.TrimPrefix(parts[2], "i="))
	if err != nil {
		t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, c.password, salt, rounds, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	bare := "c=" + base64.StdEncoding.EncodeToString([]byte(c.header)) + "," + parts[0]
	said := strings.TrimPrefix(c.first(), c.header) + "," + serverFirst + "," + bare
	clientKey := mac(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	proof := mac(stored[:], said)
	subtle.XORBytes(proof, proof, clientKey)
	signature = base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), said))
	return bare + ",p=" + base64.StdEncoding.EncodeToString(proof), "v=" + signature
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func TestScramRefuses(t *testing.T) {
	policy := auth.Policy{Users: users(t, "anna:"+auth.ScramKeys([]byte("pencil"))+"\nplain:"+quick)}
	for name, c := range map[string]struct {
		client scramClient
		change func(final string) string
	}{
		"a wrong password":             {client: scramClient{"anna", "pen", "n,,", "abc"}},
		"a user who is not there":      {client: scramClient{"carl", "pencil", "n,,", "abc"}},
		"a user with another hash":     {client: scramClient{"plain", "pencil", "n,,", "abc"}},
		"another nonce":                {scramClient{"anna", "pencil", "n,,", "abc"}, func(f string) string { return strings.Replace(f, "r=abc", "r=abd", 1) }},
		"another channel binding":      {scramClient{"anna", "pencil", "n,,", "abc"}, func(f string) string { return strings.Replace(f, "c=biws", "c=eSws", 1) }},
		"a proof that is cut":          {scramClient{"anna", "pencil", "n,,", "abc"}, func(f string) string { return f[:len(f)-4] }},
		"no proof":                     {scramClient{"anna", "pencil", "n,,", "abc"}, func(f string) string { return f[:strings.Index(f, ",p=")] }},
		"something else":               {scramClient{"anna", "pencil", "n,,", "abc"}, func(string) string { return "" }},
		"an extension behind the mark": {scramClient{"anna", "pencil", "n,,", "abc"}, func(f string) string { return strings.Replace(f, ",p=", ",x=y,p=", 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			x := begin(t, auth.New(auth.Options{Policy: policy}))
			answer, done, err := x.Step(t.Context(), []byte(c.client.first()))
			if done || err != nil {
				t.Fatalf("the first message: %v, %v", done, err)
			}
			final, _ := c.client.final(t, string(answer))
			if c.change != nil {
				final = c.change(final)
			}
			if answer, done, err := x.Step(t.Context(), []byte(final)); err == nil || done || answer != nil {
				t.Errorf("got %q, %v, %v", answer, done, err)
			}
		})
	}
	for _, first := range []string{
		"", "n", "n,", "n,,", "n,,n=anna", "n,,r=abc,n=anna", "p=tls-unique,,n=anna,r=abc", "x,,n=anna,r=abc", "n,a=ben,n=anna,r=abc",
		"n,,m=1,n=anna,r=abc", "n,,n=,r=abc", "n,,n=anna,r=", "n,,n=anna,r=a\x7fb", "n,,n=an=na,r=abc", "n,,n=$admin,r=abc",
		"n,,n=" + strings.Repeat("a", 5000) + ",r=abc", "n,,n=a\x00,r=abc",
	} {
		x := begin(t, auth.New(auth.Options{Policy: policy}))
		if answer, done, err := x.Step(t.Context(), []byte(first)); err == nil || done {
			t.Errorf("%.40q is taken: %q, %v", first, answer, done)
		}
	}
	if _, err := auth.New(auth.Options{}).Exchange(near(""), "SCRAM-SHA-1"); !errors.Is(err, packet.BadAuthenticationMethod) {
		t.Errorf("another method: %v", err)
	}
}

// Nobody can tell by the salt and the rounds whether a user is there.
func TestScramStrangers(t *testing.T) {
	a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "anna:"+auth.ScramKeys([]byte("pencil")))}})
	saltOf := func(name string) string {
		answer, _, err := begin(t, a).Step(t.Context(), []byte("n,,n="+name+",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(answer), ",")
		return rest
	}
	if first, again := saltOf("carl"), saltOf("carl"); first != again || first == saltOf("dora") {
		t.Error("a stranger's salt is not always the same, or not his own")
	}
	if got, want := saltOf("carl"), saltOf("anna"); len(got) != len(want) || got[len(got)-8:] != want[len(want)-8:] {
		t.Errorf("a stranger gets %q, a user %q", got, want)
	}
}

// A name with what SCRAM escapes, and the user's right to act as himself.
func TestScramNames(t *testing.T) {
	a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "a,b=c:"+auth.ScramKeys([]byte("pencil")))}})
	for _, header := range []string{"n,,", "y,,", "n,a=a=2Cb=3Dc,"} {
		c := scramClient{"a=2Cb=3Dc", "pencil", header, "abc"}
		x := begin(t, a)
		answer, _, err := x.Step(t.Context(), []byte(c.first()))
		if err != nil {
			t.Fatal(err)
		}
		final, signature := c.final(t, string(answer))
		answer, done, err := x.Step(t.Context(), []byte(final))
		if !done || err != nil || string(answer) != signature || x.Principal() != "a,b=c" {
			t.Errorf("%q: got %q, %v, %v for %q", header, answer, done, err, x.Principal())
		}
	}
}

// Over a socket: CONNECT, then again on the same connection, then with a password that
// is not right any more.
func TestScramOverMQTT(t *testing.T) {
	policy := func(password string) auth.Policy {
		return auth.Policy{
			Users: users(t, "anna:"+auth.ScramKeys([]byte(password))),
			ACL:   acl(t, auth.Rule{Users: []string{"anna"}, Actions: auth.ReadWrite, Topics: []string{"home/#"}}),
		}
	}
	a := auth.New(auth.Options{Policy: policy("pencil")})
	s := brokertest.Start(t, broker.Options{Store: mem.New(), Authorizer: a, StatusEvery: -1})
	client := scramClient{"anna", "pencil", "n,,", "fyko+d2lbbFgONRv9qkxdawL"}
	c, signature := scramConnect(t, s, &client)
	ack, ok := receive(t, c).(*packet.Connack)
	if !ok || ack.Reason != packet.Success || ack.Properties.AuthenticationMethod != scram || string(ack.Properties.AuthenticationData) != signature {
		t.Fatalf("got %+v", ack)
	}
	for topic, want := range map[string]packet.Reason{"home/x": packet.NoMatchingSubscribers, "elsewhere": packet.NotAuthorized} {
		transmit(t, c, &packet.Publish{Topic: topic, QoS: 1, ID: 1})
		if ack, ok := receive(t, c).(*packet.Ack); !ok || ack.Reason != want {
			t.Errorf("publishing to %q got %+v, want %v", topic, ack, want)
		}
	}
	again := func(password string) packet.Packet {
		client.password = password
		transmit(t, c, &packet.Auth{Reason: packet.ReAuthenticate, AuthenticationMethod: scram, AuthenticationData: []byte(client.first())})
		challenge, ok := receive(t, c).(*packet.Auth)
		if !ok || challenge.Reason != packet.ContinueAuthentication || challenge.AuthenticationMethod != scram {
			t.Fatalf("got %+v", challenge)
		}
		var final string
		final, signature = client.final(t, string(challenge.AuthenticationData))
		transmit(t, c, &packet.Auth{Reason: packet.ContinueAuthentication, AuthenticationMethod: scram, AuthenticationData: []byte(final)})
		return receive(t, c)
	}
	if p, ok := again("pencil").(*packet.Auth); !ok || p.Reason != packet.Success || string(p.AuthenticationData) != signature {
		t.Errorf("again: got %+v, want success and %q", p, signature)
	}
	if p, ok := again("crayon").(*packet.Disconnect); !ok || p.Reason != packet.NotAuthorized {
		t.Errorf("with a wrong password: got %+v", p)
	}
	client.password = "pencil"
	c, _ = scramConnect(t, s, &client)
	receive(t, c)
	a.Load(policy("crayon"))
	s.Reauthorize()
	if p, ok := receive(t, c).(*packet.Disconnect); !ok || p.Reason != packet.NotAuthorized {
		t.Errorf("after the password was changed: got %+v", p)
	}
}

// scramConnect connects up to the last answer.
func scramConnect(t *testing.T, s *brokertest.Server, client *scramClient) (c *brokertest.Client, signature string) {
	t.Helper()
	c = open(t, s)
	transmit(t, c, &packet.Connect{
		Version: packet.V5, Clean: true, ClientID: "c",
		Properties: packet.ConnectProperties{AuthenticationMethod: scram, AuthenticationData: []byte(client.first())},
	})
	challenge, ok := receive(t, c).(*packet.Auth)
	if !ok || challenge.Reason != packet.ContinueAuthentication || challenge.AuthenticationMethod != scram {
		t.Fatalf("got %+v", challenge)
	}
	final, signature := client.final(t, string(challenge.AuthenticationData))
	transmit(t, c, &packet.Auth{Reason: packet.ContinueAuthentication, AuthenticationMethod: scram, AuthenticationData: []byte(final)})
	return c, signature
}

// open opens a connection.
func open(t *testing.T, s *brokertest.Server) *brokertest.Client {
	t.Helper()
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() }) // closed by the server, perhaps
	return brokertest.NewClient(nc)
}

func transmit(t *testing.T, c *brokertest.Client, p packet.Packet) {
	t.Helper()
	if err := c.Send(p); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c *brokertest.Client) packet.Packet {
	t.Helper()
	p, err := c.Read()
	if err != nil {
		t.Fatal(fmt.Errorf("nothing came: %w", err))
	}
	return p
}
