package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// What [HashPassword] and [ScramKeys] make. OWASP gives 19 MiB and two passes as the
// least for argon2id, RFC 7677 some 15,000 rounds for SCRAM-SHA-256.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	scramRounds = 15_000
	saltSize    = 16
	keySize     = 32
)

// What a line of a users file may ask of this machine for one verification.
const (
	mostArgonMemory = 64 << 10 // KiB
	mostArgonTime   = 16
	mostBcryptCost  = 14
	mostRounds      = 1_000_000
	leastScram      = 4096 // RFC 7677 §4
	mostSalt        = 64
	mostKey         = 128
)

// hash is what a users file has in place of a password. It is not changed once made.
type hash interface {
	// verify reports whether the password is the one. It takes its time.
	verify(password []byte) bool
}

// scheme is a kind of hash.
type scheme struct {
	prefix string
	parse  func(rest string) (hash, error)
}

// schemes are tried in order. They are a function's because functions of the list
// may not refer to it.
func schemes() []scheme {
	return []scheme{
		{"$argon2id$", parseArgon},
		{"$2a$", parseBcrypt("$2a$")},
		{"$2b$", parseBcrypt("$2b$")},
		{"$2y$", parseBcrypt("$2y$")},
		{"$6$", parseSHA512},
		{"$7$", parsePBKDF2},
		{scramName + "$", parseScram},
	}
}

var errHash = errors.New("the hash is none of $argon2id$, $2a$/$2b$/$2y$ (bcrypt), $6$ and $7$ (mosquitto), SCRAM-SHA-256$; gatehouse passwd makes one")

func parseHash(text string) (hash, error) {
	for _, s := range schemes() {
		if rest, ok := strings.CutPrefix(text, s.prefix); ok {
			h, err := s.parse(rest)
			if err != nil {
				return nil, fmt.Errorf("the %s hash is not right: %w", strings.Trim(s.prefix, "$"), err)
			}
			return h, nil
		}
	}
	return nil, errHash
}

// HashPassword makes the argon2id hash of a password, as a line of a users file has
// it after the name: a PHC string of 19 MiB, two passes, one lane.
func HashPassword(password []byte) string {
	salt := newSalt()
	key := argon2.IDKey(password, salt, argonTime, argonMemory, argonLanes, keySize)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // it never fails
	return salt
}

type argonHash struct {
	salt, key    []byte
	memory, time uint32
	lanes        uint8
}

// parseArgon reads a PHC string after its name: v=19$m=19456,t=2,p=1$SALT$HASH.
func parseArgon(rest string) (hash, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 4 || parts[0] != "v=19" {
		return nil, errors.New("it is not v=19$m=..,t=..,p=..$SALT$HASH")
	}
	h := &argonHash{}
	var lanes uint32
	if _, err := fmt.Sscanf(parts[1]+"\n", "m=%d,t=%d,p=%d\n", &h.memory, &h.time, &lanes); err != nil {
		return nil, errors.New("its parameters m=..,t=..,p=.. are not right")
	}
	switch {
	case lanes < 1 || lanes > 16, h.time < 1 || h.time > mostArgonTime, h.memory < 8*lanes || h.memory > mostArgonMemory:
		return nil, fmt.Errorf("its parameters are beyond m=%d,t=%d,p=16", mostArgonMemory, mostArgonTime)
	}
	h.lanes = uint8(lanes)
	var err error
	if h.salt, err = decode(base64.RawStdEncoding, parts[2], 8, mostSalt); err != nil {
		return nil, fmt.Errorf("salt: %w", err)
	}
	if h.key, err = decode(base64.RawStdEncoding, parts[3], 16, mostKey); err != nil {
		return nil, fmt.Errorf("hash: %w", err)
	}
	return h, nil
}

func (h *argonHash) verify(password []byte) bool {
	key := argon2.IDKey(password, h.salt, h.time, h.memory, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

type bcryptHash struct{ text []byte }

func parseBcrypt(prefix string) func(string) (hash, error) {
	return func(rest string) (hash, error) {
		h := bcryptHash{text: []byte(prefix + rest)}
		cost, err := bcrypt.Cost(h.text)
		switch {
		case err != nil:
			return nil, err
		case len(h.text) != 60:
			return nil, fmt.Errorf("it has %d bytes, not 60", len(h.text))
		case cost > mostBcryptCost:
			return nil, fmt.Errorf("its cost is %d, the most is %d", cost, mostBcryptCost)
		}
		return h, nil
	}
}

func (h bcryptHash) verify(password []byte) bool {
	return bcrypt.CompareHashAndPassword(h.text, password) == nil
}

// sha512Hash is mosquitto's $6$: SHA-512 of the password and the salt.
type sha512Hash struct{ salt, key []byte }

func parseSHA512(rest string) (hash, error) {
	salt, key, err := mosquittoKeys(rest)
	if err != nil {
		return nil, err
	}
	return &sha512Hash{salt: salt, key: key}, nil
}

func mosquittoKeys(rest string) (salt, key []byte, err error) {
	saltText, keyText, ok := strings.Cut(rest, "$")
	if !ok {
		return nil, nil, errors.New("it is not SALT$HASH")
	}
	if salt, err = decode(base64.StdEncoding, saltText, 1, mostSalt); err != nil {
		return nil, nil, fmt.Errorf("salt: %w", err)
	}
	if key, err = decode(base64.StdEncoding, keyText, sha512.Size, sha512.Size); err != nil {
		return nil, nil, fmt.Errorf("hash: %w", err)
	}
	return salt, key, nil
}

func (h *sha512Hash) verify(password []byte) bool {
	sum := sha512.New()
	sum.Write(password)
	sum.Write(h.salt)
	return subtle.ConstantTimeCompare(sum.Sum(nil), h.key) == 1
}

// pbkdf2Hash is mosquitto's $7$: PBKDF2 with SHA-512.
type pbkdf2Hash struct {
	sha512Hash
	rounds int
}

func parsePBKDF2(rest string) (hash, error) {
	rounds, rest, ok := strings.Cut(rest, "$")
	if !ok {
		return nil, errors.New("it is not ROUNDS$SALT$HASH")
	}
	h := &pbkdf2Hash{}
	var err error
	if h.rounds, err = parseRounds(rounds, 1); err != nil {
		return nil, err
	}
	h.salt, h.key, err = mosquittoKeys(rest)
	return h, err
}

func (h *pbkdf2Hash) verify(password []byte) bool {
	key, err := pbkdf2.Key(sha512.New, string(password), h.salt, h.rounds, len(h.key))
	return err == nil && subtle.ConstantTimeCompare(key, h.key) == 1
}

// scramKeys are what SCRAM keeps of a password (RFC 5802 §3).
type scramKeys struct {
	salt              []byte
	rounds            int
	storedKey, server []byte
}

// ScramKeys makes what SCRAM-SHA-256 needs to know of a password, as a line of a
// users file has it after the name: SCRAM-SHA-256$ROUNDS:SALT$STOREDKEY:SERVERKEY
// (RFC 5803). The password is taken byte by byte: clients that prepare text beyond
// ASCII otherwise (RFC 4013) make other keys of it.
func ScramKeys(password []byte) string {
	return newScramKeys(password, newSalt(), scramRounds).String()
}

// String gives the form of RFC 5803.
func (k *scramKeys) String() string {
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", scramName, k.rounds, text(k.salt), text(k.storedKey), text(k.server))
}

func newScramKeys(password, salt []byte, rounds int) *scramKeys {
	salted, err := pbkdf2.Key(sha256.New, string(password), salt, rounds, sha256.Size)
	if err != nil { // not with these lengths
		return &scramKeys{salt: salt, rounds: rounds}
	}
	clientKey := sign(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	return &scramKeys{salt: salt, rounds: rounds, storedKey: stored[:], server: sign(salted, "Server Key")}
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// parseScram reads the form of RFC 5803 after its name.
func parseScram(rest string) (hash, error) {
	info, value, ok := strings.Cut(rest, "$")
	rounds, salt, ok2 := strings.Cut(info, ":")
	stored, server, ok3 := strings.Cut(value, ":")
	if !ok || !ok2 || !ok3 {
		return nil, errors.New("it is not ROUNDS:SALT$STOREDKEY:SERVERKEY")
	}
	k := &scramKeys{}
	var err error
	if k.rounds, err = parseRounds(rounds, leastScram); err != nil {
		return nil, err
	}
	if k.salt, err = decode(base64.StdEncoding, salt, 8, mostSalt); err != nil {
		return nil, fmt.Errorf("salt: %w", err)
	}
	if k.storedKey, err = decode(base64.StdEncoding, stored, sha256.Size, sha256.Size); err != nil {
		return nil, fmt.Errorf("stored key: %w", err)
	}
	if k.server, err = decode(base64.StdEncoding, server, sha256.Size, sha256.Size); err != nil {
		return nil, fmt.Errorf("server key: %w", err)
	}
	return k, nil
}

// verify takes the password itself, from clients that do not speak SCRAM.
func (k *scramKeys) verify(password []byte) bool {
	made := newScramKeys(password, k.salt, k.rounds)
	return subtle.ConstantTimeCompare(made.storedKey, k.storedKey) == 1
}

func parseRounds(text string, least int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > mostRounds {
		return 0, fmt.Errorf("%q rounds are not a number from %d to %d", text, least, mostRounds)
	}
	return n, nil
}

func decode(enc *base64.Encoding, text string, least, most int) ([]byte, error) {
	b, err := enc.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("it is not base64")
	}
	if len(b) < least || len(b) > most {
		return nil, fmt.Errorf("it has %d bytes, not %d to %d", len(b), least, most)
	}
	return b, nil
}
