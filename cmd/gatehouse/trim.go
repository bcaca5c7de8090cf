package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// started is how long a start goes on after everything is up: the first messages pass
// through code that was not touched yet.
const started = 500 * time.Millisecond

// trimLater trims once the start is over, unless ctx ends before.
func trimLater(ctx context.Context, up <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-up:
	}
	return trimAfter(ctx, started)
}

// trimAfter trims after a pause, unless ctx ends before.
func trimAfter(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(pause):
		return trim()
	}
}

// trim gives back the garbage of the start, and the pages of the program's own file that
// only its start needed: the tables and initializers of every package, which the kernel
// reads again should they be wanted. On a machine of 512 MB they would count against
// everything else.
func trim() error {
	debug.FreeOSMemory()
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer func() { _ = maps.Close() }()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	clean, err := cleanMappings(maps, self)
	if err != nil {
		return err
	}
	for _, m := range clean {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// cleanMappings reads smaps, proc_pid_smaps(5), and returns the mappings of a file
// that hold what is in it. What was written would be lost: that of a mapping that may
// be written, and that of one that may no more, as the relocated tables of a
// position-independent program.
func cleanMappings(smaps io.Reader, file string) ([]mapping, error) {
	var clean []mapping
	var now mapping
	ours := false
	for lines := bufio.NewScanner(smaps); ; {
		if !lines.Scan() {
			return clean, lines.Err()
		}
		key, value, _ := strings.Cut(lines.Text(), " ")
		switch {
		case !strings.HasSuffix(key, ":"): // "FROM-TO PERMS OFFSET DEVICE INODE PATH"
			perms, rest, _ := strings.Cut(value, " ")
			ours = strings.HasSuffix(rest, " "+file) && !strings.Contains(perms, "w")
			if _, err := fmt.Sscanf(key, "%x-%x", &now.from, &now.to); err != nil {
				return nil, err
			}
		case key == "Anonymous:" && ours && strings.TrimSpace(value) == "0 kB":
			clean = append(clean, now)
		}
	}
}
