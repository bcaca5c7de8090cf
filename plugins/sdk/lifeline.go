package sdk

import (
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	plugin "github.com/hashicorp/go-plugin"

	"github.com/gatehouse/gatehouse/plugins/wire"
)

// lastWords is how long the process may take to end after its gateway is gone, on
// top of closeTimeout. Then it is killed whatever it does.
const lastWords = 2 * time.Second

// lifeline watches over the gateway: the standard input is a pipe that the gateway
// keeps open and silent. When the gateway stops the plugin it says so and closes the
// pipe; when it dies, in whatever way, the pipe just ends.
//
// The kernel watches, too: the gateway starts a plugin so that it gets SIGTERM when
// the gateway dies. That ends a plugin that never comes to this line; here it means
// the same as the end of the pipe, so that devices can be closed first. A plugin
// that is stopped at that time (SIGSTOP) is woken by the kernel with SIGHUP, since
// its process group has lost its parent.
type lifeline struct {
	reason chan struct{} // closed when it is time to end
	once   sync.Once
	asked  bool // the gateway said farewell and is there; set before reason is closed
}

func watchHost() *lifeline {
	l := &lifeline{reason: make(chan struct{})}

	// A log line to a gateway that is gone must not end the process before its
	// devices are closed: with a channel, SIGPIPE is an error of Write, which the
	// log ignores.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-terminate
		l.end(false)
	}()

	in := os.Stdin
	os.Stdin = nil // it is nobody else's
	go func() {
		said, _ := io.ReadAll(io.LimitReader(in, int64(len(wire.Farewell)))) // an error is an end, too
		l.end(string(said) == wire.Farewell)
	}()
	return l
}

// end starts the end, once, and makes sure that it comes.
func (l *lifeline) end(asked bool) {
	l.once.Do(func() {
		l.asked = asked
		close(l.reason)
		time.AfterFunc(closeTimeout+lastWords, func() {
			killGroup()
			os.Exit(1)
		})
	})
}

// finish is called with all devices closed. When the gateway is gone, nobody else
// will kill what the plugin started, so it takes its process group with it. That the
// gateway is gone cannot be seen: while its threads die one by one, the first of
// them sends SIGTERM and the process still has its parent.
func (l *lifeline) finish() {
	if !l.asked {
		removeSockets()
		killGroup()
	}
}

// removeSockets removes the folder that the gateway made for this process.
func removeSockets() {
	if dir := os.Getenv(plugin.EnvUnixSocketDir); dir != "" {
		_ = os.RemoveAll(dir)
		_ = os.Remove(filepath.Dir(dir)) // if nothing else is in it
	}
}

// killGroup kills the process and its children, if it leads its group as the
// gateway made it.
func killGroup() {
	if syscall.Getpgrp() == os.Getpid() {
		_ = syscall.Kill(0, syscall.SIGKILL)
	}
}

// setProcessName makes ps and top show the plugin's name; without it they show the
// descriptor that the program was started from. It is a nicety: errors do not matter.
func setProcessName(name string) {
	f, err := os.OpenFile("/proc/self/comm", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	_, _ = f.WriteString(name)
	_ = f.Close()
}
