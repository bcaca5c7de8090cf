package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gatehouse/gatehouse/rules/jsvm"
)

// workerArg is the hidden subcommand that makes this program a script worker.
const workerArg = "worker"

// workerCommand starts this program as a script worker, whatever has become of its
// file in the meantime.
func workerCommand() []string { return []string{"/proc/self/exe", workerArg} }

// shipped is what the scripts of the demo house declare: the gateway need not wait for the
// worker to say so. `make generate` writes it.
//
//go:generate env GENERATE=1 go test -count=1 -run ^TestShippedScriptsAreKnown$ .
//go:embed shipped.txt
var shipped []byte

// build tells this program from others, of the same version, too.
func build() string {
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return ""
	}
	return fmt.Sprint(version, " ", info.Size(), " ", info.ModTime().UnixNano())
}

// translated is how long after that a worker has compiled the scripts of most folders, on
// a slow machine, too; what that took is given back a second time.
const translated = 2 * time.Second

// runWorker serves scripts on the inherited pipes until they close. Its memory is bounded
// by the gateway.
func runWorker() int {
	if os.Getenv("GOGC") == "" {
		defer pace(calmPercent, spareWorker)()
	}
	ctx, cancel := context.WithCancel(context.Background())
	trimmed := make(chan error, 1)
	go func() { trimmed <- errors.Join(trimAfter(ctx, started), trimAfter(ctx, translated)) }()
	err := jsvm.Worker(ctx)
	cancel()
	if err = errors.Join(err, <-trimmed); err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse worker:", err)
		return 1
	}
	return 0
}
