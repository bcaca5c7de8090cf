package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// side is one of the brokers that are compared.
type side struct {
	name    string
	ours    bool
	binary  string
	asks    []string // arguments that make it tell its version
	config  func(port uint16, n needs) string
	command func(config string, port uint16, n needs) []string // arguments that make it run
}

// needs are what a row asks of every broker beyond its defaults.
type needs struct {
	nodelay  bool // mosquitto's set_tcp_nodelay
	whole    bool // with all that it starts by default; of the gateway, the console too
	retained int  // messages
	queue    int  // messages that one client's queue has to hold
}

func gatehouse(name, binary string) side {
	return side{
		name: name, ours: true, binary: binary, asks: []string{"version"},
		config: func(port uint16, n needs) string {
			console := ""
			if n.whole {
				console = "127.0.0.1:0"
			}
			return fmt.Sprintf("broker:\n  listeners:\n    - {address: \"127.0.0.1:%d\", protocol: mqtt}\n"+
				"  anonymous: true\nconsole: {address: %q}\n", port, console)
		},
		command: func(config string, _ uint16, _ needs) []string { return []string{"run", "--config", config} },
	}
}

// mosquitto is as Debian ships it, without persistence. Its queues have no bound:
// 2.0.11 counts all messages that it has ever queued for a client against the 1,000
// that a queue may hold by default, and loses some here.
func mosquitto(binary string) side {
	return side{
		name: "mosquitto", binary: binary, asks: []string{"-h"},
		config: func(port uint16, n needs) string {
			return fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\n"+
				"max_queued_messages 1000000000\nset_tcp_nodelay %v\n", port, n.nodelay)
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
func (s *side) find() error {
	path, err := exec.LookPath(s.binary)
	if err != nil {
		return fmt.Errorf("%s cannot be run (make bench builds or installs what it compares): %w", s.name, err)
	}
	s.binary, err = filepath.Abs(path)
	return err
}

// version is the first line that the binary says when asked.
func (s side) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, s.binary, s.asks...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // mosquitto -h exits with 3
		return "", err
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}
