//go:build linux && (amd64 || arm64)

package startheap_test

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/gatehouse/gatehouse/cmd/internal/startheap"
)

// TestHugePages has one process, with one heap, through its start.
func TestHugePages(t *testing.T) {
	first := startheap.Asked()
	if len(first) == 0 {
		t.Skip("no huge pages here: pages are not of 4 KiB, or the kernel was built without")
	}
	if flags := lookUp(t, first[0]).flags; !slices.Contains(flags, "hg") {
		t.Errorf("before main: memory at %#x has the flags %q, want hg among them", first[0], flags)
	}

	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // what Grow skips is to stay garbage
	startheap.Grow()
	if got := len(startheap.Asked()); got != 2 {
		t.Fatalf("Grow has asked for memory at %d places, want 2", got)
	}
	b := make([]byte, 3<<20)
	at := uintptr(unsafe.Pointer(&b[0]))
	for i := 0; i < len(b); i += 4 << 10 {
		b[i] = 1
	}
	before := lookUp(t, at)
	if !slices.Contains(before.flags, "hg") {
		t.Errorf("after Grow: new memory at %#x has the flags %q, want hg among them", at, before.flags)
	}
	runtime.KeepAlive(b)

	b = nil
	startheap.GiveBack()
	debug.FreeOSMemory()
	after := lookUp(t, at)
	if slices.Contains(after.flags, "hg") {
		t.Errorf("after GiveBack: memory at %#x has the flags %q, want no hg among them", at, after.flags)
	}
	if before.huge > 0 && after.huge >= before.huge {
		t.Errorf("after GiveBack: %d KiB are in huge pages, as before (%d)", after.huge, before.huge)
	}
	if got := startheap.Asked(); len(got) > 0 {
		t.Errorf("after GiveBack: %x are still asked for", got)
	}
	startheap.GiveBack() // has nothing to do
}

// mapped is what the kernel says of a mapping.
type mapped struct {
	huge  int // KiB in huge pages
	flags []string
}

// lookUp reads smaps, proc_pid_smaps(5), for an address.
func lookUp(t *testing.T, at uintptr) (m mapped) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip("no smaps here:", err)
	}
	defer func() { _ = f.Close() }()
	here := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		var from, to uintptr
		switch {
		case !strings.HasSuffix(key, ":"):
			if _, err := fmt.Sscanf(key, "%x-%x", &from, &to); err != nil {
				t.Fatal(err)
			}
			here = from <= at && at < to
		case here && key == "AnonHugePages:":
			if _, err := fmt.Sscan(value, &m.huge); err != nil {
				t.Fatal(err)
			}
		case here && key == "VmFlags:":
			m.flags = strings.Fields(value)
		}
	}
	if m.flags == nil {
		t.Fatalf("no memory is mapped at %#x", at)
	}
	return m
}
