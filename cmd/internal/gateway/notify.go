package gateway

import (
	"context"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier tells a service manager how the program is doing (sd_notify(3)).
type Notifier struct {
	socket   string
	interval time.Duration // of the watchdog; 0 is none
}

// NewNotifier reads NOTIFY_SOCKET and WATCHDOG_USEC through getenv. Without them
// its methods do nothing.
func NewNotifier(getenv func(string) string) Notifier {
	n := Notifier{socket: getenv("NOTIFY_SOCKET")}
	if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		n.interval = time.Duration(usec) * time.Microsecond
	}
	return n
}

// Tell sends states such as "READY=1", one a line. A manager that is not there is
// no error worth more than the returned one.
func (n Notifier) Tell(state string) error {
	if n.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte(state))
	return err
}

// Watchdog tells the manager twice an interval that the program is alive, as long
// as alive returns nil. It blocks until ctx ends.
func (n Notifier) Watchdog(ctx context.Context, alive func(context.Context) error) {
	if n.interval == 0 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(n.interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			check, cancel := context.WithTimeout(ctx, n.interval/2)
			if alive(check) == nil {
				_ = n.Tell("WATCHDOG=1") // the manager acts when it hears nothing
			}
			cancel()
		}
	}
}

// Reloading is the state that says a reload begins; "READY=1" says that it ended.
func Reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return "RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)
}
