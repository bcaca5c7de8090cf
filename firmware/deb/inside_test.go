package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideVariable gives the test binary another role than running tests.
const insideVariable = "DEB_TEST_INSIDE"

// The roles.
const (
	roleHand    = "hand"    // NAME SCRATCH: install, start by hand, remove, purge
	roleSystemd = "systemd" // NAME SCRATCH RESULTS: install, become the service manager
	roleProbe   = "probe"   // started by that service manager: look at the service
)

// cannotPrepare is the exit code when the machine does not allow a role.
const cannotPrepare = 3

// inside plays a role and returns an exit code. The namespaces are made
// already, and end with this process.
func inside(role string, args []string) int {
	switch role {
	case roleHand:
		return byHand(args[0], args[1])
	case roleSystemd:
		return bySystemd(args[0], args[1], args[2])
	case roleProbe:
		return probe()
	}
	fmt.Printf("there is no role %q\n", role)
	return 2
}

func byHand(name, scratch string) int {
	if err := errors.Join(enter(name, scratch), leave(scratch)); err != nil {
		fmt.Println("cannot prepare the system:", err)
		return 1
	}
	return perform([]step{
		{"install", install},
		{"try by hand", tryInstalled},
		{"install again", installAgain},
		{"remove", remove},
		{"purge", purge},
	})
}

type step struct {
	name string
	do   func() error
}

// perform takes the steps in turn until one fails; the result is an exit code.
func perform(steps []step) int {
	for _, s := range steps {
		if err := s.do(); err != nil {
			fmt.Printf("%s: %v\n", s.name, err)
			return 1
		}
		fmt.Printf("%s: ok\n", s.name)
	}
	return 0
}

// enter makes a copy-on-write view of the system in memory, SCRATCH/root, with
// the package in its /tmp. /run is empty, so that the service manager outside is
// out of reach.
func enter(name, scratch string) error {
	root := filepath.Join(scratch, "root")
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	layers := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", scratch, scratch)
	for _, do := range []func() error{
		func() error { return mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return mount("tmpfs", scratch, "tmpfs", 0, "mode=0755") },
		func() error { return os.Mkdir(scratch+"/upper", 0o755) },
		func() error { return os.Mkdir(scratch+"/work", 0o755) },
		func() error { return mount("overlay", root, "overlay", 0, layers) },
		func() error { return mount("proc", root+"/proc", "proc", 0, "") },
		func() error { return mount("/dev", root+"/dev", "", unix.MS_BIND, "") },
		func() error { return mount("tmpfs", root+"/run", "tmpfs", 0, "mode=0755") },
		func() error { return mount("tmpfs", root+"/tmp", "tmpfs", 0, "mode=1777") },
		func() error { return os.WriteFile(root+"/tmp/gatehouse.deb", content, 0o644) },
		raiseLoopback,
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// leave makes the view that enter made the root.
func leave(scratch string) error {
	if err := unix.Chroot(filepath.Join(scratch, "root")); err != nil {
		return err
	}
	return os.Chdir("/")
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("cannot mount %q on %q: %w", source, target, err)
	}
	return nil
}

// raiseLoopback makes 127.0.0.1 of a new network namespace work.
func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }() // nothing is left to lose
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback)
}

func dpkg(args ...string) error {
	cmd := exec.Command("dpkg", args...)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C",
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg %q: %w\n%s", args, err, out)
	}
	return nil
}

func install() error {
	if err := dpkg("-i", "/tmp/gatehouse.deb"); err != nil {
		return err
	}
	who, err := service()
	if err != nil {
		return err
	}
	if out, err := exec.Command("systemd-analyze", "verify", "gatehouse.service").CombinedOutput(); err != nil || len(out) > 0 {
		return fmt.Errorf("systemd-analyze verify: %w\n%s", err, out)
	}
	return errors.Join(
		belongs("/var/lib/gatehouse", 0o750, who.Uid, who.Gid),
		belongs("/etc/gatehouse/gatehouse.yaml", 0o640, 0, who.Gid),
		belongs("/etc/gatehouse/rules", 0o750, 0, who.Gid),
		exists("/etc/systemd/system/multi-user.target.wants/gatehouse.service", true),
	)
}

// service is the user of the unit, with the group that may open serial lines.
func service() (*syscall.Credential, error) {
	var ids []uint32
	for _, args := range [][]string{{"-u", "gatehouse"}, {"-g", "gatehouse"}} {
		out, err := exec.Command("id", args...).Output()
		if err != nil {
			return nil, fmt.Errorf("the user of the service is missing: %w", err)
		}
		id, err := strconv.ParseUint(strings.TrimSpace(string(out)), 10, 32)
		if err != nil {
			return nil, err
		}
		ids = append(ids, uint32(id))
	}
	return &syscall.Credential{Uid: ids[0], Gid: ids[1]}, nil
}

func belongs(name string, mode fs.FileMode, uid, gid uint32) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm() != mode || owner.Uid != uid || owner.Gid != gid {
		return fmt.Errorf("%q is %v of %+v, want %v of %d:%d", name, info.Mode(), info.Sys(), mode, uid, gid)
	}
	return nil
}

func exists(name string, want bool) error {
	_, err := os.Lstat(name)
	switch {
	case want && err != nil:
		return fmt.Errorf("%q is missing: %w", name, err)
	case !want && err == nil:
		return fmt.Errorf("%q is still there", name)
	}
	return nil
}

const (
	installedConfig = "/etc/gatehouse/gatehouse.yaml"
	ownRule         = "/etc/gatehouse/rules/mine.yaml"
)

func tryInstalled() error {
	who, err := service()
	if err != nil {
		return err
	}
	check := exec.Command("/usr/bin/gatehouse", "check", "--config", installedConfig)
	check.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	if out, err := check.CombinedOutput(); err != nil {
		return fmt.Errorf("the shipped configuration has mistakes: %w\n%s", err, out)
	}
	return trial{
		program: "/usr/bin/gatehouse", config: installedConfig, data: "/var/lib/gatehouse",
		mqtt: "127.0.0.1:1883", console: "127.0.0.1:8080", scratch: "/run", credential: who,
	}.run(context.Background())
}

// installAgain keeps what the administrator has changed.
func installAgain() error {
	const note = "# mine\n"
	content, err := os.ReadFile(installedConfig)
	if err != nil {
		return err
	}
	changed := string(content) + note
	const editors = 60 // a group that everybody has: games
	if err := errors.Join(
		os.Chown("/etc/gatehouse/rules", 0, editors),
		os.Chmod("/etc/gatehouse/rules", 0o775),
		os.WriteFile(installedConfig, []byte(changed), 0o640),
		os.WriteFile(ownRule, []byte("rules: []\n"), 0o640),
		dpkg("-i", "/tmp/gatehouse.deb"),
	); err != nil {
		return err
	}
	kept, err := os.ReadFile(installedConfig)
	if err != nil || string(kept) != changed {
		return fmt.Errorf("the changed configuration was not kept: %w:\n%s", err, kept)
	}
	return errors.Join(exists(ownRule, true), belongs("/etc/gatehouse/rules", 0o775, 0, editors))
}

func remove() error {
	return errors.Join(
		dpkg("-r", "gatehouse"),
		exists("/usr/bin/gatehouse", false),
		exists("/usr/lib/systemd/system/gatehouse.service", false),
		exists(installedConfig, true),
		exists(ownRule, true),
	)
}

func purge() error {
	return errors.Join(
		dpkg("-P", "gatehouse"),
		exists(installedConfig, false),
		exists("/etc/systemd/system/multi-user.target.wants/gatehouse.service", false),
		exists(ownRule, true),
	)
}
