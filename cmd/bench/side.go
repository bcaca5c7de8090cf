package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// side is one of the brokers that are compared.
type side struct {
	name    string
	ours    bool
	limits  bool // its configuration has limits
	binary  string
	red     string   // the folder of Node-RED, if that is the side
	asks    []string // arguments that make it tell its version
	config  func(port uint16, n needs) string
	command func(config string, port uint16, n needs) []string // arguments that make it run
}

// needs are what a row asks of every broker beyond its defaults.
type needs struct {
	nodelay  bool // mosquitto's set_tcp_nodelay
	data     bool // the gateway keeps its state on disk; of mosquitto, see persist
	persist  bool // mosquitto keeps its state on disk, as it does if it is told to
	whole    bool // with all that it starts by default; of the gateway, the console too
	retained int  // messages
	queue    int  // messages that one client's queue has to hold
	rules    *ruleset
}

func gatehouse(name, binary string) side {
	return side{
		name: name, ours: true, binary: binary, asks: []string{"version"},
		config: gatehouseConfig,
		command: func(config string, _ uint16, n needs) []string {
			args := []string{"run", "--config", config}
			if n.data {
				args = append(args, "--data", filepath.Join(filepath.Dir(config), "data"))
			}
			return args
		},
	}
}

// rulesFolder is that of the rules, beside the configuration.
const rulesFolder = "rules"

func gatehouseConfig(port uint16, n needs) string {
	console := ""
	if n.whole {
		console = "127.0.0.1:0"
	}
	text := fmt.Sprintf("console: {address: %q}\nbroker:\n  anonymous: true\n"+
		"  listeners:\n    - {address: \"127.0.0.1:%d\", protocol: mqtt}\n", console, port)
	if n.rules != nil {
		text = "rules: {folder: " + rulesFolder + "}\n" + text
	}
	var limits []string
	if n.queue > 0 {
		limits = append(limits, fmt.Sprintf("queue_messages: %d, queue_bytes: %d", n.queue, n.queue<<10))
	}
	if n.retained > 0 { // and what $SYS retains
		limits = append(limits, fmt.Sprintf("retained_messages: %d", n.retained+1000))
	}
	if limits == nil {
		return text
	}
	return text + "  limits: {" + strings.Join(limits, ", ") + "}\n"
}

// mosquitto is as Debian ships it, without persistence. Its queues have no bound:
// 2.0.11 counts all messages that it has ever queued for a client against the 1,000
// that a queue may hold by default, and loses some here.
func mosquitto(binary string) side {
	return side{
		name: "mosquitto", binary: binary, asks: []string{"-h"},
		config: func(port uint16, n needs) string {
			text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence %v\n"+
				"max_queued_messages 1000000000\nset_tcp_nodelay %v\n", port, n.persist, n.nodelay)
			if n.persist && os.Getuid() == 0 {
				text += "user root\n" // who may write where it is started
			}
			return text
		},
		command: func(config string, _ uint16, _ needs) []string { return []string{"-c", config} },
	}
}

// mochi is the program of cmd/bench/mochi.
func mochi(binary string) side {
	return side{
		name: "mochi", binary: binary, asks: []string{"-version"},
		config: func(uint16, needs) string { return "" },
		command: func(_ string, port uint16, n needs) []string {
			return []string{"-address", fmt.Sprintf("127.0.0.1:%d", port), "-queue", fmt.Sprint(max(n.queue, n.retained))}
		},
	}
}

// find makes the binary's path one that any folder can be left for.
func (s *side) find(ctx context.Context) error {
	path, err := exec.LookPath(s.binary)
	if err != nil {
		return fmt.Errorf("%s cannot be run (make bench builds or installs what it compares): %w", s.name, err)
	}
	if s.binary, err = filepath.Abs(path); err != nil || !s.ours && s.red == "" {
		return err
	}
	if s.red != "" {
		return s.redFound()
	}
	s.limits, err = s.takes(ctx, gatehouseConfig(1883, needs{queue: 1}))
	return err
}

// takes reports whether a gateway accepts a configuration; those of the first
// version know no limits, and rows that need others show what they lose.
func (s *side) takes(ctx context.Context, config string) (yes bool, err error) {
	folder, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	file := filepath.Join(folder, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return false, err
	}
	err = exec.CommandContext(ctx, s.binary, "check", "--config", file).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return false, nil
	}
	return err == nil, err
}

// version is the first line that the binary says when asked.
func (s side) version(ctx context.Context) (string, error) {
	if s.red != "" {
		return s.redVersion(ctx)
	}
	out, err := exec.CommandContext(ctx, s.binary, s.asks...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // mosquitto -h exits with 3
		return "", err
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}
