package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// storm is one measurement.
type storm struct {
	binary, protocol string
	mute             bool // the connections never say a word
	n, openers       int
	hold             time.Duration

	gateway *exec.Cmd
	address map[string]string // by protocol
}

func (s *storm) name() string {
	if s.mute {
		return s.protocol + ", mute"
	}
	return s.protocol + ", connected"
}

func (s *storm) run(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return err
	}
	defer s.stop()
	bird, err := newBird(ctx, s.address["mqtt"])
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	defer func() { _ = bird.stop() }() // what it had to say was said
	before, err := s.memory("VmRSS:")
	if err != nil {
		return err
	}
	began := time.Now()
	conns, err := s.open(ctx)
	defer func() {
		for _, c := range conns {
			_ = c.Close() // closed by the gateway, perhaps
		}
	}()
	took := time.Since(began)
	opening, failed := bird.mark()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	select {
	case <-time.After(s.hold):
	case <-ctx.Done():
	}
	what := "VmRSS:"
	if s.mute {
		what = "VmHWM:"
	}
	after, err := s.memory(what)
	standing, failed := bird.mark()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	grown := after - before
	fmt.Printf("%-18s %6d %9.1f %8d   %7.2f %7.2f %7.2f   %7.2f %7.2f %7.2f %8s\n", s.name(), len(conns), float64(grown)/1024, grown*1024/len(conns),
		opening[0], opening[1], opening[2], standing[0], standing[1], standing[2], took.Round(time.Millisecond))
	return nil
}

const configuration = `
broker:
  listeners:
    - {address: "127.0.0.1:0", protocol: mqtt}
    - {address: "127.0.0.1:0", protocol: mqtts}
    - {address: "127.0.0.1:0", protocol: ws}
    - {address: "127.0.0.1:0", protocol: wss}
  limits: {connections: 1000000, sessions: 1000000}
console: {address: ""}
log: {level: info, format: json}
`

// start starts a gateway and learns where it listens.
func (s *storm) start(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "storm")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "gatehouse.yaml")
	if err := write(file, configuration); err != nil {
		return err
	}
	s.gateway = exec.CommandContext(ctx, s.binary, "run", "--config", file, "--data", filepath.Join(dir, "data"))
	s.gateway.Cancel = func() error { return s.gateway.Process.Signal(syscall.SIGTERM) }
	out, err := s.gateway.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.gateway.Start(); err != nil {
		return fmt.Errorf("cannot start %q (make build): %w", s.binary, err)
	}
	s.address = make(map[string]string)
	lines := bufio.NewScanner(out)
	last := ""
	for lines.Scan() {
		line := lines.Text()
		last = line
		if protocol := value(line, "protocol"); protocol != "" {
			s.address[protocol] = value(line, "address")
		}
		if strings.Contains(line, `"gateway is up"`) {
			go func() {
				for lines.Scan() { // so that it can go on writing
				}
				_ = os.RemoveAll(dir)
			}()
			return nil
		}
	}
	return errors.Join(fmt.Errorf("the gateway does not come up: %s", last), s.gateway.Wait())
}

func (s *storm) stop() {
	_ = s.gateway.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = s.gateway.Wait()                          // what it measured is told
}

func write(file, text string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// value is that of a string in a line of JSON.
func value(line, key string) string {
	_, rest, ok := strings.Cut(line, `"`+key+`":"`)
	if !ok {
		return ""
	}
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

// memory is a line of the gateway's /proc/PID/status, in KiB.
func (s *storm) memory(key string) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.gateway.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("no %s in its status", key)
}

// open opens the connections.
func (s *storm) open(ctx context.Context) ([]net.Conn, error) {
	var mu sync.Mutex
	var conns []net.Conn
	var failed error
	var wait sync.WaitGroup
	for part := range s.openers {
		wait.Go(func() {
			// Addresses of their own, because the ports of one would not do.
			dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, 0, byte(part))}, Timeout: time.Minute}
			for i := part; i < s.n && ctx.Err() == nil; i += s.openers {
				c, err := s.dial(dialer, i)
				mu.Lock()
				if err != nil {
					failed = err
					mu.Unlock()
					return
				}
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return conns, errors.Join(failed, ctx.Err())
}
