package broker

import (
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// willEpoch is what the Expires of a will counts from until it is published, and
// its delay in the store until the connection ends.
var willEpoch = time.Unix(0, 0)

// willOf makes a will (MQTT 5.0 §3.1.2.5) into a message.
func willOf(w *packet.Will, origin string) *message.Message {
	if w == nil {
		return nil
	}
	m := &message.Message{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, Origin: origin} // [MQTT-3.1.2-14], [MQTT-3.1.2-15], [MQTT3-3.1.2-16], [MQTT3-3.1.2-17]
	setProperties(m, &w.Properties.PublishProperties, willEpoch)
	return m
}

// setProperties copies what a message carries through; its expiry counts from at.
func setProperties(m *message.Message, p *packet.PublishProperties, at time.Time) {
	m.UTF8, m.ContentType, m.ResponseTopic = p.UTF8, p.ContentType, p.ResponseTopic
	m.CorrelationData, m.UserProperties = p.CorrelationData, p.UserProperties // [MQTT-3.1.3-10]
	if p.MessageExpiryInterval != nil {
		m.Expires = at.Add(time.Duration(*p.MessageExpiryInterval) * time.Second)
	}
}

// publishWill publishes a session's will, if the client may ([MQTT-3.1.2-8],
// [MQTT3-3.1.2-8]). The record, if not nil, is that of the session without the will: it
// is kept in the same change, else a crash between them would have the will come twice.
func (srv *Server) publishWill(s *Session, will *message.Message, record *store.SessionRecord) {
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	if record != nil && s.stored {
		b.change(putSession(s.id, record))
	}
	by := s.access.Load()
	if will != nil && (by == nil || srv.mayPublish(srv.ctx, by, will.Topic) != nil) {
		srv.stats.drop(dropNotAuthorized)
		will = nil
	}
	if will == nil {
		srv.commit(b, func() {})
		return
	}
	m := *will
	m.At = b.now
	if !m.Expires.IsZero() {
		m.Expires = b.now.Add(m.Expires.Sub(willEpoch))
	}
	p := pub{msg: m, by: by, tried: m.QoS == message.ExactlyOnce} // then nobody gets it before the store does
	if m.QoS > 0 {
		p.will = &delayed{msg: &m, by: by, will: s}
	}
	b.add(p)
	b.run()
}

// withoutWill puts the record of a session whose will is published into the same change,
// until release is called, if it is not a connection's or another's by now: then the
// store has a newer one, or none. It is false if somebody deals with the session.
func (b *batch) withoutWill(s *Session) (release func(), ok bool) {
	release, ok = b.srv.tryClaim(s.id)
	if !ok {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored && !s.over && s.owner == nil && s.will == nil {
		b.change(putSession(s.id, s.record()))
	}
	return release, true
}

// disconnected leaves the session without its connection: its will is published
// or waits, and the session ends or starts to expire.
func (srv *Server) disconnected(c *conn) {
	s := c.session
	s.mu.Lock()
	if s.conn.Load() != c {
		s.mu.Unlock()
		return
	}
	s.conn.Store(nil)
	s.resend = nil
	s.forgetCertificate()
	if c.farewell {
		s.will = nil
	}
	s.ended = time.Now()
	var will *message.Message
	if wait := min(s.willWait, s.expiry); s.will != nil && wait > 0 {
		s.willAt = s.ended.Add(wait)
	} else {
		will, s.will = s.will, nil // [MQTT-3.1.2-10], [MQTT3-3.1.2-10]
	}
	ends, record := s.expiry == 0, s.record()
	s.mu.Unlock()
	if will != nil || !ends {
		srv.publishWill(s, will, record) // [MQTT-3.1.2-23], [MQTT3-4.1.0-1]
	}
	if ends {
		srv.endSession(s)
		return
	}
	if c.why() != packet.SessionTakenOver && srv.stopping.Err() == nil { // else it is, or may be, there again
		srv.handOver(s)
	}
	s.mu.Lock()
	s.unload()
	srv.schedule(s)
	s.mu.Unlock()
}

// disown forgets a connection that has left.
func (s *Session) disown(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == c {
		s.owner = nil
	}
}

// endSession removes a session that has no connection, and publishes its will. The
// caller alone deals with the session: it holds its claim, or is the end of its
// last connection. Until the store has let it go there is no other by its name; the
// ticket tells when it has for good, and is nil for a session that it does not have.
// Retained messages stay ([MQTT3-3.1.2-7]); what was sent to it as a member of a group
// goes to nobody else ([MQTT-4.8.2-5]).
func (srv *Server) endSession(s *Session) (dropped store.Ticket) {
	srv.removeSubs(s)
	s.mu.Lock()
	s.over = true
	s.q.uncount()
	if s.timer != nil {
		s.timer.Stop()
	}
	will := s.will
	s.will = nil
	record := s.record()
	s.mu.Unlock()
	if will != nil {
		srv.publishWill(s, will, record)
	}
	srv.handOver(s)
	if s.stored {
		b := srv.newBatch(srv.ctx, nil)
		defer b.free()
		srv.commit(b, func() { b.change(store.Change{Op: store.DropSession, Session: s.id}) })
		dropped = b.last
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.sessions[s.id] == s {
		delete(srv.sessions, s.id)
	}
	return dropped
}

// schedule sets the timer for what comes next to a session without connection: its
// will, or its end. The caller holds its mu.
func (srv *Server) schedule(s *Session) {
	if s.timer != nil {
		s.timer.Stop()
	}
	wait := store.Forever
	if s.expiry != store.Forever {
		wait = time.Until(s.ended.Add(s.expiry))
	}
	if s.will != nil {
		wait = min(wait, time.Until(s.willAt))
	}
	if wait == store.Forever {
		return
	}
	epoch := s.epoch
	s.timer = time.AfterFunc(max(wait, 0), func() { srv.due(s, epoch) })
}

// due publishes the will of a session whose client has not come back in time, or
// ends the session.
func (srv *Server) due(s *Session, epoch uint64) {
	if !srv.enter() {
		return
	}
	defer srv.leave()
	defer srv.recovered("the end of a session", nil)
	release, err := srv.claim(srv.ctx, s.id)
	if err != nil {
		return
	}
	defer release()
	now := time.Now()
	s.mu.Lock()
	if s.epoch != epoch || s.conn.Load() != nil { // [MQTT-4.1.0-1], [MQTT3-4.1.0-2]
		s.mu.Unlock()
		return
	}
	ends := s.expiry != store.Forever && !now.Before(s.ended.Add(s.expiry)) // [MQTT-4.1.0-2]
	var will *message.Message
	if s.will != nil && !now.Before(s.willAt) {
		will, s.will = s.will, nil
	}
	record := s.record()
	if !ends {
		srv.schedule(s)
	}
	s.mu.Unlock()
	srv.publishWill(s, will, record)
	if ends {
		srv.stats.expired.Add(1)
		srv.endSession(s)
	}
}
