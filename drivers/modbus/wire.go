package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// maxWatched is how much of what came is kept until it is told, at most.
const maxWatched = 4096

// wire tells those who watch a bus what goes over it: what is sent, and what came in an
// exchange, each in one piece. Who has the bus calls it.
type wire struct {
	taps    drivers.Taps
	heard   []byte    // and not told yet
	at      time.Time // when its first byte came
	out, in uint64    // bytes that were sent and received
}

func (w *wire) sent(b []byte) {
	w.out += uint64(len(b))
	if w.taps.Any() {
		w.flush()
		w.taps.Tell(time.Now(), true, b)
	}
}

func (w *wire) received(b []byte) {
	w.in += uint64(len(b))
	if len(b) == 0 || !w.taps.Any() {
		return
	}
	if len(w.heard)+len(b) > maxWatched {
		w.flush()
	}
	if len(w.heard) == 0 {
		w.at = time.Now()
	}
	w.heard = append(w.heard, b...)
}

// flush tells what came.
func (w *wire) flush() {
	if len(w.heard) > 0 {
		w.taps.Tell(w.at, false, w.heard)
		w.heard = w.heard[:0]
	}
}

// watchedConn is a connection whose traffic is told.
type watchedConn struct {
	net.Conn
	wire *wire
}

func (c watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.received(b[:n])
	return n, err
}

func (c watchedConn) Write(b []byte) (int, error) {
	c.wire.sent(b)
	return c.Conn.Write(b)
}

// watchedPort is a port whose traffic is told.
type watchedPort struct {
	Port
	wire *wire
}

func (p watchedPort) Read(b []byte) (int, error) {
	n, err := p.Port.Read(b)
	p.wire.received(b[:n])
	return n, err
}

func (p watchedPort) Write(b []byte) (int, error) {
	p.wire.sent(b)
	return p.Port.Write(b)
}

// Sleep implements sleeper.
func (p watchedPort) Sleep(ctx context.Context, d time.Duration) error {
	if s, ok := p.Port.(sleeper); ok {
		return s.Sleep(ctx, d)
	}
	return pause(ctx, d)
}

// String gives "tcp 192.168.1.20:502" or "serial /dev/ttyUSB0 9600 8N1".
func (t transport) String() string {
	if t.kind != kindSerial {
		return t.bus()
	}
	return fmt.Sprintf("%s %d %d%s%d", t.bus(), t.serial.Baud, t.serial.DataBits, strings.ToUpper(t.serial.Parity[:1]), t.serial.StopBits)
}

// watch says what the wire of a unit is.
func (t transport) watch(unit uint8, timeout time.Duration) drivers.Wire {
	w := drivers.Wire{Protocol: drivers.ProtocolModbusTCP, Place: t.String(), Unit: int(unit), Timeout: timeout}
	switch {
	case t.line() && t.ascii():
		w.Protocol = drivers.ProtocolModbusASCII
	case t.line():
		w.Protocol = drivers.ProtocolModbusRTU
	}
	return w
}

// TapWire implements [drivers.Tapper].
func (d *Driver) TapWire(cfg drivers.Config) (drivers.Wire, <-chan drivers.Traffic, func(), error) {
	spec, err := decodeDevice(cfg, d.opts.Profiles)
	if err != nil {
		return drivers.Wire{}, nil, nil, err
	}
	d.mu.Lock()
	b := d.busOf(spec.transport)
	d.mu.Unlock()
	traffic, stop := b.wire.taps.Tap()
	return spec.watch(spec.unit, spec.timeout), traffic, stop, nil
}

// watched is what makes a device a [drivers.Wired].
type watched struct {
	bus  *bus
	wire drivers.Wire

	mu     sync.Mutex       // guards what follows
	stops  map[*byte]func() // of those who watch
	closed bool
}

// Wire implements drivers.Wired.
func (w *watched) Wire() drivers.Wire { return w.wire }

// Tap implements drivers.Wired.
func (w *watched) Tap() (<-chan drivers.Traffic, func()) {
	traffic, end := w.bus.wire.taps.Tap()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		end()
		return traffic, end
	}
	if w.stops == nil {
		w.stops = map[*byte]func(){}
	}
	key := new(byte)
	w.stops[key] = end
	return traffic, func() {
		end()
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.stops, key)
	}
}

// unwatch ends what Tap began: the device is closed.
func (w *watched) unwatch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, stop := range w.stops {
		stop()
	}
	clear(w.stops)
}

// Send implements drivers.Wired. What comes back is no answer to anything that is asked
// later.
func (w *watched) Send(ctx context.Context, b []byte) error {
	j := &job{
		ctx: ctx, req: request{unit: uint8(w.wire.Unit), raw: true}, say: b,
		timing: timing{timeout: w.wire.Timeout, insist: true},
	}
	_, err := w.bus.queue(j)
	return err
}

// say sends bytes as they are, and listens.
func (b *bus) say(j *job) error {
	if err := j.ctx.Err(); err != nil {
		return err
	}
	if err := b.relink(j.ctx); err != nil {
		return err
	}
	defer b.wire.flush()
	err := b.link.say(j.ctx, j.say, j.timing.timeout)
	if errors.Is(err, drivers.ErrLost) {
		b.unlink()
	}
	return err
}

// say implements link. Afterwards the line is wary.
func (l *lineLink) say(ctx context.Context, b []byte, timeout time.Duration) error {
	if _, err := l.settle(ctx, request{raw: true}, timing{timeout: timeout}); err != nil {
		return err
	}
	defer l.alarm(timeout)
	if _, err := l.port.Write(b); err != nil {
		return errLost("cannot write to the port", err)
	}
	last, quiet := time.Now().Add(time.Duration(len(b))*l.char), timeout
	for end := last.Add(3 * timeout); ; { // others want the line, too, if it is never quiet
		left := min(quiet-time.Since(last), time.Until(end))
		if left <= 0 {
			return nil
		}
		n, err := l.read(l.heard[:cap(l.heard)], min(left, readSlice))
		if err != nil {
			return errLost("cannot read from the port", err)
		}
		if n > 0 {
			last, quiet = time.Now(), max(2*l.silence, l.hunt)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// say implements link. No transaction of ours is soon that of what was sent.
func (l *tcpLink) say(ctx context.Context, b []byte, timeout time.Duration) error {
	if err := l.peek(); err != nil {
		return err
	}
	err := l.conn.SetDeadline(time.Now().Add(timeout))
	if err == nil {
		_, err = l.conn.Write(b)
	}
	if err != nil {
		return errLost("cannot write to the connection", err)
	}
	l.used, l.fresh = time.Now(), false
	if len(b) > 1 {
		l.transaction = binary.BigEndian.Uint16(b) + 1<<15
	}
	for ctx.Err() == nil {
		_, n, err := cutADU(l.in[l.off:])
		if err != nil {
			return errLost("the connection is out of step", err)
		}
		if n > 0 {
			l.off += n
			break
		}
		if err := l.fill(); err != nil {
			err = l.failure(ctx, err, false, timeout)
			if errors.Is(err, drivers.ErrLost) {
				return err
			}
			break // nothing came: the wire shows it
		}
	}
	return nil
}
