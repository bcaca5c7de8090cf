package gateway

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
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
