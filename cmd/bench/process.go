package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// side is one of the two brokers that are compared.
type side struct {
	name    string
	binary  string
	asks    []string // arguments that make it tell its version
	config  func(port int, nodelay bool) string
	command func(config string) []string // arguments that make it run
}

func ours(o *options) side {
	return side{
		name: "gatehouse", binary: o.ours, asks: []string{"version"},
		config: func(port int, _ bool) string {
			return fmt.Sprintf("broker:\n  listeners:\n    - {address: \"127.0.0.1:%d\", protocol: mqtt}\n"+
				"  anonymous: true\nconsole: {address: \"\"}\n", port)
		},
		command: func(config string) []string { return []string{"run", "--config", config} },
	}
}

func mosquitto() side {
	return side{
		name: "mosquitto", binary: "mosquitto", asks: []string{"-h"},
		config: func(port int, nodelay bool) string {
			return fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 1000000000\nset_tcp_nodelay %v\n", port, nodelay)
		},
		command: func(config string) []string { return []string{"-c", config} },
	}
}

// version is the first line that the binary says when asked.
func (s side) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, s.binary, s.asks...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // mosquitto -h exits with 3
		return err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// process is a running broker.
type process struct {
	address string
	cmd     *exec.Cmd
	folder  string        // of its configuration; removed at the end
	said    bytes.Buffer  // its output; to be read when it has ended
	ended   chan struct{} // closed then
}

// start runs a broker and returns when it takes connections.
func start(ctx context.Context, s side, nodelay bool) (*process, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "config.yaml")
	p := &process{
		address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), folder: folder, ended: make(chan struct{}),
		cmd: exec.Command(s.binary, s.command(config)...),
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	err = os.WriteFile(config, []byte(s.config(port, nodelay)), 0o600)
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended tells less than what it said
	}()
	if !p.up(ctx) {
		return nil, errors.Join(p.stop(), fmt.Errorf("takes no connections; it said:\n%s", p.said.String()))
	}
	return p, nil
}

func freePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// up waits until the broker takes a connection.
func (p *process) up(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		var d net.Dialer
		if conn, err := d.DialContext(ctx, "tcp", p.address); err == nil {
			return conn.Close() == nil
		}
		if ctx.Err() != nil || p.endsWithin(10*time.Millisecond) {
			return false
		}
	}
}

// stop asks the broker to end. One that does not within 5 seconds is told to say
// where it hangs, which a Go program does.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	var err error
	if !p.endsWithin(5 * time.Second) {
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		if !p.endsWithin(2 * time.Second) {
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		err = fmt.Errorf("does not end; it said:\n%s", p.said.String())
	}
	return errors.Join(err, os.RemoveAll(p.folder))
}

func (p *process) endsWithin(d time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(d):
		return false
	}
}

// usage is what a broker's processes, its children included, have used.
type usage struct {
	cpu time.Duration // user and system time
	rss int64         // bytes resident now
}

// usage asks about the process and all its descendants.
func (p *process) usage() (usage, error) { return usageOf(p.cmd.Process.Pid) }

func usageOf(pid int) (u usage, err error) {
	// The clock of a process, as clock_getcpuclockid(3) makes it; /proc has the
	// same time in steps of 10 ms.
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &at); err != nil {
		return u, fmt.Errorf("the broker has ended: %w", err)
	}
	u.cpu = time.Duration(at.Nano())
	if u.rss, err = resident(pid); err != nil {
		return u, err
	}
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return u, err
	}
	for _, file := range children {
		list, _ := os.ReadFile(file) // the thread may have ended
		for field := range strings.FieldsSeq(string(list)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return u, err
			}
			if c, err := usageOf(child); err == nil { // else it has ended
				u.cpu, u.rss = u.cpu+c.cpu, u.rss+c.rss
			}
		}
	}
	return u, nil
}

func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "\nRss:")
	kib, _, _ := strings.Cut(after, "kB")
	n, err := strconv.ParseInt(strings.TrimSpace(kib), 10, 64)
	return n << 10, err
}

// machine says what the figures were measured on.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, after, _ := strings.Cut(string(text), "model name\t: ")
		model, _, _ = strings.Cut(after, "\n")
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // empty if it cannot be read
	return fmt.Sprintf("%s, %d processors, %s/%s, Linux %s, %s", model, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		strings.TrimSpace(string(kernel)), runtime.Version())
}
