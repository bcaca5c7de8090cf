package broker

import (
	"net"
	"syscall"
	"unsafe"
)

// descriptor is that of a plain socket, or -1.
func descriptor(nc net.Conn) int {
	fd := -1
	s, ok := nc.(syscall.Conn)
	if !ok {
		return fd
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return fd
	}
	if raw.Control(func(number uintptr) { fd = int(number) }) != nil {
		return -1
	}
	return fd
}

// writeNow writes what the socket takes at once; 0 and no error when it is full.
//
// The socket does not block, so the scheduler need not hear of the call: telling it
// costs more than the call itself, and wakes its monitor when the gateway was idle.
func writeNow(fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, errno
		}
	}
}

// readNow reads what is there; ready is false when that is nothing yet.
func readNow(fd int, b []byte) (n int, ready bool, err error) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), true, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, false, nil
		default:
			return 0, true, errno
		}
	}
}
