package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// Session is what one client identifier keeps between connections: subscriptions,
// a queue, what is in flight, and a will. It is bound to its principal.
//
// Its state is changed by one batch at a time, under mu; of a stored session also
// under the server's commitMu, so that the store gets the changes in order.
type Session struct {
	srv    *Server
	id     string
	origin string // of its own messages, for no-local
	bus    *subscriber
	// stored says that the store has the session; it stays as it was made.
	stored bool
	access atomic.Pointer[access]

	// conn is the connection that takes output, nil without one. It is written
	// under mu.
	conn atomic.Pointer[conn]
	// behind says that messages of QoS 0 must queue, behind others.
	behind atomic.Bool
	// sharing says that messages of shared subscriptions may wait here.
	sharing atomic.Bool
	// load is how many messages wait or are in flight, flights how many are in flight.
	load, flights atomic.Int64

	// Guarded by the server's tree lock.
	subs map[string]*subscription // by filter, with its $share prefix

	mu       sync.Mutex
	over     bool  // it has ended; another may have its name
	owner    *conn // the last connection, ended or not
	version  packet.Version
	expiry   time.Duration
	ended    time.Time // when the connection ended, zero while it stands
	epoch    uint64    // counts connections
	will     *message.Message
	willWait time.Duration
	willAt   time.Time
	timer    *time.Timer // for the will or the expiry, while there is no connection

	q           queue
	inFlight    window
	order       ring[*item] // of inFlight; those gone are let go at the front
	resend      []*item     // of inFlight, to be sent again on this connection
	flyingBytes int64       // bytes of what is in flight and held
	turns       ring[*turn] // that wait for the store, in the order in which they are to leave
	unsettled   unsettled
	outstanding int // sent on this connection and not acknowledged
	sendMax     int
	lastID      uint16
	fetching    bool        // what is next is on its way from the store, or is tried again
	refetch     *time.Timer // which tries again
	fetchPause  time.Duration
	more        bool                // what others have left for its groups did not fit
	collecting  bool                // it looks for that
	before      uint64              // messages up to here waited for this connection or for other rights, and are authorized again
	held        map[uint16]*holding // by packet identifier: received QoS 2 messages not released
	said        uint32              // QoS 1 and 2 messages of its client; of who reads the connection
}

// record is the session as the store keeps it; the caller holds mu.
func (s *Session) record() *store.SessionRecord {
	r := &store.SessionRecord{
		ClientID: s.id, Principal: s.principal(), Expiry: s.expiry, Ended: s.ended,
		Will: s.will, WillAt: s.willAt,
	}
	if s.ended.IsZero() {
		r.WillAt = willEpoch.Add(s.willWait)
	}
	return r
}

// principal is whom the session belongs to.
func (s *Session) principal() string {
	if a := s.access.Load(); a != nil {
		return a.who.Principal
	}
	return ""
}

// listens reports whether someone takes what is delivered.
func (s *Session) listens() bool {
	return s.conn.Load() != nil || s.bus != nil && s.bus.active.Load()
}

// put queues one message, and sends it if it can be sent. Later says to wait until
// the batch is safe. It is false if the session has ended, or does not take what
// another member of its group can have. The caller holds mu, and commitMu if the
// session is stored.
func (s *Session) put(b *batch, it *item, later bool) bool {
	if s.over || it.share != "" && !it.waits && !s.listens() { // whoever found it was late
		return false
	}
	stored := s.stored && it.qos > 0
	if !stored && !s.listens() {
		return true // QoS 0, and nobody there
	}
	defer s.weigh()
	c := s.conn.Load()
	direct := c != nil && it.qos > 0 && !it.asked && s.q.len() == 0 && len(s.resend) == 0 && s.maySend(c)
	if !direct && !it.moves && s.refuses(b, it, stored) {
		return true
	}
	it.pos = s.q.position() // [MQTT-4.6.0-5], [MQTT-4.6.0-6], [MQTT3-3.1.2-5], [MQTT3-4.6.0-5], [MQTT3-4.6.0-6]
	if stored {
		b.change(store.Change{
			Op: store.Enqueue, Session: s.id, Position: it.pos, Message: it.msg,
			Delivery: store.Delivery{QoS: it.qos, Retain: it.retain, SubscriptionIDs: it.ids, Share: it.share},
		})
		b.spots = append(b.spots, placed{s: s, spot: spot{pos: it.pos}, again: it.again})
	}
	if it.share != "" {
		s.sharing.Store(true)
	}
	if direct {
		s.start(b, c, it, later)
		return true
	}
	it.queued = true
	held := !stored || s.listens() && s.q.mayHold(it.class, &s.srv.opts.Limits)
	s.q.push(it, held)
	if held && later && s.bus == nil && (it.qos == 2 || it.again) { // it must not come if it is refused
		it.doubt = true
		s.await(b, emit{s: s, it: it, queued: true})
	}
	if !it.moves {
		s.limit(b)
	}
	s.falls()
	if s.bus == nil {
		return true
	}
	if later {
		it.wait, it.lone = true, false
		s.await(b, emit{s: s, it: it})
	}
	b.wake(s.bus, it)
	return true
}

// weigh notes how much the session has before it, for the choice of a group's
// member.
func (s *Session) weigh() {
	flights := int64(s.inFlight.len())
	s.load.Store(int64(s.q.len()) + flights)
	if s.flights.Load() != flights { // to read costs less than to write
		s.flights.Store(flights)
	}
}

// falls notes whether messages of QoS 0 must queue.
func (s *Session) falls() {
	if behind := s.q.zero > 0; s.behind.Load() != behind {
		s.behind.Store(behind)
	}
}

// refuses drops a message that is not to be queued, because the queue is full and
// keeps what came first, or because no store has it and memory is short.
func (s *Session) refuses(b *batch, it *item, stored bool) bool {
	l := &s.srv.opts.Limits
	size := int64(sizeOf(it.msg))
	switch {
	case it.asked:
		return false
	case l.KeepOldest && !s.q.takes(size, l):
		if it.class > 0 && s.dropOne(b, true, it.class) && s.q.takes(size, l) {
			return false
		}
	case s.stored && !stored && s.q.memory+size > max(0, l.AllWindows-s.srv.queued.memory.Load()):
		s.srv.stats.drop(dropAllQueues)
		return true
	default:
		return false
	}
	if n := s.q.len() - s.q.asked; n >= l.QueueMessages || s.q.bytes[0]+size > l.QueueBytes {
		s.srv.stats.drop(dropQueue)
	} else {
		s.srv.stats.drop(dropAllQueues)
	}
	return true
}

// dropOne drops the newest message of a class below one, and reports whether there was
// such.
func (s *Session) dropOne(b *batch, newest bool, below uint8) bool {
	for l := range s.q.lowestFirst {
		if s.q.classOf(l) >= below {
			return false
		}
		if gone, ok := s.q.dropFrom(l, newest); ok {
			s.dropped(b, gone, dropQueue)
			return true
		}
	}
	return false
}

// limit drops what is queued beyond the limits: the oldest of the lowest class, but
// nothing that was asked for.
func (s *Session) limit(b *batch) {
	l := &s.srv.opts.Limits
	for {
		why := dropQueue
		switch {
		case s.q.over(l):
		case s.q.beyondShare(l), !s.stored && s.q.beyondMemory(l):
			why = dropAllQueues
		default:
			return
		}
		gone, ok := s.q.drop(false)
		if !ok {
			return
		}
		s.dropped(b, gone, why)
	}
}

// dropped tells of a message that left for want of room: it is counted when the store
// has taken what it left for, and else put back.
func (s *Session) dropped(b *batch, gone spot, why dropReason) {
	if !s.stored || gone.zero {
		s.srv.stats.drop(why)
		return
	}
	s.dequeue(b, gone)
	b.spots = append(b.spots, placed{s: s, spot: gone, left: true, why: why})
}

// pop takes the oldest message out of the queue.
func (s *Session) pop() spot {
	gone := s.q.pop()
	s.behind.Store(s.q.zero > 0)
	s.weigh()
	return gone
}

// dequeue tells the store that a message is not waiting any more.
func (s *Session) dequeue(b *batch, gone spot) {
	if s.stored && !gone.zero {
		b.change(store.Change{Op: store.Dequeue, Session: s.id, Position: gone.pos})
	}
}

// maySend reports whether one more message of QoS 1 or 2 may leave ([MQTT-3.3.4-9],
// [MQTT-4.9.0-2]): in flight there may be as many bytes as may be queued, or one
// message. Nothing else waits for that ([MQTT-3.3.4-10], [MQTT-4.9.0-3]).
func (s *Session) maySend(c *conn) bool {
	return s.outstanding < s.sendMax && !c.out.full() && (s.outstanding == 0 || s.flyingBytes < s.srv.opts.Limits.QueueBytes)
}

// start puts a message in flight and sends it, or has it sent when the batch is
// safe.
func (s *Session) start(b *batch, c *conn, it *item, later bool) {
	if b.frame(c, it) == nil { // larger than the client takes, [MQTT-3.1.2-25]
		s.srv.stats.drop(dropTooLarge)
		s.dequeue(b, spot{pos: it.pos})
		return
	}
	it.id, it.size = s.nextID(), sizeOf(it.msg)
	s.flyingBytes += int64(it.size)
	s.inFlight.put(it) // [MQTT-4.3.2-3], [MQTT-4.3.3-3]
	s.order.push(it)
	s.outstanding++
	if s.stored {
		b.change(store.Change{Op: store.Send, Session: s.id, Position: it.pos, ID: it.id})
	}
	if later || s.turns.len() > 0 {
		s.later(b, it)
		return
	}
	s.emit(b, c, it)
}

// nextID is a packet identifier that is not in use ([MQTT-2.2.1-4], [MQTT-4.3.2-1],
// [MQTT-4.3.3-1], [MQTT3-2.3.1-4], [MQTT3-4.3.2-1]). There is one: sendMax and
// what was in flight before are fewer than there are identifiers.
func (s *Session) nextID() uint16 {
	s.lastID = s.inFlight.next(s.lastID)
	return s.lastID
}

// emit sends a message that is in flight, or its PUBREL.
func (s *Session) emit(b *batch, c *conn, it *item) {
	if it.received { // [MQTT-4.3.3-5], [MQTT-4.3.3-6]
		b.addTo(c, &packet.Ack{Kind: packet.PUBREL, ID: it.id})
		return
	}
	dup := it.tried // [MQTT-3.3.1-1], [MQTT-3.3.1-3], [MQTT-4.3.2-2], [MQTT-4.3.3-2], [MQTT3-3.3.1-1], [MQTT3-3.3.1-3]
	it.tried = true
	if frame := b.frame(c, it); frame != nil && b.append(c, frame, it.id, dup, true) {
		c.countSent(it.msg, it.qos)
	}
	if s.stored {
		it.msg = nil // the store has it, should it be sent again; it counts until it is acknowledged
	}
}

// pump sends what may be sent, oldest first, and reports whether messages have to
// be fetched from the store before it can go on.
func (s *Session) pump(b *batch) (fetch bool) {
	c := s.conn.Load()
	if c == nil {
		return false
	}
	unsent := false // what follows such a message waits with it, to keep the order
	for len(s.resend) > 0 && s.maySend(c) {
		it := s.resend[0]
		s.resend = s.resend[1:]
		switch {
		case it.gone:
		case !it.received && !s.mayReceive(b.ctx, it.msg.Topic): // rights change
			s.srv.stats.drop(dropNotAuthorized)
			s.outstanding++ // which finish takes back
			s.finish(b, it)
		case unsent || it.unsent:
			unsent, it.unsent = true, false
			s.outstanding++
			b.change(store.Change{Op: store.Send, Session: s.id, Position: it.pos, ID: it.id})
			s.later(b, it)
		default:
			s.outstanding++
			s.emit(b, c, it)
		}
	}
	defer s.weigh()
	later := unsent
	for len(s.resend) == 0 && s.q.len() > 0 {
		it := s.q.front()
		switch {
		case it == nil:
			return true
		case it.refused:
			s.pop()
			continue
		case it.msg.Expired(b.now): // [MQTT-3.3.2-5]
			s.srv.stats.drop(dropExpired)
			s.dequeue(b, s.pop())
			continue
		case it.pos <= s.before && !s.mayReceive(b.ctx, it.msg.Topic):
			s.srv.stats.drop(dropNotAuthorized)
			s.dequeue(b, s.pop())
			continue
		case it.qos == 0 && c.out.full(), it.qos > 0 && !s.maySend(c):
			return false
		}
		s.q.pop()
		later = later || it.doubt || it.qos == 2 && s.stored // and what follows, to keep the order
		switch {
		case it.qos > 0:
			s.start(b, c, it, later)
		case later || s.turns.len() > 0:
			s.later(b, it)
		default:
			b.sendQoS0(c, it)
		}
		s.behind.Store(s.q.zero > 0) // now that it is sent: none may overtake it
	}
	_, n := s.q.wanted(&s.srv.opts.Limits) // before it is missed
	return n > 0
}

// finish takes an acknowledged message out of flight.
func (s *Session) finish(b *batch, it *item) {
	s.land(it)
	if s.stored {
		b.change(store.Change{Op: store.Dequeue, Session: s.id, Position: it.pos})
	}
}

// drop lets go of a message in flight that is not sent again.
func (s *Session) drop(it *item) {
	s.flyingBytes -= int64(it.size)
	it.msg, it.size = nil, 0
}

func (s *Session) land(it *item) {
	it.gone = true
	s.drop(it)
	s.inFlight.remove(it)
	for s.order.len() > 0 && (*s.order.at(0)).gone {
		s.order.pop()
	}
	s.outstanding = max(0, s.outstanding-1)
	s.weigh()
}

// unreceive takes back that a PUBREC came, which the store does not know: the message is
// sent again to the next connection, whose client knows that it has it.
func (s *Session) unreceive(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it := s.inFlight.get(id); it != nil {
		it.received = false
	}
}

// acked takes a PUBACK, PUBREC or PUBCOMP; the caller holds mu.
func (s *Session) acked(b *batch, kind packet.Type, id uint16, reason packet.Reason) {
	it := s.inFlight.get(id)
	switch {
	case kind == packet.PUBREC && reason.Failed() && it == nil: // it is over already
	case kind == packet.PUBREC && (it == nil || it.qos != 2):
		b.reply(packet.PUBREL, id, packet.PacketIdentifierNotFound)
	case it == nil:
	case kind == packet.PUBACK && it.qos == 1, kind == packet.PUBCOMP && it.received:
		s.finish(b, it)
	case kind == packet.PUBREC && reason.Failed(): // [MQTT-4.4.0-2], [MQTT-4.8.2-6]
		s.finish(b, it)
	case kind == packet.PUBREC:
		if !it.received && s.stored {
			b.change(store.Change{Op: store.Received, Session: s.id, Position: it.pos, ID: id})
		}
		it.received = true
		s.drop(it)
		b.reply(packet.PUBREL, id, packet.Success) // [MQTT-4.3.3-4], [MQTT3-4.3.3-1]
	default: // an acknowledgement that does not fit is passed over
	}
}

// attach makes c the connection of the session and sends again what was in flight, in
// order, expired or not ([MQTT-4.4.0-1], [MQTT-4.3.3-7], [MQTT-4.6.0-1],
// [MQTT-4.8.2-4], [MQTT3-4.4.0-1], [MQTT3-4.6.0-1]).
// The caller holds mu.
func (s *Session) attach(b *batch, c *conn) {
	s.epoch++
	s.turns = ring[*turn]{}
	s.outstanding, s.resend = 0, nil
	s.sendMax, s.owner, c.epoch, s.before = c.sendMax, c, s.epoch, s.q.next
	s.conn.Store(c)
	released := 0
	defer func() { s.outstanding = released }() // those let go here were never sent on c
	for _, it := range s.flying() {
		switch {
		case it.received:
			released++
			s.emit(b, c, it)
		case it.msg == nil: // the store has lost it
			s.finish(b, it)
		case !it.tried && it.msg.Expired(b.now): // one that was sent is sent again ([MQTT-3.3.2-5])
			s.srv.stats.drop(dropExpired)
			s.finish(b, it)
		case !s.mayReceive(b.ctx, it.msg.Topic):
			s.srv.stats.drop(dropNotAuthorized)
			s.finish(b, it)
		case b.frame(c, it) == nil:
			s.srv.stats.drop(dropTooLarge)
			s.finish(b, it)
		default:
			s.resend = append(s.resend, it)
		}
	}
}

// flying lists what is in flight, oldest first.
func (s *Session) flying() []*item {
	items := make([]*item, 0, s.inFlight.len())
	for i := range s.order.len() {
		if it := *s.order.at(i); !it.gone {
			items = append(items, it)
		}
	}
	return items
}

// unload lets go of what the store has of a session without connection, and of
// what it does not have for good. The caller holds mu.
func (s *Session) unload() {
	if !s.stored {
		return
	}
	s.q.spill()
	s.behind.Store(false)
	s.weigh()
	for i := range s.order.len() {
		(*s.order.at(i)).msg = nil
	}
}
