package serial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openQuiet opens a terminal that the runtime's poller does not watch: it would wake a
// thread for every character, awaited or not, which is 200 times a frame of 100 registers
// at 9600 baud. Reads and writes never wait; see [gate].
func openQuiet(path string) (*os.File, error) {
	var fd int
	var err error
	for { // without O_NONBLOCK the open may wait for a carrier for ever
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	// The poller takes what does not block when it becomes a File.
	err = unix.SetNonblock(fd, false)
	file := os.NewFile(uintptr(fd), path)
	if err == nil {
		err = control(file, func(fd int) { err = unix.SetNonblock(fd, true) })
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// gate is how one goroutine waits for a terminal to have something to read. It is an
// epoll instance with that terminal and a timer, which the runtime's poller watches in
// their place: while nobody waits, nothing wakes anybody. The runtime's own timers are up
// to a millisecond late, which is most of the silence between two frames.
type gate struct {
	file  *os.File // the instance
	raw   syscall.RawConn
	timer *os.File
	tty   int // only its number: who closes it, ends its place in the instance
}

func newGate(tty *os.File) (g *gate, err error) {
	g = &gate{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot watch it: %w", err), g.close())
		}
	}()
	if err := control(tty, func(fd int) { g.tty = fd }); err != nil {
		return g, err
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return g, err
	}
	err = unix.SetNonblock(fd, true) // or the poller does not take it
	g.file = os.NewFile(uintptr(fd), "epoll")
	if err != nil {
		return g, err
	}
	if g.raw, err = g.file.SyscallConn(); err != nil {
		return g, err
	}
	if fd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC); err != nil {
		return g, err
	}
	g.timer = os.NewFile(uintptr(fd), "timer") // which blocks: the poller does not take it
	if err := g.ask(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
		return g, err
	}
	return g, g.ask(unix.EPOLL_CTL_ADD, g.tty, 0)
}

// ask changes what of a descriptor is waited for; 0 is nothing.
func (g *gate) ask(change, fd int, events uint32) error {
	var failed error
	err := g.raw.Control(func(instance uintptr) {
		failed = unix.EpollCtl(int(instance), change, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	})
	if err != nil {
		return err
	}
	return failed
}

// ring has the timer end a wait after d; 0 is never.
func (g *gate) ring(d time.Duration) error {
	var failed error
	err := control(g.timer, func(fd int) {
		failed = unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	})
	if err != nil {
		return err
	}
	return failed
}

// wait returns when something can be read, or the terminal hung up. The error is
// os.ErrDeadlineExceeded after d, and any after close. Below 0, d is for ever.
func (g *gate) wait(d time.Duration) error {
	if d == 0 {
		return os.ErrDeadlineExceeded
	}
	if err := g.ring(max(d, 0)); err != nil {
		return err
	}
	if err := g.ask(unix.EPOLL_CTL_MOD, g.tty, unix.EPOLLIN); err != nil {
		return err
	}
	readable, err := g.event()
	quiet := g.ask(unix.EPOLL_CTL_MOD, g.tty, 0)
	if readable && d > 0 { // what rings later would wake somebody
		quiet = errors.Join(quiet, g.ring(0))
	}
	if err = errors.Join(err, quiet); err == nil && !readable {
		err = os.ErrDeadlineExceeded
	}
	return err
}

// sleep returns after d, and not for anything that comes; before that only as the terminal
// hangs up. The error is that of ctx, or any after close.
func (g *gate) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	if err := g.ring(d); err != nil {
		return err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = g.file.SetReadDeadline(time.Unix(1, 0)) // it is closed: that wakes, too
	})
	hungUp, err := g.event()
	if !stop() {
		<-woken
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			err = errors.Join(ctx.Err(), g.file.SetReadDeadline(time.Time{}))
		}
	}
	if hungUp || err != nil { // what rings later would wake somebody
		err = errors.Join(err, g.ring(0))
	}
	return err
}

// event waits for the terminal or the timer, whatever of them is asked for.
func (g *gate) event() (tty bool, err error) {
	var failed error
	err = g.raw.Read(func(instance uintptr) bool {
		var events [2]unix.EpollEvent
		var n int
		if n, failed = unix.EpollWait(int(instance), events[:], 0); errors.Is(failed, unix.EINTR) {
			failed = nil
		}
		for _, e := range events[:max(n, 0)] {
			tty = tty || int(e.Fd) == g.tty
		}
		return n > 0 || failed != nil
	})
	return tty, errors.Join(err, failed)
}

func (g *gate) close() error {
	var all []error
	for _, f := range []*os.File{g.file, g.timer} {
		if f != nil {
			all = append(all, f.Close())
		}
	}
	return errors.Join(all...)
}
