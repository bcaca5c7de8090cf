package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// SelfSigned makes a certificate for the names and addresses, and its key (ECDSA
// P-256), both PEM. It is valid from 1970, so that a client whose clock was not set
// yet takes it, and without an end (RFC 5280 §4.1.2.5): whoever trusts it has pinned
// it, and the clock that would judge its age may be wrong.
func SelfSigned(names []string, addresses []net.IP) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	common := "gatehouse"
	if len(names) > 0 {
		common = names[0][:min(len(names[0]), 64)] // the most that a common name has
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: common, Organization: []string{"Gatehouse, self-signed"}},
		NotBefore:    time.Unix(0, 0).UTC(), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		DNSNames: names, IPAddresses: addresses,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return certificate, key, nil
}

// LocalNames are the names and addresses of this machine as far as it knows them:
// its host name, that in .local too, localhost, and the addresses of its interfaces.
func LocalNames() (names []string, addresses []net.IP) {
	if host, err := os.Hostname(); err == nil && validName(host) {
		names = append(names, host)
		if !strings.Contains(host, ".") {
			names = append(names, host+".local")
		}
	}
	if !slices.Contains(names, "localhost") {
		names = append(names, "localhost")
	}
	addresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	found, err := net.InterfaceAddrs()
	if err != nil {
		return names, addresses // what is known is enough to begin with
	}
	for _, a := range found {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() {
			addresses = append(addresses, n.IP)
		}
	}
	return names, addresses
}

// validName reports whether a host name can stand in a certificate.
func validName(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for _, r := range host {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '.' {
			return false
		}
	}
	return true
}
