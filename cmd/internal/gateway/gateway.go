package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/broker/listen"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/durable"
	"github.com/gatehouse/gatehouse/broker/store/history"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/drivers/discovery"
	"github.com/gatehouse/gatehouse/plugins"
	"github.com/gatehouse/gatehouse/rules"
)

// SocketName is the Unix socket in the data folder that local commands connect to.
const SocketName = "gatehouse.sock"

// Options are what the configuration does not say.
type Options struct {
	// Data is the data folder; it is made if it is missing. Empty keeps nothing
	// and opens no Unix socket.
	Data string
	// Log is the program's log; nil discards.
	Log *slog.Logger
	// Level is the level of Log, which Reload changes; nil leaves it alone.
	Level *slog.LevelVar
	// Sockets are those that a service manager passed; nil is none.
	Sockets *listen.Sockets
	// Version is the program's.
	Version string
	// Worker is the command that starts a script worker. Required.
	Worker []string
	// Build and Shipped are what the gateway remembers of scripts: see jsvm.Options.
	Build   string
	Shipped []byte
	// Up is called once, when every part is up; nil is not called.
	Up func()
}

// Gateway is the wired program. New makes one; Run runs it, once.
type Gateway struct {
	opt Options

	store     store.Store
	history   *history.History
	access    *auth.Authority
	broker    *broker.Server
	rules     *rules.Engine
	tap       *tap // before the rules
	hooks     *hooks
	devices   *drivers.Host
	discovery *discovery.Publisher
	plugins   *plugins.Host

	closeLanguages func() error // ends the script worker

	up        atomic.Bool
	loading   sync.Mutex    // one Reload or folder load at a time
	ruleLoads atomic.Uint64 // how often the folder of rules was loaded
	moved     chan struct{} // capacity 1: the folders to watch are others

	told map[string]string // by folder: what was wrong with it when it was last loaded; loading guards it

	accessFiles, ruleFiles, deviceFiles settler

	mu        sync.Mutex
	cfg       *config.Config
	listeners []*listen.Listener // once they are open
}

// New builds the parts and starts nothing.
func New(cfg *config.Config, opt Options) (*Gateway, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{opt: opt, cfg: cfg, store: newStore(cfg, opt), moved: make(chan struct{}, 1), told: make(map[string]string)}
	policy, err := readPolicy(cfg)
	if err != nil {
		return nil, err
	}
	g.access = auth.New(auth.Options{AdminListener: g.adminListener(), Log: opt.Log.With("part", "broker"), Policy: policy})
	g.warnOfReaders(cfg)
	languages, closeLanguages, err := newLanguages(opt)
	if err != nil {
		return nil, err
	}
	g.closeLanguages = closeLanguages
	kept := &keeper{store: g.store}
	if g.plugins, err = plugins.New(plugins.Options{Log: opt.Log.With("part", "plugins"), StopTimeout: pluginStopTime}); err != nil {
		return nil, err
	}
	engine := rulesOptions(&cfg.Rules, languages, opt.Log.With("part", "rules"))
	engine.Keeper, engine.Fetcher, engine.Funcs = kept, newFetcher(&cfg.Rules.HTTP), g.plugins.Funcs()
	if g.rules, err = rules.New(engine); err != nil {
		return nil, err
	}
	if g.hooks, err = newHooks(g.rules, cfg.Rules.Hooks); err != nil {
		return nil, err
	}
	g.tap = &tap{rules: g.rules}
	options := broker.Options{
		Store:       g.store,
		Authorizer:  g.access,
		Limits:      cfg.Broker.Limits.Broker(),
		Interceptor: g.tap,
		Log:         opt.Log.With("part", "broker"),
		Version:     "gatehouse " + opt.Version,
	}
	cfg.Broker.Apply(&options)
	if g.broker, err = broker.New(options); err != nil {
		return nil, err
	}
	kept.server = g.broker
	g.history, err = history.New(history.Options{
		Store: g.store, Log: opt.Log.With("part", "history"),
		Topics: cfg.History.Topics, Age: cfg.History.Age, Bytes: cfg.History.Bytes, Series: cfg.History.Series,
	})
	if err != nil {
		return nil, err
	}
	folder := func() string { return g.config().Devices.Folder }
	g.devices, err = newDevices(drivers.Options{
		Lookup: g.plugins.Lookup, History: g.keepSamples, Log: opt.Log.With("part", "devices"), Folder: folder,
	}, newCodec(languages, opt.Log.With("part", "devices")))
	if err != nil {
		return nil, err
	}
	g.discovery, err = discovery.New(discovery.Options{
		Devices:  g.devices.Described,
		Retained: func(filter string) []message.Message { return g.broker.Retained(filter, math.MaxInt) },
		All:      cfg.Discovery.Devices, Node: cfg.Discovery.Node,
		Version: opt.Version, Log: opt.Log.With("part", "discovery"),
		HomeAssistant: discovery.HomeAssistantOptions{Prefix: cfg.Discovery.HomeAssistant.Prefix},
		Sparkplug:     discovery.SparkplugOptions{Group: cfg.Discovery.Sparkplug.Group, PrimaryHost: cfg.Discovery.Sparkplug.PrimaryHost},
		Homie:         discovery.HomieOptions{Prefix: cfg.Discovery.Homie.Prefix},
	})
	return g, err
}

// keepSamples takes numbers of devices into the history.
func (g *Gateway) keepSamples(samples []drivers.Sample) {
	for _, s := range samples {
		g.history.Keep(s.Series, s.At, s.Value)
	}
}

// adminListener is the name of the Unix socket whose clients act as the local admin:
// only who runs the gateway can open it. It is empty if there is none.
func (g *Gateway) adminListener() string {
	if g.opt.Data == "" {
		return ""
	}
	return listenerName(config.Listener{Address: filepath.Join(g.opt.Data, SocketName), Protocol: "unix"})
}

func listenerName(l config.Listener) string { return l.Protocol + "://" + l.Address }

// Run opens the listeners, starts the parts, and blocks until ctx ends or a part
// fails.
func (g *Gateway) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, g.store.Close()) }()
	defer func() { err = errors.Join(err, g.closeLanguages()) }()
	if g.opt.Data != "" {
		if err := durable.MakeDir(g.opt.Data, 0o700); err != nil {
			return fmt.Errorf("cannot make the data folder: %w", err)
		}
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	compiled := make(chan error, 1)
	wait.Go(func() { compiled <- g.loadRules(starting) }) // while the listeners and the store are opened
	parts := []part{
		{name: "broker", run: g.broker.Run, ready: g.broker.Ready()},
		{name: "rules", run: func(ctx context.Context) error { return g.runRules(ctx, compiled) }, ready: g.rules.Ready()},
		{name: "history", run: func(ctx context.Context) error { return g.history.Run(ctx, g.broker) }},
		{name: "plugins", run: g.runPlugins},
		{name: "devices", run: g.runDevices, ready: g.devices.Ready()},
		{name: "discovery", run: func(ctx context.Context) error { return g.discovery.Run(ctx, g.broker) }},
	}
	fronts, err := g.open(ctx)
	if err != nil {
		return err
	}
	parts = append(parts, fronts...)
	parts = append(parts, part{name: "file watch", run: g.watch}, part{name: "listener status", run: g.listenerStatus}, part{name: "trace", run: g.traceTopics})
	defer g.up.Store(false)
	return runParts(ctx, g.opt.Log, parts, func() {
		g.up.Store(true)
		if g.opt.Up != nil {
			g.opt.Up()
		}
	})
}

// open binds every address, so that one that is taken stops the start, and returns
// the parts that serve them. On an error nothing stays open.
func (g *Gateway) open(ctx context.Context) (parts []part, err error) {
	var bound []net.Listener
	defer func() {
		if err == nil {
			return
		}
		for _, l := range bound {
			_ = l.Close() // the error at hand says more
		}
	}()
	listeners := g.config().Broker.Listeners
	if g.opt.Data != "" {
		listeners = append(slices.Clone(listeners), config.Listener{Address: filepath.Join(g.opt.Data, SocketName), Protocol: "unix"})
	}
	var opened []*listen.Listener
	for i := range listeners {
		ln, err := g.openListener(ctx, &listeners[i])
		if err != nil {
			return nil, err
		}
		bound, opened = append(bound, ln), append(opened, ln)
		parts = append(parts, part{name: "listener " + ln.Stats().Name, run: func(ctx context.Context) error { return g.serve(ctx, ln) }})
	}
	if unused := g.opt.Sockets.Unused(); len(unused) > 0 {
		g.opt.Log.Warn("systemd passed sockets that no listener names", "sockets", unused)
	}
	g.mu.Lock()
	g.listeners = opened
	g.mu.Unlock()
	consoles, err := g.openConsoles(ctx)
	bound = append(bound, consoles...)
	if err != nil {
		return nil, err
	}
	for _, ln := range consoles {
		c, err := g.newConsole(ln)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{name: "console " + ln.Addr().Network(), run: c.Run})
	}
	return parts, nil
}

// Healthy returns nil while every part is up and messages are taken.
func (g *Gateway) Healthy() error {
	if !g.up.Load() {
		return errors.New("starting or stopping")
	}
	return nil
}

// Ready returns nil while every part is up and what is to be kept can be kept.
func (g *Gateway) Ready() error { return errors.Join(g.Healthy(), g.storeProblem()) }

// Alive returns nil if the broker takes a message: a program that hangs does not
// answer, and its watchdog barks.
func (g *Gateway) Alive(ctx context.Context) error {
	if err := g.Healthy(); err != nil {
		return err
	}
	return g.broker.Publish(ctx, message.Message{Topic: "$SYS/gatehouse/heartbeat"})
}

func (g *Gateway) config() *config.Config {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cfg
}

// runRules waits for the first load and fails if the folder cannot be read: without
// filters nothing may pass.
func (g *Gateway) runRules(ctx context.Context, loaded <-chan error) error {
	var err error
	select {
	case err = <-loaded:
	case <-ctx.Done():
	}
	for _, err := range each(err) {
		var file *rules.Error
		if !errors.As(err, &file) {
			return err
		}
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-g.rules.Outdated():
				_ = g.loadRules(ctx) // told in the log, file by file
			}
		}
	})
	return g.rules.Run(ctx, g.broker)
}

func (g *Gateway) runDevices(ctx context.Context) error {
	_ = g.loadDevices(ctx) // told in the log, file by file
	return g.devices.Run(ctx, g.broker)
}

// runPlugins also tells the devices when the drivers of plugins come and go.
func (g *Gateway) runPlugins(ctx context.Context) error {
	_ = g.loadPlugins(ctx) // told in the log, file by file
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait.Go(func() {
		for {
			changed := g.plugins.Changed() // asked for first: what changes meanwhile is not missed
			_ = g.refreshDevices(ctx)      // told in the log, file by file
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	})
	return g.plugins.Run(ctx)
}

func (g *Gateway) loadRules(ctx context.Context) error {
	return g.load(ctx, "rules", func(ctx context.Context, cfg *config.Config) error {
		if g.up.Load() {
			g.ruleFiles.settle(ctx, cfg.Rules.Folder)
		}
		err := g.rules.Load(ctx, g.ruleFolder(cfg.Rules.Folder))
		if g.ruleLoads.Add(1) > 1 { // else the rules wait for it; the watch of the folder loads it once more soon
			g.keepVersion(ctx, cfg.Rules.Folder, err)
		}
		return err
	})
}

func (g *Gateway) loadDevices(ctx context.Context) error {
	return g.load(ctx, "devices", func(ctx context.Context, cfg *config.Config) error {
		if g.up.Load() {
			g.deviceFiles.settle(ctx, cfg.Devices.Folder)
		}
		return g.devices.Load(ctx, os.DirFS(cfg.Devices.Folder))
	})
}

// refreshDevices has the drivers of plugins judge the device files that wait for them.
// A plugin that ends meanwhile says nothing of a file: it is asked when it is back.
func (g *Gateway) refreshDevices(ctx context.Context) error {
	return g.load(ctx, "devices", func(context.Context, *config.Config) error {
		return errors.Join(slices.DeleteFunc(each(g.devices.Refresh()), func(err error) bool {
			return errors.Is(err, plugins.ErrNotRunning)
		})...)
	})
}

func (g *Gateway) loadPlugins(ctx context.Context) error {
	return g.load(ctx, "plugins", func(ctx context.Context, cfg *config.Config) error {
		return g.plugins.Load(ctx, cfg.Plugins.Folder)
	})
}

// load reads one folder. What is wrong with a file is told in the log, file by file,
// and returned; the files that are right are in force.
func (g *Gateway) load(ctx context.Context, what string, load func(context.Context, *config.Config) error) error {
	g.loading.Lock()
	defer g.loading.Unlock()
	began := time.Now()
	err := load(ctx, g.config())
	if ctx.Err() != nil {
		return nil
	}
	if news := fmt.Sprint(err); news != g.told[what] {
		g.told[what] = news
		g.tell(what, err)
	}
	g.opt.Log.Debug("folder loaded", "folder", what, "errors", len(each(err)), "after", time.Since(began))
	return err
}

func (g *Gateway) tell(what string, err error) {
	for _, e := range each(err) {
		g.opt.Log.Error("a file is not right; what was in force before stays", "folder", what, "error", e)
	}
}

// each takes joined errors apart.
func each(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, each(e)...)
	}
	return all
}
