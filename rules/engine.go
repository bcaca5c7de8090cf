package rules

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Options say what an [Engine] is made of. The zero value of a field is its
// documented default.
type Options struct {
	// Languages compile the files of the folder, each by its endings. Files that
	// none of them knows are passed over.
	Languages []Language
	// Keeper keeps state beyond the process. Nil keeps it in memory and publishes
	// straight to the bus.
	Keeper Keeper
	// Fetcher makes the requests that rules ask for; nil makes none.
	Fetcher Fetcher
	// Funcs are the functions of plugins; nil are none.
	Funcs Funcs
	// Clock tells the time; nil is the machine's.
	Clock Clock
	// Place is where the gateway is, for rules that go by the sun; nil if nobody has
	// said it. Zone is the time zone of schedules; nil is the machine's.
	Place *Place
	Zone  *time.Location
	// Log is where the life of the engine and what rules have to say is told. Nil
	// discards it.
	Log *slog.Logger
	// BeforeTimeout bounds one Run of a program on the Before rules of a batch of
	// messages; 0 means 2 s. A language may have a shorter bound for each call.
	BeforeTimeout time.Duration
	// AfterTimeout bounds one Run of a program elsewhere; 0 means 30 s.
	AfterTimeout time.Duration
	// LogPeriod is how often one rule may have an error in the log; the others are
	// counted. 0 means one minute.
	LogPeriod time.Duration
	// Limits bound the folder.
	Limits Limits
}

// Limits bound what a folder of rules may hold.
type Limits struct {
	Files    int   // 0 means 10,000
	FileSize int64 // in bytes; 0 means 1 MiB
	Timers   int   // standing at once in one file; 0 means 1,000
	// Explained is how long a rule's runs go without facts after one that has them; 0
	// means 100 ms, below 0 all have them.
	Explained time.Duration
}

// Engine compiles a folder of rules, judges messages with them, and swaps the set
// between two messages.
type Engine struct {
	opts  Options
	log   *slog.Logger
	clock Clock
	lanes []*lane
	set   atomic.Pointer[ruleSet]

	loading   chan struct{}     // held by Load and Close
	states    map[string]*State // by file; of whoever holds mu
	recalled  bool              // the Keeper was asked; of whoever holds loading
	calendar  calendar          // since then
	loaded    bool              // a Load has succeeded; of whoever holds loading
	unready   atomic.Int64      // lanes, and the first Load, still to come
	ready     chan struct{}
	running   atomic.Bool
	reapKick  chan struct{}
	told      chan struct{} // kicks the reporter
	outdated  chan struct{} // a program is, see Provisional
	pipelines sync.Pool     // of *pipeline

	mu      sync.Mutex
	bus     message.Bus      // while Run runs
	files   map[string]*file // as of the last Load
	pasts   map[string]*past // by file, until its lane takes it
	closing []*unit          // to be closed

	historyMu sync.Mutex
	history   *history // of Before rules

	ran func(Ran) // see Tell
}

// Ran is one run that was counted.
type Ran struct {
	File  string
	Rule  *Rule // without a Name if the run is the file's own
	Entry TraceEntry
}

// Tell has f told of each run as it is counted, before what it did is out. F is called by
// whoever runs rules, several at once: it must not block. Tell is called before Load.
func (e *Engine) Tell(f func(Ran)) { e.ran = f }

// New checks the options. It starts nothing.
func New(opts Options) (*Engine, error) {
	e := &Engine{
		opts:     opts.withDefaults(),
		loading:  make(chan struct{}, 1),
		ready:    make(chan struct{}),
		reapKick: make(chan struct{}, 1),
		told:     make(chan struct{}, 1),
		outdated: make(chan struct{}, 1),
		files:    make(map[string]*file),
		states:   make(map[string]*State),
		history:  newHistory(),
	}
	e.log, e.clock = e.opts.Log, e.opts.Clock
	e.pipelines.New = func() any { return &pipeline{} }
	names, endings := make(map[string]bool), make(map[string]string)
	for i, lang := range opts.Languages {
		if names[lang.Name()] {
			return nil, fmt.Errorf("rule language %q is given twice", lang.Name())
		}
		names[lang.Name()] = true
		for _, ending := range lang.Extensions() {
			if other, taken := endings[ending]; taken {
				return nil, fmt.Errorf("rule languages %q and %q both want files ending in %q", other, lang.Name(), ending)
			}
			if !strings.HasPrefix(ending, ".") {
				return nil, fmt.Errorf("rule language %q: file ending %q has no dot", lang.Name(), ending)
			}
			endings[ending] = lang.Name()
		}
		e.lanes = append(e.lanes, newLane(e, i, lang))
	}
	e.unready.Store(int64(len(e.lanes)*ears) + 1)
	e.set.Store(newSet(nil, len(e.lanes)))
	return e, nil
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = machineClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Zone == nil {
		o.Zone = time.Local
	}
	setDefault(&o.BeforeTimeout, 2*time.Second)
	setDefault(&o.AfterTimeout, 30*time.Second)
	setDefault(&o.LogPeriod, time.Minute)
	setDefault(&o.Limits.Files, 10_000)
	setDefault(&o.Limits.FileSize, 1<<20)
	setDefault(&o.Limits.Timers, 1_000)
	if o.Limits.Explained == 0 {
		o.Limits.Explained = 100 * time.Millisecond
	}
	return o
}

func setDefault[T int | int64 | time.Duration](v *T, standard T) {
	if *v <= 0 {
		*v = standard
	}
}

// Ready is closed when the filters of the first loaded set stand on the bus.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Outdated receives when a file in force has to be compiled again, though it has not
// changed: see [Provisional]. [Engine.Load] does it.
func (e *Engine) Outdated() <-chan struct{} { return e.outdated }

// oneReady counts down what Ready waits for.
func (e *Engine) oneReady() {
	if e.unready.Add(-1) == 0 {
		close(e.ready)
	}
}

// Run judges with After rules, fires timers, runs what the languages need, and
// tells on the bus how the files are. It blocks until ctx ends and everything that
// it started has; it may be called once.
func (e *Engine) Run(ctx context.Context, bus message.Bus) error {
	if !e.running.CompareAndSwap(false, true) {
		return errors.New("rules engine runs already")
	}
	e.setBus(bus)
	defer e.setBus(nil)
	s := e.acquire() // a Load at the same time may take it out
	e.prime(ctx, s.units)
	e.release(s)
	var group sync.WaitGroup
	for _, l := range e.lanes {
		group.Go(func() { e.supervise(ctx, "rule language", l.lang.Name(), l.lang.Run) })
		group.Go(func() { e.supervise(ctx, "rule lane", l.name, l.loop) })
		for _, ear := range l.ears {
			group.Go(func() {
				e.supervise(ctx, "rule subscription", ear.name, func(ctx context.Context) error { return ear.subscribe(ctx, bus) })
			})
		}
	}
	group.Go(func() { e.supervise(ctx, "rule reporter", "status", e.report) })
	group.Go(func() { e.supervise(ctx, "rule reaper", "close", e.reaper) })
	group.Wait()
	for _, l := range e.lanes {
		l.flights.group.Wait()
		l.leave(ctx)
	}
	e.reap()
	return nil
}

func (e *Engine) setBus(bus message.Bus) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bus = bus
}

func (e *Engine) currentBus() message.Bus {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bus
}

// supervise runs work again, after a pause that grows, until ctx ends.
func (e *Engine) supervise(ctx context.Context, what, name string, work func(context.Context) error) {
	const shortest, longest = 100 * time.Millisecond, 10 * time.Second
	pause := shortest
	for ctx.Err() == nil {
		began := e.clock.Now()
		err := guarded(ctx, work)
		if ctx.Err() != nil {
			return
		}
		if e.clock.Now().Sub(began) > longest {
			pause = shortest
		}
		e.log.Warn("part of the rules engine ended and is started again", "part", what, "name", name, "after", pause, "error", err)
		select {
		case <-ctx.Done():
		case <-e.clock.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

func guarded(ctx context.Context, work func(context.Context) error) (err error) {
	defer recovered(&err)
	return work(ctx)
}

// recovered turns a panic into an error; it is deferred.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
	}
}

func (e *Engine) reaper(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.reapKick:
			e.reap()
		}
	}
}

// Close takes all files out and closes their programs. The engine must not be
// running, and judges nothing any more.
func (e *Engine) Close() error {
	e.loading <- struct{}{}
	defer func() { <-e.loading }()
	e.release(e.set.Swap(newSet(nil, len(e.lanes))))
	e.mu.Lock()
	e.files = make(map[string]*file)
	e.mu.Unlock()
	e.reap()
	return nil
}
