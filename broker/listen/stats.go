package listen

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Why a connection was refused, by the listener itself. Whoever serves the
// connections may add others by their method Refused.
const (
	whyTLS         = "tls"          // the TLS handshake failed
	whyProxy       = "proxy"        // no PROXY header, or one that makes no sense
	whyProxySource = "proxy-source" // not from a trusted proxy
	whyHTTP        = "http"         // path, origin or subprotocol of a WebSocket
)

// Stats are what a listener has counted since it was opened.
type Stats struct {
	Name     string
	Protocol string
	Address  string // as it is bound
	Accepted int64  // sockets taken, those refused later among them
	// Handshakes are TLS handshakes that were made; those that failed are
	// Refused["tls"].
	Handshakes int64
	// Refused counts connections by why they were refused: "tls", "proxy",
	// "proxy-source", "http" (path, origin or subprotocol of a WebSocket), and what the
	// broker says: "connections", "address" (limits), "silent" (no CONNECT in time),
	// "gone" (left before CONNECT), "malformed", "connack" (a reason code of CONNACK
	// says why).
	Refused map[string]int64
}

// Stats returns the counters.
func (l *Listener) Stats() Stats {
	f := l.front
	s := Stats{
		Name: f.options.Name, Protocol: f.options.Protocol, Address: l.Addr().String(),
		Accepted: f.accepted.Load(), Handshakes: f.handshakes.Load(), Refused: make(map[string]int64),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for why, n := range f.refused {
		s.Refused[why] = n
	}
	return s
}

// front is what the connections of one listener share.
type front struct {
	options      Options
	certificates *certificates // nil without TLS
	turns        chan struct{} // of the handshakes that compute

	accepted, handshakes atomic.Int64

	mu      sync.Mutex
	refused map[string]int64
	told    time.Time // when a failing handshake was last told
	untold  int       // how many have failed since
}

func (f *front) refuse(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refused == nil {
		f.refused = make(map[string]int64)
	}
	f.refused[why]++
}

// tellEvery is how often failing handshakes are told as a warning.
const tellEvery = time.Minute

// failed counts a connection that did not come to its first byte, and tells it.
func (f *front) failed(why string, remote net.Addr, err error) {
	f.refuse(why)
	f.mu.Lock()
	f.untold++
	level, n := slog.LevelDebug, f.untold
	if now := time.Now(); now.Sub(f.told) >= tellEvery {
		level, f.told, f.untold = slog.LevelWarn, now, 0
	}
	f.mu.Unlock()
	f.options.Log.Log(context.Background(), level, "connection refused", "listener", f.options.Name, "remote", remote,
		"why", why, "error", err, "failures", n)
}

// trusts reports whether an address is of a trusted proxy.
func (f *front) trusts(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	from := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range f.options.Proxies {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

// PendingAddr is the remote address of a connection through a proxy that has not
// said yet where the client is: that of the proxy.
type PendingAddr struct{ net.Addr }

// String implements [net.Addr].
func (p PendingAddr) String() string { return p.Addr.String() + " (proxy)" }

// mapped is an address of the proxy protocol as a [net.Addr].
func mapped(ip netip.Addr, port uint16) *net.TCPAddr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), port))
}
