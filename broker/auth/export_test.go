package auth

// SetNonce has the exchanges of SCRAM use a nonce of a test.
func (a *Authority) SetNonce(nonce string) { a.nonce = func() string { return nonce } }

// Addresses is how many addresses are remembered for their failures.
func (a *Authority) Addresses() int {
	a.throttle.mu.Lock()
	defer a.throttle.mu.Unlock()
	return len(a.throttle.from)
}

// The parsers of what a client sends, for fuzzing.
var (
	ParseFirst = parseFirst
	ParseFinal = parseFinal
	SaslName   = saslName
	Covers     = covers
)

// NewScramKeys makes keys with a salt and rounds of a test, in the form of a users
// file.
func NewScramKeys(password, salt []byte, rounds int) string {
	return newScramKeys(password, salt, rounds).String()
}

// MostAddresses is how many addresses are remembered.
const MostAddresses = mostAddresses

// What of the messages of SCRAM a fuzz test looks at.
func (m *firstMessage) Name() string  { return m.name }
func (m *firstMessage) Nonce() string { return m.nonce }
func (m *finalMessage) Proof() []byte { return m.proof }
