package gateway

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

const openACL = "rules: [{allow: readwrite, topics: [\"#\"], all: true}]\n"

func TestAWrongAccessFileRefusesTheStart(t *testing.T) {
	for name, c := range map[string]struct{ users, acl, want string }{
		"users that are missing":    {"", openACL, `users": no such file`},
		"users in clear text":       {"anna:secret", openACL, "users:1: user \"anna\": the hash is none of"},
		"an ACL that is missing":    {"anna:" + penciled, "", `acl.yaml": no such file`},
		"an ACL with a wrong key":   {"anna:" + penciled, "rules:\n  - {alow: read}\n", "acl.yaml:2:6: unknown field \"alow\""},
		"an ACL that is not YAML":   {"anna:" + penciled, "rules: [", "acl.yaml:1:"},
		"an ACL with a wrong topic": {"anna:" + penciled, "rules:\n  - {allow: read, all: true, topics: [a, b#]}\n", "acl.yaml:2:42: rules[0].topics[1]: \"b#\" is not a topic filter"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"users": c.users, "acl.yaml": c.acl} {
				if text != "" {
					write(t, filepath.Join(dir, file), text)
				}
			}
			cfg := config.Default()
			cfg.Broker.Users, cfg.Broker.ACL = filepath.Join(dir, "users"), filepath.Join(dir, "acl.yaml")
			_, err := New(cfg, Options{Worker: []string{"/bin/false"}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if all, _ := Check(t.Context(), cfg, Options{Worker: []string{"/bin/false"}}); len(all) == 0 || !strings.Contains(all[0].Error(), c.want) {
				t.Errorf("the check says %v", all)
			}
		})
	}
	t.Run("and a folder, and a pipe that nobody writes", func(t *testing.T) {
		cfg := config.Default()
		cfg.Broker.ACL = t.TempDir()
		if _, err := New(cfg, Options{Worker: []string{"/bin/false"}}); err == nil || !strings.Contains(err.Error(), "it is not a file") {
			t.Errorf("got %v", err)
		}
	})
}

// What is broken on reload leaves what was in force in force: neither open nor shut.
func TestABrokenReloadKeepsAccess(t *testing.T) {
	h := newHouse(t, map[string]string{"users": "anna:" + penciled, "acl.yaml": "rules: [{allow: readwrite, topics: [mine], users: [anna]}]\n"})
	anna := h.connect(hello(packet.V5, "anna", false))
	holds := func(when string) {
		t.Helper()
		if got := anna.publish(&packet.Publish{Topic: "mine"}); got.Failed() {
			t.Errorf("%s: publishing to mine: %v", when, got)
		}
		if got := anna.publish(&packet.Publish{Topic: "other"}); got != packet.NotAuthorized {
			t.Errorf("%s: publishing to other: %v", when, got)
		}
	}
	holds("at first")
	for name, text := range map[string]string{"broken": "rules: {", "with an unknown key": "rule: []\n"} {
		write(t, h.cfg.Broker.ACL, text)
		next := *h.cfg
		if err := h.g.Reload(t.Context(), &next); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("a file that is %s gives %v", name, err)
		}
		holds(name)
	}
	if err := os.Remove(h.cfg.Broker.ACL); err != nil {
		t.Fatal(err)
	}
	if err := h.g.loadAccess(t.Context()); err == nil {
		t.Error("a missing ACL is loaded")
	}
	holds("missing")
	write(t, h.cfg.Broker.ACL, "") // as an editor does, and then
	loaded := make(chan error, 1)
	go func() { loaded <- h.g.loadAccess(t.Context()) }()
	holds("just being saved")
	write(t, h.cfg.Broker.ACL, "rules: [{allow: readwrite, topics: [mine], users: [anna]}]\n")
	if err := <-loaded; err != nil {
		t.Error(err)
	}
	holds("saved")
	t.Run("one that stays empty allows nothing", func(t *testing.T) {
		h.reload("")
		if got := anna.publish(&packet.Publish{Topic: "mine"}); got != packet.NotAuthorized {
			t.Errorf("got %v", got)
		}
	})
	t.Run("an empty one allows nothing", func(t *testing.T) {
		h.reload("# nobody\n")
		if got := anna.publish(&packet.Publish{Topic: "mine"}); got != packet.NotAuthorized {
			t.Errorf("got %v", got)
		}
	})
}

// The files are watched: who is deleted is disconnected, who is added comes in.
func TestUsersAreReadAsTheyAreSaved(t *testing.T) {
	h := newHouse(t, map[string]string{"users": "anna:" + penciled + "\nben:" + penciled + "\n", "acl.yaml": openACL})
	anna, ben := h.connect(hello(packet.V5, "anna", false)), h.connect(hello(packet.V5, "ben", false))
	write(t, h.cfg.Broker.Users, "ben:"+penciled+"\ncarl:"+penciled+"\n")
	if d, ok := anna.next().(*packet.Disconnect); !ok || d.Reason != packet.NotAuthorized {
		t.Errorf("anna gets %+v, want DISCONNECT 0x87", d)
	}
	if _, ack := h.knock(hello(packet.V5, "anna", false)); ack.Reason != packet.BadUserNameOrPassword {
		t.Errorf("anna comes again: %v", ack.Reason)
	}
	h.connect(hello(packet.V5, "carl", false))
	if got := ben.publish(&packet.Publish{Topic: "x"}); got.Failed() {
		t.Errorf("ben is not served any more: %v", got)
	}
}

// Other files, and whether anonymous clients are let in, take effect without a restart.
func TestOtherAccessFilesWithoutARestart(t *testing.T) {
	h := newHouse(t, map[string]string{
		"users": "anna:" + penciled, "acl.yaml": openACL,
		"others": "ben:" + penciled, "mosquitto.acl": "user ben\ntopic write ben/#\n",
	})
	nobody := h.connect(hello(packet.V5, "", false))
	next := *h.cfg
	next.Broker.Users, next.Broker.ACL, next.Broker.Anonymous = filepath.Join(h.dir, "others"), filepath.Join(h.dir, "mosquitto.acl"), false
	if err := h.g.Reload(t.Context(), &next); err != nil {
		t.Fatal(err)
	}
	if d, ok := nobody.next().(*packet.Disconnect); !ok || d.Reason != packet.NotAuthorized {
		t.Errorf("an anonymous client gets %+v, want DISCONNECT 0x87", d)
	}
	ben := h.connect(hello(packet.V5, "ben", false))
	if a, b := ben.publish(&packet.Publish{Topic: "ben/x"}), ben.publish(&packet.Publish{Topic: "x"}); a.Failed() || b != packet.NotAuthorized {
		t.Errorf("got %v and %v", a, b)
	}
}

// The socket in the data folder is for who runs the gateway, and only for him.
func TestTheSocketIsTheAdmins(t *testing.T) {
	h := newHouse(t, map[string]string{"users": "anna:" + penciled, "acl.yaml": "rules: []\n"})
	path := filepath.Join(h.dir, "data", SocketName)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got mode %v, %v", info.Mode(), err)
	}
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	admin := &peer{Client: brokertest.NewClient(nc), t: t}
	knock := hello(packet.V5, "", false)
	knock.ClientID = "admin"
	if ack, err := admin.Connect(knock); err != nil || ack.Reason.Failed() {
		t.Fatalf("got %v, %v", ack, err)
	}
	if got := admin.subscribe("#", "$SYS/#"); got[0].Failed() || got[1].Failed() {
		t.Errorf("got %v", got)
	}
	if got := admin.publish(&packet.Publish{Topic: "x", Payload: []byte("1")}); got.Failed() {
		t.Errorf("got %v", got)
	}
	admin.until("x", "1")
	// The same client at the TCP port is nobody, and may do nothing.
	nobody := h.connect(hello(packet.V5, "", false))
	if got := nobody.publish(&packet.Publish{Topic: "x"}); got != packet.NotAuthorized {
		t.Errorf("an anonymous client publishes: %v", got)
	}
}

// certified is a connection of a TLS listener, as far as the broker can tell.
type certified struct {
	net.Conn
	name string
}

func (c certified) PeerCertificates() []*x509.Certificate {
	return []*x509.Certificate{{Subject: pkix.Name{CommonName: c.name}}, {Subject: pkix.Name{CommonName: "the CA"}}}
}

// certifier is a listener whose clients have the certificate that names says next.
type certifier struct {
	net.Listener
	names chan string
}

func (l certifier) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return certified{c, <-l.names}, nil
}

// A certificate is a user name; a session stays with it, whatever the client calls
// itself.
func TestSessionsBelongToCertificates(t *testing.T) {
	h := newHouse(t, map[string]string{"users": "", "acl.yaml": "rules: [{allow: readwrite, topics: [\"%u/#\"], all: true}]\n"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	names := make(chan string, 1)
	served := make(chan error, 1)
	go func() { served <- h.g.broker.Serve(t.Context(), certifier{l, names}) }()
	defer func() {
		_ = l.Close() // ends Serve, with an error that says so
		if err := <-served; err == nil {
			t.Error("a listener that was closed has no error")
		}
	}()
	h.mqtt = l.Addr().String()
	come := func(certificate, user string) (*peer, packet.Reason) {
		names <- certificate
		p := hello(packet.V5, user, true)
		p.ClientID = "the same"
		c, ack := h.knock(p)
		return c, ack.Reason
	}
	press, reason := come("press", "somebody")
	if reason.Failed() {
		t.Fatal(reason)
	}
	if got := press.subscribe("press/y"); got[0].Failed() {
		t.Fatal(got)
	}
	if a, b := press.publish(&packet.Publish{Topic: "press/x"}), press.publish(&packet.Publish{Topic: "somebody/x"}); a.Failed() || b != packet.NotAuthorized {
		t.Errorf("publishing as press: %v, as somebody: %v", a, b)
	}
	if clients := (view{h.g}).Clients(); len(clients) != 1 || clients[0].Username != "press" {
		t.Errorf("the console shows %+v", clients)
	}
	if _, reason := come("lathe", "press"); reason != packet.NotAuthorized {
		t.Errorf("another certificate takes the session over: %v", reason)
	}
	press.disconnect()
	if _, reason := come("lathe", "press"); reason != packet.NotAuthorized {
		t.Errorf("another certificate goes on with the session: %v", reason)
	}
	h.inside("press/y", "while it was away")
	press, reason = come("press", "")
	if reason.Failed() {
		t.Fatalf("the same certificate: %v", reason)
	}
	press.until("press/y", "while it was away")
}
