package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the real program, built once for all tests of this package.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if program := os.Getenv(withoutSync); program != "" {
		fmt.Fprintln(os.Stderr, runWithoutSync(program))
		return 1
	}
	dir, err := os.MkdirTemp("", "gatehouse")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "gatehouse")
	build := exec.Command("go", "build", "-o", binary)
	if raceDetector {
		build.Args = append(build.Args, "-race")
	}
	build.Args = append(build.Args, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// eventually asks until ok, or fails.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if ok() {
			tick.Stop()
			return
		}
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

// program is a process whose lines are kept.
type program struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu    sync.Mutex
	lines []string
	err   error
}

// start runs a command; the test ends it at the latest.
func start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	return startBy(t, (*exec.Cmd).Start, name, args...)
}

// startBy runs a command that a function starts.
func startBy(t *testing.T, begin func(*exec.Cmd) error, name string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Env = append(os.Environ(), "PYTHONUNBUFFERED=1")
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := begin(p.cmd); err != nil {
		t.Fatalf("cannot start %s: %v (make deps installs what the tests need)", name, err)
	}
	go func() {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.mu.Lock()
			p.lines = append(p.lines, lines.Text())
			p.mu.Unlock()
		}
	}()
	go func() {
		err := p.cmd.Wait()
		_ = w.Close()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what is left of it
		<-p.done
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), p.output())
		}
	})
	return p
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// says waits for a line that contains text and returns it.
func (p *program) says(t *testing.T, text string) string {
	t.Helper()
	var found string
	eventually(t, fmt.Sprintf("%s says %q", filepath.Base(p.cmd.Path), text), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, l := range p.lines {
			if strings.Contains(l, text) {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

// ended waits for the end of the program and returns its exit code.
func (p *program) ended(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s does not end", filepath.Base(p.cmd.Path))
	}
	return p.cmd.ProcessState.ExitCode()
}

// gatewayProcess is the running program with the addresses that it chose.
type gatewayProcess struct {
	*program
	dir     string
	mqtt    string // HOST:PORT
	ws      string // URL
	console string // URL
}

// startGateway runs the program in a new folder that holds the files, on free
// ports. gatehouse.yaml is written for it if it is not among them.
func startGateway(t *testing.T, files map[string]string) *gatewayProcess {
	t.Helper()
	dir := t.TempDir()
	if files["gatehouse.yaml"] == "" {
		writeFile(t, filepath.Join(dir, "gatehouse.yaml"), testConfig)
	}
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), text)
	}
	g := &gatewayProcess{dir: dir}
	g.program = start(t, binary, "run", "--config", filepath.Join(dir, "gatehouse.yaml"))
	g.says(t, `"gateway is up"`)
	g.mqtt = attribute(t, g.says(t, `"protocol":"mqtt"`), "address")
	g.ws = "ws://" + attribute(t, g.says(t, `"protocol":"ws"`), "address") + "/mqtt"
	g.console = attribute(t, g.says(t, `"msg":"console"`), "url")
	return g
}

const testConfig = `
broker:
  listeners:
    - {address: "127.0.0.1:0", protocol: mqtt}
    - {address: "localhost:0", protocol: ws}
console: {address: "127.0.0.1:0"}
log: {level: debug, format: json}
`

func attribute(t *testing.T, line, key string) string {
	t.Helper()
	var attrs map[string]any
	if err := json.Unmarshal([]byte(line), &attrs); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	s, ok := attrs[key].(string)
	if !ok {
		t.Fatalf("no %q in %s", key, line)
	}
	return s
}

// stop ends the gateway as a service manager does and checks that it ends well.
func (g *gatewayProcess) stop(t *testing.T) {
	t.Helper()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := g.ended(t); code != 0 {
		t.Errorf("the gateway ended with code %d", code)
	}
	if strings.Contains(g.output(), "DATA RACE") {
		t.Error("data race")
	}
}

// api reads a list of the API.
func (g *gatewayProcess) api(t *testing.T, path string) []map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.console+"/api/v1/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var list []map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

// write changes a file of the gateway's folder.
func (g *gatewayProcess) write(t *testing.T, name, text string) {
	t.Helper()
	writeFile(t, filepath.Join(g.dir, name), text)
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a command to its end and returns its output and exit code.
func run(t *testing.T, stdin, name string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %s: %v (make deps installs what the tests need)", name, err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// ptys is a pair of connected pseudo terminals.
func ptys(t *testing.T) (a, b string) {
	t.Helper()
	dir := t.TempDir()
	a, b = filepath.Join(dir, "a"), filepath.Join(dir, "b")
	start(t, "socat", "pty,raw,echo=0,link="+a, "pty,raw,echo=0,link="+b)
	eventually(t, "socat makes two ptys", func() bool {
		_, errA := os.Stat(a)
		_, errB := os.Stat(b)
		return errA == nil && errB == nil
	})
	return a, b
}
