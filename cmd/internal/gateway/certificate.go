package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gatehouse/gatehouse/broker/listen"
	"github.com/gatehouse/gatehouse/broker/store/durable"
)

// ownCertificate is the self-signed certificate in a folder, which is made if it is
// missing. A certificate that is there is never replaced: clients have pinned it.
func ownCertificate(folder string) (listen.KeyPair, error) {
	pair := listen.KeyPair{Certificate: filepath.Join(folder, "certificate.pem"), Key: filepath.Join(folder, "key.pem")}
	_, err := os.Stat(pair.Certificate)
	if err == nil {
		return pair, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return pair, fmt.Errorf("self-signed certificate: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return pair, fmt.Errorf("self-signed certificate: %w", err)
	}
	certificate, key, err := listen.SelfSigned(listen.LocalNames())
	if err != nil {
		return pair, fmt.Errorf("self-signed certificate: %w", err)
	}
	// The key first: a certificate that is there has its key.
	if err = durable.Replace(pair.Key, key, 0o600); err == nil {
		err = durable.Replace(pair.Certificate, certificate, 0o600)
	}
	if err != nil {
		return pair, fmt.Errorf("self-signed certificate: %w", err)
	}
	return pair, nil
}
