package plugins_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins"
)

// isDown accepts a plugin that waits to be started again.
func isDown(st plugins.PluginStatus) bool {
	return st.State == plugins.Waiting || st.State == plugins.Failing
}

func TestStartFailures(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		want    []string // in the error
	}{
		{
			"wrong checksum",
			func(t *testing.T, dir string) {
				install(t, dir, "p", "probe")
				manifest(t, dir, "p", "name: p", "command: probe", "sha256: \""+zeros+"\"", "drivers: [probe]")
			},
			[]string{"program refused", "/p/probe", "its sha256 is ", "plugin.yaml pins " + zeros},
		},
		{
			"no program",
			func(t *testing.T, dir string) {
				manifest(t, dir, "p", "name: p", "command: bin/none", "sha256: \""+zeros+"\"", "drivers: [probe]")
			},
			[]string{"program refused", "no such file"},
		},
		{
			"program outside by a symbolic link",
			func(t *testing.T, dir string) {
				install(t, dir, "p", "probe", "drivers: [probe]")
				must(t, os.Remove(filepath.Join(dir, "p", "probe")))
				must(t, os.Symlink(bin(t, "probe"), filepath.Join(dir, "p", "probe")))
			},
			[]string{"program refused", "path escapes from parent"},
		},
		{
			"a pipe",
			func(t *testing.T, dir string) {
				install(t, dir, "p", "probe", "drivers: [probe]")
				must(t, os.Remove(filepath.Join(dir, "p", "probe")))
				must(t, syscall.Mkfifo(filepath.Join(dir, "p", "probe"), 0o755))
			},
			[]string{"program refused", "not a regular file"},
		},
		{
			"not executable",
			func(t *testing.T, dir string) {
				install(t, dir, "p", "probe", "drivers: [probe]")
				must(t, os.Chmod(filepath.Join(dir, "p", "probe"), 0o644))
			},
			[]string{"program refused", "not executable"},
		},
		{
			"an interpreter that is missing",
			func(t *testing.T, dir string) {
				text := []byte("#!/usr/bin/no-such-python -u\n")
				must(t, os.MkdirAll(filepath.Join(dir, "p"), 0o755))
				must(t, os.WriteFile(filepath.Join(dir, "p", "main"), text, 0o755))
				manifest(t, dir, "p", "name: p", "command: main", fmt.Sprintf("sha256: %x", sha256.Sum256(text)), "drivers: [probe]")
			},
			[]string{`cannot start "main": "/usr/bin/no-such-python", which it needs to run, is missing on this machine`},
		},
		{
			"not a plugin",
			func(t *testing.T, dir string) {
				install(t, dir, "p", "probe", "drivers: [probe]", "args: [-bad=hello]")
			},
			[]string{`not a plugin of Gatehouse: its first line is "hello world"`},
		},
		{
			"a first line without an end",
			func(t *testing.T, dir string) { install(t, dir, "p", "probe", "drivers: [probe]", "args: [-bad=long]") },
			[]string{"did not finish its handshake within"},
		},
		{
			"another name",
			func(t *testing.T, dir string) { install(t, dir, "p", "probe", "drivers: [probe]", "args: [-name=q]") },
			[]string{`calls itself "q", the manifest "p"`},
		},
		{
			"a driver that it has not",
			func(t *testing.T, dir string) {
				install(t, dir, "p", "probe", "drivers: [probe, other]", "args: [-name=p]")
			},
			[]string{`offers no driver "other", only ["probe" "probe.two"]`},
		},
		{
			"ends at once",
			func(t *testing.T, dir string) { install(t, dir, "p", "probe", "drivers: [probe]", "args: [-bad=exit]") },
			[]string{"ended before its handshake", "exit status 3", "no license found"},
		},
		{
			"ends after the handshake line",
			func(t *testing.T, dir string) {
				install(t, dir, "p", "probe", "drivers: [probe]", "args: [-bad=vanish]")
			},
			[]string{"exit status 4"},
		},
		{
			"never shakes hands",
			func(t *testing.T, dir string) {
				install(t, dir, "p", "probe", "drivers: [probe]", "args: [-bad=stuck]")
			},
			[]string{"did not finish its handshake within", "waiting for a server that is not there"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.prepare(t, dir)
			o := quick(&logs{})
			if strings.Contains(tt.want[0], "did not finish") {
				o.StartTimeout = time.Second
			}
			h := start(t, dir, o)
			st := await(t, h, "p", "down", isDown)
			for _, want := range tt.want {
				if !strings.Contains(st.LastError, want) {
					t.Errorf("error is %q, want %q in it", st.LastError, want)
				}
			}
			if _, ok := h.Lookup("probe"); ok {
				t.Error("a driver was found")
			}
		})
	}
}

func TestCrashLosesTheDeviceAndRestarts(t *testing.T) {
	for _, how := range []string{"exit", "crash"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			install(t, dir, "probe", "probe", "drivers: [probe]")
			log := &logs{}
			h := start(t, dir, quick(log))
			first := running(t, h, "probe")
			driver := find(t, h, "probe")
			dev := open(t, h, "push: true")
			pushed := dev.(drivers.Pusher).Pushed()

			if err := dev.Write(t.Context(), "do", drivers.TextValue(how)); !errors.Is(err, drivers.ErrLost) {
				t.Errorf("the call during the crash gave %v", err)
			}
			if p := <-pushed; !errors.Is(p.Err, drivers.ErrLost) {
				t.Errorf("pushed %+v", p)
			}
			if _, open := <-pushed; open {
				t.Error("the channel of a lost device is open")
			}
			if _, err := dev.Read(t.Context(), []string{"value"}); !errors.Is(err, drivers.ErrLost) {
				t.Errorf("Read of the lost device gave %v", err)
			}
			must(t, dev.Close())

			st := await(t, h, "probe", "restarted", func(st plugins.PluginStatus) bool {
				return st.State == plugins.Running && st.PID != first.PID
			})
			if st.Restarts != 1 || st.LastError == "" {
				t.Errorf("status = %+v", st)
			}
			if how == "crash" && !strings.Contains(st.LastError, "panic: crashed on purpose") {
				t.Errorf("last error = %q", st.LastError)
			}
			// The driver from before the crash serves again.
			again, err := driver.Open(t.Context(), config(t, "driver: probe"))
			must(t, err)
			read(t, again, "value")
			must(t, again.Close())
		})
	}
}

// A plugin that crashes in the same way again and again is one error in the log, as
// soon as its budget is used up.
func TestOnlyWhatKeepsFailingIsOneError(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]", "args: [-bad=exit]")
	log := &logs{}
	o := quick(log)
	o.RestartFirst, o.RestartMost = time.Millisecond, 2*time.Millisecond
	h := start(t, dir, o)
	await(t, h, "probe", "failing for long", func(st plugins.PluginStatus) bool { return isDown(st) && st.Restarts >= 9 })
	const down = ` msg="plugin is down" plugin=probe`
	if n := strings.Count(log.String(), "level=ERROR"+down); n != 1 {
		t.Errorf("%d errors in the log:\n%s", n, log)
	}
	if n := strings.Count(log.String(), "level=WARN"+down); n != 5 {
		t.Errorf("%d warnings in the log:\n%s", n, log)
	}
}

func TestOpenWhileDown(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	o := quick(&logs{})
	o.RestartFirst, o.RestartMost = time.Minute, time.Hour
	h := start(t, dir, o)
	running(t, h, "probe")
	driver := find(t, h, "probe")
	write := open(t, h).Write
	_ = write(t.Context(), "do", drivers.TextValue("exit")) // it dies of it
	await(t, h, "probe", "down", isDown)
	_, err := driver.Open(t.Context(), config(t, "driver: probe"))
	if !errors.Is(err, plugins.ErrNotRunning) || errors.Is(err, drivers.ErrConfig) {
		t.Errorf("Open = %v", err)
	}
	for _, want := range []string{`plugin is not running: "probe" is restarting in `, "it ended by itself (exit status 5)"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want %q in it", err, want)
		}
	}
	if _, err := driver.Check(config(t, "driver: probe")); !errors.Is(err, plugins.ErrNotRunning) {
		t.Errorf("Check = %v", err)
	}
	// Retry tries again at once.
	h.Retry()
	running(t, h, "probe")
}

// A plugin that crashes may have left a file in its folder, which is watched: a load
// without news is no reason to forget the pause.
func TestLoadWithoutNewsKeepsThePause(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]", "args: [-bad=exit]")
	o := quick(&logs{})
	o.RestartFirst, o.RestartMost = time.Hour, time.Hour
	h := start(t, dir, o)
	await(t, h, "probe", "down", isDown)
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for range 20 {
		<-every.C
		must(t, h.Load(t.Context(), dir))
	}
	if st := status(h, "probe"); st.State != plugins.Waiting || st.Restarts != 1 {
		t.Errorf("status = %+v", st)
	}
	restarts := func(n int) func(plugins.PluginStatus) bool {
		return func(st plugins.PluginStatus) bool { return isDown(st) && st.Restarts == n }
	}
	install(t, dir, "probe", "probe", "drivers: [probe]", "args: [-bad=exit]") // the same, anew
	must(t, h.Load(t.Context(), dir))
	await(t, h, "probe", "tried with its new program", restarts(2))
	h.Retry()
	await(t, h, "probe", "tried when told", restarts(3))
}

func TestHungPluginIsKilled(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	o := quick(&logs{})
	o.PingEvery = 300 * time.Millisecond
	h := start(t, dir, o)
	first := running(t, h, "probe")
	dev := open(t, h)
	if err := dev.Write(t.Context(), "do", drivers.TextValue("freeze")); !errors.Is(err, drivers.ErrLost) {
		t.Errorf("the call into the hung plugin gave %v", err)
	}
	st := await(t, h, "probe", "restarted", func(st plugins.PluginStatus) bool {
		return st.State == plugins.Running && st.PID != first.PID
	})
	if !strings.Contains(st.LastError, "it hung") {
		t.Errorf("last error = %q", st.LastError)
	}
}

func TestHungPluginDoesNotHoldUpStop(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	o := quick(&logs{})
	o.StopTimeout = 200 * time.Millisecond
	h, err := plugins.New(o)
	must(t, err)
	must(t, h.Load(t.Context(), dir))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	pid := running(t, h, "probe").PID
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	cancel()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("Run waits for a plugin that hangs")
	}
	if alive(pid) {
		t.Error("the plugin is alive")
	}
}

func TestChildrenOfAPluginEndWithIt(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	h := start(t, dir, quick(&logs{}))
	running(t, h, "probe")
	dev := open(t, h)
	child, _ := read(t, dev, "child").Value.Int()
	if !alive(int(child)) {
		t.Fatal("no child was started")
	}
	_ = dev.Write(t.Context(), "do", drivers.TextValue("exit")) // it dies of it
	eventually(t, "the end of the child", func() bool { return !alive(int(child)) })
}

func TestSocketPathTooLong(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]")
	o := quick(&logs{})
	o.RunDir = filepath.Join(t.TempDir(), strings.Repeat("x", 60))
	must(t, os.Mkdir(o.RunDir, 0o755))
	st := await(t, start(t, dir, o), "probe", "down", isDown)
	if !strings.Contains(st.LastError, "is longer than 69 bytes") || entries(t, o.RunDir) != 0 {
		t.Errorf("last error = %q", st.LastError)
	}
}

// Each crash once left a connection that dialed for ever, and its goroutines.
func TestCrashesLeaveNothing(t *testing.T) {
	for _, args := range []string{"args: [-bad=exit]", "args: [-bad=vanish]", "args: [-bad=hello]"} {
		t.Run(args, func(t *testing.T) {
			dir, run := t.TempDir(), shortDir(t)
			install(t, dir, "probe", "probe", "drivers: [probe]", args)
			o := quick(&logs{})
			o.RunDir = run
			o.RestartFirst, o.RestartMost = time.Millisecond, 2*time.Millisecond
			h := start(t, dir, o)
			restarts := func(n int) func(plugins.PluginStatus) bool {
				return func(st plugins.PluginStatus) bool { return isDown(st) && st.Restarts >= n }
			}
			await(t, h, "probe", "restarted", restarts(3))
			before, files := runtime.NumGoroutine(), descriptors(t)
			await(t, h, "probe", "restarted often", restarts(18))
			eventually(t, "as few goroutines as before", func() bool { return runtime.NumGoroutine() <= before+4 })
			eventually(t, "as few descriptors as before", func() bool { return descriptors(t) <= files+4 })
			eventually(t, "no folders of former runs", func() bool { return entries(t, run) <= 1 })
		})
	}
}

// go-plugin forgets the connection that it dials to a plugin that is dead by then.
func TestPluginThatDiesBeforeTheConnectionLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, "probe", "probe", "drivers: [probe]", "args: [-bad=vanish]")
	all, err := plugins.ReadManifests(dir)
	must(t, err)
	before := goleak.IgnoreCurrent()
	if err := plugins.ConnectToDead(t.Context(), &all[0]); err == nil {
		t.Error("a dead plugin was connected to")
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// shortDir is a folder for sockets, whose paths are bounded.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "run-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func descriptors(t *testing.T) int { return entries(t, "/proc/self/fd") }

func entries(t *testing.T, dir string) int {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	return len(list)
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool { return !strings.Contains("ZX", state(strconv.Itoa(pid))) }

// state is the letter that /proc has for a process or thread; X is none.
func state(id string) string {
	text, err := os.ReadFile("/proc/" + id + "/stat")
	_, rest, ok := strings.Cut(string(text), ") ")
	if err != nil || !ok {
		return "X"
	}
	return rest[:1]
}

// crash kills a plugin's process.
func crash(t *testing.T, st plugins.PluginStatus) {
	t.Helper()
	must(t, syscall.Kill(st.PID, syscall.SIGKILL))
}
