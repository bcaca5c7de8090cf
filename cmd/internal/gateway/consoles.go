package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/gatehouse/gatehouse/cmd/internal/console"
	"github.com/gatehouse/gatehouse/cmd/internal/exposition"
)

// APISocketName is the Unix socket in the data folder on which the console's API answers
// local commands, whether or not there is a console.
const APISocketName = "api.sock"

// openConsoles binds the address of the console and the API's socket. On an error those
// that it returns are open.
func (g *Gateway) openConsoles(ctx context.Context) (all []net.Listener, err error) {
	if address := g.config().Console.Address; address != "" {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("cannot open the console: %w", err)
		}
		all = append(all, ln)
		g.opt.Log.Info("console", "url", "http://"+ln.Addr().String())
	}
	if g.opt.Data == "" {
		return all, nil
	}
	path := filepath.Join(g.opt.Data, APISocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that was killed: the socket beside it is ours by now
		return all, fmt.Errorf("cannot open the API's socket: %w", err)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return all, fmt.Errorf("cannot open the API's socket: %w", err)
	}
	all = append(all, ln)
	if err := os.Chmod(path, 0o600); err != nil {
		return all, fmt.Errorf("cannot close the API's socket to others: %w", err)
	}
	return all, nil
}

// newConsole is a console on a listener.
func (g *Gateway) newConsole(ln net.Listener) (*console.Console, error) {
	o := console.Options{
		Listener: ln, Source: view{g}, Listeners: view{g}.listeners, History: pastView{g.history}, Store: view{g}.store,
		Hook: g.hooks.run, Metrics: exposition.Handler(g.metrics), Ready: g.Ready, Version: g.opt.Version, Log: g.opt.Log.With("part", "console"),
	}
	if ln.Addr().Network() == "unix" { // of who may do everything
		o.Record = g.record
		o.Wire = wire{g.devices, "gatehouse " + g.opt.Version}
	}
	return console.New(o)
}
