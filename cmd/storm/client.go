package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// dial opens one connection as far as it is to go.
func (s *storm) dial(dialer *net.Dialer, i int) (net.Conn, error) {
	nc, err := dialer.Dial("tcp", s.address[s.protocol])
	if err != nil || s.mute {
		return nc, err
	}
	if s.protocol == "mqtts" || s.protocol == "wss" {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // it is ours, just made
	}
	hello, err := packet.Append(nil, &packet.Connect{Version: packet.V311, ClientID: fmt.Sprint("storm-", i), Clean: true}, packet.V311)
	if err != nil {
		return nc, err
	}
	answer := 4 // CONNACK
	if strings.HasPrefix(s.protocol, "ws") {
		if err := upgrade(nc); err != nil {
			return nc, err
		}
		hello = append([]byte{0x82, 0x80 | byte(len(hello)), 0, 0, 0, 0}, hello...) // a frame with a mask of zeros
		answer += 2
	}
	if _, err := nc.Write(hello); err != nil {
		return nc, err
	}
	b := make([]byte, answer)
	if _, err := io.ReadFull(nc, b); err != nil {
		return nc, err
	}
	if b[answer-4] != 0x20 || b[answer-1] != 0 {
		return nc, fmt.Errorf("not connected: % x", b)
	}
	return nc, nil
}

// upgrade makes a WebSocket of a connection; it reads not a byte too many.
func upgrade(nc net.Conn) error {
	_, err := io.WriteString(nc, "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
	if err != nil {
		return err
	}
	var answer []byte
	for b := make([]byte, 1); !bytes.HasSuffix(answer, []byte("\r\n\r\n")); {
		if _, err := io.ReadFull(nc, b); err != nil {
			return err
		}
		if answer = append(answer, b[0]); len(answer) > 4096 {
			return errors.New("the answer to the upgrade has no end")
		}
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("no upgrade: %q", answer)
	}
	return nil
}

// canary publishes to itself and takes the time.
type canary struct {
	nc    net.Conn
	r     *bufio.Reader
	times []time.Duration
}

func newCanary(ctx context.Context, address string) (*canary, error) {
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &canary{nc: nc, r: bufio.NewReader(nc)}
	for _, p := range []packet.Packet{
		&packet.Connect{Version: packet.V311, ClientID: "canary", Clean: true},
		&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "canary"}}},
	} {
		if err := c.send(p); err != nil {
			return nil, err
		}
		if _, err := packet.Read(c.r, packet.V311, 0); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *canary) send(p packet.Packet) error {
	b, err := packet.Append(nil, p, packet.V311)
	if err != nil {
		return err
	}
	_, err = c.nc.Write(b)
	return err
}

// songEvery is how often the canary publishes.
const songEvery = 5 * time.Millisecond

// sing publishes until ctx ends or there are no more marks; at each it says how long
// the messages since the last took: the 50th and 99th percentile and the longest, in
// milliseconds. A message that is late holds up the next, and its time counts once.
func (c *canary) sing(ctx context.Context, marks <-chan struct{}, out io.Writer) error {
	defer func() { _ = c.nc.Close() }() // its last word
	tick := time.NewTicker(songEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, more := <-marks:
			if !more {
				return nil
			}
			p := percentiles(c.times, 50, 99, 100)
			if _, err := fmt.Fprintf(out, "%.2f %.2f %.2f\n", p[0], p[1], p[2]); err != nil {
				return err
			}
			c.times = c.times[:0]
		case <-tick.C:
			if err := c.note(began); err != nil {
				return err
			}
		}
	}
}

// note publishes one message and waits for it.
func (c *canary) note(began time.Time) error {
	sent := time.Since(began)
	payload := binary.BigEndian.AppendUint64(nil, uint64(sent))
	if err := c.send(&packet.Publish{Topic: "canary", Payload: payload}); err != nil {
		return err
	}
	p, err := packet.Read(c.r, packet.V311, 0)
	if err != nil {
		return err
	}
	pub, ok := p.(*packet.Publish)
	if !ok || !bytes.Equal(pub.Payload, payload) {
		return fmt.Errorf("the canary hears %T instead of itself", p)
	}
	c.times = append(c.times, time.Since(began)-sent)
	return nil
}

// percentiles of some times, in milliseconds.
func percentiles(times []time.Duration, wanted ...int) []float64 {
	all := make([]float64, len(wanted))
	if len(times) == 0 {
		return all
	}
	slices.Sort(times)
	for i, p := range wanted {
		at := min(len(times)*p/100, len(times)-1)
		all[i] = float64(times[at]) / float64(time.Millisecond)
	}
	return all
}

// beCanary is what the process of a canary does: each line of in is a mark.
func beCanary(ctx context.Context, address string, in io.Reader, out io.Writer) error {
	c, err := newCanary(ctx, address)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, "sings"); err != nil {
		return err
	}
	marks := make(chan struct{})
	go func() {
		defer close(marks)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			select {
			case marks <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c.sing(ctx, marks, out)
}

// bird is a canary in a process of its own: in this one it would wait for the
// handshakes of the clients.
type bird struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func newBird(ctx context.Context, address string) (*bird, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &bird{cmd: exec.CommandContext(ctx, self, "-canary", address)}
	b.cmd.Stderr = os.Stderr
	if b.in, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	b.out = bufio.NewScanner(out)
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	if !b.out.Scan() {
		return nil, errors.Join(errors.New("the canary does not sing"), b.out.Err(), b.stop())
	}
	return b, nil
}

// mark returns what the canary says of the time since the last mark.
func (b *bird) mark() (said [3]float64, err error) {
	if _, err := io.WriteString(b.in, "\n"); err != nil {
		return said, err
	}
	if !b.out.Scan() {
		return said, errors.Join(errors.New("the canary is dead"), b.out.Err())
	}
	_, err = fmt.Sscan(b.out.Text(), &said[0], &said[1], &said[2])
	return said, err
}

func (b *bird) stop() error { return errors.Join(b.in.Close(), b.cmd.Wait()) }
