package listen

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	path        = "/mqtt"
	subprotocol = "mqtt" // MQTT 5.0 §6.0, [MQTT-6.0.0-3]
	// messageLimit bounds one WebSocket message; it is read as a stream, so it
	// bounds no memory. The broker has a limit of its own for packets.
	messageLimit  = 256 << 20
	headerTimeout = 5 * time.Second
	headerLimit   = 16 << 10
)

// webSocket is an HTTP server that presents the WebSockets it accepts as
// connections.
type webSocket struct {
	tcp     *net.TCPListener
	options Options
	server  *http.Server
	conns   chan net.Conn // not buffered: a handshake waits for Accept
	closed  chan struct{}
	once    sync.Once
	err     error // of the server, once served is closed
	served  chan struct{}
}

func newWebSocket(l *net.TCPListener, o Options) *webSocket {
	w := &webSocket{
		tcp: l, options: o,
		conns: make(chan net.Conn), closed: make(chan struct{}), served: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, w.handle)
	w.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: headerTimeout, MaxHeaderBytes: headerLimit,
		ErrorLog: log.New(io.Discard, "", 0), // what clients do wrong is answered, not logged
	}
	go func() {
		defer close(w.served)
		w.err = w.server.Serve(l)
	}()
	return w
}

// Accept implements [net.Listener].
func (w *webSocket) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	case <-w.served:
		return nil, w.err
	}
}

// Close implements [net.Listener]; connections that were accepted stay.
func (w *webSocket) Close() error {
	var err error
	w.once.Do(func() {
		close(w.closed)
		err = w.server.Close()
		<-w.served
	})
	return err
}

// Addr implements [net.Listener].
func (w *webSocket) Addr() net.Addr { return w.tcp.Addr() }

// handle is the life of one WebSocket.
func (w *webSocket) handle(rw http.ResponseWriter, r *http.Request) {
	if !w.originAllowed(r) {
		http.Error(rw, "origin not allowed", http.StatusForbidden)
		return
	}
	if !offers(r.Header, subprotocol) {
		http.Error(rw, "subprotocol mqtt expected", http.StatusBadRequest)
		return
	}
	ws, err := websocket.Accept(rw, r, &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol}, OriginPatterns: w.options.Origins, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return // it has been answered
	}
	defer ws.CloseNow() //nolint:errcheck // closed already, when all went well
	ws.SetReadLimit(messageLimit)
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	c := &wsConn{
		Conn: websocket.NetConn(ctx, ws, websocket.MessageBinary),
		name: w.options.Name, local: w.tcp.Addr(), ending: make(chan struct{}),
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		c.local = a
	}
	c.remote = remoteAddr(r)
	select {
	case w.conns <- c:
	case <-w.closed:
		return
	}
	<-c.ending
	_ = ws.Close(websocket.StatusNormalClosure, "") // the peer is told, if it is there
}

func remoteAddr(r *http.Request) net.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return &net.TCPAddr{}
	}
	return net.TCPAddrFromAddrPort(a)
}

func offers(h http.Header, protocol string) bool {
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), protocol) {
				return true
			}
		}
	}
	return false
}

// originAllowed keeps a web page from reaching a loopback listener by a name of its
// own that resolves to 127.0.0.1; that the origin is of the same host, or
// configured, Accept checks.
func (w *webSocket) originAllowed(r *http.Request) bool {
	if r.Header.Get("Origin") == "" || len(w.options.Origins) > 0 {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && !remote.Addr().Unmap().IsLoopback()
}

// wsConn is a WebSocket as a connection.
type wsConn struct {
	net.Conn
	name          string
	local, remote net.Addr
	once          sync.Once
	ending        chan struct{}
}

// Listener is the name of the listener.
func (c *wsConn) Listener() string { return c.name }

// LocalAddr implements [net.Conn].
func (c *wsConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements [net.Conn].
func (c *wsConn) RemoteAddr() net.Addr { return c.remote }

// SetReadDeadline implements [net.Conn]. A deadline that has passed asks the peer
// to close, which lets it read what it was sent last; Read then ends.
func (c *wsConn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		return c.Close()
	}
	return c.Conn.SetReadDeadline(t)
}

// Close implements [net.Conn]. It does not wait for the peer.
func (c *wsConn) Close() error {
	c.once.Do(func() { close(c.ending) })
	return nil
}
