package broker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// pools are what connections share so that an idle one holds nothing.
type pools struct {
	bufs, batches sync.Pool
	// What sockets have taken and given: control packets and bytes.
	packetsIn, packetsOut, bytesIn, bytesOut atomic.Int64
}

// How much a batch takes in before it is run, though more input is at hand.
const (
	batchOps   = 256
	batchBytes = 256 << 10
	// gatherBytes is how much may wait for the end of a loop's round: far less than
	// the output of one slow client may hold.
	gatherBytes = 64 << 10
)

// How much a batch has in hand at once, though it goes to many: how many targets are
// found before what was found is delivered (about 2 MiB), and how many bytes wait for
// sockets before they are written.
const (
	keepTargets  = 32 << 10
	mostGathered = 16 << 20
)

// batch is the work of one read of one connection, or of one call from inside:
// what came in, the changes that it makes to durable state, and what is to go out.
type batch struct {
	srv *Server
	ctx context.Context
	now time.Time
	c   *conn // whose input it is, or nil

	pubs  []pub
	msgs  []message.Message // of pubs, for the interceptor
	ops   []op
	bytes int
	heard int // packets read

	changes []store.Change
	acks    []ack
	later   []emit         // to be sent when the changes are safe
	spots   []placed       // of queues, that the changes concern
	redo    []store.Change // of what was applied, if it is refused for what came with it
	retains []*retaining   // to be undone then
	whole   bool           // nothing is to be done without the rest
	dirty   []*conn        // to be flushed
	wakes   []*subscriber  // to be woken with that; one may be there more than once
	gathers bool           // of a loop: it is flushed after many, and tells the time
	spoiled bool           // somebody is at it, or was until a panic

	gathered int            // bytes that wait for the flush
	ordered  bool           // commitMu is held
	ticket   store.Ticket   // of the changes that are not settled
	last     store.Ticket   // of those that are, and were the last
	earlier  []store.Ticket // the others, of a batch from inside
	refused  bool           // a publish from inside: nothing follows
	lenient  bool           // what follows one from inside that is refused goes on

	done    int    // of ops
	order   uint64 // of the message that was last routed
	matched int    // of pubs: up to here targets are known
	targets []target
	seen    map[*Session]int
	frames  frames
	scratch packet.Scratch
	buf     []byte // see buffer
}

// pub is one publish on its way through a batch.
type pub struct {
	msg     message.Message
	id      uint16        // packet identifier; 0 at QoS 0 and from inside
	qos     message.QoS   // of the client's PUBLISH, 0 from inside
	reason  packet.Reason // success, or why it goes no further
	drop    bool          // the interceptor dropped it
	number  uint32        // among those of its client; 0 at QoS 0 and from inside
	holder  *holding      // that its identifier is held for, at QoS 2
	again   bool          // a QoS 2 message that came before
	reuses  bool          // a QoS 2 message that has the identifier of another, not released
	shown   bool          // to the interceptor
	by      *access       // who publishes; nil from inside
	private bool          // the broker's own: no interceptor, not in the store
	// borrowed says that the message's memory is that of what was read, and will be
	// written again when the batch is done.
	borrowed bool
	class    uint8         // see classOf
	delay    time.Duration // it is to be delivered later
	record   string        // its key in the store, of one that was delayed
	tried    bool          // it is tried again if the store does not take it
	bound    bool          // nobody gets it before what is kept with it is safe
	will     *delayed      // what becomes of it, a will, if the store does not take it
	missed   bool          // it was heard, but not by those whom the store keeps it for
	index    int           // in the batch of a call from inside
	from     int           // its targets are b.targets[from:to]
	to       int
	kept     *message.Message // a copy that may be kept
}

// keep is the message in memory of its own.
func (p *pub) keep() *message.Message {
	switch {
	case p.kept != nil:
	case p.borrowed:
		p.kept = p.msg.Clone()
	default:
		m := p.msg
		p.kept = &m
	}
	return p.kept
}

// item is a place in the queue of s, whose lock the caller holds, for the message. One for
// a subscriber inside, which soon has had it, is made in memory that is used again.
func (p *pub) item(s *Session) *item {
	if s.bus == nil || s.stored {
		return &item{msg: p.keep()}
	}
	p.own()
	it := s.bus.item()
	*it.msg = *p.current()
	return it
}

// current is the message: the copy if there is one, so that it is encoded once.
func (p *pub) current() *message.Message {
	if p.kept != nil {
		return p.kept
	}
	return &p.msg
}

// op is one packet of a batch: a PUBLISH, or an acknowledgement.
type op struct {
	kind   packet.Type
	reason packet.Reason
	id     uint16
	pub    int // index, of a PUBLISH
}

// ack is an answer that leaves, in order, when the batch is safe: one of the four
// acknowledgements, or a packet.
type ack struct {
	kind   packet.Type
	reason packet.Reason
	id     uint16
	quota  bool     // it gives one back to the client's send quota
	again  bool     // of a QoS 2 message that came before: what became of that counts
	number uint32   // of the PUBLISH that it answers; 0 if it answers none
	holder *holding // see pub
	packet packet.Packet
}

// emit is a message that is to be sent when the batch is safe, or one that is to be
// forgotten if it is not.
type emit struct {
	s       *Session
	it      *item
	epoch   uint64
	delayed *delayed
	due     bool  // it is, and is tried again if it cannot be delivered
	turn    *turn // of those that have one
	// queued says that it only waits in the queue, and is not to be sent now.
	queued bool
	// counted says that its session counts it as unsettled.
	counted bool
}

func (srv *Server) newBatch(ctx context.Context, c *conn) *batch {
	b, ok := srv.pools.batches.Get().(*batch)
	if !ok {
		b = &batch{seen: make(map[*Session]int)}
	}
	b.srv, b.ctx, b.c, b.now = srv, ctx, c, time.Now()
	return b
}

// free gives an empty batch back.
func (b *batch) free() {
	if b.spoiled {
		b.flush()
		return
	}
	b.reset()
	srv := b.srv
	b.srv, b.ctx, b.c = nil, nil, nil
	srv.pools.batches.Put(b)
}

// reset flushes and forgets what is done.
func (b *batch) reset() {
	if !b.gathers || b.gathered > gatherBytes {
		b.flush()
	}
	if b.heard > 0 {
		b.srv.pools.packetsIn.Add(int64(b.heard))
		b.heard = 0
	}
	clear(b.pubs)
	clear(b.msgs)
	clear(b.targets)
	clear(b.seen)
	b.pubs, b.msgs, b.ops, b.targets = b.pubs[:0], b.msgs[:0], b.ops[:0], b.targets[:0]
	if cap(b.targets) > keepTargets {
		b.targets = nil
	}
	if len(b.changes)+len(b.acks)+len(b.later)+len(b.spots) > 0 { // after a panic only: they are nobody else's
		clear(b.changes)
		forgoAll(b.later)
		b.changes, b.acks, b.later, b.spots, b.redo, b.retains = b.changes[:0], nil, nil, nil, nil, nil
	}
	clear(b.earlier)
	b.bytes, b.ticket, b.last, b.earlier = 0, nil, nil, b.earlier[:0]
	b.done, b.matched, b.refused, b.lenient = 0, 0, false, false
	b.scratch.Forget()
	b.frames.forget()
	for i := range b.frames.enc {
		if cap(b.frames.enc[i]) > keepBuf {
			b.frames.enc[i] = nil
		}
	}
	if cap(b.frames.own) > keepBuf {
		b.frames.own = nil
	}
}

func (b *batch) flush() {
	b.gathered = 0
	for i, c := range b.dirty {
		b.dirty[i] = nil
		c.out.flush(&b.srv.pools)
	}
	b.dirty = b.dirty[:0]
	for i, r := range b.wakes {
		b.wakes[i] = nil
		r.signal()
	}
	b.wakes = b.wakes[:0]
	if cap(b.wakes) > keepTargets {
		b.wakes = nil
	}
}

// wake has an in-process subscriber look, when the batch is flushed, for what was queued
// for it: it then finds more at once than if it came for the first.
func (b *batch) wake(r *subscriber, it *item) {
	b.gathered += int(it.size)
	if n := len(b.wakes); n == 0 || b.wakes[n-1] != r {
		b.wakes = append(b.wakes, r)
	}
}

func (b *batch) full() bool { return len(b.ops) >= batchOps || b.bytes >= batchBytes }

func (b *batch) change(c store.Change) { b.changes = append(b.changes, c) }

// reply answers the batch's own connection with an acknowledgement.
func (b *batch) reply(kind packet.Type, id uint16, reason packet.Reason) {
	b.acks = append(b.acks, ack{kind: kind, id: id, reason: reason})
}

// append adds encoded bytes to the output of a connection.
func (b *batch) append(c *conn, encoded []byte, id uint16, dup, always bool) bool {
	switch c.out.add(&b.srv.pools, encoded, id, dup, always) {
	case roomDirty:
		b.dirty = append(b.dirty, c)
		b.gathered += len(encoded)
		return true
	case roomTaken:
		b.gathered += len(encoded)
		return true
	default:
		return false
	}
}

// addTo adds a packet to the output of a connection. One that the client does not
// take ends the connection: the client would wait for it for ever.
func (b *batch) addTo(c *conn, p packet.Packet) {
	encoded := c.encode(b.frames.own[:0], p)
	if len(encoded) == 0 {
		c.shut(packet.PacketTooLarge)
		return
	}
	b.frames.own = encoded
	b.append(c, encoded, 0, false, true)
}

// commit makes changes of durable state in fn, in the order of all such changes,
// applies them together, and sends the answers when they are safe.
func (srv *Server) commit(b *batch, fn func()) {
	srv.inOrder(b, fn)
	b.settle()
}

func (srv *Server) inOrder(b *batch, fn func()) {
	srv.commitMu.Lock()
	b.ordered = true
	defer func() {
		b.ordered = false
		srv.commitMu.Unlock()
	}()
	fn()
	if len(b.changes) > 0 {
		b.noteRedo()
		b.ticket = srv.opts.Store.Apply(b.changes, b.follows()...)
		b.binds()
		clear(b.changes)
		b.changes = b.changes[:0]
	}
}

// follows is what must not fail if the batch's changes are to be made: earlier ones of its
// connection that end it when they are refused. The client says again what it has no
// answer for, in its order, and what came after must not be taken before.
func (b *batch) follows() []store.Ticket {
	c := b.c
	switch {
	case c == nil || c.bound == nil:
		return nil
	case done(c.bound) && result(c.bound) == nil:
		c.bound = nil
		return nil
	default:
		return []store.Ticket{c.bound}
	}
}

// binds has what comes after on the connection follow the batch's changes, if it ends when
// they are refused.
func (b *batch) binds() {
	if b.c != nil && slices.ContainsFunc(b.acks, func(a ack) bool { return !a.mayFail(b.c) }) {
		b.c.bound = b.ticket
	}
}

// run takes the batch along the path of a publish.
func (b *batch) run() {
	if len(b.ops) > 0 {
		b.work()
		b.pumpOwn()
	}
	b.reset()
}

func (b *batch) work() {
	b.intercept()
	order := b.needsOrder()
	for b.done < len(b.ops) && !b.refused {
		b.portion(order)
		b.settle()
		if b.gathered > mostGathered {
			b.flush()
		}
	}
}

// portion delivers as much of the batch as may be in hand at once.
func (b *batch) portion(order bool) {
	clear(b.targets)
	b.targets = b.targets[:0]
	if order {
		b.srv.inOrder(b, func() {
			b.match()
			b.apply()
		})
		return
	}
	from := b.matched
	b.match()
	if b.reachesStored(b.pubs[from:b.matched]) {
		b.srv.inOrder(b, b.apply)
	} else {
		b.apply()
	}
}

// needsOrder reports whether the batch changes durable state, or retained
// messages, whatever it reaches.
func (b *batch) needsOrder() bool {
	stored := b.c != nil && b.c.session.stored
	if len(b.changes) > 0 {
		return true
	}
	for i := range b.ops {
		o := &b.ops[i]
		switch {
		case o.kind != packet.PUBLISH:
			if stored {
				return true
			}
		case b.pubs[o.pub].msg.Retain, stored && b.pubs[o.pub].qos == 2, b.pubs[o.pub].delays():
			return true
		}
	}
	return false
}

func (b *batch) reachesStored(pubs []pub) bool {
	for i := range pubs {
		p := &pubs[i]
		for _, t := range b.targets[p.from:p.to] {
			if t.s.stored && min(t.qos, p.msg.QoS) > 0 {
				return true
			}
		}
	}
	return false
}

// apply does what the batch's packets ask for, in order, up to one whose targets are
// not known yet; in a batch from inside, nothing after a message that is refused.
func (b *batch) apply() {
	if len(b.pubs) > 0 {
		b.order = b.srv.orders.take(len(b.pubs))
	}
	for ; b.done < len(b.ops); b.done++ {
		o := &b.ops[b.done]
		switch o.kind {
		case packet.PUBLISH:
			if o.pub >= b.matched {
				return
			}
			p := &b.pubs[o.pub]
			if b.publish(p); b.c == nil && p.reason.Failed() && !b.lenient {
				b.refused = true
				return
			}
		case packet.PUBREL:
			b.released(o.id)
		default:
			s := b.c.session
			s.mu.Lock()
			s.acked(b, o.kind, o.id, o.reason)
			s.mu.Unlock()
		}
	}
}

// pumpOwn sends what waited for the acknowledgements of this batch.
func (b *batch) pumpOwn() {
	for i := range b.ops {
		if kind := b.ops[i].kind; kind != packet.PUBLISH && kind != packet.PUBREL {
			b.srv.pump(b, b.c.session)
			return
		}
	}
}
