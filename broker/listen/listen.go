package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"path"
	"runtime"
	"strings"
)

// Options say what to listen on.
type Options struct {
	// Name is for authorizers, counters and logs. Empty means the address.
	Name string
	// Address is "host:port" for mqtt, mqtts, ws and wss, where port 0 takes a free
	// one; a path for unix; or "systemd:NAME" for a socket of Sockets.
	Address string
	// Protocol is "mqtt" (TCP), "mqtts" (TLS), "ws" (WebSocket, path /mqtt), "wss"
	// (WebSocket over TLS) or "unix". Empty means mqtt.
	Protocol string
	// TLS is required for mqtts and wss, and must be nil for the others.
	TLS *TLS
	// Origins are host patterns, as of [path.Match], of the web pages that may
	// connect to ws and wss besides those of the same host.
	Origins []string
	// Proxies, when there are any, are the networks whose connections begin with a
	// PROXY protocol header of version 2, which says where the client is; all other
	// connections are refused. Not for unix.
	Proxies []netip.Prefix
	// Mode is the mode of the socket file of unix; 0 means 0600.
	Mode fs.FileMode
	// Sockets are those that a service manager passed.
	Sockets *Sockets
	// Log is where failing handshakes are told; nil discards.
	Log *slog.Logger
}

// The kinds of Protocol.
func (o *Options) overTLS() bool       { return o.Protocol == "mqtts" || o.Protocol == "wss" }
func (o *Options) overWebSocket() bool { return o.Protocol == "ws" || o.Protocol == "wss" }

func (o *Options) check() error {
	switch o.Protocol {
	case "mqtt", "mqtts", "ws", "wss", "unix":
	default:
		return fmt.Errorf("protocol %q is none of mqtt, mqtts, ws, wss, unix", o.Protocol)
	}
	switch {
	case o.overTLS() && o.TLS == nil:
		return fmt.Errorf("protocol %s needs a certificate", o.Protocol)
	case !o.overTLS() && o.TLS != nil:
		return fmt.Errorf("protocol %s has no TLS", o.Protocol)
	case o.Protocol == "unix" && len(o.Proxies) > 0:
		return errors.New("a Unix socket has no PROXY protocol")
	}
	for _, origin := range o.Origins {
		if _, err := path.Match(origin, ""); err != nil {
			return fmt.Errorf("origin %q is no pattern: %w", origin, err)
		}
	}
	return nil
}

// Listener accepts connections of one address. Its methods may be called by any
// goroutine.
type Listener struct {
	net.Listener
	front *front
}

// Listen opens a listener. The socket file of a unix listener is taken over if
// nobody listens on it any more. The error says what is wrong with the address, or
// with a file of TLS.
func Listen(ctx context.Context, o Options) (*Listener, error) {
	if o.Name == "" {
		o.Name = o.Address
	}
	if o.Protocol == "" {
		o.Protocol = "mqtt"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := listen(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", o.Address, err)
	}
	return l, nil
}

func listen(ctx context.Context, o Options) (*Listener, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	// Half of the processors are for handshakes, however many come at once; messages
	// go on meanwhile.
	f := &front{options: o, turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	if o.TLS != nil {
		var err error
		if f.certificates, err = newCertificates(*o.TLS); err != nil {
			return nil, err
		}
	}
	socket, err := open(ctx, &o)
	if err != nil {
		return nil, err
	}
	l := &Listener{front: f}
	switch socket := socket.(type) {
	case *net.UnixListener:
		l.Listener = &unixListener{UnixListener: socket, front: f}
	case *net.TCPListener:
		l.Listener = &tcpListener{TCPListener: socket, front: f}
	}
	return l, nil
}

// open opens the socket, or takes the one that was passed.
func open(ctx context.Context, o *Options) (net.Listener, error) {
	if name, ok := strings.CutPrefix(o.Address, socketPrefix); ok {
		return o.Sockets.take(name, o.Protocol == "unix")
	}
	if o.Protocol == "unix" {
		return listenUnix(ctx, o.Address, o.Mode)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", o.Address) // [MQTT-4.2.0-1], [MQTT3-7.1.1-1]
}

// tcpListener makes connections of what it accepts: plain ones as they are, so that
// their descriptor can be used, and late ones.
type tcpListener struct {
	*net.TCPListener
	front *front
}

// Accept implements [net.Listener].
func (l *tcpListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		l.front.accepted.Add(1)
		f := l.front
		switch {
		case len(f.options.Proxies) > 0 && !f.trusts(c.RemoteAddr()):
			f.refuse(whyProxySource)
			_ = c.Close() // it is refused
		case len(f.options.Proxies) > 0, f.options.overTLS(), f.options.overWebSocket():
			return newLate(c, f), nil
		default:
			return &tcpConn{TCPConn: c, front: f}, nil
		}
	}
}

type tcpConn struct {
	*net.TCPConn
	front *front
}

// Listener is the name of the listener.
func (c *tcpConn) Listener() string { return c.front.options.Name }

// Refused counts the connection as refused.
func (c *tcpConn) Refused(why string) { c.front.refuse(why) }

type unixListener struct {
	*net.UnixListener
	front *front
}

type unixConn struct {
	*net.UnixConn
	front *front
}

// Accept implements [net.Listener].
func (l *unixListener) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	l.front.accepted.Add(1)
	return &unixConn{UnixConn: c, front: l.front}, nil
}

// Listener is the name of the listener.
func (c *unixConn) Listener() string { return c.front.options.Name }

// Refused counts the connection as refused.
func (c *unixConn) Refused(why string) { c.front.refuse(why) }
