package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lateConn is a connection on which something happens before its first byte: a
// PROXY header is read, a TLS handshake made, by whoever reads first.
type lateConn struct {
	net.Conn // the wire, or TLS over it
	wire     *wire
	tls      *tls.Conn // nil without TLS
	front    *front

	opening sync.Once
	failure error                       // of opening
	client  atomic.Pointer[net.TCPAddr] // as a proxy says; nil without one
	proxied atomic.Bool                 // a header is to come
	chain   atomic.Pointer[[]*x509.Certificate]
	more    bool // TLS may have more of the record that was read last; the reader's
	counted atomic.Bool
}

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

// open does what comes before the first byte, once.
func (c *lateConn) open() error {
	c.opening.Do(func() {
		if c.proxied.Load() {
			client, err := readProxyHeader(c.wire)
			if err != nil {
				c.fail(whyProxy, err)
				return
			}
			c.client.Store(client)
			c.proxied.Store(false)
		}
		if c.tls == nil {
			return
		}
		if err := c.wire.wait(); err != nil { // a client that says nothing costs no handshake
			c.fail(whyTLS, err)
			return
		}
		c.wire.records = true
		// On a goroutine of its own, so that the stack that a handshake takes is not
		// the connection's for good.
		done := make(chan error)
		go func() { done <- c.tls.Handshake() }()
		if err := <-done; err != nil {
			c.fail(whyTLS, err)
			return
		}
		c.front.handshakes.Add(1)
		if chains := c.tls.ConnectionState().VerifiedChains; len(chains) > 0 {
			c.chain.Store(&chains[0])
		}
	})
	return c.failure
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

// Wait blocks until Read has something, or fails; meanwhile no buffer is held but
// what crypto/tls keeps of its own. It is for the goroutine that reads.
func (c *lateConn) Wait() error {
	if err := c.open(); err != nil {
		return err
	}
	if c.more || c.wire.pending() {
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
	if c.tls != nil {
		if err := c.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return c.wire.CloseWrite()
}

// Close implements [net.Conn]. It does not wait for a peer that takes nothing.
func (c *lateConn) Close() error {
	c.wire.closing.Store(true)
	return c.Conn.Close()
}

// SetDeadline implements [net.Conn].
func (c *lateConn) SetDeadline(t time.Time) error { return c.wire.SetDeadline(t) }

// SetReadDeadline implements [net.Conn].
func (c *lateConn) SetReadDeadline(t time.Time) error { return c.wire.SetReadDeadline(t) }

// SetWriteDeadline implements [net.Conn].
func (c *lateConn) SetWriteDeadline(t time.Time) error { return c.wire.SetWriteDeadline(t) }
