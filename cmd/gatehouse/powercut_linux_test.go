package main_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/broker/brokertest/ledger"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// mount mounts a file system of its own until the test ends, and gives its folder; the
// test is skipped where that is not possible.
func mount(t *testing.T, args ...string) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", append(args, folder)...).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: a file system cannot be mounted here, which takes root and loop devices: mount %q: %v, %s", args, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	return folder
}

// formatted is a file with an ext4 file system.
func formatted(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	writeFile(t, image, "")
	if err := os.Truncate(image, 96<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: there is no mkfs.ext4: %v, %s", err, out)
	}
	return image
}

// cutPower has an ext4 file system lose all that is not on the medium.
func cutPower(t *testing.T, folder string) {
	t.Helper()
	const shutdown, noLogFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	d, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), shutdown, noLogFlush); err != nil {
		t.Skipf("NOT TESTED: the kernel does not cut the power of ext4: %v", err)
	}
}

// TestPowerCuts has the disk below the running program lose its power under load, again
// and again.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	broken, acked := powerCuts(t, times("POWER_CUTS", 20), binary)
	for _, b := range broken {
		t.Error(b)
	}
	t.Logf("%d power cuts, %d messages acknowledged", times("POWER_CUTS", 20), acked)
}

// TestPowerCutsHaveTeeth takes fdatasync and fsync away from the program: what it
// acknowledges is lost, and that is found.
func TestPowerCutsHaveTeeth(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if broken, acked := powerCuts(t, 1, self); acked > 0 && len(broken) == 0 {
		t.Error("a program that does not sync loses nothing")
	}
}

// powerCuts cuts the power so often, and lists what was broken.
func powerCuts(t *testing.T, n int, program string) (broken []string, acked int) {
	image, dir := formatted(t), t.TempDir()
	disk := mount(t, "-o", "loop", image)
	socket := filepath.Join(dir, "s")
	writeFile(t, filepath.Join(dir, "g.yaml"), fmt.Sprintf(`
broker: {listeners: [{address: %q, protocol: unix}]}
console: {address: ""}
`, socket))
	h := newHousehold(t, func() (net.Conn, error) { return net.Dial("unix", socket) })
	var cmd *exec.Cmd
	launch := func() {
		cmd = exec.CommandContext(t.Context(), program, "run", "--config", filepath.Join(dir, "g.yaml"), "--data", filepath.Join(disk, "data"))
		cmd.Stderr = os.Stderr
		if program != binary {
			cmd.Env = append(os.Environ(), withoutSync+"="+binary)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	kill := func() {
		_ = cmd.Process.Signal(syscall.SIGKILL) // it may have ended
		_ = cmd.Wait()
	}
	launch()
	defer func() { kill() }()
	h.subscribe()
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() { h.run(stop) })
	for i := range n {
		h.await()
		cutPower(t, disk)
		kill()
		// A copy, as somebody on this machine may still hold the old one, without power.
		before := image
		image = filepath.Join(filepath.Dir(image), fmt.Sprint("image", i))
		for _, args := range [][]string{
			{"umount", disk}, {"cp", "--sparse=always", before, image}, {"rm", before}, {"mount", "-o", "loop", image, disk},
		} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%q: %v, %s", args, err, out)
			}
		}
		launch()
	}
	close(stop)
	wait.Wait()
	limit := patience
	if program != binary {
		limit = time.Second
	}
	return h.settle(limit), h.ledger.Acknowledged()
}

// TestFullDisk fills a disk of 64 MiB: what cannot be kept is refused and what was
// acknowledged is there; when there is room again all is well by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk, dir := mount(t, "-t", "tmpfs", "-o", "size=64m", "tmpfs"), t.TempDir()
	data := filepath.Join(disk, "data")
	writeFile(t, filepath.Join(dir, "g.yaml"), `
broker: {listeners: [], limits: {queue_messages: 100000, queue_bytes: 100000000}}
console: {address: "127.0.0.1:0"}
log: {format: json}
`)
	launch := func() *program {
		g := start(t, binary, "run", "--config", filepath.Join(dir, "g.yaml"), "--data", data)
		g.says(t, `"gateway is up"`)
		return g
	}
	g := launch()
	h := newHousehold(t, func() (net.Conn, error) { return net.Dial("unix", filepath.Join(data, "gatehouse.sock")) })
	h.subscribe()
	sub, pub := h.all[0], h.all[2]
	for _, c := range h.all {
		c.Lose()
	}
	if !h.connect(pub) {
		t.Fatal("the publisher does not connect")
	}
	sent := 0
	publish := func() (taken bool) {
		before := h.ledger.Acknowledged()
		if err := errors.Join(pub.Publish("load/x", 1, false, 50_000), pub.Settle()); err != nil {
			t.Fatal(err)
		}
		sent++
		return h.ledger.Acknowledged() > before
	}
	filler := filepath.Join(disk, "filler")
	writeFile(t, filler, strings.Repeat("x", 30<<20))
	for publish() {
		if sent > 2000 {
			t.Fatal("the disk does not get full")
		}
	}
	console := attribute(t, g.says(t, `"msg":"console"`), "url")
	ready := func() string { return fetch(t, console+"/readyz") }
	if got := ready(); !strings.Contains(got, "full") {
		t.Errorf("/readyz says %q", got)
	}
	if got := fetch(t, console+"/api/v1/store"); !strings.Contains(got, `"full":true`) {
		t.Errorf("the API says %s", got)
	}
	live := h.ledger.Client("live", packet.V5)
	testLive(t, h, live, pub)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "messages are taken again", publish)
	eventually(t, "/readyz is green", func() bool { return !strings.Contains(ready(), "full") })
	pub.Lose()
	if err := g.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.ended(t)
	g = launch()
	if !h.connect(sub) {
		t.Fatal("the subscriber does not connect")
	}
	sub.Lose()
	for _, broken := range h.settle(patience) {
		t.Error(broken)
	}
	t.Logf("%d messages sent, %d acknowledged", sent, h.ledger.Acknowledged())
	for _, c := range h.all {
		c.Lose()
	}
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := g.ended(t); code != 0 {
		t.Errorf("the gateway ended with code %d", code)
	}
}

// testLive shows that QoS 0 goes on with the disk full.
func testLive(t *testing.T, h *household, live, pub *ledger.Client) {
	t.Helper()
	nc, err := h.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Lose()
	if err := errors.Join(live.ConnectClean(nc), live.Subscribe("live", 0), pub.Publish("live", 0, false, 10)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a message of QoS 0 comes", func() bool {
		n, err := live.Ping()
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
}

// withoutSync names, in the environment, a program that this test program is to become,
// whose fdatasync and fsync do nothing and say that they did.
const withoutSync = "GATEHOUSE_TEST_WITHOUT_SYNC"

// runWithoutSync becomes the program; it returns only if it cannot.
func runWithoutSync(program string) error {
	runtime.LockOSThread()
	const nothing = unix.SECCOMP_RET_ERRNO // of errno 0: it succeeds
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FDATASYNC, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FSYNC, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: nothing},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return err
	}
	return syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
}
