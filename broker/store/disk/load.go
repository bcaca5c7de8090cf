package disk

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/gatehouse/gatehouse/broker/store"
)

// loading is a part to read for a snapshot.
type loading struct {
	s    *session
	part part
	w    wanted
	x    uint32 // its extra
}

// Load implements [store.Store]. Bytes of the sessions count from Open, so Apply must
// not come before. Points in time that another run saved are those of this run's
// clock, see [Options].
func (s *Store) Load(ctx context.Context) (*store.Snapshot, error) {
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	snap := &store.Snapshot{Clock: s.epoch.Clock, Run: s.epoch.run}
	sessions, parts := s.parts(snap)
	places := make([]wanted, len(parts))
	for i := range parts {
		places[i] = parts[i].w
	}
	r := reader{s: s}
	defer r.close()
	var lost []copied
	for i := range parts {
		l := &parts[i]
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		err := s.loadPart(&r, places, i, l, snap, sessions)
		for err != nil && s.partMoved(l, &places[i]) { // it is being rewritten
			err = s.loadPart(&r, places[i:i+1], 0, l, snap, sessions)
		}
		if errors.Is(err, errDamaged) {
			s.setAside(l.w)
			lost = append(lost, copied{lost: true, kind: kindPut, head: head{owner: l.s.num, part: l.part}, from: l.w.place})
		} else if err != nil {
			return nil, err
		}
	}
	s.lose(lost)
	s.dropNameless(snap, sessions)
	snap.Sessions = slices.DeleteFunc(snap.Sessions, func(v store.Session) bool { return v.ClientID == "" })
	for i := range snap.Sessions {
		slices.Sort(snap.Sessions[i].HeldIDs)
		if err := s.loadInFlight(ctx, &snap.Sessions[i]); err != nil {
			return nil, err
		}
	}
	return snap, nil
}

// loadInFlight reads the messages of a session that were sent. Those that were damaged
// are none.
func (s *Store) loadInFlight(ctx context.Context, v *store.Session) error {
	sent := v.InFlight
	slices.SortFunc(sent, func(a, b store.Queued) int { return cmp.Compare(a.Position, b.Position) })
	v.InFlight = nil
	var found []store.Queued
	for i, q := range sent {
		if q.Received {
			v.InFlight = append(v.InFlight, q)
			continue
		}
		for len(found) > 0 && found[0].Position < q.Position {
			found = found[1:]
		}
		if len(found) == 0 {
			var err error
			if found, err = s.Fetch(ctx, v.ClientID, q.Position, min(len(sent)-i, 64)); err != nil {
				return err
			}
		}
		if len(found) > 0 && found[0].Position == q.Position {
			v.InFlight = append(v.InFlight, found[0])
		}
	}
	return nil
}

// dropNameless drops the sessions whose record is lost: nobody knows of them, and one
// that is made anew must not find their queue.
func (s *Store) dropNameless(snap *store.Snapshot, sessions map[*session]int) {
	var drop []store.Change
	for sess, i := range sessions {
		if snap.Sessions[i].ClientID == "" {
			s.opts.Log.Error("store: a session is lost", "client", sess.id)
			drop = append(drop, store.Change{Op: store.DropSession, Session: sess.id})
		}
	}
	if len(drop) > 0 {
		s.Apply(drop)
	}
}

// parts lists what is to be read, in the order of places, and makes the sessions of
// the snapshot, whose indices it returns.
func (s *Store) parts(snap *store.Snapshot) (map[*session]int, []loading) {
	s.ix.Lock()
	defer s.ix.Unlock()
	sessions := make(map[*session]int, len(s.x.byID))
	var parts []loading
	add := func(sess *session) {
		for p, k := range sess.parts {
			w := wanted{place: k.place, n: s.x.sizeAt(k.place), seg: s.x.segs[k.seg]}
			parts = append(parts, loading{sess, p, w, k.extra})
		}
	}
	add(s.x.store)
	for _, sess := range s.x.byID {
		sessions[sess] = len(snap.Sessions)
		v := store.Session{First: sess.next, Next: sess.next, Queued: sess.q.count, Tail: sess.q.tail(sess.next), Bytes: sess.bytes}
		sess.q.from(0, func(pos uint64, _ place) bool {
			v.First = pos
			return false
		})
		snap.Sessions = append(snap.Sessions, v)
		add(sess)
	}
	slices.SortFunc(parts, func(a, b loading) int {
		return cmp.Or(cmp.Compare(a.w.place.seg, b.w.place.seg), cmp.Compare(a.w.at, b.w.at))
	})
	return sessions, parts
}

// partMoved reports whether a part that could not be read is being rewritten, or was,
// and says where it is then. It waits until it is there.
func (s *Store) partMoved(l *loading, w *wanted) bool {
	s.ix.Lock()
	k, ok := l.s.parts[l.part]
	unwritten := ok && !k.place.before(s.ends)
	moved := ok && k.place != w.place || unwritten
	if moved {
		*w = wanted{place: k.place, n: s.x.sizeAt(k.place), seg: s.x.segs[k.seg]}
		l.w = *w
	}
	s.ix.Unlock()
	if unwritten {
		<-s.beingWritten().done
	}
	return moved
}

// beingWritten is the group that is, or one that is done.
func (s *Store) beingWritten() *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing == nil {
		return finished
	}
	return s.writing
}

// loadPart puts a part into the snapshot.
func (s *Store) loadPart(r *reader, places []wanted, i int, l *loading, snap *store.Snapshot, sessions map[*session]int) error {
	var v *store.Session
	if l.s.num != 0 {
		v = &snap.Sessions[sessions[l.s]]
	}
	switch l.part.kind { // those whose place in the index says it all
	case partState:
		if q := (store.Queued{Position: l.part.n, ID: uint16(l.x), Received: l.x&stateReceived != 0}); q.ID != 0 || q.Received {
			v.InFlight = append(v.InFlight, q) // the message is read later
		}
		return nil
	case partHeld:
		v.HeldIDs = append(v.HeldIDs, uint16(l.part.n))
		return nil
	case partNext, partRecord:
		return nil
	default:
	}
	rec, err := r.part(places, i, l.part)
	if err != nil {
		return err
	}
	d := decoder{b: bytes.Clone(rec.content)}
	h := d.head(rec.kind)
	if d.bad || h.part.kind != l.part.kind || h.part.name != l.part.name {
		return errDamaged
	}
	switch l.part.kind {
	case partRetained:
		if m := d.message(s.epoch); !d.bad {
			snap.Retained = append(snap.Retained, m)
		}
	case partSession:
		if record := d.session(l.s.id, s.epoch); !d.bad {
			v.SessionRecord = record
		}
	case partSub:
		if sub := d.subscription(h.part.name); !d.bad {
			v.Subscriptions = append(v.Subscriptions, sub)
		}
	default:
	}
	if d.bad {
		return errDamaged
	}
	return nil
}
