package brokertest

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// Server is a broker that runs and listens.
type Server struct {
	*broker.Server
	listener net.Listener
	cancel   context.CancelFunc
	stop     sync.Once
	ended    sync.WaitGroup
	t        testing.TB
}

// Transport is how scenarios reach a broker.
type Transport struct {
	// Listen opens a listener, and fails the test if it cannot.
	Listen func(t testing.TB) net.Listener
	// Dial opens a connection to the address of such a listener.
	Dial func(address string) (net.Conn, error)
}

// TCP is the transport of plain sockets.
func TCP() Transport {
	return Transport{
		Listen: func(t testing.TB) net.Listener {
			t.Helper()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			return l
		},
		Dial: func(address string) (net.Conn, error) { return net.Dial("tcp", address) },
	}
}

// Start runs a broker on a loopback port. It is stopped when the test ends, if not
// before.
func Start(t testing.TB, opts broker.Options) *Server {
	t.Helper()
	return StartOn(t, opts, TCP().Listen(t))
}

// StartOn is [Start] on another listener. Clients have a minute to be connected, unless
// the options say otherwise: a busy machine may need more than the default.
func StartOn(t testing.TB, opts broker.Options, l net.Listener) *Server {
	t.Helper()
	if opts.Limits.ConnectTime == 0 {
		opts.Limits.ConnectTime = patience
	}
	server, err := broker.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{Server: server, listener: l, cancel: cancel, t: t}
	s.ended.Go(func() {
		if err := server.Run(ctx); err != nil {
			t.Errorf("broker: %v", err)
		}
	})
	s.ended.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			t.Errorf("broker: %v", err)
		}
	})
	select {
	case <-server.Ready():
	case <-time.After(patience):
		t.Fatal("the broker does not get ready")
	}
	t.Cleanup(s.Stop)
	return s
}

// movedListener has its connections come from another address.
type movedListener struct {
	net.Listener
	from net.IP
}

type movedConn struct {
	net.Conn
	remote net.TCPAddr
}

// Accept implements [net.Listener].
func (l movedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &movedConn{Conn: nc, remote: net.TCPAddr{IP: l.from, Port: 1024}}, nil
}

// RemoteAddr implements [net.Conn].
func (c *movedConn) RemoteAddr() net.Addr { return &c.remote }

// Address is where it listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Stop ends the broker and waits until it has ended.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.cancel()
		ended := make(chan struct{})
		go func() { s.ended.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(patience):
			s.t.Error("the broker does not end")
		}
	})
}

// Everyone is an authorizer that lets everyone do everything.
func Everyone() broker.Authorizer { return everyone{} }

type everyone struct{}

func (everyone) Connect(context.Context, broker.Identity, []byte) (string, error) { return "", nil }

func (everyone) Allow(context.Context, broker.Identity, broker.Action, string) error { return nil }

// guard is an authorizer with a rule of each kind: the password is the user's
// name, or the user knows the answer to a riddle; a user may not touch what is below
// "secret", nor publish below "readonly"; the user "reader" may not be sent what is
// below "hidden".
type guard struct{}

// Connect implements [broker.Authorizer].
func (guard) Connect(_ context.Context, who broker.Identity, password []byte) (string, error) {
	if string(password) != who.Username {
		return "", packet.BadUserNameOrPassword
	}
	return who.Username, nil
}

// Allow implements [broker.Authorizer].
func (guard) Allow(_ context.Context, who broker.Identity, action broker.Action, topic string) error {
	switch {
	case strings.HasPrefix(topic, "secret/"),
		strings.HasPrefix(topic, "readonly/") && action == broker.ActPublish,
		strings.HasPrefix(topic, "hidden/") && action == broker.ActReceive && who.Principal == "reader":
		return errors.New("not yours")
	default:
		return nil
	}
}

// Exchange implements [broker.Exchanger], with the method RIDDLE: the client says who
// it is, then answers; what it is not told to say twice it may not say.
func (guard) Exchange(_ broker.Identity, method string) (broker.Exchange, error) {
	if method != "RIDDLE" {
		return nil, packet.BadAuthenticationMethod
	}
	return &riddle{}, nil
}

type riddle struct{ user string }

// Step implements [broker.Exchange].
func (r *riddle) Step(_ context.Context, data []byte) ([]byte, bool, error) {
	switch {
	case r.user == "":
		r.user = string(data)
		return []byte("what has keys?"), false, nil
	case string(data) != "a piano":
		return nil, false, packet.BadUserNameOrPassword
	default:
		return []byte("right"), true, nil
	}
}

// Principal implements [broker.Exchange].
func (r *riddle) Principal() string { return r.user }
