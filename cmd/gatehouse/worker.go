package main

import (
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
	if err := jsvm.Worker(); err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse worker:", err)
		return 1
	}
	return 0
}
