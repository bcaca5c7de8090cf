// Command bench compares the gateway with others on this machine: its broker with
// Debian's mosquitto and with a program made of mochi-mqtt/server, its rules with
// Node-RED beside a mosquitto. It is a development tool and no part of the gateway.
//
//	make bench                                       # everything, about half an hour
//	make bench BENCHFLAGS='-only fan-in -runs 5'     # some rows
//	make bench BENCHFLAGS='-only "^R[0-9]"'          # what rules cost
//	bin/bench -list                                  # the names of all rows
//	bin/bench -ours old=/tmp/old -ours new=bin/gatehouse -peers '' -only 'fan|pairs'
//	bin/bench -only pairs -profile /tmp/profiles     # and where the time goes, by perf
//
// Every run starts fresh brokers on free loopback ports. They stand beside each
// other, and the load goes to one after the other in slices of half a second, so
// that what disturbs the machine disturbs all; who begins changes with each slice
// and run. All are driven by the same load, from one thread that reads and answers
// all that has come to a connection at once:
//
//   - fan-in: 50 publishers with a topic each, one subscriber to all of them; at
//     QoS 0 with one packet a write and with 16, at QoS 1 and 2 with one.
//   - fan-out: one publisher, 100 or 1,000 subscribers to its topic.
//   - pairs: 100 publishers with a subscriber each.
//   - routing: 50 publishers to 30 subscribers, when each has one filter and when
//     there are 100,000 filters, all of those 30 used by turns. The growth is that
//     of the CPU time a message.
//   - retained: 100,000 retained messages, then a subscriber to #; the time from
//     CONNECT to the last message.
//   - drain: 50,000 messages of QoS 1 for a client that is away, then it connects;
//     messages a second from its CONNECT to the last message.
//   - connect: 16 connections at a time, each of which ends as soon as it is answered.
//   - open loop: 10 publishers send 1,000 or 5,000 messages a second in all, whatever
//     comes back; the latency is that from just before the write to just after the read.
//   - idle: 9,000 connections with a subscription each and nothing to do.
//   - start: a broker that has just come up; of the gateway, with all its parts.
//
// Rows with rules have 100 publishers with a topic each, 16 packets a write, JSON
// payloads, and one subscriber to what the rules make of them:
//
//   - R0: no rule; the subscriber hears the publishers. R1: one rule on a wildcard that
//     always fires. R3: a rule for each topic. R4: 100 rules on one wildcard, of which
//     one fires. R6: the mean of the last ten values a topic. R7: a script with a loop
//     and state; Node-RED has a function with its context.
//
//   - publish -> action: R1, and the same as a script, in an open loop.
//
//   - reloads: while 1,000 messages come a second, a rule file is written anew (of
//     Node-RED, the flows are deployed) as soon as the version before has acted. The
//     rule counts the messages of each topic; a count that begins again is state lost.
//
//   - start to first firing: of the gateway; of Node-RED, whose mosquitto goes on running.
//
//   - rules against none: the resident memory that 1,000 rules or 100 scripts add.
//
//   - wire -> YAML -> wire: a Modbus unit is polled; a rule writes what it reads in one
//     register into another one. The latency is from just before the answer with a
//     change is sent to just after the write of it came, so the wait for the poll is
//     no part of it; over RTU, on a pseudo terminal, the silence of 1.75 ms that the line
//     needs before a request is left out, too.
//
// Fan-in, fan-out, pairs and routing are closed loops: a publisher has at most 16
// messages under way that are not delivered, or not acknowledged, so that no queue
// grows and each broker works at the pace it can. The load shares the processors
// with the broker, so what is done in a second is done by both together; the
// processor time is the broker's alone.
//
// What is printed is the median over the runs, and the least and the most:
//
//   - CPU us: user and system time of the broker's process and its children, by
//     their own clocks, a delivered message or a connection, warm-up left out.
//   - KiB/conn: growth of the resident memory with the connections, a connection.
//   - MiB: resident memory. Both when it has come to rest.
//   - R0 us/msg: CPU us of the same clients without a rule, in a second gateway (or
//     mosquitto and idle Node-RED) which has its slices between those of the first, and
//     us/msg above: the difference.
//   - MiB more, MiB worker: the first of the gateway alone, or of mosquitto and Node-RED;
//     the second of the script worker, which is not there without scripts.
//   - per second: what was done in a second of the load.
//   - The ratio of ours to mosquitto's or Node-RED's, or without mosquitto to the first side's: of
//     the same run, then the median of those.
//
// Every message carries its publisher and a sequence number, and every one is
// accounted for: a row whose messages were lost, came twice or out of order is
// void and says so. The exit status is 1 if that happens to the gateway, or if it
// cannot do a row; a bound that is missed is only told, for times depend on the
// machine. Rows say so if something else used it meanwhile.
//
// The gateway runs with its defaults and the console off, mosquitto with
// anonymous clients and without persistence, mochi with its defaults; the limits of
// queues are raised where a row needs it. In the rows that say nodelay mosquitto has
// set_tcp_nodelay, which the others always have.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	faulty, err := do(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case faulty:
		os.Exit(1)
	}
}

type options struct {
	ours    []side
	peers   []side
	red     []side // that run rules
	only    *regexp.Regexp
	version packet.Version
	runs    int
	slices  int
	time    time.Duration // a run, a broker
	idle    int
	reloads int
	size    int
	profile string
	list    bool
}

func parse(args []string) (*options, error) {
	o := &options{}
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.Func("ours", "a gateway's binary, as PATH or NAME=PATH; may be given again to compare versions (bin/gatehouse)", func(v string) error {
		name, path, ok := strings.Cut(v, "=")
		if !ok {
			name, path = "gatehouse", v
		}
		if name == "" || path == "" {
			return errors.New("must be PATH or NAME=PATH")
		}
		o.ours = append(o.ours, gatehouse(name, path))
		return nil
	})
	peers := set.String("peers", "mosquitto,mochi,node-red", "the others, with commas between; node-red is for the rows with rules")
	mosquittoBinary := set.String("mosquitto", "mosquitto", "mosquitto's binary")
	mochiBinary := set.String("mochi", "bin/bench-mochi", "binary of cmd/bench/mochi")
	nodeRedFolder := set.String("node-red", "bin/node-red", "folder into which npm has put Node-RED")
	only := set.String("only", "", "regular expression for the names of rows")
	mqtt := set.String("mqtt", "3.1.1", "version that the clients speak: 3.1.1 or 5.0")
	quick := set.Bool("quick", false, "one short run of each row, to see that all works")
	set.IntVar(&o.runs, "runs", 3, "runs of each row")
	set.IntVar(&o.slices, "slices", 4, "slices of each run")
	set.DurationVar(&o.time, "time", 2*time.Second, "time that is measured of each broker in each run")
	set.IntVar(&o.idle, "idle", 9000, "connections of the idle row")
	set.IntVar(&o.reloads, "reloads", 1000, "versions of a rule file in the rows that reload")
	set.IntVar(&o.size, "size", 100, "payload in bytes, 20 to 65536")
	set.StringVar(&o.profile, "profile", "", "folder for profiles of ours, taken by perf in the first run, which they slow down a little")
	set.BoolVar(&o.list, "list", false, "print the names of the rows and end")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if *quick {
		o.runs, o.slices, o.time, o.idle, o.reloads = 1, 1, 300*time.Millisecond, min(o.idle, 500), min(o.reloads, 20)
	}
	switch *mqtt {
	case "3.1.1":
		o.version = packet.V311
	case "5.0":
		o.version = packet.V5
	default:
		return nil, fmt.Errorf("-mqtt is %q, must be 3.1.1 or 5.0", *mqtt)
	}
	if o.runs < 1 || o.slices < 1 || o.time <= 0 || o.idle < 1 || o.reloads < 1 || o.size < headerSize || o.size > 65536 || set.NArg() > 0 {
		return nil, fmt.Errorf("-runs, -slices, -time, -idle and -reloads must be above 0, -size %d to 65536, and nothing may follow", headerSize)
	}
	if len(o.ours) == 0 {
		o.ours = []side{gatehouse("gatehouse", "bin/gatehouse")}
	}
	names := map[string]bool{}
	for name := range strings.SplitSeq(*peers, ",") {
		switch strings.TrimSpace(name) {
		case "":
		case "mosquitto":
			o.peers = append(o.peers, mosquitto(*mosquittoBinary))
		case "mochi":
			o.peers = append(o.peers, mochi(*mochiBinary))
		case "node-red":
			o.red = append(o.red, nodeRed(*nodeRedFolder, *mosquittoBinary))
		default:
			return nil, fmt.Errorf("-peers names %q, must be mosquitto, mochi or node-red", name)
		}
	}
	for _, s := range append(o.sides(), o.red...) {
		if names[s.name] {
			return nil, fmt.Errorf("two sides are called %q: give one another name by -ours NAME=PATH", s.name)
		}
		names[s.name] = true
	}
	var err error
	o.only, err = regexp.Compile(*only)
	return o, err
}

func (o *options) sides() []side { return append(append([]side{}, o.ours...), o.peers...) }

type bench struct {
	o     *options
	sides []side
	table *table
}

// do runs all rows and prints the table.
func do(ctx context.Context, args []string) (faulty bool, err error) {
	o, err := parse(args)
	if err != nil {
		return false, err
	}
	if o.list {
		for _, r := range slices.Concat(rows(o), ruleRows(o), controlRows()) {
			fmt.Println(r.name)
		}
		return false, nil
	}
	if err := environment(o); err != nil {
		return false, err
	}
	if err := o.find(ctx); err != nil {
		return false, err
	}
	fmt.Println(machine())
	fmt.Printf("a system call takes %.2f us\n", systemCall())
	for _, s := range append(o.sides(), o.red...) {
		version, err := s.version(ctx)
		if err != nil {
			return false, fmt.Errorf("%s cannot be run: %w", s.name, err)
		}
		fmt.Printf("%s: %s\n", s.name, version)
	}
	fmt.Printf("%d runs, %v each, payload %d bytes, MQTT %s\n", o.runs, o.time, o.size, o.version)
	runtime.LockOSThread() // the load is this thread
	faulty, err = o.contest(ctx, o.sides(), rows(o))
	for _, more := range []struct {
		sides []side
		rows  []row
	}{{slices.Concat(o.ours, o.red), ruleRows(o)}, {o.ours, controlRows()}} {
		if err != nil {
			break
		}
		var bad bool
		bad, err = o.contest(ctx, more.sides, more.rows)
		faulty = faulty || bad
	}
	return faulty, err
}

// find looks for what is to be compared. Node-RED may be missing.
func (o *options) find(ctx context.Context) error {
	for _, sides := range [][]side{o.ours, o.peers, o.red} {
		for i := range sides {
			err := sides[i].find(ctx)
			if errors.Is(err, errNoNodeRed) {
				fmt.Printf("the rows with rules are without Node-RED: %v\n", err)
				o.red = nil
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// contest does the rows of one table that are asked for, and prints it.
func (o *options) contest(ctx context.Context, sides []side, all []row) (faulty bool, err error) {
	b := &bench{o: o, sides: sides, table: newTable(sides)}
	for _, r := range all {
		if !o.only.MatchString(r.name) {
			continue
		}
		if err = b.row(ctx, r); err != nil {
			break // what there is by then is printed
		}
	}
	progress("")
	if len(b.table.rows) > 0 {
		fmt.Print("\n", b.table.String())
	}
	return b.table.faulty(), err
}

func (b *bench) row(ctx context.Context, r row) error {
	w, err := newWatch()
	if err != nil {
		return err
	}
	b.table.rows = append(b.table.rows, r)
	for run := range b.o.runs {
		if err := b.run(ctx, r, run); err != nil {
			return err
		}
	}
	later, err := newWatch()
	b.table.others[r.name] = w.others(later, runtime.NumCPU())
	return err
}

// environment prepares what the brokers inherit.
func environment(o *options) error {
	// Children inherit a limit that was set, and not the one that Go sets itself.
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return os.NewSyscallError("setrlimit", err)
	}
	if spare := 200; uint64(o.idle+spare) > files.Cur {
		fmt.Printf("WARNING: at most %d descriptors may be open (ulimit -n), so the idle row has %d connections and not %d\n",
			files.Cur, int(files.Cur)-spare, o.idle)
		o.idle = int(files.Cur) - spare
	}
	// Debian's mosquitto is where not every user looks.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin"); err != nil {
		return err
	}
	if o.profile != "" {
		for _, s := range o.ours {
			if err := profilable(s.binary); err != nil {
				return err
			}
		}
	}
	return nil
}
