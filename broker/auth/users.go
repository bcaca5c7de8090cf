package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// maxName is the longest user name in bytes.
const maxName = 1024

// Users are who has a password: what a users file says. Nothing of it changes, so
// that other users are another value.
type Users struct {
	byName map[string]*user
	names  []string // in the order of the file
}

type user struct {
	hash hash
	text string // the hash as the file has it
	// since is when these became the user's credentials; zero for those of the start.
	since time.Time
	// proven is the mark of the password that was verified last, nil before.
	proven atomic.Pointer[[sha256.Size]byte]
}

// LineError is something wrong with a line of a file.
type LineError struct {
	File string
	Line int // from 1
	Err  error
}

// Error gives file:line: what is wrong.
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap gives what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

// ParseUsers reads the text of a users file, one NAME:HASH a line; file is its name,
// for errors. Lines that are empty or begin with # say nothing. A hash is a PHC string
// of argon2id, bcrypt, one of mosquitto's ($6$ and $7$), or the keys of SCRAM-SHA-256
// (RFC 5803): mosquitto's password file is one. The errors are of *[LineError],
// joined, and never show a hash.
func ParseUsers(file string, text []byte) (*Users, error) {
	u := &Users{byName: make(map[string]*user)}
	var errs []error
	for i, line := range lines(text) {
		if line == "" || line[0] == '#' {
			continue
		}
		if err := u.add(line); err != nil {
			errs = append(errs, &LineError{File: file, Line: i + 1, Err: err})
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return u, nil
}

// byteOrderMark is what some editors begin a file with.
const byteOrderMark = "\xEF\xBB\xBF"

// lines are those of a text, without what ends them and the spaces around them.
func lines(text []byte) []string {
	all := strings.Split(strings.TrimPrefix(string(text), byteOrderMark), "\n")
	for i, line := range all {
		all[i] = strings.TrimSpace(line)
	}
	return all
}

func (u *Users) add(line string) error {
	name, text, ok := strings.Cut(line, ":")
	if !ok {
		return errors.New("the line is not NAME:HASH")
	}
	name = strings.TrimSpace(name)
	if err := CheckName(name); err != nil {
		return err
	}
	if u.byName[name] != nil {
		return fmt.Errorf("user %q is there twice", name)
	}
	h, err := parseHash(text)
	if err != nil {
		return fmt.Errorf("user %q: %w", name, err)
	}
	u.byName[name] = &user{hash: h, text: text}
	u.names = append(u.names, name)
	return nil
}

// CheckName says what is wrong with a user name, nil if nothing is: it has 1 to 1,024
// bytes of UTF-8, no colon and no control character, no space at its ends, and does
// not begin with # or $.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("a user name has 1 to %d bytes", maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("user name %q is not text", name)
	case strings.Contains(name, ":"), strings.TrimSpace(name) != name, name[0] == '#', name[0] == '$':
		return fmt.Errorf("user name %q: it may not have a colon, begin with # or $, or have spaces around it", name)
	default:
		return nil
	}
}

// Len is how many there are.
func (u *Users) Len() int {
	if u == nil {
		return 0
	}
	return len(u.names)
}

// get is nil for a user who is not there.
func (u *Users) get(name string) *user {
	if u == nil {
		return nil
	}
	return u.byName[name]
}

// inherit takes over what is known of users whose line is the same as before; the
// credentials of the others begin now.
func (u *Users) inherit(old *Users, now time.Time) {
	if u == nil {
		return
	}
	for name, mine := range u.byName {
		before := old.get(name)
		if before == nil || before.text != mine.text {
			mine.since = now
			continue
		}
		mine.since = before.since
		mine.proven.Store(before.proven.Load())
	}
}

// prover remembers verified passwords as marks under a key of this process.
type prover struct{ key [sha256.Size]byte }

func newProver() *prover {
	p := &prover{}
	_, _ = rand.Read(p.key[:]) // it never fails
	return p
}

// mark stands for a name, a hash and a password.
func (p *prover) mark(name, text string, password []byte) *[sha256.Size]byte {
	mac := hmac.New(sha256.New, p.key[:])
	for _, part := range [][]byte{[]byte(name), []byte(text), password} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		mac.Write(size[:])
		mac.Write(part)
	}
	var m [sha256.Size]byte
	mac.Sum(m[:0])
	return &m
}

// proven reports whether the password is the one that was verified last.
func (u *user) isProven(m *[sha256.Size]byte) bool {
	last := u.proven.Load()
	return last != nil && hmac.Equal(last[:], m[:])
}

// standIn is the hash that the password for a user who is not there is verified
// against, in vain: that of some user, for one name always the same, so that the time
// it takes tells nothing.
func (p *prover) standIn(u *Users, name string) hash {
	if u.Len() == 0 {
		return &argonHash{salt: p.key[:saltSize], key: p.key[:], memory: argonMemory, time: argonTime, lanes: argonLanes}
	}
	m := p.mark("", name, nil)
	n := binary.BigEndian.Uint64(m[:8]) % uint64(len(u.names))
	return u.byName[u.names[n]].hash
}
