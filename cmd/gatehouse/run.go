package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gatehouse/gatehouse/broker/listen"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/cmd/internal/gateway"
)

type runFlags struct {
	config string
	data   string
}

func newRun() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: `Run the gateway until it is interrupted or terminated.

Changed rules, devices and plugins take effect as they are saved; so does a changed
configuration file, and SIGHUP reads everything again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file (default: safe defaults, folders of the working directory)")
	cmd.Flags().StringVar(&f.data, "data", os.Getenv("STATE_DIRECTORY"), "data folder, with the Unix socket for local clients (default: $STATE_DIRECTORY, else none)")
	return cmd
}

func (f *runFlags) run(ctx context.Context, out io.Writer) error {
	cfg, err := config.Read(f.config, os.Environ())
	if err != nil {
		return err
	}
	level := &slog.LevelVar{}
	level.Set(cfg.LogLevel())
	log := newLog(out, cfg.Log.Format, level)
	sockets, err := listen.PassedSockets(os.Getenv)
	if err != nil {
		return err
	}
	defer boundMemory(os.Getenv)()
	notifier := gateway.NewNotifier(os.Getenv)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // before anything takes time: it would end the program
	defer signal.Stop(hangups)
	up := make(chan struct{})
	g, err := gateway.New(cfg, gateway.Options{
		Data: f.data, Log: log, Level: level, Sockets: sockets, Version: version, Worker: workerCommand(),
		Build: build(), Shipped: shipped,
		Up: func() {
			log.Info("gateway is up", "version", version, "pid", os.Getpid())
			tell(notifier, log, "READY=1")
			close(up)
		},
	})
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait.Go(func() { notifier.Watchdog(ctx, g.Alive) })
	wait.Go(func() {
		if err := trimLater(ctx, up); err != nil {
			log.Warn("cannot give back what only the start needed", "error", err)
		}
	})
	wait.Go(func() {
		r := reloader{file: f.config, now: cfg, gateway: g, log: log, notifier: notifier}
		r.run(ctx, hangups)
	})
	wait.Go(func() {
		<-ctx.Done()
		log.Info("stopping")
		tell(notifier, log, "STOPPING=1")
	})
	return g.Run(ctx)
}

func newLog(out io.Writer, format string, level slog.Leveler) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(out, opt))
	}
	return slog.New(slog.NewTextHandler(out, opt))
}

func tell(n gateway.Notifier, log *slog.Logger, state string) {
	if err := n.Tell(state); err != nil {
		log.Warn("cannot reach the service manager", "error", err)
	}
}

// reloader reads the configuration again on SIGHUP and when its file changes.
type reloader struct {
	file     string
	now      *config.Config // in force
	gateway  *gateway.Gateway
	log      *slog.Logger
	notifier gateway.Notifier
}

func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal) {
	changed := make(chan struct{}, 1)
	var wait sync.WaitGroup
	defer wait.Wait()
	if r.file != "" {
		wait.Go(func() {
			err := gateway.Watch(ctx, r.log, r.file, func() {
				select {
				case changed <- struct{}{}:
				default: // one is waiting
				}
			})
			if err != nil {
				r.log.Warn("the configuration file is not watched; SIGHUP reloads it", "error", err)
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			r.log.Info("reloading, told by SIGHUP")
			tell(r.notifier, r.log, gateway.Reloading())
			r.reload(ctx, true)
			tell(r.notifier, r.log, "READY=1")
		case <-changed:
			r.reload(ctx, false)
		}
	}
}

// reload reads the file again; a configuration that says the same is put into force
// only when asked to, which loads the folders again.
func (r *reloader) reload(ctx context.Context, always bool) {
	cfg, err := config.Read(r.file, os.Environ())
	if err == nil && !always && cfg.Equal(r.now) {
		return
	}
	if err == nil {
		err = r.gateway.Reload(ctx, cfg)
	}
	if err != nil {
		r.log.Error("configuration not reloaded; the former one stays in force", "error", err)
		return
	}
	r.now = cfg
	r.log.Info("configuration reloaded")
}
