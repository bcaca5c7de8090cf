// Gatehouse turns a small computer into a gateway: an MQTT broker, a rules engine
// and device drivers in one program.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "dev"

func main() {
	// The script worker is this program again; it must start in milliseconds.
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		os.Exit(runWorker())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	root := newRoot(os.Args[1:])
	if err := root.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errTold) {
			fmt.Fprintln(os.Stderr, "gatehouse:", err)
		}
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

// errTold is the error of a command that has said what is wrong.
var errTold = errors.New("errors were found")

// newRoot makes the commands. The gateway itself, whose start is to be short, needs no
// other than its own.
func newRoot(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:           "gatehouse",
		Short:         "MQTT broker, rules engine and device drivers in one program",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newRun())
	if len(args) > 0 && args[0] == "run" {
		root.CompletionOptions.DisableDefaultCmd = true
		return root
	}
	root.AddCommand(newCheck(), newPub(), newSub(), newTest(), newRecord(), newReplay(), newRules(), newDevice(), newPasswd(), newStore(), newVersion())
	return root
}
