//go:build !unix

package listen

import (
	"errors"
	"io/fs"
)

func fchmod(uintptr, fs.FileMode) error { return nil }

func closeOnExec(int) {}

// Elsewhere than on Unix a Wait returns at once, and Read waits.
func readable(uintptr) bool { return true }

func readNow(uintptr, []byte) (n int, ready bool, err error) { return 0, true, errors.ErrUnsupported }

func writeNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
