package modbus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificates are PEM files of an authority, a server on 127.0.0.1, and a client with
// a role.
type certificates struct {
	dir, ca string
}

func (c certificates) certificate(name string) string { return filepath.Join(c.dir, name+".pem") }
func (c certificates) key(name string) string         { return filepath.Join(c.dir, name+".key") }

func newCertificates(t testing.TB, role string) certificates {
	t.Helper()
	c := certificates{dir: t.TempDir()}
	c.ca = c.certificate("ca")
	authority := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	signer := c.write(t, "ca", authority, nil, nil)
	c.write(t, "server", &x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, authority, signer)
	client := &x509.Certificate{Subject: pkix.Name{CommonName: "client"}, KeyUsage: x509.KeyUsageDigitalSignature}
	if role != "" {
		value, err := asn1.MarshalWithParams(role, "utf8")
		if err != nil {
			t.Fatal(err)
		}
		client.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 50316, 802, 1}, Value: value}}
	}
	c.write(t, "client", client, authority, signer)
	return c
}

// write makes a key and a certificate that parent has signed, itself if that is nil.
func (c certificates) write(t testing.TB, name string, of, parent *x509.Certificate, signer *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, signer = of, key
	}
	of.SerialNumber = big.NewInt(time.Now().UnixNano())
	of.NotBefore, of.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, of, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		c.certificate(name): {Type: "CERTIFICATE", Bytes: der}, c.key(name): {Type: "PRIVATE KEY", Bytes: plain},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}
