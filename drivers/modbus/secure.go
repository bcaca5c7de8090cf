package modbus

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"os"
)

// TLSConfig says how to shake hands with a device (Modbus/TCP Security, MB-TCP-Security
// V2.1): TLS 1.2 or newer, and certificates of both sides. The fields are PEM files.
type TLSConfig struct {
	CA          string // what the other side is verified by; empty is what the system trusts
	Certificate string // what we show, with its chain; empty is nothing
	Key         string // of Certificate
	ServerName  string // what the device's certificate must name
}

// roleOID is the extension of a certificate that names its owner's role (MB-TCP-Security
// V2.1 §9).
var roleOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 50316, 802, 1}

// certificateRole is the role in a certificate; empty is none.
func certificateRole(c *x509.Certificate) string {
	for _, e := range c.Extensions {
		if !e.Id.Equal(roleOID) {
			continue
		}
		var role string
		if rest, err := asn1.Unmarshal(e.Value, &role); err == nil && len(rest) == 0 {
			return role
		}
	}
	return ""
}

// peerRole is the role of who is at the other end.
func peerRole(s tls.ConnectionState) string {
	if len(s.PeerCertificates) == 0 {
		return ""
	}
	return certificateRole(s.PeerCertificates[0])
}

// check reads the files. Key is the key of a device file that is wrong.
func (c TLSConfig) check() (key string, err error) {
	if _, err := c.roots(); err != nil {
		return "ca", err
	}
	if (c.Certificate == "") != (c.Key == "") {
		return map[bool]string{true: "certificate", false: "key"}[c.Key == ""], fmt.Errorf("certificate and key go together")
	}
	if _, err := c.pair(); err != nil {
		return "certificate", err
	}
	return "", nil
}

func (c TLSConfig) roots() (*x509.CertPool, error) {
	if c.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%q holds no certificate (PEM)", c.CA)
	}
	return pool, nil
}

func (c TLSConfig) pair() ([]tls.Certificate, error) {
	if c.Certificate == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate: %w", err)
	}
	return []tls.Certificate{pair}, nil
}

// client is the client's side, of files read just now: they may have been renewed.
func (c TLSConfig) client() (*tls.Config, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	pair, err := c.pair()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: pair, ServerName: c.ServerName}, nil
}
