package jsvm_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// TestVersionsOfAFileShareItsState takes turns between two versions of a file, as at a
// reload: filters of the new one judge before its start, others are still on their way
// through the old one.
func TestVersionsOfAFileShareItsState(t *testing.T) {
	const text = `filter('f', () => { state.set('n', (state.get('n') || 0) + 1) })`
	s := start(t)
	state := rules.NewState(nil)
	old := s.compileWith(t, "a.js", text, state)
	next := s.compileWith(t, "a.js", text, state)
	for i := range 6 {
		s.hear(t, []rules.Program{old, next}[i%2], 0, "f", "")
	}
	if got := string(state.Value("n")); got != "6" {
		t.Errorf("%s of 6 events counted", got)
	}
	s.run(t, next, rules.Call{Trigger: rules.OnStart, Now: s.now})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			s.hear(t, old, 0, "f", "")
		}
	}()
	for range 200 {
		s.hear(t, next, 0, "f", "")
	}
	<-done
	if got := string(state.Value("n")); got != "406" {
		t.Errorf("%s of 406 events counted", got)
	}
}

// TestStartAmidFilters starts a program again and again while its filters judge.
func TestStartAmidFilters(t *testing.T) {
	s := start(t)
	state := rules.NewState(nil)
	p := s.compileWith(t, "a.js", `filter('f', () => { state.set('n', (state.get('n') || 0) + 1) })`, state)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now})
		}
	}()
	n := 0
	for ended := false; !ended; n++ {
		select {
		case <-done:
			ended = true
		default:
		}
		s.hear(t, p, 0, "f", "")
	}
	if got := string(state.Value("n")); got != fmt.Sprint(n) {
		t.Errorf("%s of %d events counted", got, n)
	}
}

func TestTimerOfATimeThatWasReckoned(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", `
setTimeout(() => publish('late', 1), 3600000 - Math.floor(Math.random() * 1e6))
setTimeout(() => publish('later', 1), 3600000 - Math.floor(Math.random() * 1e6))`)
	o := s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now})
	s.killWorker(t)
	var got []string
	for _, timer := range o.Timers {
		got = append(got, show(s.run(t, p, rules.Call{Trigger: rules.OnTimer, Timer: timer.ID, Now: s.now})))
	}
	if want := []string{`publish late "1" q0`, `publish later "1" q0`}; !slices.Equal(got, want) {
		t.Errorf("after a restart the timers do %q, want %q", got, want)
	}
}

func TestTimersOfATornRuntime(t *testing.T) {
	var log logged
	s := start(t, func(o *jsvm.Options) { o.Log = log.logger() })
	p := s.compile(t, "a.js", `
function chain() { publish('chain', 1); setTimeout(chain, 1000) }
setTimeout(chain, 1000)
filter('tear', () => ({ payload: { toJSON() { for (;;); } } }))`)
	o := s.run(t, p, rules.Call{Trigger: rules.OnStart, Now: s.now})
	timer := func(id string) rules.Outcome {
		t.Helper()
		return s.run(t, p, rules.Call{Trigger: rules.OnTimer, Timer: id, Now: s.now})
	}
	next := timer(o.Timers[0].ID).Timers[0].ID
	if o := s.hear(t, p, 0, "tear", ""); o.Err == nil {
		t.Fatalf("the filter: %s", show(o))
	}
	got := timer(next)
	if !slices.ContainsFunc(got.Timers, func(c rules.TimerChange) bool { return c.ID == o.Timers[0].ID && c.After > 0 }) {
		t.Errorf("the chain does not start anew: %s", show(got))
	}
	again := timer(o.Timers[0].ID).Timers
	if len(again) != 1 || again[0].ID == next {
		t.Errorf("the new timer %v has the name of the one before, %s", again, next)
	}
	if !strings.Contains(log.String(), "timers that handlers of the script had set are gone") {
		t.Errorf("the log says nothing of it:\n%s", log.String())
	}
}

// TestSignalsMeantForTheGateway come to the worker as well when a service manager stops
// all processes of a unit; the gateway still needs its filters then.
func TestSignalsMeantForTheGateway(t *testing.T) {
	s := start(t)
	p := s.compile(t, "a.js", counter)
	pid := worker(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		if o := s.hear(t, p, 0, "count", ""); o.Err != nil {
			t.Errorf("%v: %s", sig, show(o))
		}
		if now := worker2(t); now != pid {
			t.Fatalf("%v: worker %d, was %d", sig, now, pid)
		}
	}
}

func TestLargeStatesAfterARestart(t *testing.T) {
	s := start(t, patient, func(o *jsvm.Options) { o.Memory = 512 << 20 })
	var programs []rules.Program
	for i := range 24 {
		programs = append(programs, s.compile(t, fmt.Sprintf("%d.js", i), `
on('fill', () => { for (let i = 0; i < 10; i++) state.set('k' + i, 'x'.repeat(100000)) })
on('get', () => publish('n', state.keys().length))
//`+strings.Repeat("x", 100_000)))
	}
	for _, p := range programs {
		if o := s.hear(t, p, 0, "fill", ""); o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	pid := worker(t)
	busy := s.compile(t, "busy.js", `on('x', () => { for (;;); })`)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan []rules.Outcome, 1)
	go func() { ended <- busy.Run(ctx, []rules.Call{s.call(0, "x", "")}) }()
	results := make(chan rules.Outcome)
	for _, p := range programs {
		go func() { results <- p.Run(t.Context(), []rules.Call{s.call(1, "get", "")})[0] }()
	}
	used, _ := ticks(t, pid)
	eventually(t, "a worker that all wait for", func() bool { now, _ := ticks(t, pid); return now >= used+10 })
	cancel()
	<-ended
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range programs {
		if got := show(<-results); got != `publish n "10" q0` {
			t.Errorf("after the restart: %.200s", got)
		}
	}
}

// TestKeysThatComeAndGo makes more changes of the state than an answer can hold, of
// which nothing is left.
func TestKeysThatComeAndGo(t *testing.T) {
	s := start(t, patient)
	p := s.compile(t, "a.js", `
on('remove', () => { for (let i = 0; i < 20000; i++) state.delete('x'.repeat(1000) + i) })
on('set', () => { for (let i = 0; i < 20000; i++) { const k = 'x'.repeat(1000) + i; state.set(k, 1); state.delete(k) } })`)
	for rule := range 2 {
		if got := show(s.hear(t, p, rule, "x", "")); got != "" {
			t.Errorf("rule %d: %.300s", rule, got)
		}
	}
}
