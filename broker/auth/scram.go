package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// scramName is the method's name (RFC 7677).
const scramName = "SCRAM-SHA-256"

// maxScram is the longest message of SCRAM that is looked at.
const maxScram = 4096

// errScram is the error of a message that is not one of SCRAM.
var errScram = fmt.Errorf("the message is not one of SCRAM: %w", packet.NotAuthorized)

// Exchange implements [broker.Exchanger], with the method SCRAM-SHA-256.
func (a *Authority) Exchange(who broker.Identity, method string) (broker.Exchange, error) {
	if method != scramName {
		return nil, packet.BadAuthenticationMethod
	}
	return &scram{a: a, who: who}, nil
}

// scram is the server's side of one SCRAM-SHA-256 exchange (RFC 5802, RFC 7677).
type scram struct {
	a    *Authority
	who  broker.Identity
	step int
	// failures are those of the client's address when it had its turn.
	failures int

	name   string
	user   *user // nil for one who is not there, or has other credentials
	keys   *scramKeys
	header string // the gs2-header of the first message
	nonce  string // the client's and ours
	auth   string // the AuthMessage without the client's last part
}

// Principal implements [broker.Exchange].
func (x *scram) Principal() string { return x.name }

// Step implements [broker.Exchange].
func (x *scram) Step(ctx context.Context, data []byte) (answer []byte, done bool, err error) {
	x.step++
	switch x.step {
	case 1:
		answer, err = x.first(ctx, data)
		return answer, false, err
	case 2:
		answer, err = x.final(data)
		return answer, err == nil, err
	default:
		return nil, false, errScram
	}
}

// first takes the client-first-message, and makes the server-first-message.
func (x *scram) first(ctx context.Context, data []byte) ([]byte, error) {
	m, err := parseFirst(data)
	if err != nil {
		return nil, err
	}
	if x.failures, err = x.a.throttle.wait(ctx, &x.who); err != nil {
		return nil, err
	}
	x.name, x.header = m.name, m.header
	x.user = x.a.state.Load().Users.get(m.name)
	if x.user != nil {
		x.keys, _ = x.user.hash.(*scramKeys)
	}
	if x.keys == nil {
		x.keys = x.a.proofs.strangerKeys(m.name)
	}
	x.nonce = m.nonce + x.a.nonce()
	answer := fmt.Sprintf("r=%s,s=%s,i=%d", x.nonce, base64.StdEncoding.EncodeToString(x.keys.salt), x.keys.rounds)
	x.auth = m.bare + "," + answer + ","
	return []byte(answer), nil
}

// final takes the client-final-message, and makes the server-final-message. Whatever
// is wrong the client is told the same.
func (x *scram) final(data []byte) ([]byte, error) {
	m, err := parseFinal(data)
	if err != nil {
		return nil, err
	}
	if x.a.throttle.since(&x.who, x.failures) { // others from there have failed: it is not looked at
		x.a.throttle.fail(&x.who, false)
		return nil, packet.ConnectionRateExceeded
	}
	right := m.binding == x.header && m.nonce == x.nonce && x.proves(m)
	// The credentials may have changed meanwhile.
	now := x.a.state.Load().Users.get(x.name)
	if !right || x.user == nil || now == nil || now.text != x.user.text {
		x.a.throttle.fail(&x.who, true)
		return nil, packet.BadUserNameOrPassword
	}
	signature := sign(x.keys.server, x.auth+m.bare)
	return []byte("v=" + base64.StdEncoding.EncodeToString(signature)), nil
}

// proves reports whether the proof is that of the keys (RFC 5802 §3).
func (x *scram) proves(m *finalMessage) bool {
	clientKey := sign(x.keys.storedKey, x.auth+m.bare)
	subtle.XORBytes(clientKey, clientKey, m.proof)
	stored := sha256.Sum256(clientKey)
	return hmac.Equal(stored[:], x.keys.storedKey)
}

// newNonce is our part of a nonce.
func newNonce() string { return rand.Text() }

// strangerKeys are those of a user who has none: for one name always the same, so that
// nobody can tell, and no password has them.
func (p *prover) strangerKeys(name string) *scramKeys {
	m := p.mark("scram", name, nil)
	return &scramKeys{salt: m[:saltSize], rounds: scramRounds, storedKey: m[:], server: m[:]}
}

// firstMessage is the client-first-message (RFC 5802 §7).
type firstMessage struct {
	header string // gs2-header
	bare   string // client-first-message-bare
	name   string
	nonce  string
}

func parseFirst(data []byte) (*firstMessage, error) {
	text := string(data)
	if len(text) > maxScram || strings.ContainsRune(text, 0) {
		return nil, errScram
	}
	flag, rest, ok := strings.Cut(text, ",")
	if !ok || flag != "n" && flag != "y" { // "p=" would bind to a TLS channel: that is another method
		return nil, errScram
	}
	authzid, bare, ok := strings.Cut(rest, ",")
	if !ok {
		return nil, errScram
	}
	m := &firstMessage{bare: bare, header: text[:len(text)-len(bare)]}
	parts := strings.Split(bare, ",")
	if len(parts) < 2 { // mandatory extensions, m=, are in place of the name
		return nil, errScram
	}
	name, isName := strings.CutPrefix(parts[0], "n=")
	var isNonce bool
	m.nonce, isNonce = strings.CutPrefix(parts[1], "r=")
	if !isName || !isNonce || !printable(m.nonce) {
		return nil, errScram
	}
	var err error
	if m.name, err = saslName(name); err != nil || CheckName(m.name) != nil {
		return nil, errScram
	}
	// To act as another is not offered.
	if as, isAs := strings.CutPrefix(authzid, "a="); authzid != "" && (!isAs || as != name) {
		return nil, errScram
	}
	return m, nil
}

// saslName decodes a saslname: =2C is a comma, =3D an equals sign (RFC 5802 §5.1).
func saslName(text string) (string, error) {
	var b strings.Builder
	for {
		plain, rest, escaped := strings.Cut(text, "=")
		b.WriteString(plain)
		switch {
		case !escaped:
			return b.String(), nil
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", errors.New("= begins neither =2C nor =3D")
		}
		text = rest[2:]
	}
}

// printable reports whether s may be a nonce: printable ASCII without a comma.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

// finalMessage is the client-final-message.
type finalMessage struct {
	binding string // what channel binding says: the gs2-header
	nonce   string
	bare    string // client-final-message-without-proof
	proof   []byte
}

func parseFinal(data []byte) (*finalMessage, error) {
	text := string(data)
	at := strings.LastIndex(text, ",p=")
	if len(text) > maxScram || at < 0 {
		return nil, errScram
	}
	m := &finalMessage{bare: text[:at]}
	var err error
	if m.proof, err = base64.StdEncoding.Strict().DecodeString(text[at+len(",p="):]); err != nil || len(m.proof) != sha256.Size {
		return nil, errScram
	}
	parts := strings.Split(m.bare, ",")
	if len(parts) < 2 {
		return nil, errScram
	}
	binding, isBinding := strings.CutPrefix(parts[0], "c=")
	var isNonce bool
	m.nonce, isNonce = strings.CutPrefix(parts[1], "r=")
	header, err := base64.StdEncoding.Strict().DecodeString(binding)
	if !isBinding || !isNonce || err != nil {
		return nil, errScram
	}
	m.binding = string(header)
	return m, nil
}
