package plugins

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrRefused says that a plugin's program is not what its manifest describes: it is
// missing, cannot be executed, or has another SHA-256.
var ErrRefused = errors.New("program refused")

// Verify looks whether the plugin's program is there and has the SHA-256 of the
// manifest. It reads the whole file. The error wraps [ErrRefused].
func (m *Manifest) Verify() error {
	p, err := openProgram(m)
	if err != nil {
		return err
	}
	return p.Close()
}

// program is a plugin's file, opened and hashed. It is executed by its descriptor,
// so that no other file can take its place in between.
type program struct {
	*os.File
	stamp stamp // from before it was hashed
}

// stamp changes when a file is written to; nobody can set the change time back but
// by the system's clock.
type stamp struct {
	device, inode uint64
	size          int64
	changed       syscall.Timespec
}

func openProgram(m *Manifest) (*program, error) {
	refuse := func(err error) error {
		return fmt.Errorf("%w: %q: %w", ErrRefused, filepath.Join(m.Folder, m.Command), err)
	}
	root, err := os.OpenRoot(m.Folder)
	if err != nil {
		return nil, refuse(err)
	}
	defer func() { _ = root.Close() }()
	f, err := openRegular(root, m.Command)
	if err != nil {
		return nil, refuse(err)
	}
	p := &program{File: f}
	if err := p.verify(m); err != nil {
		_ = f.Close()
		return nil, refuse(err)
	}
	return p, nil
}

func (p *program) verify(m *Manifest) error {
	info, err := p.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o111 == 0 {
		return errors.New("not executable (chmod +x)")
	}
	if p.stamp, err = p.now(); err != nil {
		return err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, p); err != nil {
		return err
	}
	if got := [32]byte(hash.Sum(nil)); got != m.SHA256 {
		return fmt.Errorf("its sha256 is %x, but %s pins %x", got, m.File, m.SHA256)
	}
	return p.unchanged()
}

// loader is what the kernel runs the program with: the interpreter of a script, the
// dynamic loader of a program. It is empty if there is none.
func (p *program) loader() string {
	head := make([]byte, 256) // the kernel reads no more of a first line
	n, _ := p.ReadAt(head, 0) // what is short is no script
	if line, ok := bytes.CutPrefix(head[:n], []byte("#!")); ok {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		path, _, _ := strings.Cut(strings.Trim(string(line), " \t"), " ")
		return path
	}
	file, err := elf.NewFile(p)
	if err != nil {
		return ""
	}
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP {
			path, _ := io.ReadAll(io.LimitReader(part.Open(), 4096)) // for an error text
			return strings.TrimRight(string(path), "\x00")
		}
	}
	return ""
}

// stamp is that of the program's file, zero if it is not there.
func (m *Manifest) stamp() stamp {
	var st syscall.Stat_t
	if m == nil || syscall.Stat(filepath.Join(m.Folder, m.Command), &st) != nil {
		return stamp{}
	}
	return stampOf(&st)
}

func stampOf(st *syscall.Stat_t) stamp {
	return stamp{device: uint64(st.Dev), inode: uint64(st.Ino), size: st.Size, changed: st.Ctim}
}

// unchanged reports that the file is as it was before it was hashed.
func (p *program) unchanged() error {
	s, err := p.now()
	if err == nil && s != p.stamp {
		err = errors.New("it was written to while it was started")
	}
	return err
}

func (p *program) now() (stamp, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(p.Fd()), &st); err != nil {
		return stamp{}, err
	}
	return stampOf(&st), nil
}
