package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// trial starts the program by hand as its unit would, and looks whether it
// serves, keeps the watchdog content, and stops when told.
type trial struct {
	program, config, data string
	mqtt, console         string              // addresses
	scratch               string              // for the socket of the service manager
	credential            *syscall.Credential // nil is who we are
}

func (tr trial) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	manager, err := newManager(filepath.Join(tr.scratch, "notify.sock"))
	if err != nil {
		return err
	}
	defer manager.close()

	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, tr.program, "run", "--config", tr.config, "--data", tr.data)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "NOTIFY_SOCKET=" + manager.path, "WATCHDOG_USEC=1000000"}
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: tr.credential}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start the program: %w", err)
	}
	served := tr.serves(ctx, manager)
	stopped := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	if err := errors.Join(served, stopped); err != nil {
		return fmt.Errorf("%w; the program said:\n%s", err, said.String())
	}
	return nil
}

func (tr trial) serves(ctx context.Context, manager *manager) error {
	if err := manager.await("READY=1"); err != nil {
		return err
	}
	if err := tr.connects(ctx); err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+tr.console+"/healthz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close() // only the status matters
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz says %s", response.Status)
	}
	return manager.await("WATCHDOG=1")
}

// connects sends an MQTT 3.1.1 CONNECT and wants a CONNACK that accepts it.
func (tr trial) connects(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", tr.mqtt)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is left to lose
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"); err != nil {
		return err
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("no CONNACK: %w", err)
	}
	if want := []byte{0x20, 0x02, 0x00, 0x00}; !bytes.Equal(answer, want) {
		return fmt.Errorf("CONNECT was answered with % x, want % x", answer, want)
	}
	return nil
}

// manager hears what a service tells its manager, sd_notify(3).
type manager struct {
	path string
	conn *net.UnixConn
}

func newManager(path string) (*manager, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	m := &manager{path, conn}
	if err := os.Chmod(path, 0o777); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *manager) close() {
	_ = m.conn.Close() // nothing is left to lose
}

// await reads until the service says state, for 20 s at most.
func (m *manager) await(state string) error {
	if err := m.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	message := make([]byte, 4096)
	for {
		n, err := m.conn.Read(message)
		if err != nil {
			return fmt.Errorf("the program did not say %s: %w", state, err)
		}
		if slices.Contains(strings.Split(string(message[:n]), "\n"), state) {
			return nil
		}
	}
}

// unpackAndTry starts the program out of an unpacked package, on free ports.
func unpackAndTry(t *testing.T, name string) {
	t.Helper()
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", name, root)
	config := filepath.Join(root, "etc/gatehouse/gatehouse.yaml")
	content, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text, addresses := string(content), map[string]string{}
	for _, shipped := range []string{"127.0.0.1:1883", "127.0.0.1:9001", "127.0.0.1:8080"} {
		addresses[shipped] = freeAddress(t)
		text = strings.ReplaceAll(text, shipped, addresses[shipped])
	}
	text = strings.ReplaceAll(text, "/etc/gatehouse", root+"/etc/gatehouse")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	try := trial{
		program: filepath.Join(root, "usr/bin/gatehouse"), config: config,
		data: filepath.Join(root, "var/lib/gatehouse"), scratch: t.TempDir(),
		mqtt: addresses["127.0.0.1:1883"], console: addresses["127.0.0.1:8080"],
	}
	if err := try.run(t.Context()); err != nil {
		t.Error(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }() // nothing is left to lose
	return listener.Addr().String()
}
