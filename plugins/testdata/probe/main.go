// Probe is a plugin that does what tests ask it for: well or badly.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
	"github.com/gatehouse/gatehouse/plugins/sdk"
)

func main() {
	bad := flag.String("bad", "", "what to do instead of serving")
	name := flag.String("name", "probe", "what to call itself")
	flag.Parse()
	misbehave(*bad)
	sdk.Serve(sdk.Plugin{
		Name:    *name,
		Version: "0.1",
		Drivers: map[string]drivers.Driver{"probe": driver{}, "probe.two": driver{}},
		Funcs:   funcs(),
	})
}

func misbehave(how string) {
	switch how {
	case "stuck":
		_, _ = fmt.Fprintln(os.Stderr, "waiting for a server that is not there")
		signalless()
	case "deaf":
		signalless()
	case "exit":
		_, _ = fmt.Fprintln(os.Stderr, "no license found")
		os.Exit(3)
	case "hello":
		fmt.Println("hello world")
		signalless()
	case "vanish": // a handshake, and nobody behind it
		cert := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", 60)))
		fmt.Printf("1|1|unix|/nonexistent/socket|grpc|%.40s\n", cert)
		os.Exit(4)
	case "long": // a first line without an end
		fmt.Print(strings.Repeat("x", 1<<20))
		signalless()
	}
}

// signalless stays until it is killed.
func signalless() {
	for {
		<-time.After(time.Hour)
	}
}

type driver struct{}

type file struct {
	drivers.Common `yaml:",inline"`
	Open           string `yaml:"open"`  // how to open: lost, fail, slow, panic
	Push           bool   `yaml:"push"`  // be a Pusher
	Wrong          bool   `yaml:"wrong"` // two places at once
	Mark           string `yaml:"mark"`  // a file that Close makes
}

func decode(cfg drivers.Config) (file, error) {
	var f file
	if err := cfg.Decode(&f); err != nil {
		return f, err
	}
	if f.Wrong {
		return f, fmt.Errorf("two things: %w", errors.Join(cfg.Errorf("$.wrong", "first"), cfg.Errorf("$.open", "second")))
	}
	return f, nil
}

func points() []drivers.Point {
	return []drivers.Point{
		{Name: "value", Unit: "°C", Writable: true, Every: 1234567 * time.Nanosecond, Deadband: 0.1, Longest: time.Hour},
		{Name: "do", Writable: true},
	}
}

func (driver) Check(cfg drivers.Config) ([]drivers.Point, error) {
	if _, err := decode(cfg); err != nil {
		return nil, err
	}
	return points(), nil
}

func (driver) Open(ctx context.Context, cfg drivers.Config) (drivers.Device, error) {
	f, err := decode(cfg)
	if err != nil {
		return nil, err
	}
	switch f.Open {
	case "fail":
		return nil, errors.New("nobody answers")
	case "lost":
		return nil, fmt.Errorf("no port: %w", drivers.ErrLost)
	case "slow":
		<-ctx.Done()
	case "panic":
		panic("at the disco")
	}
	slog.Debug("probe open", "device", cfg.Device)
	d := &device{mark: f.Mark}
	if f.Push {
		return &pusher{device: d, words: make(chan drivers.Pushed)}, nil
	}
	return d, nil
}

type device struct {
	mark   string
	mu     sync.Mutex
	value  drivers.Value
	inside int
	most   int // calls at once, ever
}

func (d *device) Points() []drivers.Point { return points() }

func (d *device) Read(ctx context.Context, names []string) ([]drivers.Reading, error) {
	d.enter(1)
	defer d.enter(-1)
	var out []drivers.Reading
	for _, name := range names {
		r := drivers.Reading{Point: name, At: time.Unix(1700000000, 123456789)}
		switch name {
		case "value":
			r.Value = d.value
		case "env":
			r.Value = drivers.TextValue(strings.Join(os.Environ(), "\n"))
		case "pid":
			r.Value = drivers.IntValue(int64(os.Getpid()))
		case "most":
			r.Value = drivers.IntValue(int64(d.most))
		case "bad":
			r.Quality, r.Err = drivers.Bad, errors.New("exception 2")
		case "zero":
			r.At = time.Time{}
		case "child":
			r.Value = drivers.IntValue(int64(spawn()))
		case "lost":
			return nil, fmt.Errorf("unplugged: %w", drivers.ErrLost)
		case "slow": // deaf to ctx for a while
			<-time.After(300 * time.Millisecond)
		case "panic":
			panic("read " + name)
		}
		out = append(out, r)
	}
	return out, nil
}

func (d *device) enter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside += n
	d.most = max(d.most, d.inside)
}

func (d *device) Write(_ context.Context, point string, v drivers.Value) error {
	if point == "value" {
		d.value = v
		return nil
	}
	what, arg, _ := strings.Cut(v.String(), " ")
	switch what {
	case "exit":
		os.Exit(5)
	case "crash":
		go func() { panic("crashed on purpose") }()
		signalless()
	case "freeze":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		signalless() // it may take a moment to stop
	case "flood":
		n, _ := strconv.Atoi(arg)
		for i := range n {
			slog.Info("flood", "line", i)
		}
	case "chatter":
		n, _ := strconv.Atoi(arg)
		for i := range n {
			slog.Debug("chatter", "line", i)
		}
		slog.Warn("the valve sticks")
	case "long":
		slog.Error("the valve broke", "valve", 7, "report", strings.Repeat("é", 8<<10))
	case "deep":
		deep(50)
	case "print":
		fmt.Println(arg)
	case "log":
		slog.Warn(arg, "exact", uint64(1)<<63)
	case "refuse":
		return errors.New("refused by the device")
	}
	return nil
}

// deep panics below many calls.
func deep(calls int) int {
	if calls == 0 {
		panic("out of depth")
	}
	return deep(calls-1) + 1
}

func (d *device) Close() error {
	if d.mark == "" {
		return nil
	}
	return os.WriteFile(d.mark, nil, 0o644)
}

func spawn() int {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		return 0
	}
	return cmd.Process.Pid
}

type pusher struct {
	*device
	words chan drivers.Pushed
	once  sync.Once
}

func (p *pusher) Pushed() <-chan drivers.Pushed { return p.words }

func (p *pusher) Write(ctx context.Context, point string, v drivers.Value) error {
	switch v.String() {
	case "push":
		p.words <- drivers.Pushed{Readings: []drivers.Reading{{Point: "value", Value: drivers.IntValue(7), Quality: drivers.Stale}}}
	case "noise":
		p.words <- drivers.Pushed{Err: errors.New("cannot understand 0x00")}
	case "unplug":
		p.words <- drivers.Pushed{Err: fmt.Errorf("gone: %w", drivers.ErrLost)}
		p.once.Do(func() { close(p.words) })
	default:
		return p.device.Write(ctx, point, v)
	}
	return nil
}

func (p *pusher) Close() error {
	p.once.Do(func() { close(p.words) })
	return nil
}
