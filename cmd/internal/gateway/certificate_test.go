package gateway

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/listen"
)

// A certificate without its key would stop every start from then on.
func TestOwnCertificateHasItsKey(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "tls")
	inTheWay := filepath.Join(folder, "key.pem")
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ownCertificate(folder); err == nil {
		t.Fatal("a key that could not be written is no error")
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	pair, err := ownCertificate(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(pair.Certificate, pair.Key); err != nil {
		t.Error(err)
	}
}

// A list may become overdue years after it was read.
func TestOverdueRevocationListIsTold(t *testing.T) {
	folder := t.TempDir()
	pair, err := ownCertificate(folder)
	if err != nil {
		t.Fatal(err)
	}
	o := listen.TLS{Certificates: []listen.KeyPair{pair}, ClientCA: filepath.Join(folder, "ca.pem"), CRL: filepath.Join(folder, "crl.pem")}
	revocations(t, o, time.Now().Add(3*time.Second))
	l, err := listen.Listen(t.Context(), listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &o})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var log bytes.Buffer
	g, told := &Gateway{opt: Options{Log: slog.New(slog.NewTextHandler(&log, nil))}}, make(map[*listen.Listener]time.Time)
	if g.tellOverdue(l, told); log.Len() > 0 {
		t.Errorf("it is not overdue yet: %s", log.String())
	}
	for range time.Tick(100 * time.Millisecond) {
		if g.tellOverdue(l, told); !l.Overdue().IsZero() {
			break
		}
	}
	g.tellOverdue(l, told)
	if n := strings.Count(log.String(), "a revocation list is overdue"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
}

// revocations writes a CA and its list, which revokes nothing.
func revocations(t *testing.T, o listen.TLS, next time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "house"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), NextUpdate: next}, ca, key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, o.ClientCA, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, o.CRL, string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})))
}
