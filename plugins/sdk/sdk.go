package sdk

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins/wire"
)

// Plugin is what a plugin process offers.
type Plugin struct {
	// Name is the plugin's name, as in its manifest. Required.
	Name string
	// Version is for people: "1.0.0".
	Version string
	// Drivers are the drivers offered, by the name that device files call them.
	// The manifest lists the same names.
	Drivers map[string]drivers.Driver
	// Funcs are the functions offered to rules. The manifest lists the same names. A
	// plugin has drivers, functions, or both.
	Funcs []Func
}

func (p Plugin) check() error {
	if p.Name == "" {
		return fmt.Errorf("plugin has no name")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Drivers)) {
		if p.Drivers[name] == nil {
			return fmt.Errorf("plugin %q: driver %q is nil", p.Name, name)
		}
	}
	return p.checkFuncs()
}

// Serve serves the plugin until the gateway stops it or is gone; then it closes all
// devices and returns. A program calls it once, as the last thing in main. It sets
// the default logger of log/slog.
//
// Started by hand rather than by a gateway, it says so on the standard error and
// ends the process with status 1; so it does for a Plugin without a name, with a
// nil driver, or with a function that is not right.
func Serve(p Plugin) {
	if os.Getenv(wire.CookieKey) != wire.CookieValue {
		die("%s %s is a plugin of Gatehouse, which starts it from its manifest; see docs/plugins.md", p.Name, p.Version)
	}
	if err := p.check(); err != nil {
		die("%v", err)
	}
	// go-plugin will put pipes of its own in the place of os.Stderr.
	slog.SetDefault(slog.New(newLogHandler(os.Stderr)))
	setProcessName(p.Name)

	s := newServer(p, slog.Default())
	end := watchHost()
	stop := make(chan func(), 1)
	go func() {
		stopServing := <-stop
		<-end.reason
		s.shutdown()
		end.finish()
		stopServing()
	}()
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake(),
		Plugins:         plugin.PluginSet{wire.ServiceName: &service{server: s}},
		Logger:          hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr, DisableTime: true}),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			g := grpc.NewServer(append(opts,
				grpc.MaxRecvMsgSize(wire.MaxMessage),
				grpc.MaxSendMsgSize(wire.MaxMessage))...)
			stop <- g.Stop
			return g
		},
	})
	s.shutdown()
}

func handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion:  wire.ProtocolVersion,
		MagicCookieKey:   wire.CookieKey,
		MagicCookieValue: wire.CookieValue,
	}
}

func die(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}
