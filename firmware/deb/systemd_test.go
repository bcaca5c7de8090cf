package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// cgroupName is the control group that the second service manager lives in.
	cgroupName = "gatehouse-deb-test"
	// probeEnd is the last line of a probe that found everything in order.
	probeEnd = "probe: ok\n"
	// probeProgram is this test binary within the view of the system.
	probeProgram = "/gatehouse-probe"
)

// The units beside the one that is tested.
const (
	probeUnit = `[Unit]
DefaultDependencies=no
Wants=gatehouse.service
After=gatehouse.service
SuccessAction=exit
FailureAction=exit

[Service]
Type=oneshot
TimeoutStartSec=60
Environment=` + insideVariable + `=` + roleProbe + `
StandardOutput=append:/results/probe
StandardError=append:/results/probe
ExecStart=` + probeProgram + `
`
	logUnit = `[Service]
StandardOutput=append:/results/gatehouse
StandardError=append:/results/gatehouse
`
	probeScript = `on('probe/in', (msg) => publish('probe/out', { heard: msg.payload.n }, { retain: true }))
`
)

// hierarchies are where the kernel shows control groups that a service manager
// needs: one of version 2, or that and the named one of version 1.
func hierarchies() []string {
	var stat unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &stat); err == nil && stat.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{"/sys/fs/cgroup"}
	}
	return []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}
}

// bySystemd installs the package, and becomes the service manager of the view
// of the system; it returns only if something is in the way.
func bySystemd(name, scratch, results string) int {
	root := filepath.Join(scratch, "root")
	// A namespace of control groups belongs to a thread, and to what it becomes.
	runtime.LockOSThread()
	if err := errors.Join(enterCgroup(), enter(name, scratch), mountForSystemd(root, results)); err != nil {
		fmt.Println("cannot prepare the system:", err)
		return cannotPrepare
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		fmt.Println("cannot read this program:", err)
		return cannotPrepare
	}
	if perform([]step{
		{"leave", func() error { return leave(scratch) }},
		{"install", func() error { return dpkg("-i", "/tmp/gatehouse.deb") }},
		{"write units", func() error {
			return errors.Join(
				os.MkdirAll("/etc/systemd/system/gatehouse.service.d", 0o755),
				os.WriteFile("/etc/systemd/system/gatehouse.service.d/log.conf", []byte(logUnit), 0o644),
				os.WriteFile("/etc/systemd/system/gatehouse-probe.service", []byte(probeUnit), 0o644),
				os.WriteFile("/etc/gatehouse/rules/probe.js", []byte(probeScript), 0o644),
				os.WriteFile(probeProgram, self, 0o755),
			)
		}},
	}) != 0 {
		return 1
	}
	manager := "/lib/systemd/systemd"
	err = unix.Exec(manager, []string{manager, "--system", "--unit=gatehouse-probe.service", "--log-target=null"},
		[]string{"container=test", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
	fmt.Println("cannot become the service manager:", err)
	return cannotPrepare
}

// enterCgroup makes a control group of our own the root of what we see, so that
// the service manager outside is not disturbed.
func enterCgroup() error {
	for _, hierarchy := range hierarchies() {
		folder := filepath.Join(hierarchy, cgroupName)
		if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return err
		}
	}
	return unix.Unshare(unix.CLONE_NEWCGROUP)
}

// removeCgroups removes what enterCgroup and the service manager have left.
func removeCgroups(t *testing.T) {
	t.Helper()
	for _, hierarchy := range hierarchies() {
		var folders []string
		root := filepath.Join(hierarchy, cgroupName)
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return nil // what cannot be read is gone
		})
		for _, folder := range slices.Backward(folders) {
			err = errors.Join(err, os.Remove(folder))
		}
		if err != nil {
			t.Logf("cannot remove control groups: %v", err)
		}
	}
}

// mountForSystemd mounts what a service manager wants to find besides.
func mountForSystemd(root, results string) error {
	steps := []func() error{
		func() error { return mount("sysfs", root+"/sys", "sysfs", 0, "") },
		func() error { return mount(results, root+"/results", "", unix.MS_BIND, "") },
	}
	for _, hierarchy := range hierarchies() {
		switch hierarchy {
		case "/sys/fs/cgroup/systemd":
			steps = append(steps,
				func() error { return mount("tmpfs", root+"/sys/fs/cgroup", "tmpfs", 0, "mode=0755") },
				func() error { return mount("cgroup", root+hierarchy, "cgroup", 0, "none,name=systemd") },
			)
		default:
			steps = append(steps, func() error { return mount("cgroup2", root+hierarchy, "cgroup2", 0, "") })
		}
	}
	for _, do := range steps {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// probe looks at the service from within the view of the system.
func probe() int {
	code := perform([]step{
		{"running", serviceIs("active", "success")},
		{"sandboxed", sandboxed},
		{"serving", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			return trial{mqtt: "127.0.0.1:1883"}.connects(ctx)
		}},
		{"script worker", scripted},
		{"reload", func() error { return command("systemctl", "reload", "gatehouse.service") }},
		{"running after the reload", serviceIs("active", "success")},
		{"stop", func() error { return command("systemctl", "stop", "gatehouse.service") }},
		{"stopped", serviceIs("inactive", "success")},
		{"children stopped by the gateway", childrenLeftAlone},
		{"probe", func() error { return nil }},
	})
	if code != 0 {
		out, _ := exec.Command("systemctl", "status", "--no-pager", "gatehouse.service").CombinedOutput()
		fmt.Printf("%s", out) // for whoever reads the failure
	}
	return code
}

func command(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return nil
}

// property asks the service manager about the service.
func property(name string) (string, error) {
	out, err := exec.Command("systemctl", "show", "--value", "-p", name, "gatehouse.service").Output()
	return strings.TrimSpace(string(out)), err
}

// serviceIs wants the service in a state, never restarted.
func serviceIs(active, result string) func() error {
	return func() error {
		for name, want := range map[string]string{"ActiveState": active, "Result": result, "NRestarts": "0"} {
			if got, err := property(name); err != nil || got != want {
				return fmt.Errorf("%s is %q, want %q: %w", name, got, want, err)
			}
		}
		return nil
	}
}

// sandboxed wants the kernel to confirm what the unit asks for.
func sandboxed() error {
	text, err := property("MainPID")
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), "\n"+want+"\n") {
			return fmt.Errorf("the status of the process lacks %q:\n%s", want, status)
		}
	}
	return nil
}

// childrenLeftAlone wants the service manager to tell only the gateway to end, which
// ends its plugins and its worker when their time has come.
func childrenLeftAlone() error {
	if mode, err := property("KillMode"); err != nil || mode != "mixed" {
		return fmt.Errorf("KillMode is %q, want mixed: %w", mode, err)
	}
	return nil
}

// scripted has a rule in JavaScript answer, which needs the script worker.
func scripted() error {
	if err := command("mosquitto_pub", "-q", "1", "-t", "probe/in", "-m", `{"n":7}`); err != nil {
		return err
	}
	out, err := exec.Command("mosquitto_sub", "-t", "probe/out", "-C", "1", "-W", "20").CombinedOutput()
	if want := `{"heard":7}`; err != nil || strings.TrimSpace(string(out)) != want {
		return fmt.Errorf("the script answered %q, want %q: %w", out, want, err)
	}
	return nil
}
