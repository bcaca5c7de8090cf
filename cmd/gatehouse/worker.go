package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// workerArg is the hidden subcommand that makes this program a script worker.
const workerArg = "worker"

// workerCommand starts this program as a script worker, whatever has become of its
// file in the meantime.
func workerCommand() []string { return []string{"/proc/self/exe", workerArg} }

// runWorker serves scripts on the inherited pipes until they close.
func runWorker() int {
	ctx, cancel := context.WithCancel(context.Background())
	trimmed := make(chan error, 1)
	up := make(chan struct{})
	close(up)
	go func() { trimmed <- trimLater(ctx, up) }()
	err := jsvm.Worker(ctx)
	cancel()
	if err = errors.Join(err, <-trimmed); err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse worker:", err)
		return 1
	}
	return 0
}
