package gateway

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// watched runs a watch and returns the channel of its calls, after the first.
func watched(t *testing.T, path string) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan struct{}, 100)
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, slog.New(slog.DiscardHandler), path, func() { calls <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	expect(t, calls)
	return calls
}

func expect(t *testing.T, calls <-chan struct{}) {
	t.Helper()
	select {
	case <-calls:
	case <-time.After(10 * time.Second):
		t.Fatal("no call")
	}
}

func expectNone(t *testing.T, calls <-chan struct{}) {
	t.Helper()
	if more(calls) {
		t.Fatal("a call too many")
	}
}

// more reports whether another call comes.
func more(calls <-chan struct{}) bool {
	select {
	case <-calls:
		return true
	case <-time.After(2 * settle):
		return false
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	t.Run("several writes make one call", func(t *testing.T) {
		dir := t.TempDir()
		calls := watched(t, dir)
		for range 20 { // a machine that is busy takes long over the writes, or hears of them late
			for range 5 {
				write(t, filepath.Join(dir, "a.yaml"), "x")
			}
			expect(t, calls)
			if !more(calls) {
				return
			}
			for more(calls) {
				continue
			}
		}
		t.Error("never one call only")
	})
	t.Run("a folder that is missing is waited for", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "not", "yet")
		calls := watched(t, dir)
		write(t, filepath.Join(dir, "a.yaml"), "x")
		expect(t, calls)
		write(t, filepath.Join(dir, "a.yaml"), "y")
		expect(t, calls)
	})
	t.Run("a folder that is replaced", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "rules")
		write(t, filepath.Join(dir, "a.yaml"), "x")
		calls := watched(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		expect(t, calls)
		write(t, filepath.Join(dir, "b.yaml"), "x")
		expect(t, calls)
		write(t, filepath.Join(dir, "b.yaml"), "y")
		expect(t, calls)
	})
	t.Run("a folder below, made later", func(t *testing.T) {
		dir := t.TempDir()
		calls := watched(t, dir)
		write(t, filepath.Join(dir, "sub", "a.yaml"), "x")
		expect(t, calls)
		write(t, filepath.Join(dir, "sub", "a.yaml"), "y")
		expect(t, calls)
	})
	t.Run("a folder beside one that cannot be read", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "z", "a.yaml"), "x")
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if err := root.MkdirAll("a/"+strings.Repeat(strings.Repeat("b", 250)+"/", 20), 0o700); err != nil { // too long a path
			t.Fatal(err)
		}
		calls := watched(t, dir)
		write(t, filepath.Join(dir, "z", "a.yaml"), "y")
		expect(t, calls)
	})
	t.Run("a file that an editor replaces", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "gatehouse.yaml")
		write(t, file, "x")
		calls := watched(t, file)
		write(t, filepath.Join(dir, "other"), "x")
		expectNone(t, calls)
		for range 2 {
			write(t, file+".tmp", "y")
			if err := os.Rename(file+".tmp", file); err != nil {
				t.Fatal(err)
			}
			expect(t, calls)
		}
	})
	t.Run("a folder that is a link", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "real", "a.yaml"), "x")
		link(t, "real", filepath.Join(dir, "rules"))
		calls := watched(t, filepath.Join(dir, "rules"))
		write(t, filepath.Join(dir, "real", "a.yaml"), "y")
		expect(t, calls)
		write(t, filepath.Join(dir, "other", "a.yaml"), "z")
		expectNone(t, calls)
		link(t, "other", filepath.Join(dir, "rules"))
		expect(t, calls)
		write(t, filepath.Join(dir, "other", "a.yaml"), "zz")
		expect(t, calls)
	})
	t.Run("a file that is a link through a folder that is swapped, as Kubernetes does", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "..1", "gatehouse.yaml"), "x")
		write(t, filepath.Join(dir, "..2", "gatehouse.yaml"), "y")
		link(t, "..1", filepath.Join(dir, "..data"))
		link(t, "..data/gatehouse.yaml", filepath.Join(dir, "gatehouse.yaml"))
		calls := watched(t, filepath.Join(dir, "gatehouse.yaml"))
		link(t, "..2", filepath.Join(dir, "..data"))
		expect(t, calls)
		write(t, filepath.Join(dir, "..2", "gatehouse.yaml"), "z")
		expect(t, calls)
	})
	t.Run("a folder that is moved and another put in its place", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "rules")
		write(t, filepath.Join(dir, "a.yaml"), "x")
		calls := watched(t, dir)
		for _, move := range [][2]string{{dir, dir + ".old"}, {dir + ".new", dir}} {
			write(t, filepath.Join(dir+".new", "a.yaml"), "y")
			if err := os.Rename(move[0], move[1]); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, calls)
		write(t, filepath.Join(dir, "a.yaml"), "z")
		expect(t, calls)
	})
}

// link makes a symbolic link, in place of another if there is one.
func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path+".tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}
