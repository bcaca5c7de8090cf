package plugins

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/plugins/wire"
)

// drainTimeout is how long the output of a process that ended is waited for. Only
// a child that left its process group can hold it up.
const drainTimeout = 500 * time.Millisecond

// programFD is the descriptor under which a plugin finds its own program: the first
// of exec.Cmd.ExtraFiles. Given a fixed number, nothing that happens between fork
// and exec can put another file in its place.
const programFD = 3

// process is one run of a plugin's program. go-plugin drives it as a runner.Runner:
// Start, then Wait and, at any time, Kill.
type process struct {
	manifest *Manifest
	program  *program
	out      *output

	env   []string       // what go-plugin adds; set before Start
	first *io.PipeReader // the first line of the output, for go-plugin
	done  chan struct{}  // closed when the process has ended and its output is read

	mu     sync.Mutex
	cmd    *exec.Cmd // nil before Start
	stdin  *os.File  // our end of the lifeline
	reaped bool      // its number may belong to another process
	killed bool      // by us
	hello  string    // the first line
	exit   error     // what exec.Cmd.Wait said
}

var _ runner.Runner = (*process)(nil)

func newProcess(m *Manifest, p *program, out *output) *process {
	return &process{manifest: m, program: p, out: out, done: make(chan struct{})}
}

// pipes are the standard input, output and error of a process, both ends each.
type pipes struct {
	inR, inW, outR, outW, errR, errW *os.File
}

func newPipes() (p pipes, err error) {
	for _, ends := range []struct{ r, w **os.File }{{&p.inR, &p.inW}, {&p.outR, &p.outW}, {&p.errR, &p.errW}} {
		if *ends.r, *ends.w, err = os.Pipe(); err != nil {
			closeAll(p.inR, p.inW, p.outR, p.outW, p.errR, p.errW)
			return pipes{}, err
		}
	}
	return p, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // pipes: nothing is lost
		}
	}
}

// Start implements runner.Runner.
func (p *process) Start(context.Context) error {
	started := make(chan error, 1)
	go p.live(started)
	return <-started
}

// live starts the process and stays with it until it has ended. It never leaves its
// thread: the kernel ends the process when the *thread* that started it dies.
func (p *process) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)

	pp, err := newPipes()
	if err == nil {
		err = p.spawn(pp)
	}
	if err != nil {
		started <- fmt.Errorf("cannot start %q: %w", p.manifest.Command, err)
		return
	}
	var pumps sync.WaitGroup
	var hello *io.PipeWriter
	p.first, hello = io.Pipe()
	pumps.Go(func() { p.pumpStdout(pp.outR, hello) })
	pumps.Go(func() { p.out.copyLines(bufio.NewReader(pp.errR)) })
	started <- nil

	p.reap()
	deadline := time.Now().Add(drainTimeout)
	_ = pp.outR.SetReadDeadline(deadline) // pipes have deadlines
	_ = pp.errR.SetReadDeadline(deadline)
	pumps.Wait()
	closeAll(pp.inW, pp.outR, pp.errR)
	p.out.flush()
}

func (p *process) spawn(pp pipes) error {
	defer closeAll(pp.inR, pp.outW, pp.errW)
	cmd := &exec.Cmd{
		Path:       "/proc/self/fd/" + strconv.Itoa(programFD),
		Args:       append([]string{p.manifest.Command}, p.manifest.Args...),
		Dir:        p.manifest.Folder,
		Env:        p.env,
		Stdin:      pp.inR,
		Stdout:     pp.outW,
		Stderr:     pp.errW,
		ExtraFiles: []*os.File{p.program.File},
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid: true,
			// When we die. The SDK closes its devices then; SIGKILL would not let it.
			Pdeathsig: syscall.SIGTERM,
		},
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := error(nil)
	if p.killed {
		err = context.Canceled
	} else {
		err = p.explain(cmd.Start())
	}
	if err != nil {
		closeAll(pp.inW, pp.outR, pp.errR)
		return err
	}
	p.cmd, p.stdin = cmd, pp.inW
	return nil
}

// explain tells what is missing when the kernel says that a file is which was opened.
func (p *process) explain(err error) error {
	if loader := p.program.loader(); errors.Is(err, syscall.ENOENT) && loader != "" {
		return fmt.Errorf("%q, which it needs to run, is missing on this machine", loader)
	}
	return err
}

// reap waits until the process has ended, kills what it left behind in its group,
// and only then lets go of its number, so that no other process can be hit.
func (p *process) reap() {
	pid := p.cmd.Process.Pid
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	p.exit = p.cmd.Wait()
	p.reaped = true
}

// pumpStdout hands the first line to go-plugin and logs the rest.
func (p *process) pumpStdout(r io.Reader, hello *io.PipeWriter) {
	lines := bufio.NewReader(r)
	line, err := readLine(lines)
	if err == nil {
		p.mu.Lock()
		p.hello = line
		p.mu.Unlock()
		_, _ = io.WriteString(hello, line+"\n") // go-plugin reads it or has given up
	}
	_ = hello.Close()
	p.out.copyLines(lines)
}

// farewell asks the process to end.
func (p *process) farewell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stdin != nil {
		_, _ = p.stdin.WriteString(wire.Farewell) // a pipe holds more than that
		_ = p.stdin.Close()
		p.stdin = nil
	}
}

// kill kills the process and all of its group.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.cmd != nil && !p.reaped {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// pid is the process's number, 0 before it was started.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// ending tells how the process ended, for people.
func (p *process) ending() string {
	p.mu.Lock()
	exit := p.exit
	p.mu.Unlock()
	how := "exit status 0"
	if exit != nil {
		how = exit.Error()
	}
	if words := p.out.lastWords(); words != "" {
		how += ": " + words
	}
	return how
}

// await waits for the end of the process, but no longer than d.
func (p *process) await(d time.Duration) bool {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-p.done:
		return true
	case <-late.C:
		return false
	}
}

// verdict gives the first line of the output, and whether the process ended other
// than by being killed. It has ended.
func (p *process) verdict() (hello string, natural bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return p.hello, ok && !(status.Signaled() && status.Signal() == syscall.SIGKILL)
}

// Wait implements runner.Runner.
func (p *process) Wait(context.Context) error {
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// Kill implements runner.Runner.
func (p *process) Kill(context.Context) error {
	p.kill()
	return nil
}

// Stdout implements runner.Runner: it ends after the first line.
func (p *process) Stdout() io.ReadCloser { return p.first }

// Stderr implements runner.Runner. It is empty: the output is logged here.
func (*process) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name implements runner.Runner.
func (p *process) Name() string { return filepath.Join(p.manifest.Folder, p.manifest.Command) }

// ID implements runner.Runner: empty before the process was started.
func (p *process) ID() string {
	if pid := p.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// Diagnose implements runner.Runner.
func (*process) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.Runner: both have the same files.
func (*process) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin implements runner.Runner.
func (*process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
