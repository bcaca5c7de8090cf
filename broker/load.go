package broker

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/store"
)

// load takes over what the store holds.
func (srv *Server) load(ctx context.Context) error {
	snap, err := srv.opts.Store.Load(ctx)
	if err != nil {
		return err
	}
	srv.delays.clock = snap.Clock
	srv.orders.begin(snap.Run, snap.Retained)
	lost := 0
	for _, m := range snap.Retained {
		if !srv.kept.set(m, &srv.opts.Limits) {
			srv.stats.drop(dropRetained)
			lost++
		}
	}
	if lost > 0 {
		srv.log.Warn("retained messages of the store are beyond the limits", "lost", lost)
	}
	for i := range snap.Sessions {
		if err := srv.loadSession(ctx, &snap.Sessions[i]); err != nil {
			return err
		}
	}
	return srv.loadDelayed(ctx)
}

func (srv *Server) loadSession(ctx context.Context, kept *store.Session) error {
	s := &Session{srv: srv, id: kept.ClientID, origin: "client/" + kept.ClientID, stored: true}
	s.q.all = &srv.queued
	if name, ok := strings.CutPrefix(kept.ClientID, busPrefix); ok {
		s.origin, s.bus = name, newSubscriber()
	} else {
		s.access.Store(&access{who: Identity{ClientID: kept.ClientID, Principal: kept.Principal}})
	}
	s.expiry, s.ended = kept.Expiry, kept.Ended
	s.will, s.willAt = kept.Will, kept.WillAt
	if s.ended.IsZero() { // the gateway ended before the connection
		s.ended = time.Now()
		s.willAt = s.ended.Add(min(s.willAt.Sub(willEpoch), s.expiry))
	}
	s.held = make(map[uint16]*holding, len(kept.HeldIDs))
	for _, id := range kept.HeldIDs {
		s.held[id] = new(holding)
	}
	sent := s.loadInFlight(kept)
	if err := srv.loadQueue(ctx, s, kept, sent); err != nil {
		return err
	}
	s.weigh()
	srv.sessions[s.id] = s
	for i := range kept.Subscriptions {
		if _, _, ok := splitShare(kept.Subscriptions[i].Filter); ok {
			srv.addSub(newSubscription(s, &kept.Subscriptions[i]))
			if isShared(kept.Subscriptions[i].Filter) && kept.Queued > 0 {
				s.sharing.Store(true)
			}
		}
	}
	return nil
}

// loadInFlight takes over what was sent, and returns the last position of it. When an
// identifier was used again the first message was acknowledged, and only the store did
// not take that: it is let go.
func (s *Session) loadInFlight(kept *store.Session) (sent uint64) {
	for i := range kept.InFlight {
		it := itemOf(&kept.InFlight[i])
		if it.share != "" {
			s.sharing.Store(true)
		}
		it.msg, it.tried = nil, true
		if before := s.inFlight.get(it.id); before != nil {
			s.inFlight.remove(before)
			before.gone = true
			s.srv.opts.Store.Apply([]store.Change{{Op: store.Dequeue, Session: s.id, Position: before.pos}})
		}
		s.inFlight.put(it)
		s.order.push(it)
		s.lastID = it.id
		sent = max(sent, it.pos)
	}
	return sent
}

// loadQueue takes over the positions of what waits. The store is asked for each, a window
// at a time, but not for the tail of the queue if it is of one class: there each message
// counts as the mean of their sizes. Counts of what else there is are not gone by: what is
// damaged is not known before it is read.
func (srv *Server) loadQueue(ctx context.Context, s *Session, kept *store.Session, sent uint64) error {
	s.q.next = kept.Next - min(kept.Next, 1)
	mean := kept.Bytes / int64(max(kept.Queued, 1))
	limit := int(min(max(srv.opts.Limits.Window/max(mean, 1), 1), windowMessages))
	var overtaken []*item
	look := func(from, end uint64) error {
		for from < end {
			fetched, err := srv.opts.Store.Fetch(ctx, s.id, from, limit)
			if err != nil || len(fetched) == 0 {
				return err
			}
			for i := range fetched {
				f := &fetched[i]
				switch {
				case f.Position >= end:
					return nil
				case f.ID != 0 || f.Message == nil:
				case f.Position < sent && srv.classes == nil && s.bus == nil:
					overtaken = append(overtaken, itemOf(f))
				default:
					s.q.restore(spot{pos: f.Position, size: sizeOf(f.Message), class: srv.classify(s, f.Message)})
				}
			}
			from = fetched[len(fetched)-1].Position + 1
		}
		return nil
	}
	if !allSent(kept, sent) {
		if err := look(kept.First, sent+1); err != nil {
			return err
		}
	}
	first, tail := max(kept.First, sent+1), kept.Next
	if srv.classes == nil || s.bus != nil {
		tail -= min(kept.Tail, kept.Next)
	}
	if err := look(first, tail); err != nil {
		return err
	}
	for pos := max(first, tail); pos < kept.Next; pos++ {
		s.q.restore(spot{pos: pos, size: uint32(min(mean, 1<<31))})
	}
	s.sendInOrder(overtaken)
	return nil
}

// allSent reports whether all that is in the queue up to the last message that was sent
// was sent.
func allSent(kept *store.Session, sent uint64) bool {
	next := kept.First
	for i := range kept.InFlight {
		if kept.InFlight[i].Position == next {
			next++
		}
	}
	return next > sent
}

// sendInOrder puts messages in flight that were sent before others of which the store
// knows that they were sent, and of which it did not take that: they keep their order.
func (s *Session) sendInOrder(overtaken []*item) {
	if len(overtaken) == 0 {
		return
	}
	for s.order.len() > 0 {
		overtaken = append(overtaken, s.order.pop())
	}
	slices.SortFunc(overtaken, func(a, b *item) int { return cmp.Compare(a.pos, b.pos) })
	for _, it := range overtaken {
		if it.id == 0 {
			it.id, it.msg, it.unsent = s.nextID(), nil, true
			s.inFlight.put(it)
		}
		s.order.push(it)
	}
}

// resumeTimers starts what sessions without connection wait for, after a load.
func (srv *Server) resumeTimers() {
	srv.mu.Lock()
	sessions := make([]*Session, 0, len(srv.sessions))
	for _, s := range srv.sessions {
		sessions = append(sessions, s)
	}
	srv.mu.Unlock()
	for _, s := range sessions {
		s.mu.Lock()
		if s.conn.Load() == nil && s.bus == nil {
			srv.schedule(s)
		}
		s.mu.Unlock()
	}
}
