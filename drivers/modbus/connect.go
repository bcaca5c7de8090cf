package modbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"
)

// dialTimeout is how long a connection may take to come about.
const dialTimeout = 5 * time.Second

// streamWrite is how long a stream may take to accept a frame.
const streamWrite = 5 * time.Second

func (d *Driver) newBus(t transport) *bus {
	b := newBus(t.bus(), d.opts.Log, nil)
	b.rtu = t.line()
	var last *lineLink
	b.connect = func(ctx context.Context) (link, error) {
		t := b.transport()
		if !t.line() {
			conn, err := d.dial(ctx, t)
			if err != nil {
				return nil, err
			}
			return newTCPLink(watchedConn{conn, &b.wire}, uint16(rand.Uint32())), nil
		}
		port, err := d.openLine(ctx, t)
		if err != nil {
			return nil, err
		}
		l := newLineLink(watchedPort{port, &b.wire}, t)
		if last != nil && l.learns {
			l.echoes = last.echoes // the first request may be a write
		}
		last = l
		return l, nil
	}
	return b
}

// dial connects to an address.
func (d *Driver) dial(ctx context.Context, t transport) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := d.opts.Dial(ctx, "tcp", t.address)
	if err == nil && t.kind == kindTLS {
		conn, err = d.secure(ctx, conn, t)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %q: %w", t.address, err)
	}
	return conn, nil
}

// secure shakes hands over TLS.
func (d *Driver) secure(ctx context.Context, conn net.Conn, t transport) (net.Conn, error) {
	config, err := t.tls.client()
	if err != nil {
		_ = conn.Close() // nothing was sent
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the error is that of the handshake
		return nil, err
	}
	d.opts.Log.Debug("modbus device shows its certificate", "bus", t.bus(), "role", peerRole(secure.ConnectionState()))
	return secure, nil
}

// openLine opens a serial port, or the stream that stands for one.
func (d *Driver) openLine(ctx context.Context, t transport) (Port, error) {
	if t.kind == kindSerial {
		return d.opts.OpenSerial(ctx, t.serial)
	}
	conn, err := d.dial(ctx, t)
	if err != nil {
		return nil, err
	}
	return &streamPort{Conn: conn}, nil
}

// streamPort is a TCP stream to a serial device server as a port.
type streamPort struct {
	net.Conn
	timeout time.Duration
}

func (p *streamPort) SetReadTimeout(d time.Duration) error {
	p.timeout = max(d, time.Millisecond) // a deadline that is over would read nothing
	return nil
}

func (p *streamPort) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(p.timeout)); err != nil {
		return 0, err
	}
	n, err := p.Conn.Read(b)
	if n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		return n, nil
	}
	return 0, err
}

func (p *streamPort) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

// ResetInput does nothing: what came was read, when it is called.
func (p *streamPort) ResetInput() error { return nil }

// setLine sets the parameters of a line; devices in use must have the same.
func (b *bus) setLine(t transport) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refs > 0 {
		return b.line == t
	}
	b.line = t
	return true
}

func (b *bus) transport() transport {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.line
}
