package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var day = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	if role := os.Getenv(insideVariable); role != "" {
		os.Exit(inside(role, os.Args[1:]))
	}
	code := m.Run()
	if folder, err := buildFolder(); err == nil {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

// buildFolder is where programs are built, once for all tests.
var buildFolder = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "gatehouse-deb-test-") })

// program builds the real program for an architecture, as `make cross` does.
func program(t *testing.T, goarch string) string {
	t.Helper()
	folder, err := buildFolder()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(folder, "gatehouse-linux-"+goarch)
	if _, err := os.Stat(name); err == nil {
		return name
	}
	cmd := exec.Command("go", "build", "-C", "../..", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version=v1.2.3", "-o", name, "./cmd/gatehouse")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARM=6", "GOARCH="+goarch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the program: %v\n%s", err, out)
	}
	return name
}

// packageOf builds the package of this machine's architecture.
func packageOf(t *testing.T, built time.Time) string {
	t.Helper()
	made, err := newDocuments(t.Context(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	defer made.remove()
	name, err := Build(Options{
		Architecture: output(t, "dpkg", "--print-architecture"),
		Version:      "1.2.3",
		Binary:       program(t, runtime.GOARCH),
		Files:        "files",
		Documents:    made.folder,
		Built:        built,
		Out:          t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return strings.TrimSpace(string(out))
}

func TestPackageHoldsWhatASystemNeeds(t *testing.T) {
	name := packageOf(t, day)
	for _, field := range []struct{ name, want string }{
		{"Package", "gatehouse"},
		{"Version", "1.2.3"},
		{"Depends", "init-system-helpers, passwd"},
	} {
		if got := output(t, "dpkg-deb", "-f", name, field.name); got != field.want {
			t.Errorf("%s: %q, want %q", field.name, got, field.want)
		}
	}
	if got, want := output(t, "dpkg-deb", "-I", name, "conffiles"), "/etc/gatehouse/gatehouse.yaml"; got != want {
		t.Errorf("conffiles: %q, want %q", got, want)
	}
	want := []string{
		"-rw-r----- root ./etc/gatehouse/gatehouse.yaml",
		"-rw-r--r-- root ./usr/lib/systemd/system/gatehouse.service",
		"-rw-r--r-- root ./usr/share/doc/gatehouse/changelog.gz",
		"-rw-r--r-- root ./usr/share/doc/gatehouse/copyright",
		"-rw-r--r-- root ./usr/share/doc/gatehouse/third-party-licenses.gz",
		"-rwxr-xr-x root ./usr/bin/gatehouse",
		"drwxr-x--- root ./etc/gatehouse/devices/",
		"drwxr-x--- root ./etc/gatehouse/plugins/",
		"drwxr-x--- root ./etc/gatehouse/rules/",
		"drwxr-x--- root ./var/lib/gatehouse/",
		"drwxr-xr-x root ./etc/gatehouse/",
	}
	got := listing(t, name)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("contents:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// listing is "mode owner name" of every entry that is ours, folders of the
// system left out.
func listing(t *testing.T, name string) []string {
	t.Helper()
	archive, err := exec.Command("dpkg-deb", "--fsys-tarfile", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var entries []string
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(day) {
			t.Errorf("%s carries the time %v, want %v", header.Name, header.ModTime, day)
		}
		if system := header.FileInfo().IsDir() && !strings.HasPrefix(header.Name, "./etc/gatehouse") &&
			header.Name != "./var/lib/gatehouse/"; !system {
			entries = append(entries, fmt.Sprintf("%v %s %s", header.FileInfo().Mode(), header.Uname, header.Name))
		}
	}
}

func TestPackageThatCannotBeMadeLeavesNothing(t *testing.T) {
	out := t.TempDir()
	_, err := Build(Options{
		Architecture: "amd64", Version: "1.2.3", Binary: "files/postinst", Files: "files",
		Documents: t.TempDir(), Built: day, Out: out,
	})
	if err == nil || !strings.Contains(err.Error(), changelogName) {
		t.Errorf("without documents: %v", err)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func TestPackageIsReproducible(t *testing.T) {
	digest := func(built time.Time) string {
		content, err := os.ReadFile(packageOf(t, built))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(content))
	}
	first := digest(day)
	now := time.Now()
	if err := os.Chtimes(program(t, runtime.GOARCH), now, now); err != nil {
		t.Fatal(err)
	}
	if second := digest(day); first != second {
		t.Errorf("the same files gave %s, then %s", first, second)
	}
	if other := digest(day.Add(time.Second)); first == other {
		t.Error("another time gave the same bytes, so the comparison sees nothing")
	}
}

func TestUnitIsHardened(t *testing.T) {
	judge := func(unit string) (string, error) {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit).CombinedOutput()
		return string(out), err
	}
	if out, err := judge("files/gatehouse.service"); err != nil {
		t.Errorf("the exposure is above 2.0: %v\n%s", err, out)
	}
	unit, err := os.ReadFile("files/gatehouse.service")
	if err != nil {
		t.Fatal(err)
	}
	soft := filepath.Join(t.TempDir(), "gatehouse.service")
	if err := os.WriteFile(soft, bytes.ReplaceAll(unit, []byte("CapabilityBoundingSet=\n"), nil), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := judge(soft); err == nil {
		t.Errorf("a unit with all capabilities passes, so the judgment sees nothing:\n%s", out)
	}
}

func TestProgramIsSmall(t *testing.T) {
	const limit = 35e6
	info, err := os.Stat(program(t, "arm64"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the stripped arm64 program has %.1f MB", float64(info.Size())/1e6)
	if info.Size() > limit {
		t.Errorf("the stripped arm64 program has %d bytes, the limit is %.0f", info.Size(), limit)
	}
}

// As root on a machine that lets it, the package is installed with dpkg in
// namespaces of its own over a copy-on-write view of this system, so that
// nothing of it stays behind. Anybody else unpacks it and starts the program.
func TestPackageInstallsRunsAndGoes(t *testing.T) {
	name := packageOf(t, day)
	out, err := isolated(t, roleHand, name, t.TempDir())
	if errors.Is(err, syscall.EPERM) {
		t.Logf("without the right to make namespaces the package is unpacked, not installed: %v", err)
		unpackAndTry(t, name)
		return
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// A service manager of its own runs the unit as shipped: the sandbox, its user,
// the start-up notification, the script worker, reload and stop.
func TestUnitRunsUnderSystemd(t *testing.T) {
	name := packageOf(t, day)
	results := t.TempDir()
	out, err := isolated(t, roleSystemd, name, t.TempDir(), results)
	var exit *exec.ExitError
	if errors.Is(err, syscall.EPERM) || errors.As(err, &exit) && exit.ExitCode() == cannotPrepare {
		t.Logf("this machine cannot run a second service manager, so the unit was only judged, not run: %v\n%s", err, out)
		return
	}
	said, readErr := os.ReadFile(filepath.Join(results, "probe"))
	if err != nil || readErr != nil || !strings.HasSuffix(string(said), probeEnd) {
		logged, _ := os.ReadFile(filepath.Join(results, "gatehouse")) // shown if it is there
		t.Fatalf("%v, %v\n%s\nthe probe said:\n%s\nthe service said:\n%s", err, readErr, out, said, logged)
	}
	t.Logf("%s", said)
}

// isolated runs this test binary in another role, in namespaces of its own.
func isolated(t *testing.T, role string, args ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), insideVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	defer removeCgroups(t)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
