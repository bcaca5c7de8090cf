package plugins_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hostd starts a gateway in a process of its own and returns it with the first line
// of its output that has the prefix.
func hostd(t *testing.T, dir, prefix string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(bin(t, "hostd"), dir, filepath.Join(dir, ".closed"))
	run := filepath.Join(dir, ".run") // sockets
	must(t, os.Mkdir(run, 0o700))
	cmd.Env = append(os.Environ(), "TMPDIR="+run)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // dead already in most tests
		_ = cmd.Wait()
	})
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // ends the output
	defer late.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			return cmd, lines.Text()
		}
	}
	t.Fatalf("the gateway ended without %q", prefix)
	return nil, ""
}

func TestKilledGatewayLeavesNoOrphan(t *testing.T) {
	dir := shortDir(t)
	install(t, dir, "probe", "probe", "drivers: [probe]")
	gateway, line := hostd(t, dir, "pids ")
	var plugin, child int
	if _, err := fmt.Sscanf(line, "pids %d %d", &plugin, &child); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if !alive(plugin) || !alive(child) {
		t.Fatal("the processes are not there")
	}
	must(t, gateway.Process.Kill())
	eventually(t, "the end of the plugin", func() bool { return !alive(plugin) })
	eventually(t, "the end of the plugin's child", func() bool { return !alive(child) })
	if !closed(dir) {
		t.Error("the plugin ended without closing its device")
	}
	if n := entries(t, filepath.Join(dir, ".run")); n != 0 {
		t.Errorf("%d folders of sockets are left", n)
	}
}

// closed reports whether the device that hostd opened was closed.
func closed(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, ".closed"))
	return err == nil
}

// A plugin that has not come to the SDK does not watch its standard input; the
// kernel must end it.
func TestKilledGatewayLeavesNoOrphanThatIsStuck(t *testing.T) {
	dir := shortDir(t)
	install(t, dir, "probe", "probe", "drivers: [probe]", "args: [-bad=deaf]")
	gateway, _ := hostd(t, dir, "state starting")
	var plugin int
	eventually(t, "the plugin's process", func() bool {
		plugin = childOf(gateway.Process.Pid)
		return plugin != 0
	})
	must(t, gateway.Process.Kill())
	eventually(t, "the end of the plugin", func() bool { return !alive(plugin) })
}

// A plugin that hangs cannot look at anything. The kernel wakes it, since its
// process group has lost its parent, and then ends it.
func TestKilledGatewayLeavesNoOrphanThatHangs(t *testing.T) {
	dir := shortDir(t)
	install(t, dir, "probe", "probe", "drivers: [probe]")
	gateway, line := hostd(t, dir, "pids ")
	var plugin, child int
	if _, err := fmt.Sscanf(line, "pids %d %d", &plugin, &child); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	must(t, syscall.Kill(plugin, syscall.SIGSTOP))
	eventually(t, "the stop of all threads", func() bool {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", plugin))
		must(t, err)
		return !slices.ContainsFunc(threads, func(thread os.DirEntry) bool { return state(thread.Name()) != "T" })
	})
	must(t, gateway.Process.Kill())
	eventually(t, "the end of the plugin", func() bool { return !alive(plugin) })
	eventually(t, "the end of the plugin's child", func() bool { return !alive(child) })
}

// childOf is some child of a process that is not a zombie, 0 if there is none.
func childOf(pid int) int {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range threads {
		text, err := os.ReadFile(file)
		var child int
		if err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(text), &child); err == nil && alive(child) {
			return child
		}
	}
	return 0
}
