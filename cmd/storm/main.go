// Storm measures what many connections that say nothing cost a running gateway, and
// what they cost somebody else: a canary that publishes to itself meanwhile.
//
//	make build && go run ./cmd/storm -n 10000
//
// For each protocol it starts the gateway anew, opens the connections, connects
// their clients or leaves them mute, and prints what the resident memory of the
// process has grown by, and how long the canary's messages took, while the connections
// were opened and while they stood. Mute ones are closed by the gateway after its CONNECT
// deadline, so their memory is the peak.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	n := flag.Int("n", 10_000, "connections")
	binary := flag.String("binary", "bin/gatehouse", "the gateway")
	protocols := flag.String("protocols", "mqtt,mqtts,ws,wss", "what to measure")
	opener := flag.Int("openers", 32, "connections opened at once")
	hold := flag.Duration("hold", 4*time.Second, "how long the canary goes on when all are open")
	nest := flag.String("canary", "", "be the canary of the gateway at this address")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *nest != "" {
		if err := beCanary(ctx, *nest, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "storm: canary: %v\n", err)
			stop()
			os.Exit(1) //nolint:gocritic // stop has been called
		}
		return
	}
	fmt.Printf("%-18s %6s %9s %8s   %-23s   %-23s\n", "", "", "", "", "canary while they open", "and when they stand")
	fmt.Printf("%-18s %6s %9s %8s   %7s %7s %7s   %7s %7s %7s %8s\n", "connections", "open", "RSS +MiB", "B each",
		"p50 ms", "p99 ms", "max ms", "p50 ms", "p99 ms", "max ms", "took")
	for protocol := range strings.SplitSeq(*protocols, ",") {
		for _, mute := range []bool{false, true} {
			s := storm{binary: *binary, protocol: protocol, mute: mute, n: *n, openers: *opener, hold: *hold}
			if err := s.run(ctx); err != nil {
				fmt.Fprintf(os.Stderr, "storm: %s: %v\n", s.name(), err)
				stop()
				os.Exit(1) //nolint:gocritic // stop has been called
			}
		}
	}
}
