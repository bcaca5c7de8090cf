package crashfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
)

// TestFS holds the machine's file system and the one in memory to the same behavior.
func TestFS(t *testing.T) {
	systems := map[string]func(*testing.T) (durable.FS, string){
		"machine": func(t *testing.T) (durable.FS, string) { return durable.OS(), t.TempDir() },
		"memory":  func(*testing.T) (durable.FS, string) { return crashfs.New(), "/data" },
		"overlay": func(*testing.T) (durable.FS, string) { return durable.Overlay(crashfs.New()), "/data" },
	}
	tests := map[string]func(*testing.T, *subject){
		"what is written is read":                  testWrite,
		"a hole reads as zeros":                    testHole,
		"truncate cuts and lengthens":              testTruncate,
		"open flags":                               testFlags,
		"a file is used as it was opened":          testMode,
		"a closed file says so":                    testClosed,
		"rename replaces":                          testRename,
		"an open file outlives its name":           testUnlinked,
		"a folder is listed in order":              testReadDir,
		"a missing file is told":                   testMissing,
		"files are replaced as a whole":            testReplace,
		"random changes leave what they are to be": testRandom,
	}
	lenient := map[string]bool{"a file is used as it was opened": true, "a closed file says so": true}
	for system, open := range systems {
		t.Run(system, func(t *testing.T) {
			for name, test := range tests {
				if system == "overlay" && lenient[name] { // it is for programs that keep to that
					continue
				}
				t.Run(name, func(t *testing.T) {
					fsys, folder := open(t)
					test(t, &subject{T: t, FS: fsys, folder: folder})
				})
			}
		})
	}
}

// subject is a file system under test.
type subject struct {
	*testing.T
	durable.FS
	folder string
}

func (s *subject) path(name string) string { return filepath.Join(s.folder, name) }

func (s *subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// open opens a file until the test ends.
func (s *subject) open(name string, flag int) durable.File {
	s.Helper()
	f, err := s.OpenFile(s.path(name), flag, 0o600)
	s.must(err)
	s.Cleanup(func() { _ = f.Close() })
	return f
}

// put writes a file and makes it last.
func (s *subject) put(name, text string) {
	s.Helper()
	f := s.open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	_, err := f.WriteAt([]byte(text), 0)
	s.must(errors.Join(err, f.Sync(), f.Close(), s.SyncDir(s.folder)))
}

// text reads a file as a whole.
func (s *subject) text(f durable.File) string {
	s.Helper()
	size, err := f.Size()
	s.must(err)
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n != len(b) || err != nil && !errors.Is(err, io.EOF) {
		s.Fatalf("read %d of %d bytes: %v", n, size, err)
	}
	return string(b)
}

func (s *subject) is(name, want string) {
	s.Helper()
	if got := s.text(s.open(name, os.O_RDONLY)); got != want {
		s.Errorf("%s: got %q, want %q", name, got, want)
	}
}

func testWrite(t *testing.T, s *subject) {
	f := s.open("a", os.O_RDWR|os.O_CREATE)
	for off, text := range map[int64]string{0: "0", 4: "xy", 9: "ten"} {
		n, err := f.WriteAt([]byte(text), off)
		if n != len(text) || err != nil {
			t.Errorf("wrote %d bytes: %v", n, err)
		}
	}
	if got := s.text(f); got != "0\x00\x00\x00xy\x00\x00\x00ten" {
		t.Errorf("got %q", got)
	}
	b := make([]byte, 5)
	if n, err := f.ReadAt(b, 9); n != 3 || !errors.Is(err, io.EOF) || string(b[:n]) != "ten" {
		t.Errorf("read %q, %v at the end", b[:n], err)
	}
	if n, err := f.ReadAt(b, 100); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v beyond the end", n, err)
	}
	if _, err := f.ReadAt(b, -1); err == nil {
		t.Error("read before the start")
	}
	if _, err := f.WriteAt(b, -1); err == nil {
		t.Error("wrote before the start")
	}
}

func testHole(t *testing.T, s *subject) {
	f := s.open("a", os.O_RDWR|os.O_CREATE)
	_, err := f.WriteAt([]byte("x"), 10000)
	s.must(err)
	if want := string(make([]byte, 10000)) + "x"; s.text(f) != want {
		t.Error("the hole is not zeros")
	}
}

func testTruncate(t *testing.T, s *subject) {
	f := s.open("a", os.O_RDWR|os.O_CREATE)
	_, err := f.WriteAt(bytes.Repeat([]byte("x"), 9000), 0)
	s.must(errors.Join(err, f.Truncate(5000), f.Truncate(9000)))
	want := string(bytes.Repeat([]byte("x"), 5000)) + string(make([]byte, 4000))
	if s.text(f) != want {
		t.Error("what was cut is back")
	}
	s.must(f.Truncate(0))
	if got := s.text(f); got != "" {
		t.Errorf("got %q", got)
	}
	if err := f.Truncate(-1); err == nil {
		t.Error("a file of less than nothing")
	}
}

func testFlags(t *testing.T, s *subject) {
	s.put("a", "text")
	if _, err := s.OpenFile(s.path("a"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	s.open("a", os.O_RDWR|os.O_CREATE)
	s.is("a", "text")
	s.open("a", os.O_RDWR|os.O_TRUNC)
	s.is("a", "")
}

func testMode(t *testing.T, s *subject) {
	s.put("a", "text")
	if _, err := s.open("a", os.O_RDONLY).WriteAt([]byte("x"), 0); err == nil {
		t.Error("wrote a file that was opened to be read")
	}
	if err := s.open("a", os.O_RDONLY).Truncate(0); err == nil {
		t.Error("cut a file that was opened to be read")
	}
	if _, err := s.open("a", os.O_WRONLY).ReadAt(make([]byte, 1), 0); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read a file that was opened to be written: %v", err)
	}
}

func testClosed(t *testing.T, s *subject) {
	f := s.open("a", os.O_RDWR|os.O_CREATE)
	s.must(f.Close())
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	_, writeErr := f.WriteAt(make([]byte, 1), 0)
	_, sizeErr := f.Size()
	for i, err := range []error{readErr, writeErr, sizeErr, f.Truncate(0), f.Sync(), f.Close()} {
		if !errors.Is(err, fs.ErrClosed) && !errors.Is(err, os.ErrInvalid) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func testRename(t *testing.T, s *subject) {
	s.put("a", "text of a")
	s.put("b", "text of b")
	s.must(s.Rename(s.path("a"), s.path("b")))
	s.is("b", "text of a")
	if _, err := s.OpenFile(s.path("a"), os.O_RDONLY, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	s.must(s.Rename(s.path("b"), s.path("b")))
	s.is("b", "text of a")
}

func testUnlinked(t *testing.T, s *subject) {
	s.put("a", "text")
	f := s.open("a", os.O_RDWR)
	s.must(s.Remove(s.path("a")))
	s.put("a", "another")
	if got := s.text(f); got != "text" {
		t.Errorf("got %q", got)
	}
	s.is("a", "another")
}

func testReadDir(t *testing.T, s *subject) {
	for _, name := range []string{"c", "a", "b"} {
		s.put(name, name+name)
	}
	found, err := s.ReadDir(s.folder)
	s.must(err)
	var names string
	for _, entry := range found {
		info, err := entry.Info()
		if err != nil || info.Size() != 2 || entry.IsDir() || !info.Mode().IsRegular() {
			t.Errorf("entry %v: %v", entry, err)
		}
		names += entry.Name()
	}
	if names != "abc" {
		t.Errorf("got %q", names)
	}
}

func testMissing(t *testing.T, s *subject) {
	_, err := s.OpenFile(s.path("a"), os.O_RDWR, 0)
	for i, err := range []error{err, s.Rename(s.path("a"), s.path("b")), s.Remove(s.path("a"))} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func testReplace(t *testing.T, s *subject) {
	for _, text := range []string{"first", "second, and longer", ""} {
		s.must(durable.ReplaceOn(s, s.path("a"), []byte(text), 0o600))
		s.is("a", text)
	}
	if found, err := s.ReadDir(s.folder); err != nil || len(found) != 1 {
		t.Errorf("got %v, %v", found, err)
	}
}

// testRandom compares with a slice of bytes.
func testRandom(t *testing.T, s *subject) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	f := s.open("a", os.O_RDWR|os.O_CREATE)
	var want []byte
	resize := func(size int) {
		want = append(want[:min(size, len(want))], make([]byte, max(0, size-len(want)))...)
	}
	for range 300 {
		off, n := r.IntN(20000), r.IntN(9000)
		if r.IntN(4) == 0 {
			s.must(f.Truncate(int64(off)))
			resize(off)
			continue
		}
		b := bytes.Repeat([]byte{byte(r.IntN(3))}, n)
		_, err := f.WriteAt(b, int64(off))
		s.must(err)
		if n > 0 {
			resize(max(len(want), off+n))
			copy(want[off:], b)
		}
	}
	if s.text(f) != string(want) {
		t.Errorf("seed %d: files differ", seed)
	}
}
