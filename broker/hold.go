package broker

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"

	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// holding is a QoS 2 message of a client of which no PUBREL has come. The session's mu
// guards it.
type holding struct {
	sum    uint64        // of what it says; 0 if that is not known any more
	failed packet.Reason // why it was refused
}

// repeats are packet identifiers that a client has used again before it had an answer.
// The client waits for one answer, however often it has said a message, and would take
// another for that to the next message with the identifier. So what sets an identifier
// free, a PUBACK or a PUBREC that refuses, is said to the last PUBLISH that has it. The
// session's mu guards them.
type repeats struct {
	n  atomic.Int32 // len(of)
	of map[uint16]repeat
}

type repeat struct {
	number uint32        // of the last PUBLISH
	failed packet.Reason // why the message was refused when it came before
}

// note takes a PUBLISH that says again what the one before it with its identifier said,
// or another thing while that is not released, or neither, as far as is known.
func (r *repeats) note(id uint16, number uint32, again, other bool) {
	last, known := r.of[id]
	switch {
	case again:
		last.number = number
	case known || other:
		last = repeat{number: number}
	default:
		return
	}
	if r.of == nil {
		r.of = make(map[uint16]repeat)
	}
	r.of[id] = last
	r.n.Store(int32(len(r.of)))
}

// settle reports whether an answer is to the last PUBLISH with its identifier. A message
// of QoS 1 that was refused once is said to be refused then: what came between is before
// it, and its client would believe that it is behind.
func (r *repeats) settle(a *ack) bool {
	last, known := r.of[a.id]
	switch {
	case !known:
		return true
	case last.number != a.number:
		if a.reason.Failed() {
			last.failed = a.reason
			r.of[a.id] = last
		}
		return false
	case a.kind == packet.PUBACK && last.failed.Failed() && !a.reason.Failed():
		a.reason = last.failed
	}
	delete(r.of, a.id)
	r.n.Store(int32(len(r.of)))
	return true
}

// number numbers a PUBLISH of QoS 1 or 2, and finds out whether it came before. One of
// QoS 2 that says another thing than that for which its identifier is held is not that
// one: its client has forgotten that one, or has heard that it was refused after it had
// said it again. To acknowledge it for that one would be false.
func (c *conn) number(in *pub, p *packet.Publish, name string) {
	s := c.session
	if s.said++; s.said == 0 { // 0 is no PUBLISH
		s.said = 1
	}
	in.number = s.said
	if p.QoS == 1 && !p.Dup && c.repeats.n.Load() == 0 {
		return
	}
	sum := uint64(0)
	if p.QoS == 2 {
		sum = c.srv.sum(name, p.Payload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.QoS == 2 {
		held := s.held[p.ID]
		in.holder = held
		in.again = held != nil && (held.sum == 0 || held.sum == sum) // [MQTT-4.3.3-10], [MQTT3-4.3.3-2]
		if in.reuses = held != nil && !in.again; !in.again {
			in.holder = &holding{sum: sum}
			s.hold(p.ID, in.holder)
		}
	}
	c.repeats.note(p.ID, in.number, p.Dup && !in.reuses, in.reuses)
}

// sum is what a message says, in few bytes; never 0.
func (srv *Server) sum(name string, payload []byte) uint64 {
	return max(bits.RotateLeft64(maphash.String(srv.seed, name), 1)^maphash.Bytes(srv.seed, payload), 1)
}

// hold remembers the packet identifier of a received QoS 2 message. The caller holds mu.
func (s *Session) hold(id uint16, h *holding) {
	if s.held == nil {
		s.held = make(map[uint16]*holding)
	}
	s.held[id] = h
}

// holdAgain does it for one whose release the store did not take.
func (s *Session) holdAgain(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[id] == nil {
		s.hold(id, new(holding))
	}
}

// release forgets it, and reports whether it was held.
func (s *Session) release(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held[id] != nil
	delete(s.held, id)
	return held
}

// lapse has the store forget that the identifier of a message was held for another one,
// also if it does not take the message.
func (b *batch) lapse(p *pub) {
	s := b.c.session
	b.srv.log.Debug("packet identifier used for another message", "client", s.id, "id", p.id)
	if s.stored {
		gone := store.Change{Op: store.ReleaseID, Session: s.id, ID: p.id}
		b.change(gone)
		b.redo = append(b.redo, gone)
	}
}

// conclude answers a PUBLISH, or leaves that to a later one.
func (b *batch) conclude(c *conn, a *ack, err error) {
	cut := false // there is no word for it, see refuse
	switch {
	case a.again: // it changes nothing itself
		a.reason = packet.Success
	case err != nil && !a.reason.Failed():
		a.reason, cut = untaken(err), c.version != packet.V5
	}
	if a.quota {
		c.giveBack()
	}
	refused := cut || a.reason.Failed() && c.version == packet.V5
	send := true
	if refused || a.again || c.repeats.n.Load() > 0 {
		send = c.outcome(a, refused)
	}
	switch {
	case cut, a.again && a.reason.Failed() && c.version != packet.V5:
		c.session.forget(a)
		c.shut(a.reason)
	case send:
		b.say(c, a)
	}
}

// outcome finds out what the answer to a PUBLISH says, and is false if it is not to be
// sent. A message of QoS 2 that was refused is held until its client is told, so that it
// is not taken after all when it comes again before, behind others ([MQTT-4.3.3-9]).
func (c *conn) outcome(a *ack, refused bool) bool {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.kind == packet.PUBACK {
		return c.repeats.settle(a)
	}
	if refused {
		a.holder.failed = a.reason
	}
	if a.again {
		a.reason = a.holder.failed
		refused = a.reason.Failed()
	}
	held := s.held[a.id]
	if held != nil && held != a.holder {
		return false
	}
	if last := c.repeats.settle(a); refused && !last {
		return false
	}
	if refused && held != nil {
		delete(s.held, a.id)
		c.giveBack()
	}
	return true
}

// forget releases the message that an answer is to, if it is the one that is held.
func (s *Session) forget(a *ack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.holder != nil && s.held[a.id] == a.holder {
		delete(s.held, a.id)
	}
}
