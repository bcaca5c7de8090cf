package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running broker.
type process struct {
	address  netip.AddrPort
	side     side
	needs    needs
	beside   *process // Node-RED, which works for this broker
	admin    string   // the address of its flows
	binary   string
	args     []string
	cmd      *exec.Cmd
	pids     []int         // it and its children, when it was last looked
	folder   string        // of its configuration; removed at the end
	said     bytes.Buffer  // its output; to be read when it has ended
	ended    chan struct{} // closed then
	recorder *recorder     // of its profile, if one is taken
}

// start runs a broker and returns when it takes connections and its rules, if there
// are any, are at work.
func start(ctx context.Context, s side, n needs) (*process, error) {
	if s.ours && !s.limits {
		n.queue, n.retained = 0, 0
	}
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
		address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), folder: folder, side: s, needs: n,
		binary: s.binary, args: s.command(config, port, n),
	}
	err = os.WriteFile(config, []byte(s.config(port, n)), 0o600)
	if err == nil && s.ours && n.rules != nil {
		err = n.rules.write(filepath.Join(folder, rulesFolder))
	}
	if err == nil {
		err = p.launch()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	if !p.up(ctx) {
		return nil, errors.Join(p.stop(), fmt.Errorf("takes no connections; it said:\n%s", p.said.String()))
	}
	if s.red != "" {
		p.beside, err = p.redBeside(ctx, s, n)
	}
	if err == nil && (p.beside != nil || n.rules != nil) {
		err = firing(ctx, p, 20*time.Millisecond)
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *process) launch() error {
	p.cmd, p.ended = exec.Command(p.binary, p.args...), make(chan struct{})
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.folder, &p.said, &p.said
	if err := p.cmd.Start(); err != nil {
		close(p.ended)
		return err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended tells less than what it said
	}()
	return nil
}

// crash kills the broker as a power cut would, but for the page cache, and runs it
// again on what it left.
func (p *process) crash() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("has ended before it was killed: %w", err)
	}
	<-p.ended
	return p.launch()
}

func freePort(ctx context.Context) (uint16, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), l.Close()
}

// up waits until the broker takes a connection.
func (p *process) up(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		var d net.Dialer
		if conn, err := d.DialContext(ctx, "tcp", p.address.String()); err == nil {
			return conn.Close() == nil
		}
		if ctx.Err() != nil || p.endsWithin(10*time.Millisecond) {
			return false
		}
	}
}

// stop asks the broker to end. One that does not within endTime is told to say
// where it hangs, which a Go program does.
func (p *process) stop() error {
	var err error
	if p.recorder != nil {
		err = p.recorder.stop()
	}
	if p.beside != nil {
		err = errors.Join(err, p.beside.end())
	}
	return errors.Join(err, p.end(), os.RemoveAll(p.folder))
}

// endTime is how long a broker may take to end; a Node-RED first does what waits.
const endTime = 20 * time.Second

func (p *process) end() (err error) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	if !p.endsWithin(endTime) {
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		if !p.endsWithin(2 * time.Second) {
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		err = fmt.Errorf("does not end; it said:\n%s", p.said.String())
	}
	return err
}

func (p *process) endsWithin(d time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(d):
		return false
	}
}

// look finds the children of the broker's process, and what works beside it.
func (p *process) look() error {
	p.pids = p.pids[:0]
	if err := p.family(p.cmd.Process.Pid); err != nil || p.beside == nil {
		return err
	}
	return p.family(p.beside.cmd.Process.Pid)
}

func (p *process) family(pid int) error {
	p.pids = append(p.pids, pid)
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return err
	}
	for _, file := range lists {
		list, _ := os.ReadFile(file) // the thread may have ended
		for field := range strings.FieldsSeq(string(list)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			if err := p.family(child); err != nil {
				return err
			}
		}
	}
	return nil
}

// cpu is the user and system time of the processes that look has found.
func (p *process) cpu() (sum time.Duration, err error) {
	for i, pid := range p.pids {
		// The clock of a process, as clock_getcpuclockid(3) makes it; /proc has the
		// same time in steps of 10 ms.
		var at unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|2), &at); err == nil {
			sum += time.Duration(at.Nano())
		} else if i == 0 {
			return 0, fmt.Errorf("the broker has ended: %w", err)
		}
	}
	return sum, nil
}

// rss is how much memory of the broker and its children is resident, in bytes.
func (p *process) rss() (sum int64, err error) {
	if err := p.look(); err != nil {
		return 0, err
	}
	for i, pid := range p.pids {
		n, err := resident(pid)
		if err != nil && i == 0 {
			return 0, fmt.Errorf("the broker has ended: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// settled waits until the resident memory has been the same for a second, about,
// and returns it. After 10 s it takes what there is.
func (p *process) settled(ctx context.Context) (rss int64, err error) {
	const step, enough, most = 250 * time.Millisecond, 4, 40
	for same, i := 0, 0; same < enough && i < most; i++ {
		if !pause(ctx, step) {
			return 0, ctx.Err()
		}
		had := rss
		if rss, err = p.rss(); err != nil {
			return 0, err
		}
		if same++; rss < had-had/200 || rss > had+had/200 {
			same = 0
		}
	}
	return rss, nil
}

// pause waits, but not beyond the end of ctx, which it answers with false.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
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
