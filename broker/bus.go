package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/topic"
)

const (
	busBatch    = 256
	keepBatch   = 128 // messages: for how many a subscriber that waits keeps memory
	maxBusName  = 200
	retryPause  = 100 * time.Millisecond
	retryMost   = 5 * time.Second
	busSessions = store.Forever
)

// subscriber is the reader of a session of an in-process subscriber.
type subscriber struct {
	active   atomic.Bool
	wake     chan struct{} // capacity 1
	qos      message.QoS
	retained bool
	free     []*item // of the session's mu; see reuse
}

// keepItems is how many places in its queue a subscriber keeps to be used again.
const keepItems = 512

// item is a place for a message, with memory for that. The caller holds the session's mu.
func (r *subscriber) item() *item {
	if n := len(r.free); n > 0 {
		it := r.free[n-1]
		r.free[n-1] = nil
		r.free = r.free[:n-1]
		it.lone = true
		return it
	}
	both := &struct {
		item
		msg message.Message
	}{}
	both.item.msg, both.lone = &both.msg, true
	return &both.item
}

// reuse takes back a place that has left the queue, if nobody else has it. The caller holds
// the session's mu.
func (r *subscriber) reuse(it *item) {
	if !it.lone || it.share != "" || len(r.free) >= keepItems {
		return
	}
	m := it.msg
	*m = message.Message{}
	*it = item{msg: m}
	r.free = append(r.free, it)
}

func newSubscriber() *subscriber { return &subscriber{wake: make(chan struct{}, 1)} }

func (r *subscriber) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Publish implements [message.Bus]. The interceptor sees the messages, the
// authorizer does not; one that has passed through more than [message.MaxHops]
// rules is dropped and counted. One to $delayed/SECONDS/TOPIC is published to TOPIC
// when that time has passed. A message that is refused gives a
// [message.RefusedError] that wraps a [packet.Reason].
func (srv *Server) Publish(ctx context.Context, msgs ...message.Message) error {
	if err := srv.await(ctx); err != nil {
		return err
	}
	defer srv.leave()
	b := srv.newBatch(ctx, nil)
	defer b.free()
	for i := range msgs {
		if reason := b.accept(msgs[i], i); reason != nil {
			if err := b.finish(ctx); err != nil {
				return err
			}
			return &message.RefusedError{Index: i, Tried: i + 1, Topic: msgs[i].Topic, Err: reason}
		}
		if b.full() {
			if err := b.finish(ctx); err != nil {
				return err
			}
		}
	}
	return b.finish(ctx)
}

// accept adds a message from inside to the batch. One that has passed through too many
// rules is dropped, which is not an error.
func (b *batch) accept(m message.Message, index int) error {
	srv := b.srv
	if reason := srv.checkMessage(&m); reason != nil {
		return reason
	}
	if m.Hops > message.MaxHops {
		srv.stats.drop(dropHops)
		return nil
	}
	if m.At.IsZero() {
		m.At = b.now
	}
	m.Order = 0 // of one that was heard
	srv.stats.published.Add(1)
	b.add(pub{msg: m, private: isSystem(m.Topic), bound: b.lenient && len(b.changes) > 0, index: index})
	return nil
}

func (srv *Server) checkMessage(m *message.Message) error {
	switch {
	case !topic.ValidName(m.Topic):
		srv.stats.drop(dropInvalid)
		return packet.TopicNameInvalid
	case srv.opts.Limits.tooDeep(m.Topic):
		srv.stats.drop(dropLimits)
		return fmt.Errorf("more than %d levels: %w", srv.opts.Limits.TopicLevels, packet.TopicNameInvalid)
	case m.QoS > 2:
		srv.stats.drop(dropInvalid)
		return fmt.Errorf("QoS %d: %w", m.QoS, packet.QoSNotSupported)
	default:
		return nil
	}
}

// finish runs a batch from inside, waits for the store if a message asks for it or
// the store is behind, and returns the first refusal.
func (b *batch) finish(ctx context.Context) error {
	defer b.reset()
	if len(b.ops) == 0 {
		return nil
	}
	b.work()
	b.flush()
	wait, refused := b.srv.journal.inside.Load() >= maxPending, error(nil)
	for i := range b.pubs {
		p := &b.pubs[i]
		if p.reason.Failed() {
			refused = &message.RefusedError{Index: p.index, Topic: p.msg.Topic, Err: p.reason}
			break
		}
		wait = wait || p.msg.QoS > 0
	}
	if wait {
		if err := b.safe(ctx); err != nil {
			return err
		}
	}
	return refused
}

// safe waits until what a batch from inside has changed is safe.
func (b *batch) safe(ctx context.Context) error {
	if b.last == nil {
		return nil
	}
	for _, ticket := range append(b.earlier, b.last) {
		if err := ticket.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Subscribe implements [message.Bus]. What waits for the handler is bounded as the
// queue of a session is; messages of QoS 0 wait too, but never in the store. The
// handler's context ends with ctx, and when the server stops, which waits for it.
func (srv *Server) Subscribe(ctx context.Context, sub message.Subscription, h message.Handler) error {
	if len(sub.Name) == 0 || len(sub.Name) > maxBusName {
		return fmt.Errorf("cannot subscribe as %q: a name has 1 to %d bytes", sub.Name, maxBusName)
	}
	if err := checkFilters(sub.Filters); err != nil {
		return fmt.Errorf("cannot subscribe as %q: %w", sub.Name, err)
	}
	if err := srv.await(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer srv.leave()
	s, err := srv.openBus(ctx, &sub)
	if err != nil {
		return fmt.Errorf("cannot subscribe as %q: %w", sub.Name, err)
	}
	defer srv.closeBus(s, sub.Durable)
	if sub.Ready != nil {
		sub.Ready()
	}
	return srv.feed(ctx, s, &sub, h)
}

func checkFilters(filters []string) error {
	for _, f := range filters {
		if _, _, ok := splitShare(f); !ok {
			return fmt.Errorf("topic filter %q is not valid", f)
		}
	}
	return nil
}

// openBus finds or makes the session of an in-process subscriber.
func (srv *Server) openBus(ctx context.Context, sub *message.Subscription) (*Session, error) {
	id := busPrefix + sub.Name
	release, err := srv.claim(ctx, id)
	if err != nil {
		return nil, err
	}
	defer release()
	s := srv.session(id)
	if s != nil && s.bus.active.Load() {
		return nil, errors.New("the name is in use")
	}
	if s != nil && (!sub.Durable || !s.stored) {
		srv.endSession(s)
		s = nil
	}
	if s == nil {
		if s = srv.newBusSession(id, sub); s == nil {
			return nil, errors.New("there are too many sessions")
		}
	}
	s.bus.qos, s.bus.retained = sub.QoS, sub.Retained
	s.bus.active.Store(true)
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	srv.commit(b, func() { srv.setFilters(b, s, sub.Filters, true) })
	if slices.ContainsFunc(sub.Filters, isShared) {
		srv.collect(s, false)
	}
	s.bus.signal() // messages may have waited
	return s, nil
}

func (srv *Server) newBusSession(id string, sub *message.Subscription) *Session {
	s := &Session{srv: srv, id: id, origin: sub.Name, stored: sub.Durable, expiry: busSessions, bus: newSubscriber()}
	s.q.all = &srv.queued
	srv.mu.Lock()
	if len(srv.sessions) >= srv.opts.Limits.Sessions {
		srv.mu.Unlock()
		return nil
	}
	srv.sessions[id] = s
	srv.mu.Unlock()
	if s.stored {
		b := srv.newBatch(srv.ctx, nil)
		defer b.free()
		srv.commit(b, func() { b.change(putSession(id, s.record())) })
	}
	return s
}

// setFilters gives an in-process subscriber other filters, all at once. The caller
// holds commitMu. Those that are new are answered with retained messages if the
// subscriber wants them; fresh says that all are.
func (srv *Server) setFilters(b *batch, s *Session, filters []string, fresh bool) {
	wanted := make(map[string]*subscription, len(filters))
	for _, f := range filters {
		wanted[f] = newSubscription(s, &store.Subscription{Filter: f, QoS: s.bus.qos, NoLocal: true})
	}
	added, removed := srv.swapSubs(s, wanted)
	if fresh {
		added = filters
	}
	if s.stored {
		for _, f := range removed {
			b.change(store.Change{Op: store.Unsubscribe, Session: s.id, Sub: &store.Subscription{Filter: f}})
		}
		for _, f := range added {
			b.change(store.Change{Op: store.Subscribe, Session: s.id, Sub: &store.Subscription{Filter: f, QoS: s.bus.qos, NoLocal: true}})
		}
	}
	if !s.bus.retained {
		return
	}
	seen := make(map[*message.Message]bool)
	for _, f := range added {
		srv.replay(b, wanted[f], seen)
	}
}

// swapSubs replaces the subscriptions of a session between two messages.
func (srv *Server) swapSubs(s *Session, wanted map[string]*subscription) (added, removed []string) {
	srv.treeMu.Lock()
	defer srv.treeMu.Unlock()
	for full, old := range s.subs {
		srv.removeLocked(old)
		if wanted[full] == nil {
			removed = append(removed, full)
		}
	}
	for full, sub := range wanted {
		srv.insertLocked(sub)
		if s.subs[full] == nil {
			added = append(added, full)
		}
	}
	srv.subCount += len(wanted) - len(s.subs)
	s.subs = wanted
	return added, removed
}

// closeBus ends what Subscribe began: a durable session goes on without reader.
func (srv *Server) closeBus(s *Session, durable bool) {
	s.bus.active.Store(false)
	if !durable {
		srv.endSession(s)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.q.spill()
}

// Resubscribe implements [message.Bus].
func (srv *Server) Resubscribe(ctx context.Context, name string, filters []string) error {
	if err := checkFilters(filters); err != nil {
		return fmt.Errorf("cannot resubscribe %q: %w", name, err)
	}
	if err := srv.await(ctx); err != nil {
		return err
	}
	defer srv.leave()
	release, err := srv.claim(ctx, busPrefix+name)
	if err != nil {
		return err
	}
	defer release()
	s := srv.session(busPrefix + name)
	if s == nil || !s.bus.active.Load() {
		return fmt.Errorf("cannot resubscribe %q: nobody subscribes by that name", name)
	}
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	srv.commit(b, func() { srv.setFilters(b, s, filters, false) })
	return nil
}

// feed calls the handler with what the subscription hears until ctx ends.
func (srv *Server) feed(ctx context.Context, s *Session, sub *message.Subscription, h message.Handler) error {
	handling, cancel := context.WithCancel(ctx) // ends with the server too
	defer cancel()
	defer context.AfterFunc(srv.stopping, cancel)()
	pause := time.Duration(0)
	var room []message.Message // of the last batch, which the handler has given back
	for {
		if cap(room) > keepBatch {
			room = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-srv.stopping.Done():
			if ctx.Err() != nil { // one context ends both: the subscriber asked for its end
				return nil
			}
			return ErrClosed
		case <-s.bus.wake:
		}
		for batch, last, fetch := srv.next(s, room); batch != nil || fetch; batch, last, fetch = srv.next(s, room) {
			if fetch && !srv.refill(srv.stopping, s) && !srv.rest(ctx, retryPause, true) {
				break
			}
			if batch == nil {
				continue
			}
			var err error
			if len(batch) > 0 {
				taking := handling
				if sub.Durable {
					taking = context.WithValue(handling, delivery{}, &delivery{s: s, last: last})
				}
				err = h(taking, batch)
			}
			n := len(batch)
			clear(batch)
			room = batch[:0]
			if err == nil || !sub.Durable {
				if err != nil {
					srv.stats.dropped[dropHandler].Add(int64(n))
				}
				pause = 0
				if srv.consumed(s, last) {
					srv.collectMore(s)
				}
			}
			if srv.over(ctx) {
				break
			}
			if err != nil {
				pause = min(max(retryPause, 2*pause), retryMost)
				srv.log.Warn("subscriber failed", "subscriber", sub.Name, "messages", n, "durable", sub.Durable, "err", err)
				if !srv.rest(ctx, pause, sub.Durable) {
					break
				}
			}
		}
	}
}

// rest waits before a batch is seen again.
func (srv *Server) rest(ctx context.Context, pause time.Duration, wanted bool) bool {
	if !wanted {
		return true
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-srv.stopping.Done():
		return false
	}
}

// next copies the next batch of a queue, up to the position last, into room if it is
// large enough; fetch says that the queue goes on in the store.
func (srv *Server) next(s *Session, room []message.Message) (batch []message.Message, last uint64, fetch bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	l := &s.q.plain // of which alone such a queue is
	for i := 0; i < l.held.len() && len(batch) < busBatch; i++ {
		it := *l.held.at(i)
		switch {
		case it == nil:
			continue
		case l.back.n > 0 && l.back.front() < it.pos, it.wait:
			i = l.held.len() // what comes before it does not, yet
			continue
		}
		last = it.pos
		if it.refused {
			continue
		}
		if it.msg.Expired(now) {
			srv.stats.drop(dropExpired)
			continue
		}
		if batch == nil {
			if n := min(l.held.len()-i, busBatch); cap(room) < n {
				room = make([]message.Message, 0, n)
			}
			batch = room[:0]
		}
		batch = append(batch, *it.msg)
		m := &batch[len(batch)-1]
		m.QoS, m.Retain = it.qos, it.asked
	}
	if batch == nil && last > 0 { // all of them expired, or were refused
		batch = []message.Message{}
	}
	return batch, last, batch == nil && l.stored()
}

// takeUpTo removes what stands in the queue up to a position. The caller holds mu.
func (s *Session) takeUpTo(b *batch, last uint64) {
	s.q.together(func() {
		for s.q.len() > 0 && s.q.plain.position() <= last {
			it := s.q.front() // nil: only the store has it
			s.dequeue(b, s.q.pop())
			if it != nil {
				s.bus.reuse(it)
			}
		}
	})
	s.falls()
	s.weigh()
}

// consumed removes what the handler has had, up to the position last. It reports
// whether there is room for what others have left now.
func (srv *Server) consumed(s *Session, last uint64) (more bool) {
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	step := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.takeUpTo(b, last)
		more = s.wantsMore()
	}
	if s.stored {
		srv.commit(b, step)
	} else {
		step()
	}
	return more
}
