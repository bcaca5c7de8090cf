// Hostd is a gateway with nothing but plugins, for tests to kill. It runs the
// plugins of a folder (the first argument), opens a device in the driver "probe" that marks its end (the second), lets it start a child,
// and then prints the numbers of both processes.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	h, err := plugins.New(plugins.Options{})
	if err != nil {
		return err
	}
	if err := h.Load(ctx, dir); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- h.Run(ctx) }()
	for {
		changed := h.Changed()
		if d, ok := h.Lookup("probe"); ok {
			return use(ctx, h, d)
		}
		for _, st := range h.Status() {
			fmt.Println("state", st.State)
			if st.LastError != "" {
				return fmt.Errorf("plugin %s", st)
			}
		}
		<-changed
	}
}

func use(ctx context.Context, h *plugins.Host, d drivers.Driver) error {
	cfg, err := drivers.ParseConfig("it", "it.yaml", []byte("driver: probe\nmark: "+os.Args[2]+"\n"))
	if err != nil {
		return err
	}
	dev, err := d.Open(ctx, cfg)
	if err != nil {
		return err
	}
	readings, err := dev.Read(ctx, []string{"pid", "child"})
	if err != nil {
		return err
	}
	fmt.Println("pids", readings[0].Value, readings[1].Value)
	select {}
}
