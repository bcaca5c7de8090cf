package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// recorder is a perf that watches a broker.
type recorder struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	data string
}

// profilable says what keeps a binary from a profile that can be read.
func profilable(binary string) error {
	if _, err := exec.LookPath("perf"); err != nil {
		return fmt.Errorf("-profile needs perf (on Debian: apt-get install linux-perf): %w", err)
	}
	path, err := exec.LookPath(binary)
	if err != nil {
		return err
	}
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	_, err = f.Symbols()
	if err := f.Close(); err != nil {
		return err
	}
	if errors.Is(err, elf.ErrNoSymbols) {
		return fmt.Errorf("%q has no symbols, so a profile would name no function: build it by go build, without -ldflags -s", binary)
	}
	return nil
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// record starts to take a profile of the broker, until it is stopped.
func (p *process) record(folder, row string, s side) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(row+" "+s.name), "-"), "-")
	r := &recorder{data: filepath.Join(folder, name+".data")}
	r.cmd = exec.Command("perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "-g",
		"-p", fmt.Sprint(p.cmd.Process.Pid), "-o", r.data)
	r.cmd.Stdout, r.cmd.Stderr = &r.said, &r.said
	if err := r.cmd.Start(); err != nil {
		return err
	}
	p.recorder = r
	return nil
}

// stop ends the profile and writes beside it where the time went.
func (r *recorder) stop() error {
	_ = r.cmd.Process.Signal(syscall.SIGINT)
	var exit *exec.ExitError
	if err := r.cmd.Wait(); err != nil && !errors.As(err, &exit) { // it ends by the signal
		return err
	}
	report := exec.Command("perf", "report", "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.3", "-i", r.data)
	text, err := report.Output()
	if err != nil {
		return fmt.Errorf("no profile: %w; perf said:\n%s", err, r.said.String())
	}
	return os.WriteFile(strings.TrimSuffix(r.data, ".data")+".txt", text, 0o644)
}
