package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ErrLocked is what [Lock] gives when another process, or this one, has the lock.
var ErrLocked = errors.New("locked")

// maxHolder is the longest name of a holder, in bytes, that Lock reads.
const maxHolder = 256

// Lock makes this process the only one that holds path, a file that is made if it is
// missing and stays. Closing gives the lock back, and so does the end of the process,
// however it ends. If it is held the error names the holder and is an [ErrLocked].
// Where the system has no such locks it succeeds always.
func Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock: %w", err)
	}
	if err = flock(f); err != nil {
		if errors.Is(err, ErrLocked) {
			err = fmt.Errorf("%q is in use by %s: %w", path, holder(f), ErrLocked)
		} else {
			err = fmt.Errorf("cannot lock %q: %w", path, err)
		}
		return nil, errors.Join(err, f.Close())
	}
	// The name only helps people: on a full disk the lock holds without it.
	name := fmt.Sprintf("process %d (%s)", os.Getpid(), filepath.Base(os.Args[0]))
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(name), 0)
	}
	return f, nil
}

// holder is what the process that has the lock wrote into it.
func holder(f *os.File) string {
	b := make([]byte, maxHolder)
	n, _ := f.ReadAt(b, 0)
	if text := strings.TrimSpace(string(b[:n])); text != "" {
		return text
	}
	return "another process"
}
