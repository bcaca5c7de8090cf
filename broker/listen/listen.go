package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// Options say what to listen on.
type Options struct {
	// Name is for authorizers and logs. Empty means the address.
	Name string
	// Address is "host:port" for mqtt and ws, where port 0 takes a free one, and a
	// path for unix.
	Address string
	// Protocol is "mqtt" (TCP), "ws" (WebSocket, path /mqtt) or "unix". Empty means
	// mqtt.
	Protocol string
	// Origins are host patterns, as of [path.Match], of the web pages that may
	// connect to ws besides those of the same host.
	Origins []string
}

// Listen opens a listener. The socket file of a unix listener has mode 0600, and is
// taken over if nobody listens on it any more.
func Listen(ctx context.Context, o Options) (net.Listener, error) {
	if o.Name == "" {
		o.Name = o.Address
	}
	switch o.Protocol {
	case "", "mqtt":
		l, err := listenTCP(ctx, o.Address)
		if err != nil {
			return nil, err
		}
		return &tcpListener{TCPListener: l, name: o.Name}, nil
	case "unix":
		l, err := listenUnix(ctx, o.Address)
		if err != nil {
			return nil, err
		}
		return &unixListener{UnixListener: l, name: o.Name}, nil
	case "ws":
		l, err := listenTCP(ctx, o.Address)
		if err != nil {
			return nil, err
		}
		return newWebSocket(l, o), nil
	default:
		return nil, fmt.Errorf("cannot listen on %q: protocol %q is none of mqtt, ws, unix", o.Address, o.Protocol)
	}
}

func listenTCP(ctx context.Context, address string) (*net.TCPListener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", address, err)
	}
	return l.(*net.TCPListener), nil //nolint:forcetypeassert // it is what "tcp" gives
}

func listenUnix(ctx context.Context, path string) (*net.UnixListener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", path, err)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen on %q: %w", path, err), l.Close())
	}
	return l.(*net.UnixListener), nil //nolint:forcetypeassert // it is what "unix" gives
}

// removeStale removes a socket that a process left when it was killed.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(errors.New("somebody listens there already"), c.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	default:
		return err
	}
}

// tcpListener names its connections.
type tcpListener struct {
	*net.TCPListener
	name string
}

type tcpConn struct {
	*net.TCPConn
	name string
}

// Accept implements [net.Listener].
func (l *tcpListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return &tcpConn{TCPConn: c, name: l.name}, nil
}

// Listener is the name of the listener.
func (c *tcpConn) Listener() string { return c.name }

// unixListener names its connections.
type unixListener struct {
	*net.UnixListener
	name string
}

type unixConn struct {
	*net.UnixConn
	name string
}

// Accept implements [net.Listener].
func (l *unixListener) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return &unixConn{UnixConn: c, name: l.name}, nil
}

// Listener is the name of the listener.
func (c *unixConn) Listener() string { return c.name }
