package main

import (
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

func mosquitto(o *options) side {
	return side{
		name: "mosquitto", binary: o.mosquitto, asks: []string{"-h"},
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
	folder  string // its configuration and log; removed at the end
	log     *os.File
	ended   chan error
}

// start runs a broker and returns when it takes connections.
func start(ctx context.Context, s side, nodelay bool) (*process, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	p := &process{address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), ended: make(chan error, 1)}
	if p.folder, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, err
	}
	config := filepath.Join(p.folder, "config.yaml")
	if err := os.WriteFile(config, []byte(s.config(port, nodelay)), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.folder))
	}
	if p.log, err = os.Create(filepath.Join(p.folder, "log")); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.folder))
	}
	p.cmd = exec.Command(s.binary, s.command(config)...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.folder, p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, p.log.Close(), os.RemoveAll(p.folder))
	}
	go func() { p.ended <- p.cmd.Wait() }()
	if err := p.waitUntilUp(ctx); err != nil {
		said, _ := os.ReadFile(p.log.Name())
		return nil, errors.Join(fmt.Errorf("%w; it said:\n%s", err, said), p.stop())
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

func (p *process) waitUntilUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var d net.Dialer
		if conn, err := d.DialContext(ctx, "tcp", p.address); err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return errors.New("takes no connections after 10 s")
		case err := <-p.ended:
			p.ended <- err
			return fmt.Errorf("ended at once: %w", err)
		case <-tick.C:
		}
	}
}

// stop asks the broker to end. One that does not within 5 seconds is told to say
// where it hangs, which a Go program does, and its log is kept.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	if p.endsWithin(5 * time.Second) {
		return errors.Join(p.log.Close(), os.RemoveAll(p.folder))
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	if !p.endsWithin(2 * time.Second) {
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return errors.Join(fmt.Errorf("does not end; its log is %s", p.log.Name()), p.log.Close())
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

// usage reads /proc for the process and all its descendants.
func (p *process) usage() (u usage, err error) {
	stats, err := readStats()
	if err != nil {
		return u, err
	}
	root := p.cmd.Process.Pid
	if _, ok := stats[root]; !ok {
		return u, errors.New("the broker has ended")
	}
	for pid, s := range stats {
		for at := pid; at != 0; at = stats[at].parent {
			if at != root {
				continue
			}
			u.cpu += time.Duration(s.ticks) * time.Second / ticksPerSecond
			rss, err := resident(pid)
			if err != nil {
				return u, err
			}
			u.rss += rss
			break
		}
	}
	return u, nil
}

// ticksPerSecond is the unit of times in /proc, the same on all of Linux.
const ticksPerSecond = 100

type stat struct {
	parent int
	ticks  int64
}

func readStats() (map[int]stat, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	stats := make(map[int]stat, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		// The name, in parentheses, may have anything in it.
		head, tail, _ := strings.Cut(string(text), " ")
		fields := strings.Fields(tail[strings.LastIndexByte(tail, ')')+1:])
		if len(fields) < 15 {
			return nil, fmt.Errorf("%s: %q is too short", file, text)
		}
		var numbers [5]int64 // parent; times: own user and system, those of ended children
		for i, field := range [5]int{1, 11, 12, 13, 14} {
			if numbers[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
		pid, err := strconv.Atoi(head)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		stats[pid] = stat{int(numbers[0]), numbers[1] + numbers[2] + numbers[3] + numbers[4]}
	}
	return stats, nil
}

func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kib, ok := strings.CutPrefix(line, "Rss:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kib), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no resident set in /proc", pid)
}

// machine says what the figures were measured on.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // empty if it cannot be read
	return fmt.Sprintf("%s, %d processors, %s/%s, Linux %s, %s", model, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		strings.TrimSpace(string(kernel)), runtime.Version())
}
