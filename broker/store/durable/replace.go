package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// Replace writes a file of the machine as a whole: after a crash, whenever it comes, the
// file has its old content or the new one, and once Replace has returned nil it is the
// new one. The file gets the mode; its owner stays, or is that of the folder for a file
// that was not there. A link is followed.
func Replace(path string, data []byte, mode fs.FileMode) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return ReplaceOn(OS(), path, data, mode)
}

// ReplaceOn is [Replace] on any file system; a link is replaced, not followed.
func ReplaceOn(fsys FS, path string, data []byte, mode fs.FileMode) (err error) {
	folder := filepath.Dir(path)
	f, temporary, err := create(fsys, filepath.Join(folder, "."+filepath.Base(path)+"."))
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %q: %w", path, errors.Join(err, remove(fsys, temporary)))
		}
	}()
	_, err = f.WriteAt(data, 0)
	if of, ok := f.(*file); ok {
		err = errors.Join(err, likeBefore(of.File, path, folder), of.Chmod(mode))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = fsys.Rename(temporary, path); err != nil {
		return err
	}
	return fsys.SyncDir(folder)
}

// create makes a file that was not there, which its owner alone may read.
func create(fsys FS, prefix string) (f File, name string, err error) {
	for range 100 {
		name = prefix + strconv.FormatUint(rand.Uint64(), 36)
		f, err = fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return f, name, err
}

// remove removes what a write that failed has left, if it is there.
func remove(fsys FS, path string) error {
	if err := fsys.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// MakeDir makes a folder of the machine with all above it, as [os.MkdirAll] does, and
// makes their names last.
func MakeDir(path string, perm fs.FileMode) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	above := filepath.Dir(path)
	if above != path {
		if err := MakeDir(above, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return OS().SyncDir(above)
}
