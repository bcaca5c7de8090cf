// Command mochi is a broker made of github.com/mochi-mqtt/server, with its defaults,
// for cmd/bench to compare with. It is a module of its own, so that the gateway does
// not depend on it.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	address := flag.String("address", "127.0.0.1:1883", "where clients connect")
	queue := flag.Int("queue", 0, "messages that are kept for one client; 0 is the default of mochi")
	version := flag.Bool("version", false, "print the version of mochi and end")
	flag.Parse()
	if *version {
		fmt.Println("mochi-mqtt/server", mqtt.Version)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *address, *queue); err != nil {
		fmt.Fprintln(os.Stderr, "mochi:", err)
		os.Exit(1)
	}
}

// serve lets everybody in until ctx ends.
func serve(ctx context.Context, address string, queue int) error {
	capabilities := mqtt.NewDefaultServerCapabilities()
	if queue > 0 {
		capabilities.MaximumInflight = uint16(min(queue, 65535))
		capabilities.MaximumClientWritesPending = int32(queue)
	}
	server := mqtt.New(&mqtt.Options{
		Capabilities: capabilities,
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	if err := server.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: address})); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	<-ctx.Done()
	return server.Close()
}
