package durable_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/store/durable"
)

func TestReplace(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "users")
	for _, text := range []string{"first", "second, and longer", ""} {
		if err := durable.Replace(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(got) != text || info.Mode().Perm() != 0o600 {
			t.Errorf("got %q of mode %v, %v, %v", got, info.Mode(), err, statErr)
		}
	}
	t.Run("leaves nothing else in the folder", func(t *testing.T) {
		if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
			t.Errorf("got %v, %v", entries, err)
		}
	})
	t.Run("follows a link", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		if err := durable.Replace(link, []byte("through the link"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != "through the link" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("keeps the old file when it fails, and cleans up", func(t *testing.T) {
		dir := filepath.Join(folder, "taken") // a folder cannot be replaced by a file
		if err := os.MkdirAll(filepath.Join(dir, "inside"), 0o700); err != nil {
			t.Fatal(err)
		}
		err := durable.Replace(dir, []byte("x"), 0o600)
		if err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v", err)
		}
		if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
			t.Errorf("got %v, %v", entries, err)
		}
	})
	t.Run("names a folder that is missing", func(t *testing.T) {
		if err := durable.Replace(filepath.Join(folder, "no", "where"), nil, 0o600); err == nil {
			t.Error("there is no such folder")
		}
	})
}
