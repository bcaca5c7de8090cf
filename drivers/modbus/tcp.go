package modbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

const (
	// idlePeek is after how much idleness a connection is looked at before use:
	// many devices close idle ones.
	idlePeek = time.Second
	// peekTime is how long that look takes.
	peekTime = time.Millisecond
	// maxSilence is how many requests in a row may stay without a word before the
	// connection counts as dead.
	maxSilence = 3
)

// errIdleClosed says that the device closed the connection before the request was
// sent; errNoReply that it did so instead of an answer. Both come with ErrLost.
var (
	errIdleClosed = errors.New("the device had closed the connection")
	errNoReply    = errors.New("the device closed the connection without an answer")
)

// tcpLink is a Modbus TCP connection.
type tcpLink struct {
	conn        net.Conn
	transaction uint16
	in          []byte // what was read
	off         int    // how much of it is done with
	out         []byte
	used        time.Time // last
	fresh       bool      // nothing was asked on it yet
	silent      int       // requests in a row that got not a byte
	noise       noise     // in this exchange
}

func newTCPLink(c net.Conn, transaction uint16) *tcpLink {
	return &tcpLink{
		conn: c, transaction: transaction, fresh: true, used: time.Now(),
		in: make([]byte, 0, 2*maxMBAP), out: make([]byte, 0, maxMBAP),
	}
}

func (l *tcpLink) close() error { return l.conn.Close() }

// exchange implements link.
func (l *tcpLink) exchange(ctx context.Context, r request, t timing) (reply, error) {
	l.noise = noise{}
	got, err := l.converse(ctx, r, t)
	got.noise = l.noise
	return got, err
}

func (l *tcpLink) converse(ctx context.Context, r request, t timing) (reply, error) {
	if err := ctx.Err(); err != nil {
		return reply{}, err
	}
	if err := l.peek(); err != nil {
		return reply{}, err
	}
	l.transaction++
	var pdu [maxPDU]byte
	l.out = adu{transaction: l.transaction, unit: r.unit, pdu: r.appendPDU(pdu[:0])}.append(l.out[:0])
	if err := l.conn.SetWriteDeadline(time.Now().Add(t.timeout)); err != nil {
		return reply{}, errLost("cannot write to the connection", err)
	}
	if _, err := l.conn.Write(l.out); err != nil {
		if !l.fresh {
			err = fmt.Errorf("%w: %w", errNoReply, err)
		}
		return reply{}, errLost("cannot write to the connection", err)
	}
	sent := time.Now()
	got, err := l.receive(ctx, r, sent.Add(t.timeout), t.latest())
	l.used, l.fresh = time.Now(), false
	if err != nil {
		return reply{}, err
	}
	got.latency = time.Since(sent)
	return got, nil
}

// peek finds out whether a connection that was idle is still there.
func (l *tcpLink) peek() error {
	if l.fresh || time.Since(l.used) < idlePeek {
		return nil
	}
	err := l.conn.SetReadDeadline(time.Now().Add(peekTime))
	if err == nil {
		err = l.fill()
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return errLost("cannot use the connection", fmt.Errorf("%w: %w", errIdleClosed, err))
}

// receive waits for the frame with our transaction.
func (l *tcpLink) receive(ctx context.Context, r request, deadline time.Time, timeout time.Duration) (reply, error) {
	// Set once, so that it cannot undo the deadline of a context's end.
	if err := l.conn.SetReadDeadline(deadline); err != nil {
		return reply{}, errLost("cannot read from the connection", err)
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = l.conn.SetReadDeadline(time.Now()) // a broken connection needs none
	})
	defer func() {
		if !stop() {
			<-stopped
		}
	}()
	heard := false
	for {
		a, n, err := cutADU(l.in[l.off:])
		if err != nil {
			return reply{}, errLost("the connection is out of step", fmt.Errorf("%w: %w", errGarbled, err))
		}
		if n > 0 {
			l.off += n
			if a.transaction == l.transaction {
				l.silent = 0
				return answer(r, a)
			}
			l.noise.strays++
			continue
		}
		if err = l.fill(); err == nil {
			heard = true
			continue
		}
		return reply{}, l.failure(ctx, err, heard, timeout)
	}
}

// answer judges the frame that answers the transaction: no other will come.
func answer(r request, a adu) (reply, error) {
	if a.unit != r.unit {
		return reply{}, fmt.Errorf("%w: it is of unit %d, not %d", errGarbled, a.unit, r.unit)
	}
	switch v, data, code := r.judge(a.pdu); v {
	case granted:
		return reply{data: data, at: time.Now()}, nil
	case refused:
		return reply{}, Exception{Function: r.fn, Code: code}
	case foreign:
	}
	return reply{}, fmt.Errorf("%w: its %d bytes do not fit %v of %d", errMisfit, len(a.pdu), r.fn, r.count)
}

// failure says what a failed read means for the connection.
func (l *tcpLink) failure(ctx context.Context, err error, heard bool, timeout time.Duration) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		if !heard && len(l.in) == l.off {
			err = fmt.Errorf("%w: %w", errNoReply, err)
		}
		return errLost("cannot read from the connection", err)
	}
	if ctx.Err() != nil {
		return ctx.Err() // what has come of a frame is kept
	}
	if len(l.in) > l.off {
		return errLost("the connection is out of step", fmt.Errorf("%w: the rest of a frame did not come within %v", errGarbled, timeout))
	}
	if heard {
		l.silent = 0
		return fmt.Errorf("%w within %v, only late ones", errGarbled, timeout)
	}
	if l.silent++; l.silent >= maxSilence {
		return deadLink{timeout}
	}
	return fmt.Errorf("%w within %v", errSilent, timeout)
}

// fill reads once.
func (l *tcpLink) fill() error {
	l.in = l.in[:copy(l.in, l.in[l.off:])]
	l.off = 0
	n, err := l.conn.Read(l.in[len(l.in):cap(l.in)])
	l.in = l.in[:len(l.in)+n]
	if n > 0 {
		return nil
	}
	return err
}
