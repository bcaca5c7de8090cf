package main_test

import (
	"bytes"
	"debug/elf"
	bits "encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wallClock is the clock of one process, which is set as NTP or a user sets it; the
// monotonic clock goes on. The kernel has one clock for all, but a process asks for it
// by a function of the vDSO, of which each has a copy when it is written to.
type wallClock struct {
	pid int
	at  int64 // of the seconds that are added, in the process's memory
}

// shiftedTime is __vdso_clock_gettime(EDI: clock, RSI: result): the system call, and for
// CLOCK_REALTIME what stands at its end, in seconds, on top.
var shiftedTime = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, // mov $SYS_clock_gettime, %eax
	0x0f, 0x05, // syscall
	0x85, 0xff, // test %edi, %edi
	0x75, 0x0a, // jnz the end
	0x48, 0x8b, 0x0d, 0x06, 0x00, 0x00, 0x00, // mov seconds(%rip), %rcx
	0x48, 0x01, 0x0e, // add %rcx, (%rsi)
	0xc3,       // the end: ret
	0x90, 0x90, // so that what follows is aligned
	0, 0, 0, 0, 0, 0, 0, 0, // the seconds
}

// startAt runs a command whose wall clock goes wrong by so much from its first
// instruction on. The test is skipped where that cannot be had.
func startAt(t *testing.T, wrong time.Duration, name string, args ...string) (*program, *wallClock) {
	t.Helper()
	w := &wallClock{}
	var not error
	p := startBy(t, func(cmd *exec.Cmd) error {
		runtime.LockOSThread() // who traces is a thread
		defer runtime.UnlockOSThread()
		cmd.SysProcAttr.Ptrace = true
		if err := cmd.Start(); err != nil {
			return err
		}
		w.pid = cmd.Process.Pid
		var status unix.WaitStatus
		if _, err := unix.Wait4(w.pid, &status, 0, nil); err != nil {
			return err
		}
		if not = w.take(); not == nil {
			not = w.set(wrong)
		}
		return unix.PtraceDetach(w.pid)
	}, name, args...)
	if not != nil {
		t.Skipf("NOT TESTED: a process cannot be given a wall clock of its own here: %v", not)
	}
	return p, w
}

// set sets how wrong the clock is, to the second.
func (w *wallClock) set(wrong time.Duration) error {
	var b [8]byte
	bits.LittleEndian.PutUint64(b[:], uint64(int64(wrong/time.Second)))
	return w.write(b[:], w.at)
}

func (w *wallClock) write(b []byte, at int64) error {
	f, err := os.OpenFile(w.file("mem"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

func (w *wallClock) file(name string) string {
	return filepath.Join("/proc", fmt.Sprint(w.pid), name)
}

// take puts a function of its own in the place of the vDSO's. The process has not begun.
func (w *wallClock) take() error {
	base, err := w.vdso()
	if err != nil {
		return err
	}
	image := make([]byte, 4096)
	f, err := os.Open(w.file("mem"))
	if err != nil {
		return err
	}
	defer f.Close()
	for at := 0; at < len(image); at += 4096 { // it is a few pages
		if _, err := f.ReadAt(image[at:], base+int64(at)); err != nil {
			image = image[:at]
			break
		}
		if len(image) < 64<<10 {
			image = append(image, make([]byte, 4096)...)
		}
	}
	e, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return fmt.Errorf("its vDSO: %w", err)
	}
	symbols, err := e.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("its vDSO: %w", err)
	}
	for _, s := range symbols {
		// Aligned, the seconds are written at once.
		if s.Name == "__vdso_clock_gettime" && s.Size >= uint64(len(shiftedTime)) && s.Value%8 == 0 {
			w.at = base + int64(s.Value) + int64(len(shiftedTime)) - 8
			return w.write(shiftedTime, base+int64(s.Value))
		}
	}
	return errors.New("its vDSO has no clock_gettime that can be replaced")
}

// vdso is where it is in the process's memory.
func (w *wallClock) vdso() (int64, error) {
	const sysinfoEHDR = 33 // AT_SYSINFO_EHDR
	b, err := os.ReadFile(w.file("auxv"))
	for ; err == nil && len(b) >= 16; b = b[16:] {
		if bits.LittleEndian.Uint64(b) == sysinfoEHDR {
			return int64(bits.LittleEndian.Uint64(b[8:])), nil
		}
	}
	return 0, errors.Join(errors.New("it has no vDSO"), err)
}
