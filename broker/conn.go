package broker

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// conn is one client on one socket. It is run by one goroutine at a time: one of
// its own until the client is connected, then that of a [loop] if it is a plain
// socket; one that is polled waits on a loop, and has a goroutine while there is
// something to read. Fields are that goroutine's, but for those whose comments say otherwise.
type conn struct {
	srv   *Server
	nc    net.Conn
	fd    int    // of the socket, valid until close; -1 for others
	poll  polled // how a socket that is not a plain one is read on a loop; nil for others
	loop  *loop  // nil for those without a socket
	part  []byte // what has come and could not be read yet
	wait  []byte // what a connection is read into that cannot wait without; nil for others
	more  bool   // part may hold whole packets
	away  bool   // not on a loop: what takes its time may be done
	batch *batch
	out   output // used by all

	who       Identity
	from      netip.Addr // that it is counted by, under the server's mu
	pace      pace
	version   packet.Version
	session   *Session
	access    *access
	rights    uint64       // of the server, before the client was authenticated
	method    string       // of authentication, as CONNECT says
	renewal   Exchange     // that the client has begun with AUTH, nil without
	bound     store.Ticket // of the last changes that end the connection if they are refused; nil if all is well
	epoch     uint64       // of the session
	sendMax   int          // messages of QoS 1 and 2 in flight to the client
	maxPacket int          // that the client takes; 0 is no limit
	keepAlive time.Duration
	since     time.Time
	aliases   map[uint16]string // [MQTT-3.3.2-7]
	repeats   repeats
	parted    packet.Reason // of the client's DISCONNECT
	quiet     bool          // the client wants no reason strings
	redirect  bool          // there is no room: the client is to use another server
	farewell  bool          // the client said that it leaves, and wants no will

	turn     atomic.Int32  // of a connection of a loop: who runs it
	half     atomic.Bool   // by the loop: the client has said its last
	quota    atomic.Int32  // messages of QoS 1 and 2 from the client that have no final answer
	pending  atomic.Int32  // batches in the journal
	room     chan struct{} // capacity 1: there is room again; nil on a loop
	ended    atomic.Bool   // by us: nothing more is read
	cause    atomic.Uint32 // why we ended it, and causeKnown
	told     atomic.Bool   // the client is told why we end it: 5.0, and connected
	heard    atomic.Int64  // when a packet came last, since the server was made
	alive    atomic.Pointer[time.Timer]
	hindered atomic.Bool   // by us: the reader waits for other things than the client
	left     chan struct{} // closed when the session is left
}

// Who runs a connection that is on a loop.
const (
	turnNobody int32 = iota // it waits
	turnTaken               // somebody runs it
	turnAgain               // and is to look once more
)

func (srv *Server) newConn(nc net.Conn) *conn {
	c := &conn{srv: srv, nc: nc, fd: descriptor(nc), left: make(chan struct{})}
	plain := c.fd
	if poll, ok := nc.(polled); ok && plain < 0 {
		c.poll, c.fd = poll, poll.Descriptor()
	}
	if c.loop = srv.loopOf(c.fd); c.loop == nil {
		c.poll, c.fd, plain, c.room = nil, -1, -1, make(chan struct{}, 1)
	}
	c.turn.Store(turnTaken)
	c.out = output{
		nc: nc, fd: plain, limit: srv.opts.Limits.Output, slow: srv.opts.Limits.WriteTime, conn: c, written: make(chan struct{}),
	}
	c.who = identify(nc)
	c.pace = newPace(srv.opts.Limits.PublishRate)
	return c
}

// identify says what is known of a client before it has said anything.
func identify(nc net.Conn) Identity {
	who := Identity{Remote: nc.RemoteAddr(), Loopback: isLoopback(nc.RemoteAddr()) && isLoopback(nc.LocalAddr())}
	if n, ok := nc.(interface{ Listener() string }); ok {
		who.Listener = n.Listener()
	}
	if n, ok := nc.(interface{ PeerCertificates() []*x509.Certificate }); ok {
		if chain := n.PeerCertificates(); len(chain) > 0 {
			who.Certificate = chain[0]
		}
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

// serve is the life of the connection, up to where a loop takes it.
func (c *conn) serve() {
	if c.begun() && c.loop != nil {
		c.run() // and finishes it, when it is over
		return
	}
	c.finish()
}

// begun connects the client, and runs the connection if no loop is to.
func (c *conn) begun() bool {
	defer c.srv.recovered("connection", c.who.Remote)
	c.away = true
	c.batch = c.srv.newBatch(c.srv.ctx, c)
	if !c.connect() {
		return false
	}
	if c.keepAlive > 0 {
		patience := c.keepAlive + c.keepAlive/2 // [MQTT-3.1.2-22], [MQTT3-3.1.2-24]
		c.alive.Store(time.AfterFunc(patience, func() { c.checkAlive(patience) }))
	}
	if c.loop == nil {
		c.listen()
		return false
	}
	return c.loop.add(c)
}

// run runs a connection of a loop, whose turn is taken, until it waits.
func (c *conn) run() {
	for {
		if c.batch == nil {
			c.batch = c.srv.newBatch(c.srv.ctx, c)
		}
		c.away = true
		next := c.look()
		c.away = false
		c.batch.free()
		c.batch = nil
		if next == stepEnd {
			c.finish()
			return
		}
		if c.rest() {
			return
		}
	}
}

// look reads what there is.
func (c *conn) look() (next step) {
	next = stepEnd // after a panic
	defer c.srv.recovered("connection", c.who.Remote)
	b := c.batch
	b.spoiled = true
	next = c.readAll()
	b.spoiled = false
	return next
}

// rest gives the turn back, unless the connection was woken meanwhile.
func (c *conn) rest() bool {
	if c.turn.CompareAndSwap(turnTaken, turnNobody) {
		return true
	}
	c.turn.Store(turnTaken)
	return false
}

// wake has the connection look at what has become of it: whether there is input, or
// room for answers, or it has ended. Anyone may call it.
func (c *conn) wake() {
	if c.loop == nil {
		select {
		case c.room <- struct{}{}:
		default:
		}
		return
	}
	if c.takeTurn() {
		go c.run()
	}
}

// takeTurn takes the turn, or has whoever has it look once more.
func (c *conn) takeTurn() bool {
	for {
		switch c.turn.Load() {
		case turnNobody:
			if c.turn.CompareAndSwap(turnNobody, turnTaken) {
				return true
			}
		case turnTaken:
			if c.turn.CompareAndSwap(turnTaken, turnAgain) {
				return false
			}
		default:
			return false
		}
	}
}

// hear notes that the client is alive.
func (c *conn) hear() { c.heard.Store(int64(time.Since(c.srv.made))) }

// hasRoom is called by the writer when the output has room again.
func (c *conn) hasRoom() {
	defer c.srv.recovered("output", c.who.Remote)
	c.wake()
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
		c.shut(reason) // [MQTT-4.13.1-1], [MQTT3-4.8.0-1]
	case errors.Is(err, io.EOF), c.ended.Load(), errors.Is(err, net.ErrClosed):
	default:
		c.srv.log.Debug("connection lost", "client", c.who.ClientID, "remote", c.who.Remote, "err", err)
	}
}

// handle does what one packet asks for. More is false when it is the last, and
// reason then what the client is told.
func (c *conn) handle(p packet.Packet) (reason packet.Reason, more bool) {
	b := c.batch
	b.heard++
	switch p := p.(type) {
	case *packet.Publish:
		reason = c.receive(p)
		return reason, !reason.Failed()
	case *packet.Ack:
		b.ops = append(b.ops, op{kind: p.Kind, id: p.ID, reason: p.Reason})
		return 0, true
	case *packet.Pingreq:
		b.run()                        // what came before is answered before
		b.addTo(c, &packet.Pingresp{}) // [MQTT-3.12.4-1], [MQTT3-3.12.4-1]
		return 0, true
	case *packet.Disconnect:
		return c.goodbye(p), false
	case *packet.Subscribe:
		b.run()
		switch {
		case sharedNoLocal(p):
			return packet.ProtocolError, false
		case !c.takesReasons(len(p.Filters)):
			return packet.PacketTooLarge, false
		}
		c.subscribe(p)
		return 0, true
	case *packet.Unsubscribe:
		b.run()
		if !c.takesReasons(len(p.Filters)) {
			return packet.PacketTooLarge, false
		}
		c.unsubscribe(p)
		return 0, true
	case *packet.Auth:
		b.run()
		return c.reauthenticate(p)
	default: // [MQTT-3.1.0-2], [MQTT3-3.1.0-2], and what only servers send
		return packet.ProtocolError, false
	}
}

// goodbye takes a DISCONNECT (MQTT 5.0 §3.14).
func (c *conn) goodbye(p *packet.Disconnect) packet.Reason {
	s := c.session
	if p.SessionExpiryInterval != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.expiry == 0 && *p.SessionExpiryInterval != 0 { // MQTT 5.0 §3.14.2.2.2
			return packet.ProtocolError
		}
		s.expiry = c.srv.capExpiry(expiryOf(*p.SessionExpiryInterval))
	}
	c.parted = p.Reason
	c.farewell = p.Reason == packet.NormalDisconnection // [MQTT-3.14.4-3], [MQTT3-3.14.4-3]
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
	last := c.lastWords(reason)
	c.ended.Store(true)
	c.cause.CompareAndSwap(0, causeKnown|uint32(reason))
	c.out.end(&c.srv.pools, last) // wakes the reader when the last bytes are out, [MQTT-3.14.4-1], [MQTT-3.14.4-2], [MQTT-4.13.2-1]
	if c.loop != nil {
		c.wake()
	}
}

// finish ends the connection; nobody runs it any more.
func (c *conn) finish() {
	defer c.srv.work.Done()
	defer c.srv.untake(c)
	defer c.srv.recovered("end of a connection", c.who.Remote)
	if timer := c.alive.Load(); timer != nil {
		timer.Stop()
	}
	c.pace.stop()
	if c.batch != nil {
		c.batch.free()
		c.batch = nil
	}
	c.leave()
	c.close()
}

// leave detaches the session, then nothing of the connection touches it.
func (c *conn) leave() {
	defer close(c.left)
	defer c.srv.recovered("end of a connection", c.who.Remote)
	if c.session != nil {
		defer c.srv.stats.clients.Add(-1) // when what is published now waits
		c.srv.disconnected(c)
		c.srv.parted(c)
		c.session.disown(c)
		c.srv.log.Info("client disconnected", "client", c.who.ClientID, "remote", c.who.Remote, "farewell", c.farewell)
	}
}

// close gives the client a moment to read the last bytes, and closes the socket: a
// close with unread input would reset the connection and take them from it.
func (c *conn) close() {
	c.out.end(&c.srv.pools, nil)
	<-c.out.written
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && c.ended.Load() && half.CloseWrite() == nil {
		_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime)) // else it lingers for less
		_, _ = io.CopyN(io.Discard, c.nc, 1<<20)             // all that matters is that it ends
	}
	if c.loop != nil {
		c.loop.remove(c)
	}
	c.out.close()
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
	return c.srv.authz.Allow(c.srv.ctx, c.who, action, name)
}
