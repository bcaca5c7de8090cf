package drivers_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

func TestParseConfigBoundsItsInput(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"brackets", strings.Repeat("[", 2000), "too complex"},
		{"brackets on many lines", strings.Repeat("[\n", 1000), "nested deeper"},
		{"indentation", deep(300), "nested deeper"},
		{"lists in one line", strings.Repeat("- ", 2000), "too complex"},
		{"bytes that are no text", "driver: \xff\n", "not UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := drivers.ParseConfig("a", "a.yaml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an error with %q, got %.200v", c.want, err)
			}
		})
	}
}

// deep is a file whose mappings lie in each other.
func deep(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestLoadPassesOverWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "zero.yaml")); err != nil {
		t.Fatal(err)
	}
	host, err := drivers.NewHost(drivers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	loaded := make(chan error, 1)
	go func() { loaded <- host.Load(t.Context(), os.DirFS(dir)) }()
	select {
	case err := <-loaded:
		for _, want := range []string{"pipe.yaml:1:1: it is not a regular file", "zero.yaml:1:1: it is not a regular file"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %q, got %v", want, err)
			}
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Load waits for a pipe that nobody writes")
	}
}
