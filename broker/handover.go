package broker

import (
	"slices"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// moveBatch is how many messages change from one session to another at once.
const moveBatch = 256

// handOver gives what waits in a session for its shared subscriptions, and what it
// was sent with QoS 1 and has not acknowledged, to other members of their groups
// (MQTT 5.0 §4.8.2). What was sent with QoS 2 is nobody else's, received or not
// ([MQTT-4.8.2-4], [MQTT-4.8.2-5]). While the session lives, what no connected member
// can have stays. The session has no connection, and gets none until this returns: the
// caller holds its claim, or is the end of its last connection.
func (srv *Server) handOver(s *Session) {
	if !s.sharing.Load() {
		return
	}
	if s.settled(srv.ctx) != nil {
		return // the server stops; they wait here
	}
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	if s.stored { // what was sent goes before what waits
		if err := srv.recall(srv.ctx, s); err != nil {
			return // it counts the failure; they wait here
		}
	}
	held, left := s.heldShared()
	for len(held) > 0 {
		n := min(len(held), moveBatch)
		left += srv.move(b, s, held[:n])
		held = held[n:]
	}
	if s.stored {
		left += srv.handOverStored(b, s)
	}
	if left == 0 {
		s.sharing.Store(false)
	}
	s.countForsaken()
}

// countForsaken counts what a session that has ended was sent with QoS 2 as a member
// of a group and has not received, as far as is known: nobody gets it.
func (s *Session) countForsaken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		return
	}
	for _, it := range s.flying() {
		if it.share != "" && it.qos == 2 && it.tried && !it.received {
			s.srv.stats.drop(dropShared)
		}
	}
}

// heldShared lists what of shared subscriptions is in memory, oldest first, and
// counts what is the session's to keep.
func (s *Session) heldShared() (held []*item, kept int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.flying() {
		switch {
		case it.share == "":
		case it.received || it.qos == 2 && it.tried:
			kept++
		case it.msg != nil:
			held = append(held, it)
		}
	}
	s.q.each(func(it *item) {
		if it.share != "" && it.qos > 0 && !it.refused { // QoS 0 is not sent again
			held = append(held, it)
		}
	})
	return held, kept
}

// handOverStored does it for what only the store has.
func (srv *Server) handOverStored(b *batch, s *Session) (left int) {
	s.mu.Lock()
	mean := s.q.bytes.sum() / int64(max(s.q.n, 1))
	s.mu.Unlock()
	limit := int(min(max(srv.opts.Limits.Window/max(mean, 1), 1), moveBatch))
	for from := uint64(0); ; {
		fetched, err := srv.opts.Store.Fetch(srv.ctx, s.id, from, limit)
		if err != nil {
			srv.storeFailed(err)
			return 1
		}
		if len(fetched) == 0 {
			return left
		}
		from = fetched[len(fetched)-1].Position + 1
		left += srv.move(b, s, s.movable(fetched))
	}
}

func (s *Session) movable(fetched []store.Queued) (items []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range fetched {
		f := &fetched[i]
		if f.Delivery.Share == "" || f.Received || f.Message == nil {
			continue
		}
		if it := s.inFlight.get(f.ID); f.ID != 0 && f.Delivery.QoS == 2 && (it == nil || it.tried) {
			continue
		}
		items = append(items, itemOf(f))
	}
	return items
}

// move gives messages of a session to others, all or none of each in one Apply. It
// counts those that stay.
func (srv *Server) move(b *batch, s *Session, items []*item) (left int) {
	if len(items) == 0 {
		return 0
	}
	var moved []spot
	b.whole = true
	defer func() { b.whole = false }()
	srv.commit(b, func() {
		s.mu.Lock()
		ends := s.over
		s.mu.Unlock()
		var gone []uint64
		for _, it := range items {
			if !it.msg.Expired(b.now) && srv.inherit(b, s, it, ends) {
				gone = append(gone, it.pos)
			} else {
				left++
			}
		}
		slices.Sort(gone)
		moved = s.giveUp(b, gone)
	})
	b.flush()
	if b.last != nil && b.last.Wait(srv.ctx) != nil { // they were not moved
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, at := range moved {
			if s.stored && !s.over {
				s.q.restore(at)
				left++
			}
		}
	}
	return left
}

// giveUp takes messages out of the session by their positions, which are in order.
// The caller holds commitMu.
func (s *Session) giveUp(b *batch, positions []uint64) (gone []spot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.flying() {
		if _, found := slices.BinarySearch(positions, it.pos); found {
			gone = append(gone, spotOf(it))
			s.land(it)
		}
	}
	gone = append(gone, s.q.take(positions)...)
	for _, at := range gone {
		s.dequeue(b, at)
	}
	s.behind.Store(s.q.zero > 0)
	s.weigh()
	return gone
}

// inheritTries is how often another member is looked for while those that were
// found leave.
const inheritTries = 100

// inherit gives a message of a session to another member of its group, and reports
// whether one has it. One that is not connected, or would have to drop another
// message for it, gets it only if the session ends.
func (srv *Server) inherit(b *batch, from *Session, old *item, ends bool) bool {
	p := pub{msg: *old.msg, kept: old.msg}
	for range inheritTries {
		sub, waits := srv.member(b.ctx, old.share, old.msg, from)
		if sub == nil || waits && !ends {
			return false
		}
		t := groupTarget(sub, waits)
		t.moves = !ends
		if !ends && !t.s.fits(old) {
			return false
		}
		if b.deliver(&p, &t, p.msg.QoS == message.ExactlyOnce || len(b.later) > 0) {
			return true
		}
	}
	return false
}

// fits reports whether the session can queue a message that another has. If not, it
// looks for what others have left again when it has nothing waiting.
func (s *Session) fits(it *item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	fits := s.q.fits(int64(sizeOf(it.msg)), &s.srv.opts.Limits)
	if !fits {
		s.more = true
	}
	return fits
}

// wantsMore reports whether the session is to look now for what did not fit before.
// The caller holds mu, and calls collectMore if so.
func (s *Session) wantsMore() bool {
	if !s.more || s.collecting || s.q.len() > 0 {
		return false
	}
	s.more, s.collecting = false, true
	return true
}

// collectMore has a session take over what did not fit before, and then whatever did
// not fit meanwhile.
func (srv *Server) collectMore(s *Session) {
	if !srv.enter() {
		return
	}
	go func() {
		defer srv.leave()
		defer srv.recovered("a hand-over", nil)
		srv.collect(s, true)
		s.mu.Lock()
		s.collecting = false
		s.mu.Unlock()
		b := srv.newBatch(srv.ctx, nil)
		defer b.free()
		srv.pump(b, s)
	}()
}

// collect has a member that has come, or its group, take over what waits for the
// group in sessions that are away. One whose claim is held is coming back, or handed
// over already; wait says to look at it then.
func (srv *Server) collect(s *Session, wait bool) {
	for _, away := range srv.absent(s) {
		release, free := srv.tryClaim(away.id)
		if !free && wait {
			var err error
			release, err = srv.claim(srv.ctx, away.id)
			free = err == nil
		}
		if !free {
			continue
		}
		away.mu.Lock()
		alone := away.conn.Load() == nil && away.owner == nil && !away.over
		away.mu.Unlock()
		if alone && srv.stopping.Err() == nil { // looked at after alone: else the stop is why it is
			srv.handOver(away)
		}
		release()
	}
}

// absent lists the sessions without connection that share a subscription with s and
// may have something of it.
func (srv *Server) absent(s *Session) []*Session {
	srv.treeMu.RLock()
	defer srv.treeMu.RUnlock()
	seen := make(map[*Session]bool)
	var away []*Session
	for full := range s.subs {
		if !isShared(full) {
			continue
		}
		for _, sub := range srv.groups[full].members {
			if m := sub.s; m != s && m.bus == nil && m.sharing.Load() && !m.listens() && !seen[m] {
				seen[m] = true
				away = append(away, m)
			}
		}
	}
	return away
}
