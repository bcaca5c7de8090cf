package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// loop serves many connections from one goroutine, so that the load costs little
// of the processors that it shares with the broker: all that has come to a
// connection is read at once, and answered at once.
type loop struct {
	epoll  int
	conns  []*conn // by slot
	free   []int   // slots without a connection
	events [512]unix.EpollEvent
	buf    [256 << 10]byte
}

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &loop{epoll: fd}, nil
}

// add takes a connection in; its handle is set.
func (l *loop) add(c *conn) error {
	if n := len(l.free); n > 0 {
		c.slot, l.free = l.free[n-1], l.free[:n-1]
		l.conns[c.slot] = c
	} else {
		c.slot = len(l.conns)
		l.conns = append(l.conns, c)
	}
	if err := l.control(unix.EPOLL_CTL_ADD, c); err != nil {
		return err
	}
	return l.take(c, c.rest) // what came with the last answer
}

func (l *loop) control(op int, c *conn) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.slot)}
	if c.blocked {
		e.Events |= unix.EPOLLOUT
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, op, c.fd, &e))
}

// drop closes one connection.
func (l *loop) drop(c *conn) error {
	l.conns[c.slot] = nil
	l.free = append(l.free, c.slot)
	return c.close()
}

// close closes all.
func (l *loop) close() error {
	var errs []error
	for _, c := range l.conns {
		if c != nil {
			errs = append(errs, l.drop(c))
		}
	}
	return errors.Join(append(errs, os.NewSyscallError("close", unix.Close(l.epoll)))...)
}

// flush writes what the connection has to write, now or when it can.
func (l *loop) flush(c *conn) error {
	if err := c.flush(); err != nil {
		return err
	}
	if blocked := len(c.out) > 0; blocked != c.blocked {
		c.blocked = blocked
		return l.control(unix.EPOLL_CTL_MOD, c)
	}
	return nil
}

// poll serves what has come. If nothing has, it waits as long as it may, but
// looks at ctx now and then.
func (l *loop) poll(ctx context.Context, wait time.Duration) error {
	if wait > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := unix.NsecToTimespec(int64(min(wait, 100*time.Millisecond)))
		fds := []unix.PollFd{{Fd: int32(l.epoll), Events: unix.POLLIN}}
		if n, err := unix.Ppoll(fds, &at, nil); n <= 0 {
			if errors.Is(err, unix.EINTR) {
				err = nil
			}
			return os.NewSyscallError("ppoll", err)
		}
	}
	n, err := unix.EpollWait(l.epoll, l.events[:], 0)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("epoll_wait", err)
	}
	for _, e := range l.events[:max(n, 0)] {
		c := l.conns[e.Fd]
		if c == nil { // dropped by the event of another
			continue
		}
		if e.Events&unix.EPOLLOUT != 0 {
			if err := l.flush(c); err != nil {
				return err
			}
		}
		if e.Events&^unix.EPOLLOUT != 0 {
			if err := l.read(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// read takes what has come to one connection, and writes the answers.
func (l *loop) read(c *conn) error {
	had := copy(l.buf[:], c.rest)
	n, err := unix.Read(c.fd, l.buf[had:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case c.ended != nil && (err == nil && n == 0 || errors.Is(err, unix.ECONNRESET)):
		return c.ended()
	case err == nil && n == 0:
		return io.ErrUnexpectedEOF
	case err != nil:
		return os.NewSyscallError("read", err)
	}
	return l.take(c, l.buf[:had+n])
}

// take handles the packets of b, keeps what is left, and writes the answers.
func (l *loop) take(c *conn, b []byte) error {
	for {
		f, err := nextFrame(b)
		if err != nil {
			return err
		}
		if f.size == 0 {
			break
		}
		if err := c.handle(f); err != nil {
			return err
		}
		b = b[f.size:]
	}
	c.rest = append(c.rest[:0], b...)
	if c.blocked {
		return nil
	}
	return l.flush(c)
}
