package listen

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TLS says how a listener of mqtts or wss shows itself, and what it asks of clients.
// All files are PEM and are read again by [Listener.Reload].
type TLS struct {
	// Certificates are what the listener shows: the first that fits the server name
	// that the client asks for (SNI), or else the first. At least one.
	Certificates []KeyPair
	// ClientCA is a file of the certificates that those of clients are verified by;
	// empty asks clients for none.
	ClientCA string
	// Optional lets clients in without a certificate; one that is shown is verified.
	Optional bool
	// CRL is a file of revocation lists (PEM or DER), each signed by one of ClientCA;
	// empty is none. A list whose next update is overdue stays in force.
	CRL string
	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13; 0 means 1.2.
	MinVersion uint16
}

// KeyPair names the files of a certificate, its chain behind it, and of its key.
type KeyPair struct{ Certificate, Key string }

// Certificate is one that a listener shows.
type Certificate struct {
	File        string
	Names       []string // DNS names and IP addresses that it is for
	Expires     time.Time
	Fingerprint string // SHA-256 of the certificate, hexadecimal with colons
}

// suites are those of TLS 1.2: forward secret and authenticated; 1.3 has no others.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// certificates are the files of one listener as they were last read well.
type certificates struct {
	options TLS
	config  *tls.Config // asks current at each handshake
	current atomic.Pointer[loaded]
	reading sync.Mutex // one Reload at a time
}

// loaded is one reading of the files.
type loaded struct {
	config *tls.Config
	shown  []Certificate
	stale  time.Time // the earliest overdue update of a revocation list; zero is none
	digest [sha256.Size]byte
}

// Check reads the files and says what is wrong with them.
func (o TLS) Check() error {
	_, err := newCertificates(o)
	return err
}

func newCertificates(o TLS) (*certificates, error) {
	if len(o.Certificates) == 0 {
		return nil, errors.New("TLS needs a certificate")
	}
	if o.ClientCA == "" && (o.CRL != "" || o.Optional) {
		return nil, errors.New("client certificates and revocation lists need the certificates of a client CA")
	}
	c := &certificates{options: o}
	first, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(first)
	c.config = &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current.Load().config, nil
		},
	}
	return c, nil
}

// Reload reads the files of TLS again and reports whether they say something else.
// On an error what was read before stays in force. New handshakes get the new
// certificates; connections that stand are left alone. Without TLS it does nothing.
func (l *Listener) Reload() (changed bool, err error) {
	c := l.front.certificates
	if c == nil {
		return false, nil
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	next, err := c.read()
	if err != nil {
		return false, fmt.Errorf("certificates of listener %q: %w", l.front.options.Name, err)
	}
	if next.digest == c.current.Load().digest {
		return false, nil
	}
	c.current.Store(next)
	return true, nil
}

// Files are those that Reload reads.
func (l *Listener) Files() []string {
	if l.front.certificates == nil {
		return nil
	}
	return l.front.certificates.options.files()
}

// Certificates are those that the listener shows now.
func (l *Listener) Certificates() []Certificate {
	if l.front.certificates == nil {
		return nil
	}
	return slices.Clone(l.front.certificates.current.Load().shown)
}

// Overdue is since when a revocation list in force should have been replaced; zero
// while none is.
func (l *Listener) Overdue() time.Time {
	if c := l.front.certificates; c != nil {
		if t := c.current.Load().stale; !t.IsZero() && t.Before(time.Now()) {
			return t
		}
	}
	return time.Time{}
}

func (o *TLS) files() []string {
	var files []string
	for _, pair := range o.Certificates {
		files = append(files, pair.Certificate, pair.Key)
	}
	for _, f := range []string{o.ClientCA, o.CRL} {
		if f != "" {
			files = append(files, f)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// read reads all files.
func (c *certificates) read() (*loaded, error) {
	o, content := &c.options, make(map[string][]byte)
	digest := sha256.New()
	for _, f := range o.files() {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		content[f] = b
		fmt.Fprintf(digest, "%q %d ", f, len(b)) //nolint:errcheck // a hash takes everything
		digest.Write(b)
	}
	now := &loaded{config: &tls.Config{MinVersion: max(o.MinVersion, tls.VersionTLS12), CipherSuites: suites}}
	digest.Sum(now.digest[:0])
	for _, pair := range o.Certificates {
		cert, err := tls.X509KeyPair(content[pair.Certificate], content[pair.Key])
		if err != nil {
			return nil, fmt.Errorf("certificate %q with key %q: %w", pair.Certificate, pair.Key, err)
		}
		now.config.Certificates = append(now.config.Certificates, cert)
		now.shown = append(now.shown, describe(pair.Certificate, cert.Leaf))
	}
	if o.ClientCA == "" {
		return now, nil
	}
	cas, err := parseCertificates(content[o.ClientCA])
	if err != nil {
		return nil, fmt.Errorf("client CA %q: %w", o.ClientCA, err)
	}
	now.askClients(o, cas)
	if o.CRL == "" {
		return now, nil
	}
	gone, err := parseRevoked(content[o.CRL], cas)
	if err != nil {
		return nil, fmt.Errorf("revocation list %q: %w", o.CRL, err)
	}
	now.stale, now.config.VerifyConnection = gone.next, gone.verify
	return now, nil
}

// askClients has the listener ask for certificates of clients.
func (l *loaded) askClients(o *TLS, cas []*x509.Certificate) {
	l.config.ClientCAs = x509.NewCertPool()
	for _, ca := range cas {
		l.config.ClientCAs.AddCert(ca)
	}
	l.config.ClientAuth = tls.RequireAndVerifyClientCert
	if o.Optional {
		l.config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	// What a ticket resumes was verified by what was in force then.
	l.config.SessionTicketsDisabled = true
}

func describe(file string, leaf *x509.Certificate) Certificate {
	c := Certificate{File: file, Names: slices.Clone(leaf.DNSNames), Expires: leaf.NotAfter, Fingerprint: fingerprint(leaf.Raw)}
	for _, ip := range leaf.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	return c
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	var b strings.Builder
	for i, octet := range sum {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{octet})))
	}
	return b.String()
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate in the file")
	}
	return all, nil
}

// revoked are the certificates of revocation lists.
type revoked struct {
	serials map[string]bool // by issuer and serial number
	next    time.Time       // the earliest next update; zero is none
}

func parseRevoked(text []byte, cas []*x509.Certificate) (*revoked, error) {
	lists := [][]byte{text}
	if block, rest := pem.Decode(text); block != nil {
		lists = nil
		for ; block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "X509 CRL" {
				lists = append(lists, block.Bytes)
			}
		}
	}
	if len(lists) == 0 {
		return nil, errors.New("no list in the file")
	}
	gone := &revoked{serials: make(map[string]bool)}
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, err
		}
		signed := slices.ContainsFunc(cas, func(ca *x509.Certificate) bool {
			return bytes.Equal(ca.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(ca) == nil
		})
		if !signed {
			return nil, fmt.Errorf("the list of %q is not signed by a certificate of the client CA", list.Issuer)
		}
		for i := range list.RevokedCertificateEntries {
			gone.serials[string(list.RawIssuer)+list.RevokedCertificateEntries[i].SerialNumber.String()] = true
		}
		if t := list.NextUpdate; !t.IsZero() && (gone.next.IsZero() || t.Before(gone.next)) {
			gone.next = t
		}
	}
	return gone, nil
}

// verify refuses a client none of whose chains is free of revoked certificates.
func (r *revoked) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil // the handshake has refused it where one is required
	}
	for _, chain := range state.VerifiedChains {
		if !slices.ContainsFunc(chain, r.has) {
			return nil
		}
	}
	return fmt.Errorf("certificate of %q is revoked", state.PeerCertificates[0].Subject)
}

func (r *revoked) has(c *x509.Certificate) bool {
	return r.serials[string(c.RawIssuer)+c.SerialNumber.String()]
}
