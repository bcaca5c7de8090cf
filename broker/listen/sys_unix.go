//go:build unix

package listen

import (
	"errors"
	"io/fs"
	"syscall"
)

// fchmod sets the mode that the file of a socket will have once it is bound.
func fchmod(fd uintptr, mode fs.FileMode) error { return syscall.Fchmod(int(fd), uint32(mode.Perm())) }

// closeOnExec keeps a passed descriptor from the processes that we start.
func closeOnExec(fd int) { syscall.CloseOnExec(fd) }

// readNow reads what is there; ready is false when that is nothing yet.
func readNow(fd uintptr, b []byte) (n int, ready bool, err error) {
	for {
		n, err = syscall.Read(int(fd), b)
		switch {
		case err == nil:
			return n, true, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, false, nil
		default:
			return 0, true, err
		}
	}
}

// readable reports whether a read would not wait: something, the end, or an error
// is there.
func readable(fd uintptr) bool {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		if !errors.Is(err, syscall.EINTR) {
			return !errors.Is(err, syscall.EAGAIN)
		}
	}
}

// writeNow writes what the socket takes at once.
func writeNow(fd uintptr, b []byte) (int, error) { return syscall.Write(int(fd), b) }
