package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// Options are what a [Host] is made of. The zero value is good.
type Options struct {
	// Log gets what happens and what plugins write; nil discards it.
	Log *slog.Logger
	// RunDir is where the folders for sockets are made; its path must be short
	// (a socket's path has at most 107 bytes). Empty means os.TempDir.
	RunDir string
	// StartTimeout bounds a plugin's start up to its handshake; 0 means 10 s.
	StartTimeout time.Duration
	// StopTimeout is how long a plugin may take to close its devices and end
	// before it is killed; 0 means 5 s.
	StopTimeout time.Duration
	// RestartFirst and RestartMost bound the pauses before a plugin is started
	// again: they double from the first to the most, each shortened by up to a
	// quarter at random. 0 means 1 s and 1 min.
	RestartFirst, RestartMost time.Duration
	// Healthy is how long a plugin must run for the pauses to start over; 0 means
	// 1 min.
	Healthy time.Duration
	// PingEvery is how often a plugin must give a sign of life, and how long it
	// may take to. 0 means 10 s. Two missed in a row get it killed.
	PingEvery time.Duration
	// LookupEnv finds the variables that plugins get; nil means os.LookupEnv.
	LookupEnv func(name string) (string, bool)
}

func (o Options) withDefaults() (Options, error) {
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"start timeout", &o.StartTimeout, 10 * time.Second},
		{"stop timeout", &o.StopTimeout, 5 * time.Second},
		{"first pause", &o.RestartFirst, time.Second},
		{"longest pause", &o.RestartMost, time.Minute},
		{"healthy time", &o.Healthy, time.Minute},
		{"ping interval", &o.PingEvery, 10 * time.Second},
	} {
		if *d.value < 0 {
			return o, fmt.Errorf("cannot make a plugin host: %s %v is negative", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if o.RestartFirst > o.RestartMost {
		return o, errors.New("cannot make a plugin host: the first pause is above the longest")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	return o, nil
}

// Host runs plugins. Its methods may be called by any goroutine, at any time.
type Host struct {
	opts Options
	kick chan struct{} // capacity 1: there are new slots

	mu      sync.Mutex
	slots   map[string]*slot // by plugin; never removed
	owner   map[string]*slot // by driver
	funcs   map[string]*slot // by function
	changed chan struct{}    // closed and replaced at each change
	ran     bool
}

// New checks the options and returns a host without plugins. It starts nothing.
func New(o Options) (*Host, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Host{
		opts: o, kick: make(chan struct{}, 1),
		slots: make(map[string]*slot), owner: make(map[string]*slot), funcs: make(map[string]*slot), changed: make(chan struct{}),
	}, nil
}

// Load reads the manifests in dir, as [ReadManifests] does, and makes them those of
// the host. It touches no program and waits for no plugin: [Host.Run] starts what is
// new, restarts what changed, stops what is gone, and leaves the rest alone. A
// plugin that waits to be restarted is tried at once if its manifest or its program
// is new; [Host.Retry] has all of them tried.
//
// A manifest that cannot be used leaves its plugin with the one before and holds up
// no other. The error joins a *[ManifestError] for each.
func (h *Host) Load(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cannot load the plugins: %w", err)
	}
	dir, err := filepath.Abs(dir) // a plugin has a working folder of its own
	if err != nil {
		return fmt.Errorf("cannot load the plugins: %w", err)
	}
	all, broken, err := readManifests(dir)
	if err != nil {
		return err
	}
	errs := make([]error, 0, len(broken))
	wants, problems := make(map[string]*Manifest), make(map[string]*ManifestError)
	for i := range all {
		wants[all[i].Name] = &all[i]
	}
	for _, b := range broken {
		problems[b.name] = b.err
		errs = append(errs, b.err)
	}
	h.settle(wants, problems)
	return errors.Join(errs...)
}

// Retry has each plugin that waits to be restarted tried at once.
func (h *Host) Retry() {
	h.mu.Lock()
	slots := maps.Clone(h.slots)
	h.mu.Unlock()
	for _, s := range slots {
		s.again()
	}
}

// settle hands each slot what it wants from now on.
func (h *Host) settle(wants map[string]*Manifest, problems map[string]*ManifestError) {
	h.mu.Lock()
	for _, names := range []map[string]bool{keys(wants), keys(problems)} {
		for name := range names {
			if h.slots[name] == nil {
				h.slots[name] = newSlot(name, &h.opts, h.notify)
			}
		}
	}
	slots := maps.Clone(h.slots)
	h.mu.Unlock()

	owner, funcs := make(map[string]*slot), make(map[string]*slot)
	for _, name := range slices.Sorted(maps.Keys(slots)) {
		s, want := slots[name], wants[name]
		if problems[name] != nil {
			want, _ = s.wanted()
		}
		s.set(want, problems[name])
		if want == nil {
			continue
		}
		for _, d := range want.Drivers {
			if owner[d] == nil {
				owner[d] = s
			}
		}
		for _, f := range want.Functions {
			if funcs[f] == nil {
				funcs[f] = s
			}
		}
	}
	h.mu.Lock()
	h.owner, h.funcs = owner, funcs
	h.mu.Unlock()
	h.notify()
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

func keys[V any](m map[string]V) map[string]bool {
	set := make(map[string]bool, len(m))
	for k := range m {
		set[k] = true
	}
	return set
}

// Run keeps the plugins running until ctx ends; then it stops them, kills those
// that do not stop in time, and returns nil when all processes have ended. It is
// called once.
func (h *Host) Run(ctx context.Context) error {
	h.mu.Lock()
	ran := h.ran
	h.ran = true
	h.mu.Unlock()
	if ran {
		return errors.New("cannot run the plugins: they run already")
	}
	var running sync.WaitGroup
	defer running.Wait()
	started := make(map[*slot]bool)
	for {
		h.mu.Lock()
		for _, s := range h.slots {
			if !started[s] {
				started[s] = true
				running.Go(func() { s.run(ctx) })
			}
		}
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-h.kick:
		}
	}
}

// Lookup finds a driver that a plugin offers. ok is false until the plugin has run,
// and after its manifest changed until it has run again; [Host.Changed] tells. A
// driver that was found stays good: while its plugin is down, Check and Open return
// [ErrNotRunning]. For one manifest Lookup always returns an equal driver.
func (h *Host) Lookup(name string) (d drivers.Driver, ok bool) {
	h.mu.Lock()
	s := h.owner[name]
	h.mu.Unlock()
	if s == nil {
		return nil, false
	}
	edition, ok := s.offers(name)
	if !ok {
		return nil, false
	}
	return driver{slot: s, name: name, edition: edition}, true
}

// Drivers are all drivers that [Host.Lookup] finds now, by name.
func (h *Host) Drivers() map[string]drivers.Driver {
	h.mu.Lock()
	names := slices.Collect(maps.Keys(h.owner))
	h.mu.Unlock()
	all := make(map[string]drivers.Driver)
	for _, name := range names {
		if d, ok := h.Lookup(name); ok {
			all[name] = d
		}
	}
	return all
}

// Changed returns a channel that is closed at the next change of a plugin's state
// or manifest. Ask for it before looking, so that no change is missed.
func (h *Host) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

func (h *Host) notify() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.changed)
	h.changed = make(chan struct{})
}

// Status tells how each plugin is, sorted by name.
func (h *Host) Status() []PluginStatus {
	h.mu.Lock()
	slots := maps.Clone(h.slots)
	h.mu.Unlock()
	all := []PluginStatus{}
	for _, name := range slices.Sorted(maps.Keys(slots)) {
		if st := slots[name].status(); st != nil {
			all = append(all, *st)
		}
	}
	return all
}
