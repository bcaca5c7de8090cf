package jsvm_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// counter keeps a number in its state, and dies on demand.
const counter = `
on('count', (msg) => {
  const n = (state.get('n') || 0) + 1
  state.set('n', n)
  publish('n', n)
  if (msg.text === 'die') for (let s = 'x'; ; s += s);
})`

// patient leaves time to die of other things than the deadline.
func patient(o *jsvm.Options) { o.Deadline = 20 * time.Second }

func TestDeathCostsOneEvent(t *testing.T) {
	const calls = 300
	s := start(t, patient)
	states := map[string]*rules.State{}
	programs := map[string]rules.Program{}
	for _, name := range []string{"a.js", "b.js", "bad.js"} {
		states[name] = rules.NewState(nil)
		programs[name] = s.compileWith(t, name, counter, states[name])
	}
	outcomes := map[string][]rules.Outcome{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, p := range programs {
		list := make([]rules.Call, calls)
		for i := range list {
			list[i] = s.call(0, "count", "")
			if name == "bad.js" && (i == 40 || i == 177) {
				list[i].Message.Payload = []byte("die")
			}
		}
		wg.Go(func() {
			out := p.Run(t.Context(), list)
			mu.Lock()
			outcomes[name] = out
			mu.Unlock()
		})
	}
	wg.Wait()
	for name, out := range outcomes {
		n := 0
		for i, o := range out {
			if name == "bad.js" && (i == 40 || i == 177) {
				var place *rules.Error
				if !errors.As(o.Err, &place) || place.File != "bad.js" || place.Line != 2 || !strings.Contains(place.Msg, `rule "on count" ran out of memory`) {
					t.Errorf("the event to blame: %v", o.Err)
				}
				continue
			}
			n++
			if got, want := show(o), fmt.Sprintf("publish n \"%d\" q0\nstate n=%d", n, n); got != want {
				t.Fatalf("%s, event %d: %s, want %s", name, i, got, want)
			}
		}
		if got := string(states[name].Snapshot()["n"]); got != fmt.Sprint(n) {
			t.Errorf("%s: the state says %s after %d events", name, got, n)
		}
	}
}

func TestKilledWorkerLosesNothing(t *testing.T) {
	s := start(t)
	state := rules.NewState(nil)
	p := s.compileWith(t, "a.js", counter, state)
	const rounds, calls = 5, 500
	for range rounds {
		pid := worker(t)
		list := make([]rules.Call, calls)
		for i := range list {
			list[i] = s.call(0, "count", "")
		}
		done := make(chan []rules.Outcome, 1)
		before := string(state.Snapshot()["n"])
		go func() { done <- p.Run(t.Context(), list) }()
		eventually(t, "the first events", func() bool { return string(state.Snapshot()["n"]) != before })
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for _, o := range <-done {
			if o.Err != nil {
				t.Error(o.Err)
			}
		}
		s.hear(t, p, 0, "count", "")
		if worker(t) == pid {
			t.Fatal("the worker lives")
		}
	}
	if got, want := string(state.Snapshot()["n"]), fmt.Sprint(rounds*(calls+1)); got != want {
		t.Errorf("%s of %s events counted", got, want)
	}
}

func TestRestartRunsTheTopLevelForItsFunctionsOnly(t *testing.T) {
	s := start(t)
	state := rules.NewState(nil)
	p := s.compileWith(t, "a.js", `
state.set('n', 0)
publish('started', 1)
log('started')
let runs = 0
on('x', () => { runs++; state.set('n', state.get('n') + 1); publish('x', [runs, state.get('n')]) })`, state)
	s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now})
	s.hear(t, p, 0, "x", "")
	s.killWorker(t)
	if got := show(s.hear(t, p, 0, "x", "")); got != "publish x \"[1,2]\" q0\nstate n=2" {
		t.Errorf("after the restart: %s", got)
	}
}

// killWorker kills the worker while nothing is in progress.
func (s *suite) killWorker(t testing.TB) {
	t.Helper()
	pid := worker(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the worker", func() bool { return !slices.Contains(workers(t), pid) })
}

func TestTimersAfterARestart(t *testing.T) {
	var log logged
	s := start(t, func(o *jsvm.Options) { o.Log = log.logger() })
	s.now = time.Now() // or the top level would run again at the start
	p := s.compile(t, "a.js", `
let n = 0
every('10s', () => publish('every', ++n))
function chain() { publish('chain', ++n); setTimeout(chain, 1000) }
setTimeout(chain, 1000)
on('x', () => { setInterval(() => {}, 1000) })`)
	s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now})
	timer := func(id string) string {
		t.Helper()
		return show(s.run(t, p, rules.Call{Trigger: rules.OnTimer, Timer: id, Now: s.now}))
	}
	check := func(behaviour, got, want string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", behaviour, diff)
		}
	}
	check("the chain's first link", timer("top/5:11/once/1"), "publish chain \"1\" q0\ntimer run/1.1 1s false")
	check("a handler's interval", show(s.hear(t, p, 0, "x", "")), "timer run/1.2 1s true")
	s.killWorker(t)
	check("an interval of the top level goes on", timer("top/3:6/every/1"), `publish every "1" q0`)
	check("a lost timer starts the chain anew", timer("run/1.1"), "timer run/1.1 0s false\ntimer top/5:11/once/1 1s false")
	check("once", timer("run/1.2"), "timer run/1.2 0s false")
	check("the chain's first link again", timer("top/5:11/once/1"), "publish chain \"2\" q0\ntimer run/4.1 1s false")
	check("its next link", timer("run/4.1"), "publish chain \"3\" q0\ntimer run/4.2 1s false")
	if got := log.String(); !strings.Contains(got, "timers that handlers of the script had set are gone") || !strings.Contains(got, "script=a.js") {
		t.Errorf("the log does not name the script:\n%s", got)
	}
}

func TestQuarantine(t *testing.T) {
	var log logged
	s := start(t, patient, func(o *jsvm.Options) { o.Log = log.logger() })
	state := rules.NewState(nil)
	bad := s.compileWith(t, "bad.js", counter+`
filter('f', () => true)`, state)
	good := s.compile(t, "good.js", counter)
	for i := range 3 {
		if o := s.hear(t, bad, 0, "count", "die"); o.Err == nil {
			t.Fatalf("death %d: no error", i+1)
		}
	}
	began := time.Now()
	pid := worker2(t)
	o := s.hear(t, bad, 0, "count", "")
	if o.Err == nil || !regexp.MustCompile(`not run before \d\d:\d\d:\d\d unless the file changes: it ended the script worker 3 times in a minute; the last time it ran out of memory`).MatchString(o.Err.Error()) {
		t.Errorf("the fourth call: %v", o.Err)
	}
	if o := s.hear(t, bad, 1, "f", ""); o.Verdict.Action != message.Reject {
		t.Errorf("a filter of the script: %s", show(o))
	}
	if spent := time.Since(began); spent > 5*time.Second {
		t.Errorf("the error took %v", spent)
	}
	if o := s.hear(t, good, 0, "count", ""); o.Err != nil {
		t.Errorf("another script: %v", o.Err)
	}
	if pid != 0 && worker(t) != pid {
		t.Error("the worker was ended again")
	}
	next := s.compileWith(t, "bad.js", counter, state)
	if got := show(s.hear(t, next, 0, "count", "")); got != "publish n \"1\" q0\nstate n=1" {
		t.Errorf("the next version of the file: %s", got)
	}
	if !strings.Contains(log.String(), `msg="script is not run for a while, unless its file changes" script=bad.js pause=1m0s`) {
		t.Errorf("the log does not say so:\n%s", log.String())
	}

	s.lang.Later(time.Minute)
	if o := s.hear(t, bad, 0, "count", ""); o.Err != nil {
		t.Errorf("after the pause: %v", o.Err)
	}
	if o := s.hear(t, bad, 0, "count", "die"); o.Err == nil || !strings.Contains(o.Err.Error(), "ran out of memory") {
		t.Errorf("the next death: %s", show(o))
	}
	if o := s.hear(t, bad, 0, "count", ""); o.Err == nil || !strings.Contains(o.Err.Error(), "it ended the script worker again; the last time it ran out of memory") {
		t.Errorf("after the next death: %s", show(o))
	}
}

func TestQuarantineBacksOff(t *testing.T) {
	const m = time.Minute
	for _, c := range []struct {
		behaviour    string
		deaths, want []time.Duration
	}{
		{"three in a minute", []time.Duration{0, m / 2, m}, []time.Duration{0, 0, m}},
		{"three in more", []time.Duration{0, m / 2, 2 * m}, []time.Duration{0, 0, 0}},
		{"one on its way", []time.Duration{0, 0, 0, 1}, []time.Duration{0, 0, m, 0}},
		{"again and again", []time.Duration{0, 0, 0, m, 3 * m, 7 * m, 15 * m, 31 * m, 63 * m, 123 * m}, []time.Duration{0, 0, m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, 60 * m, 60 * m}},
		{"after a probation without", []time.Duration{0, 0, 0, m, 5 * m, 5 * m, 5 * m}, []time.Duration{0, 0, m, 2 * m, 0, 0, m}},
	} {
		if diff := cmp.Diff(c.want, jsvm.Quarantine(c.deaths...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.behaviour, diff)
		}
	}
}

// worker2 is the worker, or 0 between two of them.
func worker2(t testing.TB) int {
	if pids := workers(t); len(pids) == 1 {
		return pids[0]
	}
	return 0
}

func TestMemoryEaterEndsTheWorkerOnly(t *testing.T) {
	s := start(t, patient)
	good := s.compile(t, "good.js", counter)
	bad := s.compile(t, "bad.js", `on('x', () => { const a = []; while (a.length < 128e6) a.push({ n: a.length }) })`)
	o := s.hear(t, bad, 0, "x", "")
	if o.Err == nil || !strings.Contains(o.Err.Error(), "ran out of memory") {
		t.Errorf("the eater: %s", show(o))
	}
	began := time.Now()
	if o := s.hear(t, good, 0, "count", ""); o.Err != nil {
		t.Errorf("another script: %v", o.Err)
	}
	t.Logf("another script went on %v later", time.Since(began))
}

func TestHoarderIsNamed(t *testing.T) {
	var log logged
	s := start(t, func(o *jsvm.Options) { o.Deadline, o.Memory, o.Log = 20*time.Second, o.Memory/2, log.logger() })
	good := s.compile(t, "good.js", counter)
	other := s.compile(t, "other.js", `const a = []; on('x', () => a.push('y'.repeat(1000)))`)
	bad := s.compile(t, "bad.js", `const a = []; on('x', () => { for (let i = 0; i < 10000; i++) a.push({ n: i }) })`)
	for range 200 {
		// The race detector's own memory may reach the limit first.
		o := s.hear(t, bad, 0, "x", "")
		if o.Err != nil && !strings.Contains(o.Err.Error(), "not run before") && !raceEnabled {
			t.Fatalf("the hoarder: %s", show(o))
		}
		for _, p := range []rules.Program{good, other} {
			if o := s.hear(t, p, 0, "count", ""); o.Err != nil {
				t.Fatalf("another script: %s", show(o))
			}
		}
	}
	if got := log.String(); !strings.Contains(got, "script=bad.js") || !strings.Contains(got, "between its events") && !raceEnabled {
		t.Errorf("the hoarder was not found:\n%s", got)
	}
	if got := log.String(); strings.Contains(got, "script=good.js") || strings.Contains(got, "script=other.js") {
		t.Errorf("another was blamed:\n%s", got)
	}
}

func TestStoppedWorkerIsReplaced(t *testing.T) {
	s := start(t, func(o *jsvm.Options) { o.Deadline = 20 * time.Millisecond })
	good := s.compile(t, "good.js", counter)
	if err := syscall.Kill(worker(t), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// It is stopped between events, so that nobody is to blame.
	if got := show(s.hear(t, good, 0, "count", "")); got != "publish n \"1\" q0\nstate n=1" {
		t.Errorf("the event: %s", got)
	}
}
