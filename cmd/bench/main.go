// Command bench compares the gateway's broker with Debian's mosquitto on this
// machine. It is a development tool and no part of the gateway.
//
//	make bench                              # everything, about ten minutes
//	go run ./cmd/bench -quick               # one short run of each, about 20 s
//	go run ./cmd/bench -only "fan-in.*QoS 1" -runs 5
//
// For each scenario it starts a fresh broker on a free loopback port, drives it,
// stops it, and does the same with the other; who begins changes with each run.
// Both are driven by the same load, written with this project's own packet codec:
//
//   - fan-in: 50 publishers with a topic each, one subscriber to all of them; at
//     QoS 0 with one packet a write and with 16, at QoS 1 and 2 with one.
//   - fan-out: one publisher, 100 subscribers to its topic.
//   - pairs: 100 publishers with a subscriber each.
//   - latency: 10 publishers send 1,000 messages a second in all, whatever comes
//     back; the time is that from just before the write to just after the read.
//   - idle: 2,000 connections with a subscription each and nothing to do.
//
// Fan-in, fan-out and pairs are closed loops: a publisher has at most a window of
// messages under way that are not delivered, or not acknowledged, so that no queue
// grows and both brokers work at the pace they can. The load shares the processors
// with the broker, so messages a second are those of both together; the processor
// time is the broker's alone.
//
// What is printed, as the median over the runs and the least and the most:
//
//   - CPU us/msg: user and system time of the broker's process and its children,
//     by their own clocks, a delivered message, warm-up left out.
//   - msg/s: delivered messages a second of the same period.
//   - p50 us, p99 us: latency.
//   - KiB/conn: growth of the resident set with the connections, a connection.
//   - MiB idle: the resident set before the first connection.
//
// Every message carries its publisher and a sequence number, and every one is
// accounted for: a row whose messages were lost, came twice or out of order says
// so, whatever its figures. The exit status is 1 if the gateway's did.
//
// The gateway runs with its defaults and the console off, mosquitto with
// anonymous clients and without persistence; in the latency rows mosquitto also
// has set_tcp_nodelay, which the gateway always has. Mosquitto's queues are
// without bound: by default 2.0.11 loses messages of QoS 1 and 2 here, because it
// counts all that it has ever queued for a client against 1,000 (no more than 820
// are under way at once).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// options are what the command line says.
type options struct {
	ours    string
	runs    int
	time    time.Duration // that is measured of each run; a quarter more warms up
	idle    int           // connections
	size    int           // of a payload in bytes
	only    *regexp.Regexp
	version packet.Version
}

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	faulty, err := bench(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || faulty {
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

func parse(args []string) (*options, error) {
	o := &options{}
	set := flag.NewFlagSet("bench", flag.ExitOnError)
	quick := set.Bool("quick", false, "one run of 0.7 s each and 500 idle connections, about 20 s; the figures are rough")
	only := set.String("only", "", "regular expression of the scenarios to run")
	mqtt := set.String("mqtt", "3.1.1", "version that the clients speak: 3.1.1 or 5.0")
	set.StringVar(&o.ours, "ours", "bin/gatehouse", "the gateway's binary")
	set.IntVar(&o.runs, "runs", 5, "runs of each scenario and broker")
	set.DurationVar(&o.time, "time", 4*time.Second, "time that is measured of each run")
	set.IntVar(&o.idle, "idle", 2000, "connections of the idle scenario")
	set.IntVar(&o.size, "size", 100, "payload in bytes, at least 20")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if *quick {
		o.runs, o.time, o.idle = 1, 700*time.Millisecond, min(o.idle, 500)
	}
	switch *mqtt {
	case "3.1.1":
		o.version = packet.V311
	case "5.0":
		o.version = packet.V5
	default:
		return nil, fmt.Errorf("-mqtt is %q, must be 3.1.1 or 5.0", *mqtt)
	}
	if o.runs < 1 || o.time <= 0 || o.idle < 1 || o.size < headerSize || set.NArg() > 0 {
		return nil, fmt.Errorf("-runs, -time and -idle must be above 0, -size at least %d, and nothing may follow", headerSize)
	}
	var err error
	o.only, err = regexp.Compile(*only)
	return o, err
}

// bench runs every scenario and prints the table.
func bench(ctx context.Context, o *options) (faulty bool, err error) {
	// Children inherit a limit that was set, and not the one that Go sets itself.
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		files.Cur = files.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files) // many connections say so if it was needed
	}
	// Debian's mosquitto is where not every user looks.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin"); err != nil {
		return false, err
	}
	sides := []side{ours(o), mosquitto()}
	fmt.Println(machine())
	for _, s := range sides {
		fmt.Printf("%s: %s\n", s.name, s.version(ctx))
	}
	fmt.Printf("%d runs, %v each, payload %d bytes, MQTT %s\n\n", o.runs, o.time, o.size, o.version)
	var table table
	for _, s := range scenarios(o) {
		if !o.only.MatchString(s.name) {
			continue
		}
		for run := range o.runs {
			for i := range sides {
				side := sides[(run+i)%len(sides)]
				progress("%s: %s, run %d", s.name, side.name, run+1)
				r, err := once(ctx, side, s, o)
				if err != nil {
					return false, fmt.Errorf("%s: %s: %w", s.name, side.name, err)
				}
				table.add(s.name, side.name, r)
			}
		}
		progress("")
	}
	fmt.Print(table.String())
	return table.faulty(sides[0].name), nil
}

// progress replaces the last line of a terminal.
func progress(format string, args ...any) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r\033[K"+format, args...)
	}
}

// once starts a broker, runs one scenario on it and stops it.
func once(ctx context.Context, side side, s scenario, o *options) (r result, err error) {
	p, err := start(ctx, side, s.nodelay)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	return s.run(ctx, p, o)
}
