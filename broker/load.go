package broker

import (
	"context"
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
	s.held = make(map[uint16]struct{}, len(kept.HeldIDs))
	for _, id := range kept.HeldIDs {
		s.held[id] = struct{}{}
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

// loadQueue takes over the positions of what waits: all from after what was sent
// up to the next one. Their sizes are not known, so each counts as the mean. When
// positions are missing among them, the store is asked for each.
func (srv *Server) loadQueue(ctx context.Context, s *Session, kept *store.Session, sent uint64) error {
	s.q.next = kept.Next - min(kept.Next, 1)
	first, waiting := max(kept.First, sent+1), kept.Queued-len(kept.InFlight)
	if waiting <= 0 {
		return nil
	}
	size := uint32(min(kept.Bytes/int64(max(kept.Queued, 1)), 1<<31))
	if kept.Next-first == uint64(waiting) {
		for pos := first; pos < kept.Next; pos++ {
			s.q.pushStored(pos, size)
		}
		return nil
	}
	first = kept.First // what was sent may have others before it whose sending the store did not take
	for {
		fetched, err := srv.opts.Store.Fetch(ctx, s.id, first, 64)
		if err != nil {
			return err
		}
		if len(fetched) == 0 {
			return nil
		}
		for i := range fetched {
			if f := &fetched[i]; f.ID == 0 && f.Message != nil {
				s.q.pushStored(f.Position, sizeOf(f.Message))
			}
		}
		first = fetched[len(fetched)-1].Position + 1
	}
}

// pushStored appends a message that only the store has.
func (q *queue) pushStored(pos uint64, size uint32) {
	q.slots.push(slot{pos: pos, size: size})
	q.grow(1, int64(size), false)
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
