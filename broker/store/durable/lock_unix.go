//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
)

// flock takes the lock of an open file, or fails at once.
func flock(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			if failed = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(failed, syscall.EINTR) {
				return
			}
		}
	})
	if errors.Is(failed, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return errors.Join(err, failed)
}
