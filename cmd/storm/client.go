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
	err   error
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

// sing publishes until ctx ends. A message that is late holds up the next, and its
// time counts once.
func (c *canary) sing(ctx context.Context) {
	defer func() { _ = c.nc.Close() }() // its last word
	tick := time.NewTicker(songEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sent := time.Since(began)
		payload := binary.BigEndian.AppendUint64(nil, uint64(sent))
		if c.err = c.send(&packet.Publish{Topic: "canary", Payload: payload}); c.err != nil {
			return
		}
		p, err := packet.Read(c.r, packet.V311, 0)
		if err != nil {
			c.err = err
			return
		}
		pub, ok := p.(*packet.Publish)
		if !ok || !bytes.Equal(pub.Payload, payload) {
			c.err = fmt.Errorf("the canary hears %T instead of itself", p)
			return
		}
		c.times = append(c.times, time.Since(began)-sent)
	}
}
