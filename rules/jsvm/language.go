package jsvm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// ErrClosed is what Compile returns after [Language.Close], or after Run ended.
var ErrClosed = errors.New("the JavaScript language is closed")

// Options say how scripts are run. The zero value of a field is its default.
type Options struct {
	// Command starts a script worker: the program and its arguments, which must
	// come to call [Worker]: {"/proc/self/exe", "worker"}. Required.
	Command []string
	// Deadline bounds an event: one handler, filter or timer, or the top level of
	// a script. 10 ms to 1 minute; 0 means 100 ms.
	Deadline time.Duration
	// Memory is what all scripts together may take, in bytes, above what the
	// worker maps to be there at all: at least 32 MiB; 0 means 128 MiB.
	Memory int64
	// Log hears of the worker's life. Nil means slog.Default.
	Log *slog.Logger
	// Build tells versions of the program apart: what one has remembered of scripts is
	// nothing to another. "" remembers nothing.
	Build string
	// Shipped is what scripts declare that come with the program; see [Declared].
	Shipped []byte
}

// The defaults and bounds of Options.
const (
	defaultDeadline = 100 * time.Millisecond
	minDeadline     = 10 * time.Millisecond
	maxDeadline     = time.Minute
	defaultMemory   = 128 << 20
	minMemory       = 32 << 20
)

// Language compiles and runs scripts. It implements rules.Language. Its methods may
// be called by any goroutine.
type Language struct {
	options Options
	scripts atomic.Uint32 // the last number given

	mu     sync.Mutex
	link   *link // nil until the first script
	closed bool
}

// New checks the options. It starts nothing.
func New(o Options) (*Language, error) {
	if len(o.Command) == 0 || o.Command[0] == "" {
		return nil, errors.New("cannot run scripts: no command to start a worker")
	}
	if o.Deadline == 0 {
		o.Deadline = defaultDeadline
	}
	if o.Deadline < minDeadline || o.Deadline > maxDeadline {
		return nil, fmt.Errorf("cannot run scripts: deadline %v is not between %v and %v", o.Deadline, minDeadline, maxDeadline)
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.Memory < minMemory {
		return nil, fmt.Errorf("cannot run scripts: memory of %d bytes is less than %d", o.Memory, minMemory)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Language{options: o}, nil
}

// Name implements rules.Language: it is "js".
func (l *Language) Name() string { return "js" }

// Extensions implements rules.Language: they are ".js" and ".ts".
func (l *Language) Extensions() []string { return []string{".js", ".ts"} }

// Skips implements rules.Selective: files in a folder lib, and those that have a name
// in their path which begins with an underscore, are there for others to require.
func (l *Language) Skips(name string) bool { return isModule(name) }

// Compile implements rules.Language. The first call starts the worker, whether or
// not Run was called; [Language.Close] or the end of Run stops it. The script's top
// level runs here, under the deadline, and what it did waits for the start call. If it is
// known what it declares, from [Options] or a former process, it runs with the start call
// instead, which finds out should it be something else: see rules.Provisional. An
// error is a *rules.Error, the error of ctx, or [ErrClosed].
func (l *Language) Compile(ctx context.Context, src rules.Source) (rules.Program, error) {
	if err := scanSource(src.Name, src.Text); err != nil {
		return nil, err
	}
	files, err := readModules(src)
	if err != nil {
		return nil, err
	}
	link, err := l.start()
	if err != nil {
		return nil, err
	}
	kept := src.Kept
	if kept == nil {
		kept = func() map[string][]byte { return nil }
	}
	p := newProgram(link, l.scripts.Add(1), src, files)
	p.former = link.versionBefore(p)
	if p.former == nil && p.remember(kept) {
		return p, nil
	}
	_ = kept() // the state, which the top level finds, is whole then
	if err := p.load(ctx, time.Time{}); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// start returns the link to the worker, which the first call makes.
func (l *Language) start() (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if l.link == nil {
		l.link = newLink(l.options)
		go l.link.run()
	}
	return l.link, nil
}

// Run implements rules.Language: it waits for ctx and then closes the language.
func (l *Language) Run(ctx context.Context) error {
	<-ctx.Done()
	return l.Close()
}

// Close ends the worker and waits for it. Calls that wait for it get an error, as do
// all later ones. It returns nil, and may be called more than once.
func (l *Language) Close() error {
	l.mu.Lock()
	l.closed = true
	link := l.link
	l.mu.Unlock()
	if link != nil {
		link.close()
	}
	return nil
}
