package listen

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	path        = "/mqtt"
	subprotocol = "mqtt" // MQTT 5.0 §6.0, [MQTT-6.0.0-4], [MQTT3-6.0.0-4]
	// messageLimit bounds one WebSocket message; it is read as a stream, so it
	// bounds no memory. The broker has a limit of its own for packets.
	messageLimit   = 256 << 20
	requestTimeout = 5 * time.Second
	headerLimit    = 16 << 10
	// openingMost bounds the connections of a listener whose WebSocket is not open
	// yet; each is there for one request, and for requestTimeout at most.
	openingMost = 1024
	// closeTime is how long a peer may take to answer that the WebSocket is closed. A
	// client that is gone would else hold up the one that takes its session over.
	closeTime = 500 * time.Millisecond
)

// webSocket is an HTTP server that presents the WebSockets it accepts as
// connections.
type webSocket struct {
	below   net.Listener
	front   *front
	server  *http.Server
	opening atomic.Int64
	conns   chan net.Conn // not buffered: a handshake waits for Accept
	closed  chan struct{}
	once    sync.Once
	err     error // of the server, once served is closed
	served  chan struct{}
}

func newWebSocket(below net.Listener, f *front) *webSocket {
	w := &webSocket{
		below: below, front: f,
		conns: make(chan net.Conn), closed: make(chan struct{}), served: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, w.handle)
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		w.deny(rw, "MQTT is at "+path, http.StatusNotFound)
	})
	w.server = &http.Server{
		Handler: mux, ReadTimeout: requestTimeout, MaxHeaderBytes: headerLimit,
		ConnState: w.state, ErrorLog: log.New(io.Discard, "", 0), // what clients do wrong is answered, not logged
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, socketKey{}, c) },
	}
	go func() {
		defer close(w.served)
		w.err = w.server.Serve(below)
	}()
	return w
}

// socketKey is the key, in a request's context, of the connection that it came by.
type socketKey struct{}

// state counts the connections whose WebSocket is not open yet, and ends those that
// are too many.
func (w *webSocket) state(c net.Conn, now http.ConnState) {
	switch now {
	case http.StateNew:
		if w.opening.Add(1) > openingMost {
			w.front.refuse(whyBusy)
			_ = c.Close() // it is refused
		}
	case http.StateIdle:
		_ = c.Close() // it was answered, and opened no WebSocket
	case http.StateHijacked, http.StateClosed:
		w.opening.Add(-1)
	default:
	}
}

// deny answers a request that opens no WebSocket.
func (w *webSocket) deny(rw http.ResponseWriter, why string, status int) {
	w.front.refuse(whyHTTP)
	http.Error(rw, why, status)
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
func (w *webSocket) Addr() net.Addr { return w.below.Addr() }

// handle opens one WebSocket and hands it out; then the goroutine and the memory of
// the request are free.
func (w *webSocket) handle(rw http.ResponseWriter, r *http.Request) {
	if !w.originAllowed(r) {
		w.deny(rw, "origin not allowed", http.StatusForbidden)
		return
	}
	if !offers(r.Header, subprotocol) { // [MQTT-6.0.0-3], [MQTT3-6.0.0-3]
		w.deny(rw, "subprotocol mqtt expected", http.StatusBadRequest)
		return
	}
	ws, err := websocket.Accept(rw, r, &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol}, OriginPatterns: w.front.options.Origins, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		w.front.refuse(whyHTTP)
		return // it has been answered
	}
	ws.SetReadLimit(messageLimit)
	ctx, cancel := context.WithCancel(context.Background()) // that of the request would keep all of it
	// A stream, whatever the frames: [MQTT-6.0.0-1], [MQTT-6.0.0-2], [MQTT3-6.0.0-1],
	// [MQTT3-6.0.0-2]
	c := &wsConn{Conn: websocket.NetConn(ctx, ws, websocket.MessageBinary), front: w.front, ws: ws, cancel: cancel}
	c.below, _ = r.Context().Value(socketKey{}).(net.Conn) // ConnContext has put it there
	select {
	case w.conns <- c: // which is closed by whoever accepts it
	case <-w.closed:
		cancel()
		_ = ws.CloseNow() // nobody wants it
	}
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
	if r.Header.Get("Origin") == "" || len(w.front.options.Origins) > 0 {
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
	below, _ := r.Context().Value(socketKey{}).(net.Conn) // ConnContext has put it there
	remote, ok := below.RemoteAddr().(*net.TCPAddr)
	return ok && !remote.IP.IsLoopback()
}

// wsConn is a WebSocket as a connection.
type wsConn struct {
	net.Conn
	front  *front
	below  net.Conn // the socket, or TLS on it
	ws     *websocket.Conn
	cancel context.CancelFunc
	once   sync.Once
}

// Listener is the name of the listener.
func (c *wsConn) Listener() string { return c.front.options.Name }

// Refused counts the connection as refused.
func (c *wsConn) Refused(why string) { c.front.refuse(why) }

// PeerCertificates is the verified chain of the client's certificate, leaf first;
// nil without one.
func (c *wsConn) PeerCertificates() []*x509.Certificate {
	if late, ok := c.below.(*lateConn); ok {
		return late.PeerCertificates()
	}
	return nil
}

// LocalAddr implements [net.Conn].
func (c *wsConn) LocalAddr() net.Addr { return c.below.LocalAddr() }

// RemoteAddr implements [net.Conn].
func (c *wsConn) RemoteAddr() net.Addr { return c.below.RemoteAddr() }

// SetReadDeadline implements [net.Conn]. A deadline that has passed asks the peer
// to close, which lets it read what it was sent last; Read then ends.
func (c *wsConn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		return c.Close()
	}
	return c.Conn.SetReadDeadline(t)
}

// Close implements [net.Conn]. It does not wait for the peer, who is told, if it is
// there, within closeTime.
func (c *wsConn) Close() error {
	c.once.Do(func() {
		go func() {
			defer c.cancel()
			late := time.AfterFunc(closeTime, c.cancel) // ends a Read that still waits
			defer late.Stop()
			_ = c.ws.Close(websocket.StatusNormalClosure, "") // it may have left
			_ = c.ws.CloseNow()                               // closed already, when all went well
		}()
	})
	return nil
}
