package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gatehouse/gatehouse/broker/listen"
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
	if err := errors.Join(keep(pair.Key, key), keep(pair.Certificate, certificate)); err != nil {
		return pair, fmt.Errorf("self-signed certificate: %w", err)
	}
	return pair, nil
}

// keep writes a file of mode 0600 so that after a crash it is there whole or not at
// all.
func keep(path string, content []byte) (err error) {
	folder := filepath.Dir(path)
	f, err := os.CreateTemp(folder, filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what went wrong is told
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil { //nolint:forbidigo // no package for durable writes yet
		return err
	}
	return syncFolder(folder)
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
