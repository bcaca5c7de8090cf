package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// Admin is the principal of who comes by the admin listener. No user can have the
// name.
const Admin = "$admin"

// hashers is how many passwords are verified at once: each may take 19 MiB.
const hashers = 2

// Options are what an [Authority] keeps all its life.
type Options struct {
	// AdminListener is the name of the listener whose clients act as [Admin], who may
	// do everything, unless they give a user name. Who may connect there is for
	// others to see to: the mode of a Unix socket. Empty is none.
	AdminListener string
	// Log is where failed logins are told, once a minute. Nil discards it.
	Log *slog.Logger
	// Policy is the first one.
	Policy Policy
}

// Policy is what an [Authority] goes by. Its parts are not changed: another policy
// takes its place, see [Authority.Load].
type Policy struct {
	// Users have passwords. With nil nobody has: then a user name and a password of an
	// anonymous client mean nothing.
	Users *Users
	// ACL says who may do what. With nil anonymous clients may do everything, and
	// others nothing; but if Users is nil too, everybody on this machine may do
	// everything while anonymous clients may, whatever a certificate calls them.
	ACL *ACL
	// Anonymous lets clients in who give no user name, if they come from this machine.
	Anonymous bool
	// Certificates says which name in a client's certificate is its user name.
	Certificates CertificateName
}

// CertificateName is a name in a certificate.
type CertificateName uint8

// The names: the subject's common name, or the first subject alternative name of a
// kind.
const (
	CommonName CertificateName = iota
	DNSName
	EmailAddress
	URI
)

// CertificateNamed is what a word of the configuration stands for: cn, dns, email or
// uri.
func CertificateNamed(word string) (CertificateName, error) {
	switch word {
	case "cn":
		return CommonName, nil
	case "dns":
		return DNSName, nil
	case "email":
		return EmailAddress, nil
	case "uri":
		return URI, nil
	default:
		return 0, fmt.Errorf("%q is not one of cn, dns, email, uri", word)
	}
}

// of is the user name that a certificate stands for, empty if it has none that can be
// one.
func (n CertificateName) of(c *x509.Certificate) string {
	name := ""
	switch {
	case n == CommonName:
		name = c.Subject.CommonName
	case n == DNSName && len(c.DNSNames) > 0:
		name = c.DNSNames[0]
	case n == EmailAddress && len(c.EmailAddresses) > 0:
		name = c.EmailAddresses[0]
	case n == URI && len(c.URIs) > 0:
		name = c.URIs[0].String()
	}
	if name == "" || len(name) > maxName || name[0] == '$' {
		return ""
	}
	return name
}

// Authority is a [broker.Authorizer] made of users, certificates and an ACL. It is a
// [broker.Exchanger] too, for SCRAM-SHA-256, and has the methods AllowsAll and Stays.
type Authority struct {
	admin    string
	state    atomic.Pointer[Policy]
	proofs   *prover
	throttle *throttle
	turns    chan struct{} // one for each password that is being verified
	nonce    func() string
}

var _ broker.Exchanger = (*Authority)(nil)

// New makes an authority that goes by o.Policy.
func New(o Options) *Authority {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Authority{
		admin: o.AdminListener, proofs: newProver(), throttle: newThrottle(o.Log),
		turns: make(chan struct{}, hashers), nonce: newNonce,
	}
	a.state.Store(&o.Policy)
	return a
}

// Load has the authority go by another policy. Users whose lines are the same as
// before keep their standing; the others have to authenticate anew. To have it take
// effect on clients who are connected, call [broker.Server.Reauthorize]. One goroutine
// calls it at a time, with Users that no policy has had before.
func (a *Authority) Load(p Policy) {
	if now := a.state.Load(); p.Users != now.Users {
		p.Users.inherit(now.Users, time.Now())
	}
	a.state.Store(&p)
}

// Connect implements [broker.Authorizer]. A client with a certificate is whom it says;
// any user name and password are then passed over. Without, one that gives a user name
// has to know its password. Wrong passwords and unknown users get the same answer,
// 0x86, in the same time.
func (a *Authority) Connect(ctx context.Context, who broker.Identity, password []byte) (string, error) {
	p := a.state.Load()
	if who.Certificate != nil {
		name := p.Certificates.of(who.Certificate)
		if name == "" {
			return "", fmt.Errorf("the certificate has no user name: %w", packet.NotAuthorized)
		}
		return name, nil
	}
	named := who.Username != "" || len(password) > 0
	switch {
	case !named && a.admin != "" && who.Listener == a.admin:
		return Admin, nil
	case p.Anonymous && who.Loopback && (!named || p.Users == nil):
		return "", nil
	case !named || p.Users == nil:
		return "", packet.NotAuthorized
	}
	if err := a.verify(ctx, &who, password); err != nil {
		return "", err
	}
	return who.Username, nil
}

// verify reports, as an error, whether the password is not the user's.
func (a *Authority) verify(ctx context.Context, who *broker.Identity, password []byte) error {
	for {
		failures, err := a.throttle.wait(ctx, who)
		if err != nil {
			return err
		}
		if u := a.user(who.Username); u != nil && u.isProven(a.proofs.mark(who.Username, u.text, password)) {
			return nil
		}
		select {
		case a.turns <- struct{}{}:
		case <-ctx.Done():
			return packet.ServerBusy
		}
		if !a.throttle.since(who, failures) {
			defer func() { <-a.turns }()
			return a.compare(who, password)
		}
		<-a.turns // others from there have failed: it waits as if it came now
	}
}

// compare verifies the password in earnest.
func (a *Authority) compare(who *broker.Identity, password []byte) error {
	users := a.state.Load().Users
	u := users.get(who.Username)
	if u == nil {
		a.proofs.standIn(users, who.Username).verify(password)
		a.throttle.fail(who, true)
		return packet.BadUserNameOrPassword
	}
	if !u.hash.verify(password) {
		a.throttle.fail(who, true)
		return packet.BadUserNameOrPassword
	}
	now := a.user(who.Username)
	if now == nil || now.text != u.text { // it has just changed
		return packet.BadUserNameOrPassword
	}
	now.proven.Store(a.proofs.mark(who.Username, now.text, password))
	return nil
}

func (a *Authority) user(name string) *user { return a.state.Load().Users.get(name) }

// Stays reports whether a client who was let in may stay: its user is still there with
// the same credentials, its certificate still stands for the same name, or anonymous
// clients are still let in.
func (a *Authority) Stays(who broker.Identity) bool {
	p := a.state.Load()
	switch {
	case who.Principal == Admin:
		return true
	case who.Principal == "":
		return p.Anonymous
	case who.Certificate != nil && p.Certificates.of(who.Certificate) == who.Principal:
		return true
	}
	u := p.Users.get(who.Principal)
	return u != nil && !who.Since.Before(u.since)
}

// here reports whether a principal may do anything at all. A session that outlived the
// program does not say how its principal came in, so the ACL alone judges it.
func (p *Policy) here(who *broker.Identity) bool {
	return who.Certificate != nil || who.Remote == nil || p.Users.get(who.Principal) != nil
}

// open reports whether a client may do everything because nobody says who may.
func (p *Policy) open(who *broker.Identity) bool {
	local := who.Principal == "" || p.Users == nil && (who.Loopback || who.Remote == nil)
	return p.Anonymous && local
}

// Allow implements [broker.Authorizer].
func (a *Authority) Allow(_ context.Context, who broker.Identity, action broker.Action, topic string) error {
	p := a.state.Load()
	allowed := false
	switch {
	case who.Principal == Admin:
		allowed = action != broker.ActPublish || !isSystem(topic)
	case p.ACL == nil:
		allowed = p.open(&who) && (action != broker.ActPublish || !isSystem(topic))
	case who.Principal == "":
		allowed = p.Anonymous && p.ACL.rules.allows("", who.ClientID, action, topic)
	default:
		allowed = p.here(&who) && p.ACL.rules.allows(who.Principal, who.ClientID, action, topic)
	}
	if !allowed {
		return packet.NotAuthorized
	}
	return nil
}

// AllowsAll spares the broker the questions whose answer is always yes.
func (a *Authority) AllowsAll(who broker.Identity, action broker.Action) bool {
	p := a.state.Load()
	switch {
	case who.Principal == Admin:
		return true
	case p.ACL == nil:
		return p.open(&who)
	case who.Principal == "":
		return p.Anonymous && p.ACL.rules.allowsAll("", action)
	default:
		return p.here(&who) && p.ACL.rules.allowsAll(who.Principal, action)
	}
}
