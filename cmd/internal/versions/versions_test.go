package versions_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/durable/crashfs"
	"github.com/gatehouse/gatehouse/cmd/internal/versions"
)

var at = time.Date(2026, 11, 25, 18, 0, 0, 0, time.UTC)

func files(pairs ...string) map[string][]byte {
	all := make(map[string][]byte)
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = []byte(pairs[i+1])
	}
	return all
}

func save(t *testing.T, v *versions.Versions, f map[string][]byte, want int) *versions.Version {
	t.Helper()
	saved, err := v.Save(f, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	if saved != nil {
		number = saved.Number
	}
	if number != want {
		t.Fatalf("it is version %d, not %d", number, want)
	}
	return saved
}

func TestTheLastTwentyVersionsAreKept(t *testing.T) {
	dir := t.TempDir()
	v := versions.Open(dir)
	save(t, v, nil, 0)
	save(t, v, files("a.yaml", "0", "same.js", "s"), 1)
	save(t, v, files("a.yaml", "0", "same.js", "s"), 0)
	for i := range 30 {
		save(t, v, files("a.yaml", fmt.Sprint(i+1), "same.js", "s"), i+2)
	}
	all, err := v.List()
	if err != nil || len(all) != versions.Kept || all[0].Number != 31 || all[19].Number != 12 {
		t.Fatalf("%d versions, %v", len(all), err)
	}
	texts, err := v.Texts(&all[19])
	if diff := cmp.Diff(files("a.yaml", "11", "same.js", "s"), texts); diff != "" || err != nil {
		t.Error(diff, err)
	}
	entries, err := os.ReadDir(dir)
	if n := len(entries); n != 2*versions.Kept+1 || err != nil { // a list and a content each, and what all share
		t.Errorf("%d files are kept, %v", n, err)
	}
	if _, err := v.Get(11); !errors.Is(err, versions.ErrNone) {
		t.Errorf("version 11: %v", err)
	}
}

func TestRestoreMakesTheFolderWhatItWas(t *testing.T) {
	folder, v := t.TempDir(), versions.Open(t.TempDir())
	write := func(name, text string) {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "1")
	write("sub/b.js", "b")
	write(".hidden", "h")
	write("huge.bin", strings.Repeat("x", versions.MaxFile+1))
	before, err := versions.Read(folder)
	if diff := cmp.Diff(files("a.yaml", "1", "sub/b.js", "b"), before); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	first := save(t, v, before, 1)
	write("a.yaml", "2")
	write("c.yaml", "c")
	if err := os.RemoveAll(filepath.Join(folder, "sub")); err != nil {
		t.Fatal(err)
	}
	restore(t, v, first, folder)
	after, err := versions.Read(folder)
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if info, err := os.Stat(filepath.Join(folder, "a.yaml")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("a.yaml is %v, %v", info, err)
	}
	for _, stays := range []string{".hidden", "huge.bin"} {
		if _, err := os.Stat(filepath.Join(folder, stays)); err != nil {
			t.Error(err)
		}
	}
}

func restore(t *testing.T, v *versions.Versions, version *versions.Version, folder string) {
	t.Helper()
	texts, err := v.Texts(version)
	if err == nil {
		err = versions.Restore(texts, folder)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsNotRestored(t *testing.T) {
	dir := t.TempDir()
	v := versions.Open(dir)
	first := save(t, v, files("a", "text"), 1)
	for name, hash := range map[string]string{"a": first.Files["a"], "../x": first.Files["a"], "b": "../../etc/passwd"} {
		bad := &versions.Version{Number: 1, Files: map[string]string{name: hash}}
		if name == "a" {
			if err := os.WriteFile(filepath.Join(dir, hash), []byte("Text"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := v.Texts(bad); err == nil || !strings.Contains(err.Error(), "version 1 is damaged") {
			t.Errorf("%q: %v", name, err)
		}
	}
	save(t, v, files("a", "text", "b", "b"), 2) // mends it
	restore(t, v, first, t.TempDir())
	if err := os.WriteFile(filepath.Join(dir, "version-000002.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := v.List(); err != nil || len(all) != 1 {
		t.Errorf("with a list that is damaged: %v, %v", all, err)
	}
}

// Whenever the power is cut, the versions that were kept are whole, and saving goes on.
func TestAPowerCutLeavesWholeVersions(t *testing.T) {
	for cut := 1; ; cut += 1 + cut/20 {
		disk := crashfs.New()
		v := versions.OpenOn(disk, "/v")
		kept := 0
		disk.CutAt(cut)
		for i := range versions.Kept + 2 {
			if saved, err := v.Save(files("a", fmt.Sprint(i), "b", "b"), at, nil); err != nil {
				break
			} else if saved != nil {
				kept = saved.Number
			}
		}
		select {
		case <-disk.Dead():
		default:
			if kept != versions.Kept+2 {
				t.Fatalf("version %d was kept without a cut", kept)
			}
			t.Logf("%d cuts", cut-1)
			return
		}
		for _, variant := range crashfs.Variants {
			after := versions.OpenOn(disk.After(variant, uint64(cut)), "/v")
			all, err := after.List()
			if err != nil || kept > 0 && (len(all) == 0 || all[0].Number < kept) {
				t.Fatalf("cut %d, %v: version %d was kept, there are %v, %v", cut, variant, kept, all, err)
			}
			for i := range all {
				if _, err := after.Texts(&all[i]); err != nil {
					t.Fatalf("cut %d, %v: %v", cut, variant, err)
				}
			}
			save(t, after, files("new", "new"), numberAfter(all))
		}
	}
}

func numberAfter(all []versions.Version) int {
	if len(all) == 0 {
		return 1
	}
	return all[0].Number + 1
}

func TestOneAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	err := versions.Change(t.Context(), dir, func(*versions.Versions) error {
		stopped, stop := context.WithCancel(t.Context())
		stop()
		return versions.Change(stopped, dir, func(*versions.Versions) error { return nil })
	})
	if !errors.Is(err, durable.ErrLocked) {
		t.Errorf("the second one got %v", err)
	}
	began, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- versions.Change(t.Context(), dir, func(v *versions.Versions) error {
			close(began)
			_, err := v.Save(files("a", "a"), at, nil)
			return err
		})
	}()
	<-began
	err = versions.Change(t.Context(), dir, func(v *versions.Versions) error {
		_, err := v.Save(files("a", "b"), at, nil)
		return err
	})
	if err := errors.Join(err, <-done); err != nil {
		t.Error(err)
	}
	if all, err := versions.Open(dir).List(); err != nil || len(all) != 2 {
		t.Errorf("there are %v, %v", all, err)
	}
}
