package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// lateConn is a connection on which something happens before its first byte: a
// PROXY header is read, a TLS handshake made, a WebSocket opened, by whoever reads
// first.
type lateConn struct {
	net.Conn // the wire, TLS over it, or a WebSocket over either
	wire     *wire
	tls      *tls.Conn // nil without TLS
	web      *frames   // nil without WebSocket, and until it is open
	front    *front

	locating sync.Once
	opening  sync.Once
	failure  error                       // of either
	client   atomic.Pointer[net.TCPAddr] // as a proxy says; nil without one
	proxied  atomic.Bool                 // a header is to come
	chain    atomic.Pointer[[]*x509.Certificate]
	more     bool // there may be more of what was read last; the reader's
	counted  atomic.Bool
}

// closeTime is how long a peer may take to answer that a WebSocket is closed, or to
// read why it does not open.
const closeTime = 500 * time.Millisecond

func newLate(tcp *net.TCPConn, f *front) *lateConn {
	c := &lateConn{wire: newWire(tcp), front: f}
	c.Conn = c.wire
	c.proxied.Store(len(f.options.Proxies) > 0)
	if f.certificates != nil {
		c.tls = tls.Server(c.wire, f.certificates.config)
		c.Conn = c.tls
	}
	return c
}

// Locate blocks until RemoteAddr knows where the client is, or fails.
func (c *lateConn) Locate() error {
	c.locating.Do(func() {
		if !c.proxied.Load() {
			return
		}
		client, err := readProxyHeader(c.wire)
		if err != nil {
			c.fail(whyProxy, err)
			return
		}
		c.client.Store(client)
		c.proxied.Store(false)
	})
	return c.failure
}

// open does what comes before the first byte, once.
func (c *lateConn) open() error {
	if err := c.Locate(); err != nil {
		return err
	}
	c.opening.Do(func() {
		if c.tls == nil && !c.front.options.overWebSocket() {
			return
		}
		if err := c.wire.wait(); err != nil { // a client that says nothing costs no handshake
			c.failure = err
			return
		}
		c.wire.records = c.tls != nil
		// On a goroutine of its own, so that the stack that this takes is not the
		// connection's for good.
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.shake()
		}()
		<-done
	})
	return c.failure
}

// shake makes the TLS handshake, and opens the WebSocket.
func (c *lateConn) shake() {
	defer func() {
		if r := recover(); r != nil {
			c.failure = fmt.Errorf("panic: %v", r)
			c.front.options.Log.Error("panic", "in", "opening of a connection", "remote", c.RemoteAddr(), "panic", r, "stack", string(debug.Stack()))
		}
	}()
	if c.tls != nil {
		if err := c.handshake(); err != nil {
			c.fail(whyTLS, err)
			return
		}
		settle(c.tls)
		c.front.handshakes.Add(1)
		if chains := c.tls.ConnectionState().VerifiedChains; len(chains) > 0 {
			c.chain.Store(&chains[0])
		}
	}
	if !c.front.options.overWebSocket() {
		return
	}
	web, err := c.front.upgrade(c.Conn, c.RemoteAddr())
	if err != nil {
		c.fail(whyHTTP, err)
		var no *denied
		if errors.As(err, &no) && no.answer(c.Conn) == nil && c.CloseWrite() == nil { // a close at once could take the answer away
			drain(c.Conn, c.wire)
		}
		return
	}
	c.web, c.Conn = web, web
}

func (c *lateConn) handshake() error {
	defer c.wire.begin(c.front.turns)()
	return c.tls.Handshake()
}

// drain reads what a peer still says until it closes, for a moment.
func drain(nc io.Reader, w *wire) {
	_ = w.SetReadDeadline(time.Now().Add(closeTime)) // else it ends by the one that is
	_, _ = io.CopyN(io.Discard, nc, 1<<20)           // all that matters is that it ends
}

// fail notes why the connection did not come to its first byte. A client that left
// or was silent failed at nothing: whoever serves the connection counts it.
func (c *lateConn) fail(why string, err error) {
	c.failure = err
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	c.counted.Store(true)
	c.front.failed(why, c.RemoteAddr(), err)
}

// Read implements [net.Conn].
func (c *lateConn) Read(p []byte) (int, error) {
	if err := c.open(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	c.more = n == len(p)
	return n, err
}

// ReadNow reads what is there without waiting for it; ready is false when that is
// nothing. It is for the goroutine that reads, after a Read or Wait that did not fail,
// and takes turns with them.
func (c *lateConn) ReadNow(p []byte) (n int, ready bool, err error) {
	c.wire.now = true
	defer func() { c.wire.now = false }()
	if c.tls != nil {
		lend(c.tls)
	}
	switch n, err = c.Conn.Read(p); {
	case n > 0:
		return n, true, nil // an error comes again
	case errors.Is(err, errNothing):
		if c.tls != nil {
			settle(c.tls)
		}
		return 0, false, nil
	default:
		return 0, true, err
	}
}

// Descriptor is that of a socket that is readable when ReadNow may have more than
// nothing, as it is once it had nothing; it is valid until Close, and -1 where there
// is none.
func (c *lateConn) Descriptor() int { return c.wire.descriptor() }

// Wait blocks until Read has something, or fails; meanwhile no buffer is held but
// what crypto/tls keeps of its own. It is for the goroutine that reads.
func (c *lateConn) Wait() error {
	if err := c.open(); err != nil {
		return err
	}
	if c.more || c.wire.pending() || c.web != nil && len(c.web.early) > 0 {
		return nil
	}
	return c.wire.wait()
}

// PeerCertificates is the verified chain of the client's certificate, leaf first;
// nil without one, and before the first Read.
func (c *lateConn) PeerCertificates() []*x509.Certificate {
	if chain := c.chain.Load(); chain != nil {
		return *chain
	}
	return nil
}

// Listener is the name of the listener.
func (c *lateConn) Listener() string { return c.front.options.Name }

// Refused counts the connection as refused, if it is not already.
func (c *lateConn) Refused(why string) {
	if !c.counted.Swap(true) {
		c.front.refuse(why)
	}
}

// RemoteAddr implements [net.Conn].
func (c *lateConn) RemoteAddr() net.Addr {
	if client := c.client.Load(); client != nil {
		return client
	}
	if c.proxied.Load() {
		return PendingAddr{c.wire.RemoteAddr()}
	}
	return c.wire.RemoteAddr()
}

// CloseWrite tells the peer that nothing more comes.
func (c *lateConn) CloseWrite() error {
	c.wire.closing.Store(true)
	if c.web != nil {
		if err := c.web.part(closedNormally); err != nil {
			return err
		}
	}
	if c.tls != nil {
		if err := c.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return c.wire.CloseWrite()
}

// Close implements [net.Conn]. It does not wait for a peer that takes nothing; one
// that has a WebSocket is told, and has closeTime to answer.
func (c *lateConn) Close() error {
	if !c.wire.closing.Swap(true) && c.web != nil {
		if rest := c.web.rest(); rest != nil && c.CloseWrite() == nil {
			drain(rest, c.wire)
		}
	}
	return c.Conn.Close()
}

// LocalAddr implements [net.Conn].
func (c *lateConn) LocalAddr() net.Addr { return c.wire.LocalAddr() }

// SetDeadline implements [net.Conn].
func (c *lateConn) SetDeadline(t time.Time) error { return c.wire.SetDeadline(t) }

// SetReadDeadline implements [net.Conn].
func (c *lateConn) SetReadDeadline(t time.Time) error { return c.wire.SetReadDeadline(t) }

// SetWriteDeadline implements [net.Conn].
func (c *lateConn) SetWriteDeadline(t time.Time) error { return c.wire.SetWriteDeadline(t) }
