package jsvm

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sharedPage is the memory that a worker and its gateway both see. It outlives the
// worker, and so tells what it was doing when it died.
type sharedPage struct {
	seq *atomic.Uint64 // of the event in progress; 0 between events
	mem []byte
}

const sharedSize = 4096

// newShared makes the memory, as a file to hand on.
func newShared() (*os.File, error) {
	fd, err := unix.MemfdCreate("gatehouse-worker", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make shared memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "shared")
	if err := f.Truncate(sharedSize); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("cannot make shared memory: %w", err)
	}
	return f, nil
}

// mapShared maps the memory behind a descriptor.
func mapShared(fd int) (*sharedPage, error) {
	mem, err := unix.Mmap(fd, 0, sharedSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("cannot map shared memory: %w", err)
	}
	// A page begins at a multiple of its size, so that the word is aligned.
	return &sharedPage{seq: (*atomic.Uint64)(unsafe.Pointer(&mem[0])), mem: mem}, nil
}

// unmap gives the memory back; seq must not be used after it.
func (p *sharedPage) unmap() { _ = unix.Munmap(p.mem) }
