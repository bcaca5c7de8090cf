package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// busPrefix begins the session identifiers of in-process subscribers; no client
// may use it.
const busPrefix = "$bus/"

// maxClientID is how many bytes a client identifier may have; at least 23
// ([MQTT-3.1.3-5], [MQTT3-3.1.3-5]).
const maxClientID = 1024

// expiryOf makes a session expiry interval (MQTT 5.0 §3.1.2.11.2) a duration.
func expiryOf(seconds uint32) time.Duration {
	if seconds == 0xFFFFFFFF {
		return store.Forever
	}
	return time.Duration(seconds) * time.Second
}

// connect reads CONNECT and answers it; false when the client is not connected.
func (c *conn) connect() bool {
	deadline := time.Now().Add(c.srv.opts.Limits.ConnectTime)
	_ = c.nc.SetReadDeadline(deadline) // an error shows in the read
	if c.ended.Load() {                // then the deadline was one that had us end, and is lost
		return false
	}
	ctx, cancel := context.WithDeadline(c.srv.ctx, deadline)
	defer cancel()
	p, ok := c.readConnect()
	if !ok {
		return false
	}
	reason, answer := c.check(p), &packet.Connack{}
	if reason == packet.Success {
		reason = c.authenticate(ctx, p, answer)
	}
	if reason == packet.Success {
		reason = c.open(ctx, p, answer)
	}
	if reason.Failed() {
		c.srv.refused(c.nc, whyConnack)
		c.refuse(reason) // [MQTT-3.1.4-2]
		return false     // [MQTT-3.1.4-6], [MQTT3-3.1.4-5]
	}
	_ = c.nc.SetReadDeadline(time.Time{}) // an error shows in the read
	c.srv.collect(c.session, false)
	c.srv.connected(c, answer.SessionPresent)
	c.hear()
	c.srv.stats.connects.Add(1)
	c.srv.log.Info("client connected", "client", c.who.ClientID, "remote", c.who.Remote, "version", c.version)
	return true
}

func (c *conn) readConnect() (*packet.Connect, bool) {
	if late, ok := c.nc.(locator); ok {
		if err := late.Locate(); err != nil {
			c.srv.refused(c.nc, whyUnread(err))
			return nil, false
		}
		if !c.located() {
			c.srv.refused(c.nc, whyAddress)
			return nil, false
		}
	}
	if late, ok := c.nc.(waiter); ok {
		if err := late.Wait(); err != nil {
			c.srv.refused(c.nc, whyUnread(err))
			return nil, false
		}
	}
	p, err := c.readEarly(0)
	connect, _ := p.(*packet.Connect)
	if err == nil && connect != nil {
		c.batch.heard++
		c.version = connect.Version
		return connect, true
	}
	var reason packet.Reason
	if err != nil && !errors.As(err, &reason) {
		c.srv.refused(c.nc, whyUnread(err))
		return nil, false
	}
	c.srv.refused(c.nc, whyMalformed)
	if connect != nil && err != nil { // [MQTT-3.1.2-2], [MQTT-3.1.4-1], [MQTT-4.13.1-1]
		c.version = min(max(connect.Version, packet.V31), packet.V5)
		c.refuse(reasonOf(err, packet.MalformedPacket))
	}
	return nil, false
}

// readEarly reads a packet of a client that is not connected yet, and keeps what comes
// after it. Version 0 is for the first packet, which must be a CONNECT.
func (c *conn) readEarly(version packet.Version) (packet.Packet, error) {
	part := append(make([]byte, 0, max(helloSize, len(c.part))), c.part...)
	c.part, c.more = nil, false
	for fresh := len(part) > 0; ; fresh = false {
		var err error
		if !fresh {
			n := 0
			n, err = c.nc.Read(part[len(part):cap(part)])
			part = part[:len(part)+n]
		}
		p, size, reason := packet.Next(part, version, c.srv.opts.Limits.ConnectPacket, &c.batch.scratch)
		switch {
		case reason != nil:
			return p, reason
		case size > 0:
			c.keep(part[size:])
			c.more = size < len(part)
			return p, nil
		case err != nil:
			return nil, err
		case len(part) == cap(part):
			part = slices.Grow(part, len(part))
		}
	}
}

// refuse sends a CONNACK with a failure; the connection then ends ([MQTT-3.2.2-7],
// [MQTT3-3.2.2-5]).
func (c *conn) refuse(reason packet.Reason) {
	c.tellRefused(reason)
	reason = told(reason, packet.CONNACK)
	answer := &packet.Connack{Reason: reason}
	answer.Properties.ReasonString = c.srv.hint(reason, packet.CONNACK)
	if reason == packet.UseAnotherServer || reason == packet.ServerMoved {
		answer.Properties.ServerReference = c.srv.opts.Offer.Reference
	}
	var last []byte
	if c.version == packet.V5 || hasReturnCode(reason) {
		last = c.encode(nil, answer)
	}
	c.ended.Store(true)
	c.out.end(&c.srv.pools, last)
}

// hasReturnCode reports whether 3.x has a word for a refusal: a CONNECT that does
// not conform ends the connection without one ([MQTT3-3.1.4-1], [MQTT3-3.2.2-6]).
func hasReturnCode(reason packet.Reason) bool {
	switch reason {
	case packet.MalformedPacket, packet.ProtocolError, packet.TopicNameInvalid, packet.PacketTooLarge:
		return false
	default:
		return true
	}
}

// check looks at what a CONNECT says, and gives the client a name if it has none.
func (c *conn) check(p *packet.Connect) packet.Reason {
	c.who = identify(c.nc) // a listener may know more by now
	c.who.Username = p.Username
	if len(p.ClientID) <= maxClientID { // a longer one is refused, and does not fill the log
		c.who.ClientID = p.ClientID
	}
	c.maxPacket = int(min(p.Properties.MaximumPacketSize, 1<<30))
	switch {
	case c.redirect:
		return c.srv.opts.Offer.elsewhere()
	case p.ClientID == "" && (c.version == packet.V31 || c.version == packet.V311 && !p.Clean): // [MQTT3-3.1.3-7], [MQTT3-3.1.3-8]
		return packet.ClientIdentifierNotValid
	case len(p.ClientID) > maxClientID, strings.HasPrefix(p.ClientID, busPrefix): // [MQTT-3.1.3-8], [MQTT3-3.1.3-9]
		return packet.ClientIdentifierNotValid
	case p.Will != nil && (!topic.ValidName(p.Will.Topic) || c.srv.opts.Limits.tooDeep(p.Will.Topic)):
		return packet.TopicNameInvalid
	case c.srv.opts.Limits.tooMany(p.Properties.UserProperties),
		p.Will != nil && c.srv.opts.Limits.tooMany(p.Will.Properties.UserProperties):
		return packet.QuotaExceeded
	case p.Will != nil:
		if reason := c.srv.opts.Offer.refuses(p.Will.QoS, p.Will.Retain); reason.Failed() {
			return reason
		}
	}
	if p.ClientID == "" { // [MQTT-3.1.3-6], [MQTT-3.2.2-16], [MQTT3-3.1.3-6]
		c.who.ClientID = "auto-" + rand.Text()
	}
	return packet.Success
}

// authenticate asks who the client is, and whether it may leave its will.
func (c *conn) authenticate(ctx context.Context, p *packet.Connect, answer *packet.Connack) packet.Reason {
	c.rights = c.srv.rights.Load()
	c.who.Since = time.Now()
	var principal string
	var err error
	if p.Properties.AuthenticationMethod != "" { // else no AUTH is sent ([MQTT-4.12.0-6])
		principal, err = c.exchange(ctx, p, answer)
	} else {
		principal, err = c.srv.authz.Connect(ctx, c.who, p.Password)
	}
	if err != nil {
		return reasonOf(err, packet.NotAuthorized)
	}
	c.who.Principal = principal
	c.access = &access{who: c.who}
	if p.Will != nil {
		if err := c.srv.mayPublish(ctx, c.access, p.Will.Topic); err != nil {
			return reasonOf(err, packet.NotAuthorized)
		}
	}
	return packet.Success
}

// open finds or makes the session, takes it over from another connection, and
// answers.
func (c *conn) open(ctx context.Context, p *packet.Connect, answer *packet.Connack) packet.Reason {
	srv := c.srv
	c.settle(p, answer)
	if c.encode(nil, answer) == nil { // larger than the client takes, [MQTT-3.1.2-24], [MQTT-3.2.2-19], [MQTT-3.2.2-20]
		return packet.PacketTooLarge
	}
	release, err := srv.claim(ctx, c.who.ClientID)
	if err != nil {
		return packet.ServerBusy
	}
	defer release()
	s, reason := c.takeOver(ctx, p.Clean) // [MQTT-3.1.2-5], [MQTT3-3.1.2-4]
	if reason.Failed() {
		return reason
	}
	expiry := c.expiry(p)
	answer.SessionPresent = s != nil // [MQTT-3.2.2-2], [MQTT-3.2.2-3], [MQTT3-3.2.2-1], [MQTT3-3.2.2-2], [MQTT3-3.2.2-3]
	if s == nil {
		if expiry == 0 && !srv.dropAgain(ctx, c.who.ClientID) {
			return packet.ServerUnavailable
		}
		if s = srv.newSession(c.who.ClientID, "client/"+c.who.ClientID, expiry > 0); s == nil {
			return srv.opts.Offer.full(packet.QuotaExceeded)
		}
	}
	if err := srv.recall(ctx, s); err != nil {
		return packet.ServerUnavailable
	}
	if !c.begin(ctx, s, p, expiry, answer.SessionPresent) {
		if !answer.SessionPresent {
			srv.endSession(s)
		}
		return packet.ServerUnavailable
	}
	c.welcome(s, answer)
	return packet.Success
}

// takeOver finds the session that the client goes on with, if any, after ending
// its other connection ([MQTT-3.1.4-3], [MQTT3-3.1.4-2]) and, for a clean start,
// itself.
func (c *conn) takeOver(ctx context.Context, clean bool) (*Session, packet.Reason) {
	id := c.who.ClientID
	s := c.srv.session(id) // [MQTT-3.1.3-2], [MQTT3-3.1.3-2]
	if s == nil {          // [MQTT-3.1.2-6]
		return nil, packet.Success
	}
	s.mu.Lock()
	other := s.owner
	s.mu.Unlock()
	if s.principal() != c.who.Principal {
		if s.principal() != "" || other != nil {
			return nil, packet.NotAuthorized
		}
		clean = true // nobody's: it gives way to somebody, and hands nothing over
	}
	if other != nil {
		other.shut(packet.SessionTakenOver)
		select {
		case <-other.left:
		case <-ctx.Done():
			return nil, packet.ServerBusy
		}
	}
	if s = c.srv.session(id); s != nil && clean { // [MQTT-3.1.2-4], [MQTT-3.1.4-4], [MQTT3-3.1.2-6], [MQTT3-3.1.4-3]
		if dropped := c.srv.endSession(s); dropped != nil && dropped.Wait(ctx) != nil {
			c.srv.undrop(id)
			return nil, packet.ServerUnavailable
		}
		s = nil
	}
	return s, packet.Success
}

// undrop notes that the store still has a session that has ended.
func (srv *Server) undrop(id string) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.undropped == nil {
		srv.undropped = make(map[string]struct{})
	}
	srv.undropped[id] = struct{}{}
}

// dropAgain has the store let go of such a session, and reports whether it has. The caller
// holds the claim of the name.
func (srv *Server) dropAgain(ctx context.Context, id string) bool {
	srv.mu.Lock()
	_, owed := srv.undropped[id]
	delete(srv.undropped, id)
	srv.mu.Unlock()
	if !owed {
		return true
	}
	b := srv.newBatch(ctx, nil)
	defer b.free()
	srv.commit(b, func() { b.change(store.Change{Op: store.DropSession, Session: id}) })
	if err := b.last.Wait(ctx); err != nil {
		srv.undrop(id)
		return false
	}
	return true
}

// expiry is how long the session is to outlive the connection.
func (c *conn) expiry(p *packet.Connect) time.Duration {
	switch {
	case c.version == packet.V5:
		return c.srv.capExpiry(expiryOf(p.Properties.SessionExpiryInterval))
	case p.Clean:
		return 0
	default:
		return c.srv.capExpiry(store.Forever)
	}
}

// capExpiry keeps a session expiry within the limit.
func (srv *Server) capExpiry(expiry time.Duration) time.Duration {
	if most := srv.opts.Limits.SessionExpiry; most > 0 {
		return min(expiry, max(most.Round(time.Second), time.Second))
	}
	return expiry
}

// settle agrees on the limits of the connection, and tells ours. It tells no response
// information ([MQTT-3.1.2-28]) and no reason, which nobody asked for.
func (c *conn) settle(p *packet.Connect, answer *packet.Connack) {
	limits := &c.srv.opts.Limits
	c.since = time.Now()
	c.keepAlive = time.Duration(p.KeepAlive) * time.Second // [MQTT-3.2.2-22]
	c.sendMax = limits.InFlight
	if c.version != packet.V5 {
		return
	}
	if most := limits.KeepAlive.Round(time.Second); most > 0 && (c.keepAlive == 0 || c.keepAlive > most) {
		seconds := uint16(most / time.Second)
		c.keepAlive, answer.Properties.ServerKeepAlive = most, &seconds
	}
	if p.Properties.ReceiveMaximum > 0 {
		c.sendMax = min(c.sendMax, int(p.Properties.ReceiveMaximum)) // [MQTT-4.9.0-1]
	}
	c.quiet = p.Properties.NoProblemInfo
	c.out.aliases = newAliases(min(int(p.Properties.TopicAliasMaximum), limits.TopicAliases), c.maxPacket)
	c.srv.opts.Offer.tell(&answer.Properties, p, c.who.ClientID)
	if expiry := c.expiry(p); expiry != expiryOf(p.Properties.SessionExpiryInterval) {
		seconds := uint32(expiry / time.Second)
		answer.Properties.SessionExpiryInterval = &seconds // MQTT 5.0 §3.2.2.3.2
	}
	answer.Properties.ReceiveMaximum = uint16(limits.InFlight)
	answer.Properties.MaximumPacketSize = uint32(limits.Packet)
	answer.Properties.TopicAliasMaximum = uint16(limits.TopicAliases)
	if p.ClientID == "" {
		answer.Properties.AssignedClientID = c.who.ClientID // [MQTT-3.1.3-7]
	}
}

// begin makes the session this client's, and waits for the store; one that was not
// there before has nothing of another that had its name.
func (c *conn) begin(ctx context.Context, s *Session, p *packet.Connect, expiry time.Duration, before bool) bool {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.access.Store(c.access)
	s.version, s.expiry, s.ended, s.willAt = c.version, expiry, time.Time{}, time.Time{}
	s.will, s.willWait = willOf(p.Will, s.origin), 0 // [MQTT-3.1.2-7], [MQTT3-3.1.2-12]
	if p.Will != nil {
		s.willWait = time.Duration(p.Will.Properties.DelayInterval) * time.Second
	}
	s.epoch++ // whatever the timer does now is for nothing, [MQTT-3.1.3-9]
	record := s.record()
	s.mu.Unlock()
	if !s.stored {
		return true
	}
	b := c.batch
	c.srv.inOrder(b, func() {
		if !before {
			b.change(store.Change{Op: store.DropSession, Session: s.id})
		}
		b.change(putSession(s.id, record))
	})
	ticket := b.ticket
	b.ticket = nil
	err := ticket.Wait(ctx)
	if err == nil { // else a message said again might be taken for one that the store has
		err = s.settled(ctx)
	}
	if err != nil {
		c.srv.storeFailed(err)
		s.mu.Lock()
		s.ended = time.Now()
		c.srv.schedule(s)
		s.mu.Unlock()
	}
	return err == nil
}

func putSession(id string, record *store.SessionRecord) store.Change {
	return store.Change{Op: store.PutSession, Session: id, Record: record}
}

// welcome sends CONNACK, then whatever the session has waiting.
func (c *conn) welcome(s *Session, answer *packet.Connack) {
	b := c.batch
	c.session = s
	c.told.Store(c.version == packet.V5)
	c.srv.stats.connect()
	b.addTo(c, answer) // [MQTT-3.1.4-5], [MQTT-3.2.0-1], [MQTT-3.2.0-2], [MQTT-4.12.0-6], [MQTT3-3.1.4-4], [MQTT3-3.2.0-1]
	c.srv.commit(b, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.attach(b, c)
	})
	if answer.SessionPresent { // rights may have changed while nothing was asked
		c.srv.withdraw(s)
	}
	c.srv.pump(b, s)
	b.flush()
	if c.rights != c.srv.rights.Load() { // Reauthorize may have come before the session was c's
		c.srv.recheck(s)
	}
}
