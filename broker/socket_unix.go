//go:build unix

package broker

import (
	"errors"
	"net"
	"syscall"
)

// rawConn is the descriptor of a plain socket, or nil.
func rawConn(nc net.Conn) syscall.RawConn {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// writeNow writes what the socket takes at once; 0 and no error when it is full.
func writeNow(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), b)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		default:
			return 0, err
		}
	}
}

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
