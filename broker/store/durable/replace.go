package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a file as a whole: after a crash, whenever it comes, the file has its
// old content or the new one, and once Replace has returned nil it is the new one. The
// file gets the mode; its owner stays, or is that of the folder for a file that was
// not there. A link is followed.
func Replace(path string, data []byte, mode fs.FileMode) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	folder := filepath.Dir(path)
	f, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	temporary := f.Name()
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %q: %w", path, errors.Join(err, remove(temporary)))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, likeBefore(f, path, folder), f.Chmod(mode))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(temporary, path); err != nil {
		return err
	}
	return syncFolder(folder)
}

// remove removes what a write that failed has left, if it is there.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncFolder makes the new name of a file last.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
