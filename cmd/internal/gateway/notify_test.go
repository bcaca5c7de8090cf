package gateway

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager is a socket such as a service manager listens on.
func manager(t *testing.T, watchdog string) (Notifier, *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": watchdog}
	return NewNotifier(func(key string) string { return env[key] }), conn
}

func hear(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 1000)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNotifier(t *testing.T) {
	t.Run("tells the manager", func(t *testing.T) {
		n, conn := manager(t, "")
		for _, state := range []string{"READY=1", Reloading()} {
			if err := n.Tell(state); err != nil {
				t.Fatal(err)
			}
			if got := hear(t, conn); got != state {
				t.Errorf("heard %q, want %q", got, state)
			}
		}
	})
	t.Run("a reload carries its time", func(t *testing.T) {
		if s := Reloading(); !strings.Contains(s, "RELOADING=1\nMONOTONIC_USEC=") {
			t.Errorf("got %q", s)
		}
	})
	t.Run("without a manager nothing happens", func(t *testing.T) {
		if err := NewNotifier(func(string) string { return "" }).Tell("READY=1"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a manager that is gone is an error", func(t *testing.T) {
		n := NewNotifier(func(key string) string { return map[string]string{"NOTIFY_SOCKET": "/nonexistent/notify"}[key] })
		if err := n.Tell("READY=1"); err == nil {
			t.Error("no error")
		}
	})
}

func TestWatchdog(t *testing.T) {
	n, conn := manager(t, "20000")
	ctx, cancel := context.WithCancel(t.Context())
	checks := make(chan bool, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Watchdog(ctx, func(context.Context) error {
			select {
			case ok := <-checks:
				if ok {
					return nil
				}
			default:
			}
			return errors.New("stuck")
		})
	}()
	checks <- false
	checks <- true
	if got := hear(t, conn); got != "WATCHDOG=1" {
		t.Errorf("heard %q", got)
	}
	cancel()
	<-ended
}
