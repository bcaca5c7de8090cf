package jsvm_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

func TestNewChecksItsOptions(t *testing.T) {
	command := []string{"/proc/self/exe", "worker"}
	cases := map[string]jsvm.Options{
		"no command to start a worker": {},
		"deadline 1ms is not between":  {Command: command, Deadline: time.Millisecond},
		"memory of 1024 bytes":         {Command: command, Memory: 1024},
	}
	for want, o := range cases {
		if _, err := jsvm.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	lang, err := jsvm.New(jsvm.Options{Command: command})
	if err != nil {
		t.Fatal(err)
	}
	if lang.Name() != "js" || len(lang.Extensions()) != 2 || lang.Extensions()[0] != ".js" {
		t.Errorf("name %q, extensions %q", lang.Name(), lang.Extensions())
	}
}

func TestWorkerLivesBetweenTheFirstScriptAndTheEndOfRun(t *testing.T) {
	for _, order := range []string{"compile first", "run first"} {
		t.Run(order, func(t *testing.T) {
			s := start(t)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			run := func() { go func() { ended <- s.lang.Run(ctx) }() }
			if order == "run first" {
				run()
			}
			if pids := workers(t); len(pids) != 0 {
				t.Fatalf("workers %v without a script", pids)
			}
			p := s.compile(t, "a.js", counter)
			if order == "compile first" {
				run()
			}
			worker(t)
			if o := s.hear(t, p, 0, "count", ""); o.Err != nil {
				t.Error(o.Err)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run returned %v", err)
			}
			if pids := workers(t); len(pids) != 0 {
				t.Errorf("workers %v after the end of Run", pids)
			}
			if o := s.hear(t, p, 0, "count", ""); !strings.Contains(fmt.Sprint(o.Err), jsvm.ErrClosed.Error()) {
				t.Errorf("a call after the end: %s", show(o))
			}
			if _, err := s.lang.Compile(t.Context(), rules.Source{Name: "b.js"}); !errors.Is(err, jsvm.ErrClosed) {
				t.Errorf("a script after the end: %v", err)
			}
		})
	}
}

func TestCloseEndsABusyWorker(t *testing.T) {
	s := start(t, patient)
	p := s.compile(t, "a.js", `on('x', () => { for (;;); })`)
	done := make(chan rules.Outcome, 1)
	go func() { done <- p.Run(t.Context(), []rules.Call{s.call(0, "x", "")})[0] }()
	eventually(t, "a busy worker", func() bool { return isBusy(t, worker(t)) })
	if err := s.lang.Close(); err != nil {
		t.Error(err)
	}
	if o := <-done; o.Err == nil {
		t.Errorf("the call ended well: %s", show(o))
	}
	if pids := workers(t); len(pids) != 0 {
		t.Errorf("workers %v after Close", pids)
	}
}

// isBusy reports whether the process used more than a tenth of a second.
func isBusy(t testing.TB, pid int) bool {
	t.Helper()
	user, _ := ticks(t, pid)
	return user >= 10
}

// ticks is the processor time of a process in hundredths of a second.
func ticks(t testing.TB, pid int) (user, system int) {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return user, system
}

// TestNoOrphans kills a gateway (a helper process of this binary) whose script is in
// an endless loop.
func TestNoOrphans(t *testing.T) {
	gateway := exec.Command("/proc/self/exe", "gateway")
	gateway.Stderr = os.Stderr
	out, err := gateway.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a busy worker", func() bool { return isBusy(t, pid) })
	if err := gateway.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = gateway.Wait() // it was killed
	eventually(t, "the end of the worker", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || isZombie(pid) })
}

// isZombie reports whether the process ended and waits for somebody to collect it.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " Z")
}

// gatewayMain is the helper process of TestNoOrphans.
func gatewayMain() error {
	lang, err := jsvm.New(jsvm.Options{Command: []string{"/proc/self/exe", "worker"}, Deadline: time.Minute})
	if err != nil {
		return err
	}
	ctx := context.Background()
	p, err := lang.Compile(ctx, rules.Source{Name: "a.js", Text: []byte(`on('x', () => { for (;;); })`)})
	if err != nil {
		return err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		return err
	}
	fmt.Println(firstChild(string(children)))
	p.Run(ctx, []rules.Call{{Message: &message.Message{Topic: "x"}, Now: time.Now()}})
	return errors.New("the endless loop ended")
}

func firstChild(list string) string {
	if fields := strings.Fields(list); len(fields) > 0 {
		return fields[0]
	}
	paths, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return ""
	}
	for _, p := range paths {
		text, err := os.ReadFile("/proc/self/task/" + p.Name() + "/children")
		if fields := strings.Fields(string(text)); err == nil && len(fields) > 0 {
			return fields[0]
		}
	}
	return ""
}

func TestWorkerThatCannotBeRun(t *testing.T) {
	cases := map[string]struct {
		command []string
		want    string
	}{
		"a program that is not there":    {[]string{"/does/not/exist"}, "no such file"},
		"a program that ends":            {[]string{"/bin/sh", "-c", "echo tired >&2; exit 7"}, "tired"},
		"a program that says nonsense":   {[]string{"/bin/sh", "-c", "echo nonsense, and more of it >&4; sleep 60"}, "cannot be read"},
		"a program that answers unasked": {[]string{"/bin/sh", "-c", `printf '\000\000\000\012\007\001\000\000\000\000\000\000\000\000' >&4; sleep 60`}, "cannot be read"},
	}
	for behaviour, c := range cases {
		t.Run(behaviour, func(t *testing.T) {
			var log logged
			s := start(t, func(o *jsvm.Options) { o.Command, o.Log = c.command, log.logger() })
			_, err := s.lang.Compile(t.Context(), rules.Source{Name: "a.js"})
			if err == nil || !strings.Contains(err.Error(), "cannot be run") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	s := start(t, patient)
	state := rules.NewState(nil)
	p := s.compileWith(t, "a.js", `
on('slow', (msg) => { for (let i = 0; i < 1e6; i++); state.set('n', 1) })
on('get', () => publish('n', state.get('n') === undefined))
filter('judge', () => true)
filter('judge', { on_error: 'pass' }, () => true)`, state)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []rules.Outcome, 1)
	go func() {
		done <- p.Run(ctx, []rules.Call{s.call(0, "slow", ""), s.call(0, "slow", "")})
	}()
	eventually(t, "the slow event", func() bool { return isBusy(t, worker(t)) || len(state.Snapshot()) > 0 })
	cancel()
	failed := 0
	for _, o := range <-done {
		if errors.Is(o.Err, context.Canceled) || o.Err != nil && strings.Contains(o.Err.Error(), "context canceled") {
			failed++
		}
	}
	if failed == 0 {
		t.Fatal("both calls were made: the test was too slow for them")
	}
	made := len(state.Snapshot()) > 0
	if got, want := show(s.hear(t, p, 1, "get", "")), fmt.Sprintf("publish n \"%v\" q0", !made); got != want {
		t.Errorf("the script sees %s, want %s", got, want)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for rule, want := range map[int]message.Action{2: message.Reject, 3: message.Pass} {
		if o := p.Run(gone, []rules.Call{s.call(rule, "judge", "")})[0]; o.Err == nil || o.Verdict.Action != want {
			t.Errorf("rule %d without time: %s", rule, show(o))
		}
	}
}

func TestFiltersAndHandlersRunConcurrently(t *testing.T) {
	s := start(t)
	state := rules.NewState(nil)
	p := s.compileWith(t, "a.js", `
filter('a', () => { state.set('f', (state.get('f') || 0) + 1) })
on('a', () => { state.set('h', (state.get('h') || 0) + 1) })`, state)
	other := s.compile(t, "b.js", counter)
	const workers, rounds = 4, 50
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range rounds {
				rule := min(w, 1) // one for filters would be too easy
				calls := []rules.Call{s.call(1-rule, "a", ""), s.call(1-rule, "a", "")}
				for _, o := range p.Run(t.Context(), calls) {
					if o.Err != nil {
						t.Error(o.Err)
					}
				}
				if o := other.Run(t.Context(), []rules.Call{s.call(0, "count", "")})[0]; o.Err != nil {
					t.Error(o.Err)
				}
			}
		})
	}
	wg.Wait()
	got := state.Snapshot()
	if string(got["h"]) != fmt.Sprint(2*rounds) || string(got["f"]) != fmt.Sprint(2*rounds*(workers-1)) {
		t.Errorf("state %s", got)
	}
}

func TestScriptsDoNotSeeEachOther(t *testing.T) {
	s := start(t)
	one := s.compile(t, "one.js", `globalThis.secret = 1; Object.prototype.leak = 1; state.set('k', 1); on('a', () => state.set('k', 2))`)
	two := s.compile(t, "two.js", `on('a', () => publish('seen', [typeof secret, typeof ({}).leak, state.keys()]))`)
	s.run(t, one, rules.Call{Trigger: rules.OnStart, Now: s.now})
	s.hear(t, one, 0, "a", "")
	if got := show(s.hear(t, two, 0, "a", "")); got != `publish seen "[\"undefined\",\"undefined\",[]]" q0` {
		t.Errorf("the other script sees %s", got)
	}
}

func TestLargePayloads(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `on('a', (m) => publish('n', m.bytes.length)); on('b', (m) => m.payload)`)
	if got := show(s.hear(t, p, 0, "a", strings.Repeat("x", 4<<20))); got != `publish n "4194304" q0` {
		t.Errorf("4 MiB: %.200s", got)
	}
	if got := show(s.hear(t, p, 0, "a", strings.Repeat("x", 5<<20))); !strings.Contains(got, "over the 4194304 bytes") {
		t.Errorf("5 MiB: %.200s", got)
	}
	if got := show(s.hear(t, p, 1, "b", strings.Repeat("1", 2<<20))); !strings.Contains(got, "2097152 bytes are over the limit of 1048576") {
		t.Errorf("JSON of 2 MiB: %.200s", got)
	}
}

// A call that is given up may be sent and answered all the same, when its memory is that of
// others.
func TestCallsAreTakenOver(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `on('a', () => {})`)
	call := s.call(0, "a", "payload")
	before, after := jsvm.Encoded(p, &call, func() {
		*call.Message = message.Message{}
		call = rules.Call{}
	})
	if !bytes.Equal(before, after) || !bytes.Contains(after, []byte("payload")) {
		t.Errorf("%q was %q", after, before)
	}
}
