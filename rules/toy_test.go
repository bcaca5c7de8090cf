package rules_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/rulestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// toy is a language whose files are names of Go functions: the first line of a
// file names an entry of programs.
type toy struct {
	name     string
	ending   string
	programs map[string]toyProgram

	mu       sync.Mutex
	compiled []string // files, as they were compiled
	closed   []string // texts of programs that were closed
	misused  []string // texts of programs that were run after they were closed
	reused   int      // outcomes that were given back
	compiles func()   // is called at each compilation; may be nil
}

type toyProgram struct {
	rules []rules.Rule
	run   func(ctx context.Context, src rules.Source, call rules.Call) rules.Outcome
	// handles and save may be nil.
	handles func(name string) bool
	save    func(put func(key string, value []byte))
	// asked is for what was asked for; nil is save.
	asked func(put func(key string, value []byte))
	// reads names a file that its compilation reads.
	reads string
	// outdated, asked with what was kept, may be nil, as those of a file that is not remembered.
	outdated func(kept map[string][]byte) bool
}

func (l *toy) Name() string         { return l.name }
func (l *toy) Extensions() []string { return []string{l.ending} }

func (l *toy) Compile(_ context.Context, src rules.Source) (rules.Program, error) {
	name, _, _ := strings.Cut(string(src.Text), "\n")
	l.mu.Lock()
	l.compiled = append(l.compiled, src.Name)
	l.mu.Unlock()
	if l.compiles != nil {
		l.compiles()
	}
	p, ok := l.programs[name]
	if !ok {
		return nil, &rules.Error{File: src.Name, Line: 1, Column: 3, Msg: "no program " + name, Snippet: name}
	}
	if p.reads != "" {
		if _, err := src.Read(p.reads); err != nil {
			return nil, &rules.Error{File: src.Name, Line: 1, Msg: err.Error()}
		}
	}
	r := &toyRun{lang: l, src: src, toyProgram: p}
	if p.outdated != nil {
		r.kept = src.Kept()
	}
	return r, nil
}

func (l *toy) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (l *toy) seen() (compiled, closed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.compiled...), append([]string(nil), l.closed...)
}

type toyRun struct {
	toyProgram
	lang *toy
	src  rules.Source
	kept map[string][]byte
	mu   sync.Mutex
	done bool
}

func (r *toyRun) Rules() []rules.Rule { return r.rules }

func (r *toyRun) Handles(name string) bool { return r.handles != nil && r.handles(name) }

func (r *toyRun) Outdated() bool { return r.outdated != nil && r.outdated(r.kept) }

func (r *toyRun) Save(asked bool, put func(key string, value []byte) error) (refused error) {
	each := func(key string, value []byte) { refused = cmp.Or(refused, put(key, value)) }
	switch {
	case asked && r.asked != nil:
		r.asked(each)
	case r.save != nil:
		r.save(each)
	}
	if refused != nil {
		return fmt.Errorf("toy: %w", refused)
	}
	return nil
}

func (r *toyRun) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return errors.New("closed twice")
	}
	r.done = true
	r.lang.mu.Lock()
	defer r.lang.mu.Unlock()
	r.lang.closed = append(r.lang.closed, string(r.src.Text))
	return nil
}

func (r *toyRun) Run(ctx context.Context, calls []rules.Call) []rules.Outcome {
	r.mu.Lock()
	if r.done {
		r.lang.mu.Lock()
		r.lang.misused = append(r.lang.misused, string(r.src.Text))
		r.lang.mu.Unlock()
	}
	r.mu.Unlock()
	outs := make([]rules.Outcome, len(calls))
	for i, c := range calls {
		if r.run != nil {
			outs[i] = r.run(ctx, r.src, c)
		}
	}
	return outs
}

// Reuse spoils what is given back, as a program that works in that memory again would.
func (r *toyRun) Reuse(outs []rules.Outcome) {
	spoilt := rules.Outcome{Fired: true, Err: errors.New("reused"), Verdict: message.Verdict{Action: message.Reject}}
	for i := range outs {
		for k := range outs[i].Publish {
			outs[i].Publish[k] = msg("reused", "reused")
		}
		outs[i] = spoilt
	}
	r.lang.mu.Lock()
	defer r.lang.mu.Unlock()
	r.lang.reused += len(outs)
}

// after is a program of one After rule.
func after(filter string, run func(call rules.Call) rules.Outcome) toyProgram {
	return toyProgram{
		rules: []rules.Rule{{Name: "on " + filter, Line: 1, Filters: []string{filter}}},
		run: func(_ context.Context, _ rules.Source, call rules.Call) rules.Outcome {
			if call.Trigger == rules.OnStart {
				return rules.Outcome{}
			}
			return run(call)
		},
	}
}

// before is a program of one Before rule.
func before(filter string, onError rules.OnError, run func(call rules.Call) rules.Outcome) toyProgram {
	p := after(filter, run)
	p.rules[0].Stage, p.rules[0].OnError = rules.Before, onError
	return p
}

func publish(topic, payload string) rules.Outcome {
	return rules.Outcome{Fired: true, Publish: []message.Message{msg(topic, payload)}}
}

func msg(topic, payload string) message.Message {
	return message.Message{Topic: topic, Payload: []byte(payload)}
}

func folder(files ...string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return fsys
}

// house is an engine on a bus, in a test.
type house struct {
	t      *testing.T
	engine *rules.Engine
	bus    *rulestest.Bus
	stop   func()
}

// newHouse makes an engine that is not running yet.
func newHouse(t *testing.T, opts rules.Options) *house {
	t.Helper()
	t.Cleanup(func() {
		for _, l := range opts.Languages {
			if l, ok := l.(*toy); ok && len(l.misused) > 0 {
				t.Errorf("programs were run after they were closed: %q", l.misused)
			}
		}
	})
	e, err := rules.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return &house{t: t, engine: e, bus: &rulestest.Bus{Interceptor: e}}
}

func (h *house) load(files ...string) {
	h.t.Helper()
	if err := h.engine.Load(h.t.Context(), folder(files...)); err != nil {
		h.t.Fatal(err)
	}
}

// run runs the engine until the test ends or stop is called, and waits until it is
// ready.
func (h *house) run() {
	h.start()
	<-h.engine.Ready()
}

// start is run without the wait.
func (h *house) start() {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- h.engine.Run(ctx, h.bus) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, h.engine.Close()); err != nil {
			h.t.Error(err)
		}
	})
	h.t.Cleanup(h.stop)
}

func (h *house) publish(msgs ...message.Message) {
	h.t.Helper()
	if err := h.bus.Publish(h.t.Context(), msgs...); err != nil {
		h.t.Fatal(err)
	}
}

// payloads of the messages routed so far.
func (h *house) payloads(filter string) []string {
	var all []string
	for _, m := range h.bus.Routed(filter) {
		all = append(all, string(m.Payload))
	}
	return all
}

// status is that of the only rule of a file.
func (h *house) status(file string) rules.RuleStatus {
	h.t.Helper()
	for _, f := range h.engine.Status() {
		if f.File == file && len(f.Rules) > 0 {
			return f.Rules[0]
		}
	}
	h.t.Fatalf("no rule of %q in the status", file)
	return rules.RuleStatus{}
}

// wait lets time go by, in a bubble of synctest.
func wait(d time.Duration) { <-time.After(d) }

// logBook collects the log.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(p))
	return len(p), nil
}

func (b *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func (b *logBook) with(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, line := range b.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}
