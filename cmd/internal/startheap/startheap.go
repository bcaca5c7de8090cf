//go:build linux && (amd64 || arm64)

package startheap

import (
	"sync"
	"syscall"
	"unsafe"
)

const (
	page  = 4 << 10   // of the kernel, in bytes, as all that follows
	huge  = 2 << 20   // a huge page
	chunk = 4 << 20   // the heap grows by as much, to a multiple of it
	spare = 8 << 20   // Grow skips as much
	block = 128 << 10 // comes straight from the heap, from the lowest address that is free
	most  = 24 << 20  // GiveBack makes garbage of as much at most

	heapPage = 8 << 10       // of Go's heap
	cached   = 64 * heapPage // a processor takes as much from the heap at once
)

// extent is a range of addresses.
type extent struct{ from, to uintptr }

var asked = struct {
	sync.Mutex
	extents []extent
}{extents: first()}

// first asks for the pages in which the heap goes on. Those before are of 4 KiB for good:
// some were touched. So it takes what is left of them, without touching it.
func first() []extent {
	if syscall.Getpagesize() != page {
		return nil
	}
	// In the order of addresses, or the memory would be cleared. First what this processor
	// has for itself, up to a multiple of cached, then one piece up to the next huge page.
	at := fresh(heapPage)
	for range cached / heapPage {
		if at = fresh(heapPage); nextOf(at, cached) == at+heapPage {
			break
		}
	}
	at += heapPage
	if rest := nextOf(at-1, huge) - at; rest > 0 {
		at = fresh(int(rest)) + rest
	}
	at = max(at, fresh(heapPage))
	return advise(nil, extent{at &^ (huge - 1), nextOf(at, chunk)})
}

// Grow has the next 4 to 8 MiB that are allocated in huge pages. To the garbage collector
// it is 8 MiB of garbage, which never was memory. Call it once, early.
func Grow() {
	asked.Lock()
	defer asked.Unlock()
	if len(asked.extents) == 0 { // there are none to be had
		return
	}
	// It begins in the last chunk of the heap, which grows to the end of a chunk once more.
	at := fresh(spare+heapPage) + spare
	asked.extents = advise(asked.extents, extent{at &^ (huge - 1), nextOf(at, chunk) + chunk})
}

// GiveBack has the kernel make no more huge pages of the heap, and what the heap has not
// used of them yet be given back with the rest (debug.FreeOSMemory, which the caller calls
// next): the heap believes that the kernel has that still, so it becomes garbage.
func GiveBack() {
	asked.Lock()
	defer asked.Unlock()
	var end uintptr
	for _, e := range asked.extents {
		end = max(end, e.to)
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, e.from, e.to-e.from, syscall.MADV_NOHUGEPAGE)
	}
	for range most / block {
		if fresh(block) >= end {
			break
		}
	}
	asked.extents = nil
}

// advise asks for huge pages at e, and notes it. A kernel that has none says so.
func advise(extents []extent, e extent) []extent {
	if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, e.from, e.to-e.from, syscall.MADV_HUGEPAGE); errno != 0 {
		return extents
	}
	return append(extents, e)
}

// fresh is where a new block of memory is.
func fresh(size int) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(make([]byte, size))))
}

// nextOf is the next multiple of size, a power of two, above an address.
func nextOf(address, size uintptr) uintptr { return address&^(size-1) + size }
