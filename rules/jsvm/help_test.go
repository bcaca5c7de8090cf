package jsvm_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// suite is a language with a worker of its own.
type suite struct {
	lang *jsvm.Language
	now  time.Time
}

func start(t testing.TB, change ...func(*jsvm.Options)) *suite {
	t.Helper()
	o := jsvm.Options{Command: []string{"/proc/self/exe", "worker"}, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	if raceEnabled { // all is slow, and each byte has several others beside it
		o.Deadline, o.Memory = time.Second, 512<<20
	}
	for _, f := range change {
		f(&o)
	}
	lang, err := jsvm.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lang.Close(); err != nil {
			t.Error(err)
		}
	})
	return &suite{lang: lang, now: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)}
}

// testWriter passes the log on to the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b))
	return len(b), nil
}

func (s *suite) compile(t testing.TB, name, text string) rules.Program {
	t.Helper()
	return s.compileWith(t, name, text, rules.NewState(nil))
}

func (s *suite) compileWith(t testing.TB, name, text string, state *rules.State) rules.Program {
	t.Helper()
	p, err := s.lang.Compile(t.Context(), rules.Source{Name: name, Text: []byte(text), State: state})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *suite) call(rule int, topic, payload string) rules.Call {
	return rules.Call{Rule: rule, Now: s.now, Message: &message.Message{Topic: topic, Payload: []byte(payload), At: s.now, Origin: "client/test"}}
}

func (s *suite) hear(t testing.TB, p rules.Program, rule int, topic, payload string) rules.Outcome {
	t.Helper()
	return s.run(t, p, s.call(rule, topic, payload))
}

// run makes one call, which must end within a time that no machine needs.
func (s *suite) run(t testing.TB, p rules.Program, c rules.Call) rules.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out := p.Run(ctx, []rules.Call{c})
	if len(out) != 1 {
		t.Fatalf("%d outcomes for one call", len(out))
	}
	return out[0]
}

// workers lists the processes that this one started.
func workers(t testing.TB) []int {
	t.Helper()
	var pids []int
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread ended
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// worker is the one process that this one started.
func worker(t testing.TB) int {
	t.Helper()
	pids := workers(t)
	if len(pids) != 1 {
		t.Fatalf("workers %v, want one", pids)
	}
	return pids[0]
}

// saveTo gives put what a program saves, which nothing is against.
func saveTo(t testing.TB, p rules.Program, asked bool, put func(key string, value []byte)) {
	t.Helper()
	err := p.Save(asked, func(key string, value []byte) error {
		put(key, value)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// logged collects what a logger says.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
