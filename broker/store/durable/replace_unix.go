//go:build unix

package durable

import (
	"os"
	"syscall"
)

// likeBefore gives a new file the owner of the one that it replaces, or else of the
// folder that it is in, if this process may: root keeps files for a service that way.
func likeBefore(f *os.File, path, folder string) error {
	info, err := os.Stat(path)
	if err != nil {
		info, err = os.Stat(folder)
	}
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
