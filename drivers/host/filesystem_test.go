package host_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/host"
)

// hanging mounts a file system whose server says nothing, as that of a network does when
// it is away. Answer ends that: from then on it is one without a server.
func hanging(t *testing.T) (path string, answer func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "nas")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("there is no /dev/fuse: %v", err)
	}
	if err := unix.Mount("silent", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse)); err != nil {
		_ = unix.Close(fuse)
		t.Skipf("this user cannot mount a file system: %v", err)
	}
	answered := false
	answer = func() {
		if !answered {
			answered = true
			if err := errors.Join(unix.Close(fuse), unix.Unmount(path, unix.MNT_DETACH)); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(answer)
	return path, answer
}

func TestAFileSystemThatHangs(t *testing.T) {
	path, answer := hanging(t)
	driver := host.New("")
	for what, text := range map[string]string{
		"of points":    "driver: host\npoints:\n  load_1: {}\n  disk_used/nas: {reads: disk_used, path: " + path + "}\n  disk_free/nas: {reads: disk_free, path: " + path + "}\n  disk_used/root: {reads: disk_used, path: /}\n",
		"of the paths": "driver: host\npaths: [/, " + path + "]\n",
	} {
		dev, err := driver.Open(t.Context(), drivertest.Config(t, "pi", text))
		if err != nil {
			t.Fatal(err)
		}
		hangs := 0
		for range 20 { // a look that is late is not asked again
			got := readAll(t, dev)
			hangs = 0
			for name, value := range got {
				if strings.Contains(value, "does not answer") {
					hangs++
				} else if strings.HasPrefix(name, "disk_used/root") && !strings.HasSuffix(value, " %") || name == "load_1" && strings.Contains(value, "annot") {
					t.Errorf("%s: want %s of what does not hang, got %q", what, name, value)
				}
			}
			if hangs != 2 {
				t.Fatalf("%s: want two points that do not answer, got %v", what, got)
			}
		}
		if n := host.LooksUnderWay(driver); n != 1 {
			t.Errorf("%s: want one look under way, got %d", what, n)
		}
		if err := dev.Close(); err != nil { // while it hangs: the next file must not wait
			t.Error(err)
		}
	}
	dev, err := driver.Open(t.Context(), drivertest.Config(t, "pi", "driver: host\npoints:\n  disk_used: {path: "+path+"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	answer()
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	host.WaitForLooks(driver)
	if got := readAll(t, dev)["disk_used"]; strings.Contains(got, "does not answer") {
		t.Errorf("want another look, got %q", got)
	}
}
