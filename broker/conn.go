package broker

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// conn is one client on one socket. Its reader goroutine does everything but what
// its comments say.
type conn struct {
	srv    *Server
	nc     net.Conn
	ctx    context.Context
	cancel context.CancelFunc
	in     *input
	out    output // used by all
	batch  *batch

	who       Identity
	version   packet.Version
	session   *Session
	access    *access
	epoch     uint64 // of the session
	sendMax   int    // messages of QoS 1 and 2 in flight to the client
	maxPacket int    // that the client takes; 0 is no limit
	keepAlive time.Duration
	since     time.Time
	aliases   map[uint16]string
	farewell  bool // the client said that it leaves, and wants no will

	quota    atomic.Int32  // messages of QoS 1 and 2 from the client that have no final answer
	pending  atomic.Int32  // batches in the journal
	answered chan struct{} // capacity 1: a batch has left the journal
	room     chan struct{} // capacity 1: there is room in the output
	ended    atomic.Bool   // by us: nothing more is read
	told     atomic.Bool   // the client is told why we end it: 5.0, and connected
	heard    atomic.Int64  // when a packet came last, since the server was made
	alive    atomic.Pointer[time.Timer]
	hindered atomic.Bool   // by us: the reader waits for other things than the client
	left     chan struct{} // closed when the session is left
}

func (srv *Server) newConn(nc net.Conn) *conn {
	c := &conn{
		srv: srv, nc: nc,
		answered: make(chan struct{}, 1), room: make(chan struct{}, 1), left: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(srv.ctx)
	c.in = newInput(nc, &srv.pools)
	c.out = output{
		nc: nc, limit: srv.opts.Limits.Output, slow: srv.opts.Limits.WriteTime, raw: newRawWriter(nc),
		hear: c.hasRoom, written: make(chan struct{}),
	}
	c.who = identify(nc)
	return c
}

// identify says what is known of a client before it has said anything.
func identify(nc net.Conn) Identity {
	who := Identity{Remote: nc.RemoteAddr(), Loopback: isLoopback(nc.RemoteAddr()) && isLoopback(nc.LocalAddr())}
	if n, ok := nc.(interface{ Listener() string }); ok {
		who.Listener = n.Listener()
	}
	return who
}

func isLoopback(a net.Addr) bool {
	switch a := a.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	default:
		return false
	}
}

// serve is the life of the connection.
func (c *conn) serve() {
	defer c.close()
	defer c.leave()
	defer c.srv.recovered("connection", c.who.Remote)
	c.batch = c.srv.newBatch(c.ctx, c)
	if !c.connect() {
		return
	}
	if c.keepAlive > 0 {
		patience := c.keepAlive + c.keepAlive/2 // [MQTT-3.1.2-22]
		c.alive.Store(time.AfterFunc(patience, func() { c.checkAlive(patience) }))
		defer c.alive.Load().Stop()
	}
	c.loop()
}

// loop reads packets, and runs the batch whenever the input at hand is used up.
func (c *conn) loop() {
	for !c.ended.Load() {
		waited := !c.in.whole()
		fresh := waited || c.batch.full()
		if fresh {
			c.batch.run()
			if !c.unhindered() || waited && !c.await() {
				return
			}
		}
		p, err := packet.Read(c.in.rd.Reader, c.version, c.srv.opts.Limits.Packet)
		if err != nil {
			c.failed(err)
			return
		}
		if fresh {
			c.batch.now = time.Now()
			c.heard.Store(int64(c.batch.now.Sub(c.srv.made)))
		}
		if reason, more := c.handle(p); !more {
			c.batch.run()
			if reason.Failed() {
				c.shut(reason)
			}
			return
		}
	}
}

// await waits for input; meanwhile the connection holds no batch.
func (c *conn) await() bool {
	c.batch.free()
	c.batch = nil
	err := c.in.wait()
	c.batch = c.srv.newBatch(c.ctx, c)
	if err != nil {
		c.failed(err)
		return false
	}
	return true
}

// unhindered waits while the client does not read what it is sent, or the store
// is behind.
func (c *conn) unhindered() bool {
	if !c.out.full() && c.pending.Load() < maxPending {
		return true
	}
	c.hindered.Store(true)
	defer c.hindered.Store(false)
	defer c.hear() // it may have said much that nobody listened to
	for c.out.full() || c.pending.Load() >= maxPending {
		select {
		case <-c.room:
		case <-c.answered:
		case <-c.out.written:
			return false
		}
	}
	return true
}

// hear notes that the client is alive.
func (c *conn) hear() { c.heard.Store(int64(time.Since(c.srv.made))) }

// hasRoom is called by the writer when the output has room again.
func (c *conn) hasRoom() {
	defer c.srv.recovered("output", c.who.Remote)
	select {
	case c.room <- struct{}{}:
	default:
	}
	if s := c.session; s != nil {
		b := c.srv.newBatch(c.srv.ctx, nil)
		defer b.free()
		c.srv.pump(b, s)
	}
}

// failed ends the connection after an error of reading.
func (c *conn) failed(err error) {
	c.batch.run()
	var reason packet.Reason
	switch {
	case errors.As(err, &reason):
		c.srv.log.Debug("packet refused", "client", c.who.ClientID, "remote", c.who.Remote, "reason", reason)
		c.shut(reason)
	case errors.Is(err, io.EOF), c.ended.Load(), errors.Is(err, net.ErrClosed):
	default:
		c.srv.log.Debug("connection lost", "client", c.who.ClientID, "remote", c.who.Remote, "err", err)
	}
}

// handle does what one packet asks for. More is false when it is the last, and
// reason then what the client is told.
func (c *conn) handle(p packet.Packet) (reason packet.Reason, more bool) {
	b := c.batch
	switch p := p.(type) {
	case *packet.Publish:
		reason = c.receive(p)
		return reason, !reason.Failed()
	case *packet.Ack:
		b.ops = append(b.ops, op{kind: p.Kind, id: p.ID, reason: p.Reason})
		return 0, true
	case *packet.Pingreq:
		b.run() // what came before is answered before
		b.addTo(c, &packet.Pingresp{})
		return 0, true
	case *packet.Disconnect:
		return c.goodbye(p), false
	case *packet.Subscribe:
		b.run()
		if sharedNoLocal(p) {
			return packet.ProtocolError, false
		}
		c.subscribe(p)
		return 0, true
	case *packet.Unsubscribe:
		b.run()
		c.unsubscribe(p)
		return 0, true
	default: // [MQTT-3.1.0-2], AUTH without a method, and what only servers send
		return packet.ProtocolError, false
	}
}

// goodbye takes a DISCONNECT (MQTT 5.0 §3.14).
func (c *conn) goodbye(p *packet.Disconnect) packet.Reason {
	s := c.session
	if p.SessionExpiryInterval != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.expiry == 0 && *p.SessionExpiryInterval != 0 { // [MQTT-3.1.2-23]
			return packet.ProtocolError
		}
		s.expiry = expiryOf(*p.SessionExpiryInterval)
	}
	c.farewell = p.Reason == packet.NormalDisconnection // [MQTT-3.14.4-3]
	return packet.Success
}

// checkAlive ends the connection if nothing has come for patience, unless nobody
// has listened.
func (c *conn) checkAlive(patience time.Duration) {
	if c.hindered.Load() {
		c.hear()
	}
	silent := time.Since(c.srv.made) - time.Duration(c.heard.Load())
	if silent >= patience {
		c.shut(packet.KeepAliveTimeout)
		return
	}
	if timer := c.alive.Load(); timer != nil {
		timer.Reset(patience - silent)
	}
}

// shut ends the connection; a 5.0 client is told why. Anyone may call it.
func (c *conn) shut(reason packet.Reason) {
	var last []byte
	if c.told.Load() {
		var err error
		if last, err = packet.Append(nil, &packet.Disconnect{Reason: told(reason, packet.DISCONNECT)}, packet.V5); err != nil {
			c.srv.log.Warn("reason cannot be told", "reason", reason, "err", err)
		}
	}
	c.ended.Store(true)
	c.out.end(&c.srv.pools, last) // wakes the reader when the last bytes are out
}

// leave detaches the session, then nothing of the connection touches it.
func (c *conn) leave() {
	defer close(c.left)
	defer c.srv.recovered("end of a connection", c.who.Remote)
	if c.batch != nil {
		c.batch.flush()
	}
	if c.session != nil {
		c.srv.stats.clients.Add(-1)
		c.srv.disconnected(c)
		c.session.disown(c)
		c.srv.log.Info("client disconnected", "client", c.who.ClientID, "remote", c.who.Remote, "farewell", c.farewell)
	}
}

// close gives the client a moment to read the last bytes, and closes the socket: a
// close with unread input would reset the connection and take them from it.
func (c *conn) close() {
	c.cancel()
	c.out.end(&c.srv.pools, nil)
	<-c.out.written
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && c.ended.Load() && half.CloseWrite() == nil {
		_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime)) // else it lingers for less
		_, _ = io.CopyN(io.Discard, c.nc, 1<<20)             // all that matters is that it ends
	}
	c.out.close()
	c.in.free()
}

// takes reports whether the client takes a packet of n bytes ([MQTT-3.1.2-24]).
func (c *conn) takes(n int) bool { return c.maxPacket == 0 || n <= c.maxPacket }

// giveBack returns one to the client's send quota (MQTT 5.0 §4.9).
func (c *conn) giveBack() {
	if c.quota.Add(-1) < 0 {
		c.quota.Store(0)
	}
}

func (c *conn) countSent(m *message.Message, qos message.QoS) {
	c.srv.stats.sent[qos].Add(1)
	c.srv.stats.sentBytes[qos].Add(int64(len(m.Topic) + len(m.Payload)))
}

// allow asks the authorizer about the client.
func (c *conn) allow(action Action, name string) error {
	return c.srv.authz.Allow(c.ctx, c.who, action, name)
}
