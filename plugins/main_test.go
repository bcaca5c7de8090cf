package plugins_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins"
)

// built is the folder of the programs that tests run, built when the first test
// wants one: the processes of a fuzz test want none.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "plugins-test-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", dir+"/", "./examples/thermostat", "./testdata/probe", "./testdata/hostd")
	if out, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("cannot build the test programs: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if ran.Load() {
			dir, _ := built() // a failed build failed the tests
			_ = os.RemoveAll(dir)
		}
		os.Exit(code)
	}))
}

// ran says that there is something to clean up.
var ran atomic.Bool

// bin is the path of a program: thermostat, probe or hostd.
func bin(t testing.TB, program string) string {
	t.Helper()
	ran.Store(true)
	dir, err := built()
	must(t, err)
	return filepath.Join(dir, program)
}

// quick are options with which nothing takes long.
func quick(log io.Writer) plugins.Options {
	return plugins.Options{
		Log:          slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		StartTimeout: 20 * time.Second,
		RestartFirst: 20 * time.Millisecond,
		RestartMost:  200 * time.Millisecond,
	}
}

// install puts a built program into a plugin folder of dir with a manifest; more is
// further lines of it.
func install(t testing.TB, dir, name, program string, more ...string) {
	t.Helper()
	folder := filepath.Join(dir, name)
	text, err := os.ReadFile(bin(t, program))
	must(t, err)
	must(t, os.MkdirAll(folder, 0o755))
	// A program that runs cannot be written to, but replaced.
	must(t, os.WriteFile(filepath.Join(folder, ".new"), text, 0o755))
	must(t, os.Rename(filepath.Join(folder, ".new"), filepath.Join(folder, program)))
	manifest(t, dir, name, append([]string{
		"name: " + name,
		"command: " + program,
		fmt.Sprintf("sha256: %x", sha256.Sum256(text)),
	}, more...)...)
}

func manifest(t testing.TB, dir, name string, lines ...string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	file := filepath.Join(dir, name, plugins.ManifestFile)
	must(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

// start runs a host with the plugins of dir until the test ends.
func start(t testing.TB, dir string, o plugins.Options) *plugins.Host {
	t.Helper()
	h, err := plugins.New(o)
	must(t, err)
	must(t, h.Load(t.Context(), dir))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return h
}

// await waits until the plugin's status is as wanted.
func await(t testing.TB, h *plugins.Host, name, what string, ok func(plugins.PluginStatus) bool) plugins.PluginStatus {
	t.Helper()
	late := time.NewTimer(60 * time.Second)
	defer late.Stop()
	for {
		changed := h.Changed()
		st := status(h, name)
		if ok(st) {
			return st
		}
		select {
		case <-changed:
		case <-late.C:
			t.Fatalf("plugin %q is not %s: %s", name, what, st)
		}
	}
}

func running(t *testing.T, h *plugins.Host, name string) plugins.PluginStatus {
	t.Helper()
	return await(t, h, name, "running", func(st plugins.PluginStatus) bool { return st.State == plugins.Running })
}

func status(h *plugins.Host, name string) plugins.PluginStatus {
	for _, st := range h.Status() {
		if st.Name == name {
			return st
		}
	}
	return plugins.PluginStatus{}
}

// find looks a driver up that must be there.
func find(t *testing.T, h *plugins.Host, name string) drivers.Driver {
	t.Helper()
	d, ok := h.Lookup(name)
	if !ok {
		t.Fatalf("no driver %q; plugins: %v", name, h.Status())
	}
	return d
}

func config(t *testing.T, lines ...string) drivers.Config {
	t.Helper()
	cfg, err := drivers.ParseConfig("it", "devices/it.yaml", []byte(strings.Join(lines, "\n")+"\n"))
	must(t, err)
	return cfg
}

// open opens a probe device and closes it when the test ends.
func open(t *testing.T, h *plugins.Host, lines ...string) drivers.Device {
	t.Helper()
	d, err := find(t, h, "probe").Open(t.Context(), config(t, append([]string{"driver: probe"}, lines...)...))
	must(t, err)
	t.Cleanup(func() { _ = d.Close() }) // twice in some tests
	return d
}

// read reads one point.
func read(t *testing.T, d drivers.Device, point string) drivers.Reading {
	t.Helper()
	rs, err := d.Read(t.Context(), []string{point})
	must(t, err)
	if len(rs) != 1 {
		t.Fatalf("Read gave %d readings", len(rs))
	}
	return rs[0]
}

func write(t *testing.T, d drivers.Device, point, text string) {
	t.Helper()
	must(t, d.Write(t.Context(), point, drivers.TextValue(text)))
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-late.C:
			t.Fatalf("never came: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logs is a log that tests look into.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
