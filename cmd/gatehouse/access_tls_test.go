package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// authority makes a CA, writes its certificate, and returns the certificate of a
// client that it has signed.
func authority(t *testing.T, file, client string) tls.Certificate {
	t.Helper()
	sign := func(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the house"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	writeFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign(ca, ca, keys[0], keys[0])})))
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: client}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return tls.Certificate{Certificate: [][]byte{sign(leaf, ca, keys[1], keys[0])}, PrivateKey: keys[1]}
}

// elsewhere is an address of this machine that is not on loopback, if it has one.
func elsewhere(t *testing.T) string {
	t.Helper()
	found, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range found {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

// Off loopback: without TLS and users the start is refused; with them who comes over
// TLS is a user by password or by certificate, and nobody is anonymous.
func TestOffLoopback(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "gatehouse.yaml")
	press := authority(t, filepath.Join(dir, "ca.pem"), "press")
	writeFile(t, filepath.Join(dir, "acl.yaml"), "rules: [{allow: readwrite, topics: [\"%u/#\"], all: true}]\n")
	for name, broker := range map[string]string{
		"clear text":                       `{users: users, acl: acl.yaml, listeners: [{address: "0.0.0.0:0", protocol: mqtt}]}`,
		"TLS without users":                `{listeners: [{address: "0.0.0.0:0", protocol: mqtts}]}`,
		"TLS with certificates and no ACL": `{listeners: [{address: "0.0.0.0:0", protocol: mqtts, tls: {client_ca: ca.pem}}]}`,
		"TLS with optional certificates":   `{acl: acl.yaml, listeners: [{address: "0.0.0.0:0", protocol: mqtts, tls: {client_ca: ca.pem, client_certificate: optional}}]}`,
	} {
		writeFile(t, file, "broker: "+broker+"\n")
		if out, code := run(t, "", binary, "run", "--config", file, "--data", filepath.Join(dir, "data")); code != 1 ||
			!strings.Contains(out, `"0.0.0.0:0" is not on loopback: a listener there needs TLS, which is protocol mqtts or wss, and users`) {
			t.Errorf("%s: code %d: %s", name, code, out)
		}
	}
	writeFile(t, file, `
broker:
  users: users
  acl: acl.yaml
  listeners: [{address: "0.0.0.0:0", protocol: mqtts, tls: {client_ca: ca.pem, client_certificate: optional}}]
console: {address: ""}
log: {format: json}
`)
	if out, code := run(t, "pencil\n", binary, "passwd", "--config", file, "anna"); code != 0 {
		t.Fatal(out)
	}
	p := start(t, binary, "run", "--config", file, "--data", filepath.Join(dir, "data"))
	p.says(t, `"gateway is up"`)
	_, port, err := net.SplitHostPort(attribute(t, p.says(t, `"protocol":"mqtts"`), "address"))
	if err != nil {
		t.Fatal(err)
	}
	come := func(user string, certificates ...tls.Certificate) (*brokertest.Client, packet.Reason) {
		nc, err := tls.Dial("tcp", net.JoinHostPort(elsewhere(t), port), &tls.Config{InsecureSkipVerify: true, Certificates: certificates})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() }) // closed by the server, perhaps
		c := brokertest.NewClient(nc)
		ack, err := c.Connect(&packet.Connect{
			Version: packet.V5, Clean: true, Username: user, HasUsername: user != "", Password: []byte("pencil"), HasPassword: user != "",
		})
		if err != nil {
			t.Fatal(err)
		}
		return c, ack.Reason
	}
	if _, reason := come(""); reason != packet.NotAuthorized {
		t.Errorf("an anonymous client is answered with %v", reason)
	}
	if _, reason := come("ben"); reason != packet.BadUserNameOrPassword {
		t.Errorf("a stranger is answered with %v", reason)
	}
	for name, certificates := range map[string][]tls.Certificate{"anna": nil, "press": {press}} {
		user := name
		if certificates != nil {
			user = "" // nothing is asked
		}
		c, reason := come(user, certificates...)
		if reason.Failed() {
			t.Errorf("%s is answered with %v", name, reason)
			continue
		}
		for topic, want := range map[string]packet.Reason{name + "/x": packet.NoMatchingSubscribers, "other/x": packet.NotAuthorized} {
			if err := c.Send(&packet.Publish{Topic: topic, QoS: 1, ID: 1}); err != nil {
				t.Fatal(err)
			}
			if got, err := c.Read(); err != nil || got.(*packet.Ack).Reason != want { //nolint:forcetypeassert // a panic says it
				t.Errorf("%s publishes to %s: %+v, %v", name, topic, got, err)
			}
		}
	}
	stopProgram(t, p)
}
