package broker_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// lateListener has connections whose first deadline is set when the second one has been.
type lateListener struct {
	net.Listener
	first chan struct{} // closed when the first deadline is to be set
}

func (l *lateListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return &lateConn{Conn: nc, first: l.first, second: make(chan struct{})}, err
}

type lateConn struct {
	net.Conn
	calls  atomic.Int32
	first  chan struct{}
	second chan struct{}
	once   sync.Once
}

func (c *lateConn) SetReadDeadline(at time.Time) error {
	if c.calls.Add(1) == 1 {
		close(c.first)
		<-c.second
		return c.Conn.SetReadDeadline(at)
	}
	defer c.once.Do(func() { close(c.second) })
	return c.Conn.SetReadDeadline(at)
}

// A client that has only just come does not keep the server from its end, however long
// it may take over its CONNECT.
func TestStopWhileAClientComes(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	late := &lateListener{Listener: ln, first: make(chan struct{})}
	s := brokertest.StartOn(t, broker.Options{Store: mem.New(), Limits: broker.Limits{ConnectTime: time.Hour}}, late)
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }() // the server has closed it
	<-late.first
	s.Stop()
}
