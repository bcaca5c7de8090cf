package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/gatehouse/gatehouse/plugins/wire"
)

// lastGasp is how long a process whose handshake failed may take to end by itself.
const lastGasp = 200 * time.Millisecond

// pingLimit is how many health checks in a row a plugin may miss.
const pingLimit = 2

// instance is one run of a plugin, from its start to its end.
type instance struct {
	manifest *Manifest
	opts     *Options
	proc     *process
	client   *plugin.Client
	dir      string // its sockets
	driver   wire.DriverClient
	funcs    wire.FuncClient
	offered  map[string]*offeredFunc // the functions of the manifest, by name
	turns    chan struct{}           // capacity maxFuncCalls: one for each call of a function
	version  string
	pid      int
	devices  atomic.Uint64 // the last identifier given to a device

	mu    sync.Mutex
	conns []*grpc.ClientConn // dialed by go-plugin
}

// startInstance starts the program and returns once it has shaken hands and offers
// what its manifest says. Nothing is left of it when it fails.
func startInstance(ctx context.Context, m *Manifest, o *Options, log *slog.Logger) (*instance, error) {
	i, err := newInstance(m, o, log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.proc.program.Close() }()
	if err := i.greet(ctx); err != nil {
		i.end()
		return nil, err
	}
	return i, nil
}

// newInstance opens the program, which the caller closes, and starts nothing.
func newInstance(m *Manifest, o *Options, log *slog.Logger) (*instance, error) {
	dir, err := socketDir(o.RunDir)
	if err != nil {
		return nil, err
	}
	prog, err := openProgram(m)
	if err != nil {
		_ = os.Remove(dir)
		return nil, err
	}
	i := &instance{
		manifest: m, opts: o, dir: dir,
		offered: make(map[string]*offeredFunc), turns: make(chan struct{}, maxFuncCalls),
	}
	i.proc = newProcess(m, prog, &output{log: log})
	i.client = plugin.NewClient(i.config())
	return i, nil
}

// maxSocketDir is how long the path of a folder for sockets may be: a socket's path
// has at most 107 bytes, of which go-plugin takes up to 38 for names of its own.
const maxSocketDir = 107 - len("/plugin-dir4294967295") - len("/plugin4294967295")

func socketDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "gh-")
	if err != nil {
		return "", fmt.Errorf("cannot make a folder for sockets: %w", err)
	}
	if len(dir) > maxSocketDir {
		_ = os.Remove(dir)
		return "", fmt.Errorf("cannot make a folder for sockets: path %q is longer than %d bytes", dir, maxSocketDir)
	}
	return dir, nil
}

func (i *instance) config() *plugin.ClientConfig {
	return &plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  wire.ProtocolVersion,
			MagicCookieKey:   wire.CookieKey,
			MagicCookieValue: wire.CookieValue,
		},
		Plugins:          plugin.PluginSet{wire.ServiceName: service{}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     i.opts.StartTimeout,
		Logger:           hclog.NewNullLogger(), // what matters is in the errors
		SyncStdout:       &lineWriter{out: i.proc.out},
		SyncStderr:       &lineWriter{out: i.proc.out},
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: i.dir},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			i.proc.env = append(i.environment(), cmd.Env...)
			return i.proc, nil
		},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(
				grpc.MaxCallRecvMsgSize(wire.MaxMessage),
				grpc.MaxCallSendMsgSize(wire.MaxMessage)),
			grpc.WithChainStreamInterceptor(i.noteConn),
		},
	}
}

// environment is what the plugin gets of ours.
func (i *instance) environment() []string {
	var env []string
	names := append([]string{"PATH", "TZ", "LANG"}, i.manifest.Env...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if v, ok := i.opts.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// noteConn notes the connection of each stream. go-plugin forgets to close the one
// it dialed when the plugin dies before its first stream stands.
func (i *instance) noteConn(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	next grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	i.mu.Lock()
	if !slices.Contains(i.conns, cc) {
		i.conns = append(i.conns, cc)
	}
	i.mu.Unlock()
	return next(ctx, desc, cc, method, opts...)
}

// greet does everything up to the first answer, within the start timeout.
func (i *instance) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, i.opts.StartTimeout)
	defer cancel()
	// go-plugin knows no context, but it notices when the process dies.
	defer context.AfterFunc(ctx, i.proc.kill)()

	err := i.connect(ctx)
	if err == nil {
		if err = i.proc.program.unchanged(); err != nil {
			err = fmt.Errorf("%w: %q: %w", ErrRefused, i.proc.Name(), err)
		}
	}
	if err == nil || errors.Is(err, ErrRefused) {
		return err
	}
	return i.explain(ctx, err)
}

func (i *instance) connect(ctx context.Context) error {
	protocol, err := i.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(wire.ServiceName)
	if err != nil {
		return err
	}
	words := raw.(clients)
	i.driver, i.funcs, i.pid = words.driver, words.funcs, i.proc.pid()
	list, err := i.driver.List(ctx, &wire.ListRequest{})
	if err != nil {
		return err
	}
	i.version = list.GetVersion()
	if list.GetName() != i.manifest.Name {
		return fmt.Errorf("%w: the program calls itself %q, the manifest %q", ErrRefused, list.GetName(), i.manifest.Name)
	}
	for _, d := range i.manifest.Drivers {
		if !slices.Contains(list.GetDrivers(), d) {
			return fmt.Errorf("%w: it offers no driver %q, only %q", ErrRefused, d, list.GetDrivers())
		}
	}
	return i.listFuncs(ctx)
}

// explain says why the handshake failed in words of ours.
func (i *instance) explain(ctx context.Context, err error) error {
	p := i.proc
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("it did not finish its handshake within %v%s", i.opts.StartTimeout, quoted(p.out.lastWords()))
	case ctx.Err() != nil:
		return ctx.Err()
	case p.pid() == 0:
		return err
	}
	p.await(lastGasp) // if it is ending by itself, its status tells more
	p.kill()
	<-p.done
	hello, natural := p.verdict()
	switch {
	case hello != "" && strings.Count(hello, "|") < 4:
		return fmt.Errorf("%w: it is not a plugin of Gatehouse: its first line is %q", ErrRefused, shorten(hello))
	case natural:
		return fmt.Errorf("it ended before its handshake was done (%s)", p.ending())
	}
	return fmt.Errorf("its handshake failed: %w", err)
}

func quoted(words string) string {
	if words == "" {
		return ""
	}
	return fmt.Sprintf(" (its last words: %q)", shorten(words))
}

func shorten(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// watch returns when the process has ended, is hung and was killed, or when ctx
// ends and it was stopped. The error tells why it ended; it is nil when ctx ended.
func (i *instance) watch(ctx context.Context) error {
	defer i.end()
	ping := time.NewTicker(i.opts.PingEvery)
	defer ping.Stop()
	missed := 0
	for {
		select {
		case <-ctx.Done():
			i.stop()
			return nil
		case <-i.proc.done:
			return fmt.Errorf("it ended by itself (%s)", i.proc.ending())
		case <-ping.C:
			if i.ping(ctx) {
				missed = 0
				continue
			}
			if missed++; missed >= pingLimit && ctx.Err() == nil {
				i.proc.kill()
				return fmt.Errorf("it hung: no answer to %d health checks of %v", missed, i.opts.PingEvery)
			}
		}
	}
}

// ping asks for a sign of life.
func (i *instance) ping(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, i.opts.PingEvery)
	defer cancel()
	_, err := i.driver.List(ctx, &wire.ListRequest{})
	return err == nil
}

// stop asks the process to end, and kills it when it does not.
func (i *instance) stop() {
	i.proc.farewell()
	if !i.proc.await(i.opts.StopTimeout) {
		i.proc.out.log.Warn("plugin did not stop in time and is killed", "after", i.opts.StopTimeout)
	}
}

// end kills the process if it still runs and gives back all that it had.
func (i *instance) end() {
	i.proc.kill()
	if i.proc.pid() != 0 {
		<-i.proc.done
	}
	// Only now: go-plugin would wait without bound for a plugin that hangs.
	i.client.Kill()
	i.mu.Lock()
	conns := i.conns
	i.mu.Unlock()
	for _, cc := range conns {
		_ = cc.Close() // most are closed already
	}
	_ = os.RemoveAll(i.dir)
}

// down reports whether the process has ended.
func (i *instance) down() bool {
	select {
	case <-i.proc.done:
		return true
	default:
		return false
	}
}

// clients are the words to one plugin process.
type clients struct {
	driver wire.DriverClient
	funcs  wire.FuncClient
}

// service tells go-plugin how to make them.
type service struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer implements plugin.GRPCPlugin; the host serves nothing.
func (service) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("a gateway is not a plugin")
}

// GRPCClient implements plugin.GRPCPlugin.
func (service) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, cc *grpc.ClientConn) (any, error) {
	return clients{driver: wire.NewDriverClient(cc), funcs: wire.NewFuncClient(cc)}, nil
}
