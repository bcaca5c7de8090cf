package broker

import (
	"errors"
	"net"
	"net/netip"
	"os"
)

// Why a connection that no CONNACK was sent to, or one that says no, was refused;
// a listener that counts such things is told.
const (
	whyConnections = "connections" // too many are open
	whyAddress     = "address"     // too many are open from its address
	whySilent      = "silent"      // no CONNECT in time
	whyGone        = "gone"        // it left before CONNECT
	whyMalformed   = "malformed"   // what came is no CONNECT
	whyConnack     = "connack"     // the reason code of a CONNACK says why
)

// refused counts a connection that does not come to be.
func (srv *Server) refused(nc net.Conn, why string) {
	srv.stats.refused.Add(1)
	if l, ok := nc.(interface{ Refused(why string) }); ok {
		l.Refused(why)
	}
}

// whyUnread is why there was no CONNECT, by the error of reading it.
func whyUnread(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return whySilent
	default:
		return whyGone
	}
}

// addresses counts the open connections of each address; the server's mu guards it.
type addresses map[netip.Addr]int

// addressOf is what connections are counted by: an IPv4 address, or the /64 network
// of an IPv6 address, which is what one customer or one house has. Loopback, Unix
// sockets and addresses that are not known yet have none.
func addressOf(a net.Addr) (netip.Addr, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if !ip.IsValid() || ip.IsLoopback() {
		return netip.Addr{}, false
	}
	if ip.Is6() {
		network, err := ip.Prefix(64)
		if err != nil {
			return netip.Addr{}, false
		}
		ip = network.Addr()
	}
	return ip, true
}

// admit counts a connection by its address, unless there are too many from it. The
// caller holds mu.
func (srv *Server) admit(remote net.Addr) (from netip.Addr, ok bool) {
	from, counts := addressOf(remote)
	most := srv.opts.Limits.ConnectionsPerAddress
	if !counts || most < 0 {
		return netip.Addr{}, true
	}
	if srv.from[from] >= most {
		return netip.Addr{}, false
	}
	srv.from[from]++
	return from, true
}

// dismiss takes a connection out of the count. The caller holds mu.
func (srv *Server) dismiss(from netip.Addr) {
	if !from.IsValid() {
		return
	}
	if srv.from[from]--; srv.from[from] == 0 {
		delete(srv.from, from)
	}
}

// waiter is a connection on which something may come before the first byte, such as
// a TLS handshake, or that would hold a buffer while Read waits. Wait blocks until
// Read has something, or fails, and holds none.
type waiter interface{ Wait() error }

// locator is a connection that does not know at once where its client is, because a
// proxy is to say it. Locate blocks until RemoteAddr knows.
type locator interface{ Locate() error }

// polled is a connection over a socket that is more than the socket, such as TLS. Its
// descriptor is readable when ReadNow may have something after it had nothing; ready
// is then false. Both are for after Wait has not failed.
type polled interface {
	Descriptor() int // valid until Close; -1 when there is none
	ReadNow(p []byte) (n int, ready bool, err error)
}

// located looks again at who the client of a late connection is, once it has said
// something: a proxy, or a certificate, may have told. It is false when there are too many connections from there.
func (c *conn) located() bool {
	c.who = identify(c.nc)
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.srv.dismiss(c.from)
	ok := false
	c.from, ok = c.srv.admit(c.who.Remote)
	return ok
}
