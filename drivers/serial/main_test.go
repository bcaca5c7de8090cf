package serial_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/drivertest"
	"github.com/gatehouse/gatehouse/drivers/serial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is a pseudo-terminal: the test holds one end, a path leads to the other.
type wire struct {
	t    *testing.T
	path string
	far  *os.File
}

// newWire plugs in a wire at a path that stays the same when it is plugged again.
func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{t: t, path: filepath.Join(t.TempDir(), "tty")}
	w.plug()
	t.Cleanup(func() { _ = w.far.Close() })
	return w
}

func (w *wire) plug() {
	w.t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.far = far
	raw, err := far.SyscallConn()
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	if errControl := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); errControl != nil || err != nil {
		w.t.Fatal(errControl, err)
	}
	if err := os.Symlink(fmt.Sprintf("/dev/pts/%d", n), w.path); err != nil {
		w.t.Fatal(err)
	}
}

// unplug takes the wire away: the other end hangs up, the path is gone.
func (w *wire) unplug() {
	w.t.Helper()
	if err := errors.Join(os.Remove(w.path), w.far.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// say sends what the equipment says.
func (w *wire) say(text string) {
	w.t.Helper()
	if _, err := w.far.WriteString(text); err != nil {
		w.t.Fatal(err)
	}
}

// hear wants the equipment to hear exactly the text.
func (w *wire) hear(text string) {
	w.t.Helper()
	if err := w.far.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	got := make([]byte, len(text))
	if n, err := io.ReadFull(w.far, got); err != nil || string(got) != text {
		w.t.Errorf("want the wire to carry %q, got %q, %v", text, got[:n], err)
	}
}

// settled waits until a line counts as begun after the port was opened.
func settled() { <-time.After(60 * time.Millisecond) }

func open(t *testing.T, w *wire, rest string) drivers.Pusher {
	t.Helper()
	cfg := drivertest.Config(t, "d", "driver: serial\nport: "+w.path+"\n"+rest)
	dev, err := serial.New(serial.Options{}).Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	settled()
	return dev.(drivers.Pusher)
}

// next is what the device says next, as "point=value ..." or its error.
func next(t *testing.T, dev drivers.Pusher) string {
	t.Helper()
	select {
	case p, ok := <-dev.Pushed():
		switch {
		case !ok:
			return "(closed)"
		case p.Err != nil:
			return p.Err.Error()
		}
		var all []string
		for _, r := range p.Readings {
			s := r.Point + "=" + r.Value.String()
			if r.Quality == drivers.Bad {
				s = r.Point + ": " + r.Err.Error()
			}
			all = append(all, s)
		}
		return strings.Join(all, " ")
	case <-time.After(10 * time.Second):
		return "(nothing for 10 s)"
	}
}

func wantNext(t *testing.T, dev drivers.Pusher, want string) {
	t.Helper()
	if got := next(t, dev); got != want {
		t.Errorf("want %q, got %q", want, got)
	}
}

// host runs a device by its file until the test ends.
func host(t *testing.T, file string) *drivertest.Bus {
	t.Helper()
	h, err := drivers.NewHost(drivers.Options{
		Drivers:    map[string]drivers.Driver{"serial": serial.New(serial.Options{})},
		RetryFirst: 10 * time.Millisecond, RetryMost: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hall.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.Load(t.Context(), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	bus := drivertest.NewBus()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, bus) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-h.Ready()
	return bus
}
