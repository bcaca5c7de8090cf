package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// noisy is the share of the processors above which what others do is told.
const noisy = 0.05

// watch is a look at what the processors have done: all of it, and what was done by
// the load and by the brokers that have ended.
type watch struct {
	start     time.Time
	busy, own time.Duration
}

func newWatch() (w watch, err error) {
	w.start = time.Now()
	if w.busy, err = busy(); err != nil {
		return w, err
	}
	w.own, err = own()
	return w, err
}

// others is the share of all processors that others have used between two looks.
func (w watch) others(later watch, processors int) float64 {
	took := float64(later.start.Sub(w.start)) * float64(processors)
	return max(0, float64((later.busy-w.busy)-(later.own-w.own))/took)
}

// busy is the time that all processors have worked, or were kept from it by the
// host of a virtual machine.
func busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var ticks int64
	for i, f := range fields[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 wherever Go runs
}

// own is the time of this process and of its children that have ended.
func own() (sum time.Duration, err error) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return 0, os.NewSyscallError("getrusage", err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum, nil
}

// machine says what the figures were measured on.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, after, _ := strings.Cut(string(text), "model name\t: ")
		model, _, _ = strings.Cut(after, "\n")
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // empty if it cannot be read
	return fmt.Sprintf("%s, %d processors, %s/%s, Linux %s, %s", model, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		strings.TrimSpace(string(kernel)), runtime.Version())
}

// systemCall is the microseconds that a system call takes at best. Brokers spend
// most of their time in them, so that figures of machines with other costs differ,
// and ratios too.
func systemCall() float64 {
	least := time.Hour
	for range 20 {
		const calls = 1000
		start := time.Now()
		for range calls {
			unix.Getppid()
		}
		least = min(least, time.Since(start)/calls)
	}
	return float64(least.Nanoseconds()) / 1e3
}
