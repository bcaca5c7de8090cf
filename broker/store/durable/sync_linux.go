package durable

import (
	"errors"
	"io/fs"
	"syscall"
)

// Sync implements [Storage]: times that nobody reads need not reach the medium.
func (f *file) Sync() error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if raw.Control(func(fd uintptr) {
		for {
			if failed = syscall.Fdatasync(int(fd)); !errors.Is(failed, syscall.EINTR) {
				return
			}
		}
	}) != nil {
		failed = fs.ErrClosed // the only reason of Control to fail
	}
	if failed != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: failed}
	}
	return nil
}
