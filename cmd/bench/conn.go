package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// patience is how long a broker may take for one answer.
const patience = 10 * time.Second

// conn is one connection: a socket that never blocks. It is first used by itself
// (dial, ask), then by a loop.
type conn struct {
	fd      int
	version packet.Version
	rest    []byte // what has come of a packet that is not whole
	out     []byte // what is not written yet

	slot    int               // in the loop
	blocked bool              // the socket takes no more for now
	handle  func(frame) error // of each packet that comes
	ended   func() error      // of the end of the stream; nil if that is an error
}

// open makes a socket and begins to connect it. The client's address is one of 16
// of the loopback interface, by turns, so that ports do not run short.
func open(address netip.AddrPort, turn int, version packet.Version) (*conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := &conn{fd: fd, version: version}
	fail := func(call string, err error) (*conn, error) {
		return nil, errors.Join(os.NewSyscallError(call, err), c.close())
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fail("setsockopt", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fail("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + turn%16)}}); err != nil {
		return fail("bind", err)
	}
	to := &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EINTR) {
		return fail("connect", err)
	}
	return c, nil
}

// dial connects as the packet says and waits for the CONNACK.
func dial(ctx context.Context, address netip.AddrPort, turn int, connect *packet.Connect) (*conn, error) {
	c, err := open(address, turn, connect.Version)
	if err != nil {
		return nil, err
	}
	answer, err := c.ask(ctx, connect)
	if ack, ok := answer.(*packet.Connack); err == nil && (!ok || ack.Reason != packet.Success) {
		err = fmt.Errorf("CONNECT of %q was answered with %+v", connect.ClientID, answer)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *conn) close() error { return os.NewSyscallError("close", unix.Close(c.fd)) }

// ask writes a packet and waits for the one that answers it.
func (c *conn) ask(ctx context.Context, p packet.Packet) (answer packet.Packet, err error) {
	if c.out, err = packet.Append(c.out, p, c.version); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(patience)
	for len(c.out) > 0 {
		if err := c.await(ctx, unix.POLLOUT, deadline); err != nil {
			return nil, err
		}
		if err := c.flush(); err != nil {
			return nil, err
		}
	}
	buf := make([]byte, 4<<10)
	for {
		f, err := nextFrame(c.rest)
		if err != nil {
			return nil, err
		}
		if f.size > 0 {
			answer, err := packet.Read(bufio.NewReader(bytes.NewReader(c.rest[:f.size])), c.version, 0)
			c.rest = append(c.rest[:0], c.rest[f.size:]...)
			return answer, err
		}
		if err := c.await(ctx, unix.POLLIN, deadline); err != nil {
			return nil, err
		}
		n, err := unix.Read(c.fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, os.NewSyscallError("read", err)
		case n == 0:
			return nil, io.ErrUnexpectedEOF
		default:
			c.rest = append(c.rest, buf[:n]...)
		}
	}
}

// await waits until the socket is ready for something.
func (c *conn) await(ctx context.Context, events int16, deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if err := ctx.Err(); err != nil {
			return err
		}
		if left <= 0 {
			return fmt.Errorf("no answer within %v", patience)
		}
		fds := []unix.PollFd{{Fd: int32(c.fd), Events: events}}
		n, err := unix.Poll(fds, int(min(left, 100*time.Millisecond)/time.Millisecond)+1)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
	}
}

// subscribe asks for filters, if there are any, and checks that they were granted.
func (c *conn) subscribe(ctx context.Context, qos message.QoS, filters ...string) error {
	if len(filters) == 0 {
		return nil
	}
	p := &packet.Subscribe{ID: 1}
	for _, f := range filters {
		p.Filters = append(p.Filters, packet.Filter{Filter: f, Options: packet.SubscribeOptions{QoS: qos}})
	}
	answer, err := c.ask(ctx, p)
	if err != nil {
		return fmt.Errorf("SUBSCRIBE to %q: %w", filters[0], err)
	}
	ack, ok := answer.(*packet.Suback)
	if !ok || len(ack.Reasons) != len(filters) {
		return fmt.Errorf("SUBSCRIBE to %q was answered with %+v", filters[0], answer)
	}
	for i, r := range ack.Reasons {
		if r != packet.Reason(qos) {
			return fmt.Errorf("SUBSCRIBE to %q was answered with %w", filters[i], r)
		}
	}
	return nil
}

// flush writes what there is to write, in one system call; what the socket does
// not take stays.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	n, err := unix.Write(c.fd, c.out)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Write(c.fd, c.out)
	}
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return os.NewSyscallError("write", err)
	}
	if n == len(c.out) {
		c.out = c.out[:0]
	} else if n > 0 {
		c.out = append(c.out[:0], c.out[n:]...)
	}
	return nil
}
