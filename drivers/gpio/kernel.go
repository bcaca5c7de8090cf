package gpio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The structures of include/uapi/linux/gpio.h, version 2. Every field of 64 bits lies at
// a multiple of 8, so they are the same on processors of 32 and 64 bits.

type chipInfo struct {
	name, label [32]byte
	lines       uint32
}

type lineAttribute struct {
	id      uint32
	padding uint32
	value   uint64 // flags, values, or microseconds in the first 32 bits in memory
}

type configAttribute struct {
	attr lineAttribute
	mask uint64
}

type lineConfig struct {
	flags    uint64
	numAttrs uint32
	padding  [5]uint32
	attrs    [10]configAttribute
}

type lineRequest struct {
	offsets     [64]uint32
	consumer    [32]byte
	config      lineConfig
	numLines    uint32
	eventBuffer uint32
	padding     [5]uint32
	fd          int32
}

type lineInfo struct {
	name, consumer [32]byte
	offset         uint32
	numAttrs       uint32
	flags          uint64
	attrs          [10]lineAttribute
	padding        [4]uint32
}

type lineValues struct{ bits, mask uint64 }

type lineEvent struct {
	timestamp uint64 // nanoseconds of CLOCK_MONOTONIC
	id        uint32
	offset    uint32
	seq       uint32 // of the request
	lineSeq   uint32 // of the line, from 1
	padding   [6]uint32
}

// What the kernel counts on, checked by the compiler for each processor: the sizes that
// the numbers of the requests carry, and where a request has its descriptor.
var (
	_ [68]byte  = [unsafe.Sizeof(chipInfo{})]byte{}
	_ [592]byte = [unsafe.Sizeof(lineRequest{})]byte{}
	_ [588]byte = [unsafe.Offsetof(lineRequest{}.fd)]byte{}
	_ [288]byte = [unsafe.Offsetof(lineRequest{}.config)]byte{}
	_ [256]byte = [unsafe.Sizeof(lineInfo{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(lineValues{})]byte{}
	_ [48]byte  = [unsafe.Sizeof(lineEvent{})]byte{}
)

const (
	flagUsed         = 1 << 0
	flagActiveLow    = 1 << 1
	flagInput        = 1 << 2
	flagOutput       = 1 << 3
	flagRising       = 1 << 4
	flagFalling      = 1 << 5
	flagOpenDrain    = 1 << 6
	flagOpenSource   = 1 << 7
	flagPullUp       = 1 << 8
	flagPullDown     = 1 << 9
	flagBiasDisabled = 1 << 10

	attrValues   = 2
	attrDebounce = 3

	eventRising = 1
)

// The requests, as _IOR and _IOWR make them of the letter 0xB4, a number and the size.
const (
	getChipInfo = 0x8044B401
	getLineInfo = 0xC100B405
	getLine     = 0xC250B407
	getValues   = 0xC010B40E
	setValues   = 0xC010B40F
)

// eventBuffer is how many edges the kernel keeps for a line; more it takes no.
const eventBuffer = 1024

// ioctl is the system call; tests put a chip of their own in its place.
type ioctl func(fd int, request uint32, arg unsafe.Pointer) error

func systemCall(fd int, request uint32, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// text is a name of at most 31 bytes.
func text(b [32]byte) string { return unix.ByteSliceToString(b[:]) }
