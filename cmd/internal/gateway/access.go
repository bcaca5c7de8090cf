package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

// maxAccessFile bounds the users and the ACL file in bytes.
const maxAccessFile = 4 << 20

// readPolicy reads who may come in and do what. A file that is missing, unreadable or
// wrong is an error: it never means that everybody may.
func readPolicy(cfg *config.Config) (auth.Policy, error) {
	p := auth.Policy{Anonymous: cfg.Broker.Anonymous}
	var errs [3]error
	if file := cfg.Broker.Users; file != "" {
		p.Users, errs[0] = readAccess(file, auth.ParseUsers)
	}
	if file := cfg.Broker.ACL; file != "" {
		p.ACL, errs[1] = readAccess(file, parseACL)
	}
	p.Certificates, errs[2] = auth.CertificateNamed(cfg.Broker.CertificateName)
	return p, errors.Join(errs[:]...)
}

// parseACL reads an ACL file by the ending of its name.
func parseACL(file string, text []byte) (*auth.ACL, error) {
	if ext := filepath.Ext(file); ext == ".yaml" || ext == ".yml" {
		return config.ParseACL(file, text)
	}
	return auth.ParseMosquittoACL(file, text)
}

func readAccess[T any](file string, parse func(string, []byte) (T, error)) (T, error) {
	text, err := readRegular(file)
	if err != nil {
		var none T
		return none, fmt.Errorf("cannot read %q: %w", file, err)
	}
	return parse(file, text)
}

// readRegular reads a file that is no pipe, device or folder, within bounds.
func readRegular(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a file")
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(file)
	}
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxAccessFile+1))
	if err = errors.Join(err, f.Close()); err == nil && len(text) > maxAccessFile {
		err = fmt.Errorf("it has over %d bytes", maxAccessFile)
	}
	return text, err
}

// loadAccess reads users and ACL again, and puts both into force at once; if anything
// is wrong with them those that were in force stay.
func (g *Gateway) loadAccess(ctx context.Context) error {
	return g.load(ctx, "access", func(ctx context.Context, cfg *config.Config) error {
		g.accessFiles.settle(ctx, cfg.Broker.Users, cfg.Broker.ACL)
		p, err := readPolicy(cfg)
		if err != nil {
			return err
		}
		g.warnOfReaders(cfg)
		g.access.Load(p)
		g.broker.Reauthorize()
		return nil
	})
}

// warnOfReaders tells when everyone on the machine can read the users file.
func (g *Gateway) warnOfReaders(cfg *config.Config) {
	if cfg.Broker.Users == "" {
		return
	}
	if info, err := os.Stat(cfg.Broker.Users); err == nil && info.Mode().Perm()&0o007 != 0 {
		g.opt.Log.Warn("the users file can be read by everyone on this machine; chmod 600 it", "path", cfg.Broker.Users, "mode", info.Mode().Perm().String())
	}
}
