package jsvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a running worker as the gateway sees it.
type process struct {
	cmd      *exec.Cmd
	requests *os.File
	answers  *os.File
	told     *os.File // what the worker asked for in the middle of an event
	shared   *sharedPage
	said     crashText

	once    sync.Once
	overran bool // killed by the watchdog; read after exit
}

// startProcess starts a worker and says hello to it.
func startProcess(o Options) (*process, error) {
	memory, err := newShared()
	if err != nil {
		return nil, err
	}
	defer func() { _ = memory.Close() }()
	shared, err := mapShared(int(memory.Fd()))
	if err != nil {
		return nil, err
	}
	p := &process{shared: shared}
	if err := p.spawn(o.Command, memory); err != nil {
		shared.unmap()
		return nil, fmt.Errorf("cannot start the script worker %q: %w", strings.Join(o.Command, " "), err)
	}
	frame := appendRecord(beginFrame(nil), &helloRecord{
		Version: wireVersion, Deadline: o.Deadline, Memory: o.Memory,
	})
	if err := finishFrame(frame); err != nil {
		panic("jsvm: " + err.Error()) // a few bytes
	}
	// A worker that is gone already is noticed by whoever reads its answers.
	_, _ = p.requests.Write(frame)
	return p, nil
}

func (p *process) spawn(command []string, memory *os.File) error {
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = theirIn.Close() }()
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		_ = ourOut.Close()
		return err
	}
	defer func() { _ = theirOut.Close() }()
	theirTold, ourTold, err := os.Pipe()
	if err != nil {
		_ = ourOut.Close()
		_ = ourIn.Close()
		return err
	}
	defer func() { _ = theirTold.Close() }()
	p.requests, p.answers, p.told = ourOut, ourIn, ourTold
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.ExtraFiles = []*os.File{fdRequests - 3: theirIn, fdAnswers - 3: theirOut, fdShared - 3: memory, fdTold - 3: theirTold}
	p.cmd.Stderr = &p.said
	p.cmd.WaitDelay = time.Second
	// A group of its own: an interrupt typed at the gateway is not meant for it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		_ = ourOut.Close()
		_ = ourIn.Close()
		_ = ourTold.Close()
		return err
	}
	return nil
}

func (p *process) kill(overran bool) {
	p.once.Do(func() {
		p.overran = overran
		_ = p.cmd.Process.Kill() // it may be gone already
	})
}

// death is what is known of a worker that is gone.
type death struct {
	seq     uint64 // of the event that it was at; 0 for none
	why     string
	foreign bool // somebody else killed it: the event may be innocent
}

// bury waits for the end of the process and gives back what it held.
func (p *process) bury(deadline time.Duration) death {
	_ = p.requests.Close()
	err := p.cmd.Wait()
	_ = p.answers.Close()
	_ = p.told.Close()
	p.once.Do(func() {}) // overran is set, if ever
	d := death{seq: p.shared.seq.Load(), why: p.cause(err, deadline)}
	p.shared.unmap()
	var exit *exec.ExitError
	if errors.As(err, &exit) && !p.overran {
		status, ok := exit.Sys().(syscall.WaitStatus)
		d.foreign = ok && status.Signaled() && status.Signal() == syscall.SIGKILL
	}
	if d.seq == 0 && p.overran {
		d.why = "did not answer"
	}
	return d
}

func (p *process) cause(err error, deadline time.Duration) string {
	said := p.said.String()
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	// The runtime does not check every allocation of its own, and then touches
	// what it did not get.
	memory := []string{"out of memory", "cannot allocate memory", "failed to allocate", "SIGSEGV", "failed to create new OS thread", "pthread_create failed"}
	switch {
	case p.overran || code == exitOverrun:
		return fmt.Sprintf("did not return within %v, nor heed the interrupt", deadline)
	case slices.ContainsFunc(memory, func(word string) bool { return strings.Contains(said, word) }):
		return "ran out of memory"
	case strings.Contains(said, "stack exceeds") || strings.Contains(said, "stack overflow"):
		return "is nested too deeply"
	}
	first, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	if first == "" && err != nil {
		first = err.Error()
	}
	if first == "" {
		first = "it ended"
	}
	return "brought the script worker down (" + cut(first, 200) + ")"
}

// crashText keeps the beginning of what a worker says on its standard error: the Go
// runtime names the cause of a crash first, and then a stack of any length.
type crashText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const maxCrashText = 8 << 10

// Write implements io.Writer.
func (t *crashText) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := maxCrashText - t.buf.Len(); room > 0 {
		t.buf.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

func (t *crashText) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
