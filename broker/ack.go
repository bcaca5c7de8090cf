package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// maxPending is how many batches of one connection may wait for the store before
// its reader waits too.
const maxPending = 64

// pending is the part of a batch that waits for the store.
type pending struct {
	ticket store.Ticket // nil: nothing to wait for but those before it
	c      *conn
	acks   []ack
	later  []emit
	spots  []placed
	redo   []store.Change
	kept   []*retaining
}

// journal hands answers out when the store is done, in the order of Apply. It
// holds at most [maxPending] batches a connection; callers from inside wait for
// theirs when there are as many, and each has one.
type journal struct {
	mu     sync.Mutex
	queue  []pending
	wake   chan struct{} // capacity 1
	fails  atomic.Int64
	inside atomic.Int64 // batches that no connection is behind
}

// settle sends the batch's answers if it is safe, and else leaves them to the
// journal.
func (b *batch) settle() {
	if len(b.acks) == 0 && len(b.later) == 0 && b.ticket == nil {
		return
	}
	p := pending{ticket: b.ticket, c: b.c, acks: b.acks, later: b.later, spots: b.spots, redo: b.redo, kept: b.retains}
	ticket := b.ticket
	if b.ticket = nil; ticket != nil {
		if b.last != nil && b.c == nil {
			b.earlier = append(b.earlier, b.last)
		}
		b.last = ticket
	}
	waits := b.srv.journal.inside.Load() > 0 // to keep the order
	if b.c != nil {
		waits = b.c.pending.Load() > 0
	}
	if !waits && done(ticket) {
		b.release(&p)
		clear(b.acks)
		clear(b.later)
		clear(b.spots)
		clear(b.redo)
		clear(b.retains)
		b.acks, b.later, b.spots, b.redo, b.retains = b.acks[:0], b.later[:0], b.spots[:0], b.redo[:0], b.retains[:0]
		return
	}
	if b.c != nil {
		b.c.pending.Add(1)
		b.c.session.unsettle()
	} else {
		b.srv.journal.inside.Add(1)
	}
	b.srv.journal.push(p)
	b.acks, b.later, b.spots, b.redo, b.retains = nil, nil, nil, nil, nil
}

func done(t store.Ticket) bool {
	if t == nil {
		return true
	}
	select {
	case <-t.Done():
		return true
	default:
		return false
	}
}

func result(t store.Ticket) error {
	if t == nil {
		return nil
	}
	return t.Wait(context.Background())
}

func (j *journal) push(p pending) {
	j.mu.Lock()
	j.queue = append(j.queue, p)
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *journal) take() []pending {
	j.mu.Lock()
	defer j.mu.Unlock()
	taken := j.queue
	j.queue = nil
	return taken
}

// follow sends answers as tickets are done, until stop is closed and none is left.
func (srv *Server) follow(stop <-chan struct{}) {
	j := &srv.journal
	for {
		for taken := j.take(); len(taken) > 0; taken = j.take() {
			srv.answer(taken)
		}
		select {
		case <-j.wake:
		case <-stop:
			if rest := j.take(); len(rest) > 0 {
				srv.answer(rest)
				continue
			}
			return
		}
	}
}

func (srv *Server) answer(taken []pending) {
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	for i := range taken {
		p := &taken[i]
		if !done(p.ticket) {
			b.flush()
			<-p.ticket.Done()
		}
		srv.answerOne(b, p)
	}
}

func (srv *Server) answerOne(b *batch, p *pending) {
	defer srv.recovered("answers of the store", nil)
	defer srv.answered(p.c)
	b.release(p)
}

// answered counts a batch as gone from the journal; c may be nil.
func (srv *Server) answered(c *conn) {
	if c == nil {
		srv.journal.inside.Add(-1)
		return
	}
	c.pending.Add(-1)
	c.session.settle()
	if c.hindered.Load() {
		c.wake()
	}
}

// release sends answers and messages that were waiting for the store, or undoes what
// the store did not take.
func (b *batch) release(p *pending) {
	err := result(p.ticket)
	if err != nil {
		b.srv.storeFailed(err)
		b.srv.undo(p, err)
	} else {
		for i := range p.spots {
			if p.spots[i].left {
				b.srv.stats.drop(p.spots[i].why)
			}
		}
	}
	for _, c := range p.kept {
		b.srv.kept.settle(c, err != nil)
	}
	next := 0
	defer func() { forgoAll(p.later[next:]) }() // after a panic
	for next < len(p.later) {
		e := &p.later[next]
		next++
		b.emitLater(e, err)
	}
	if p.c == nil {
		return
	}
	for i := range p.acks {
		b.answer(p.c, &p.acks[i], err)
	}
}

// placed is a message that a batch has put into the queue of a stored session, or
// that left it to make room.
type placed struct {
	s    *Session
	spot spot
	left bool
	why  dropReason
	// again says that it comes again if it is refused.
	again bool
}

// undo takes out of the queues what the store does not have, so that it pushes out
// nothing that was acknowledged, and puts back what left for it. What a full store
// would have forgotten, had nothing new come with it, it is told again.
func (srv *Server) undo(p *pending, err error) {
	for i := range p.spots {
		s, at := p.spots[i].s, p.spots[i].spot
		s.mu.Lock()
		switch {
		case s.over:
		case p.spots[i].left:
			s.q.restore(at)
		case s.q.takeStored(at.pos) && !p.spots[i].again: // one that is in memory is sent all the same
			srv.stats.drop(dropStore)
		}
		s.weigh()
		s.mu.Unlock()
	}
	if len(p.redo) > 0 {
		srv.commitMu.Lock()
		defer srv.commitMu.Unlock()
		srv.opts.Store.Apply(p.redo)
	}
}

// noteRedo remembers what of the changes a full store takes by itself and nobody would
// ask for again, if there are others with it: what is over. What left a queue to make
// room is not among it.
func (b *batch) noteRedo() {
	grows := false
	for i := range b.changes {
		switch b.changes[i].Op {
		case store.Enqueue, store.Retain, store.Subscribe, store.Put:
			grows = true
		default:
		}
	}
	if b.whole || !grows && b.follows() == nil {
		return
	}
	for i := range b.changes {
		if c := &b.changes[i]; c.Op == store.Delete || c.Op == store.Dequeue && !b.left(c) {
			b.redo = append(b.redo, *c)
		}
	}
}

// left reports whether a message was dequeued to make room.
func (b *batch) left(c *store.Change) bool {
	for i := range b.spots {
		if at := &b.spots[i]; at.left && at.spot.pos == c.Position && at.s.id == c.Session {
			return true
		}
	}
	return false
}

func (b *batch) answer(c *conn, a *ack, err error) {
	if a.number != 0 {
		b.conclude(c, a, err)
		return
	}
	if err != nil && !a.reason.Failed() {
		a.refuse(c, err)
		return
	}
	if a.quota {
		c.giveBack()
	}
	if a.packet != nil {
		b.addTo(c, a.packet)
		return
	}
	b.say(c, a)
}

// say sends an acknowledgement.
func (b *batch) say(c *conn, a *ack) {
	reason := told(a.reason, a.kind)
	b.frames.ack = packet.Ack{Kind: a.kind, ID: a.id, Reason: reason, ReasonString: c.explain(reason, a.kind)}
	b.addTo(c, &b.frames.ack)
}

// untaken is the reason code of what the store did not take.
func untaken(err error) packet.Reason {
	if errors.Is(err, store.ErrFull) {
		return packet.QuotaExceeded
	}
	return packet.ImplementationSpecificError
}

// refuse takes back in memory what an answer says that the store did not take, and ends
// the connection: there is no word for it, and the client, which has got no answer, says
// it again on the next one ([MQTT3-4.8.0-2]).
func (a *ack) refuse(c *conn, err error) {
	switch a.kind {
	case packet.PUBREL:
		c.session.unreceive(a.id)
	case packet.PUBCOMP:
		c.session.holdAgain(a.id)
	default:
	}
	c.shut(untaken(err))
}

// mayFail reports whether an answer can say that the store did not take what it answers,
// or has nothing to do with it.
func (a *ack) mayFail(c *conn) bool {
	return a.reason.Failed() || c.version == packet.V5 && (a.kind == packet.PUBACK || a.kind == packet.PUBREC)
}

// turn is the place of a message among those that a session sends when the store is
// done. Several batches may have some, and are released by several goroutines.
type turn struct {
	it    *item
	ready bool
	err   error
}

// later has a message sent, in its turn, when the batch is safe. The caller holds mu.
func (s *Session) later(b *batch, it *item) {
	t := &turn{it: it}
	s.turns.push(t)
	s.await(b, emit{s: s, it: it, epoch: s.epoch, turn: t})
}

func (b *batch) emitLater(e *emit, err error) {
	if e.delayed != nil {
		switch {
		case err == nil:
		case e.delayed.will != nil && e.delayed.number == 0: // nobody was promised anything, and there may be many
			e.delayed.due = b.now.Add(retryDelayed)
			if !b.srv.delays.add(e.delayed, &b.srv.opts.Limits.Delayed) {
				b.srv.stats.drop(dropStore)
			}
		case e.due:
			b.srv.delays.putBack(e.delayed, b.now.Add(retryDelayed))
		default:
			b.srv.delays.forgo(e.delayed)
			b.srv.stats.drop(dropStore)
		}
		return
	}
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	defer e.heard()
	switch {
	case s.bus != nil:
		e.it.wait = false
		if e.it.refused = err != nil && (e.it.qos == 2 || e.it.again); e.it.refused && !e.it.again { // its publisher says it again
			b.srv.stats.drop(dropStore)
		}
		s.bus.signal()
	case e.queued:
		e.it.doubt = false
		if e.it.refused = err != nil; err != nil && !e.it.again {
			b.srv.stats.drop(dropStore)
		}
		s.takeTurns(b)
	case e.turn == nil || s.epoch != e.epoch:
		s.emitNow(b, e.it, s.epoch == e.epoch, err)
	default:
		e.turn.ready, e.turn.err = true, err
		s.takeTurns(b)
	}
}

// takeTurns sends the messages of which the store has said, in their order, what it did:
// that they are sent, and before that that they wait.
func (s *Session) takeTurns(b *batch) {
	for s.turns.len() > 0 && (*s.turns.at(0)).ready && !(*s.turns.at(0)).it.doubt {
		t := s.turns.pop()
		s.emitNow(b, t.it, true, t.err)
	}
}

// emitNow sends a message of this connection, or of an earlier one, now that the store
// has said what it did.
func (s *Session) emitNow(b *batch, it *item, ours bool, err error) {
	c := s.conn.Load()
	switch {
	case err != nil && it.queued && !it.refused && it.qos > 0: // the store has it, but not that it is sent
		if it.unsent = true; c != nil && ours {
			c.shut(packet.ImplementationSpecificError)
		}
	case err != nil || it.refused:
		if err != nil && !it.again {
			b.srv.stats.drop(dropStore)
		}
		if it.qos > 0 && !it.gone {
			s.land(it)
			s.pumpSoon()
		}
	case c == nil || !ours || it.gone:
		// A later connection has sent it, or will.
	case it.qos == 0:
		b.sendQoS0(c, it)
	default:
		s.emit(b, c, it)
	}
}

// storeFailed counts and logs, the first of each hundred failures.
func (srv *Server) storeFailed(err error) {
	if n := srv.journal.fails.Add(1); n%100 == 1 {
		srv.log.Error("store did not take changes", "err", err, "failures", n)
	}
}
