package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// FS is the file operations that durable state needs. Its methods may be called by
// any goroutine. Errors are those of package os: [fs.ErrNotExist], [fs.ErrExist],
// syscall.ENOSPC, EIO and EROFS can be told with [errors.Is].
type FS interface {
	// OpenFile opens a file as [os.OpenFile] does. A new name lasts once SyncDir of
	// its folder has returned.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename gives a file another name, in place of the file that has it. It lasts
	// once SyncDir of both folders has returned.
	Rename(from, to string) error
	// Remove removes a name; that lasts once SyncDir has returned.
	Remove(name string) error
	// ReadDir lists a folder in the order of names.
	ReadDir(name string) ([]fs.DirEntry, error)
	// SyncDir makes the names of a folder last.
	SyncDir(name string) error
}

// File is an open file. What was written lasts once Sync has returned nil. After a
// Sync that failed nobody knows which of the writes before it last, and a later Sync
// does not tell: whoever needs them writes them again, elsewhere.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Storage
}

// Storage is what a [File] is beyond its bytes.
type Storage interface {
	// Truncate cuts the file at size bytes, or lengthens it with zeros.
	Truncate(size int64) error
	// Sync waits until content and size are on the medium (fdatasync).
	Sync() error
	// Size is the length in bytes.
	Size() (int64, error)
}

// OS is the file system of the machine.
func OS() FS { return system{} }

// system is the real file system.
type system struct{}

// OpenFile implements [FS].
func (system) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &file{f}, nil
}

// Rename implements [FS].
func (system) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements [FS].
func (system) Remove(name string) error { return os.Remove(name) }

// ReadDir implements [FS].
func (system) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// SyncDir implements [FS].
func (system) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// file is a file of the machine.
type file struct{ *os.File }

// Size implements [Storage].
func (f *file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
