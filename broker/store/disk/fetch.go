package disk

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/gatehouse/gatehouse/broker/store"
)

// fetched is one message to read.
type fetched struct {
	pos      uint64
	id       uint16
	received bool
}

// Fetch implements [store.Store]. It sees everything applied before it was called, and
// passes over what is damaged.
func (s *Store) Fetch(ctx context.Context, session string, from uint64, limit int) ([]store.Queued, error) {
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	var found []store.Queued
	for next := uint64(0); len(found) < limit; {
		metas, places, wait := s.look(session, from, limit-len(found), &next)
		if wait != nil { // a message is on its way to another place
			select {
			case <-wait.done:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if len(metas) == 0 {
			break
		}
		var again bool
		var err error
		if found, again, err = s.fetch(session, found, metas, places); err != nil {
			return nil, err
		}
		if !again { // there may be more, if some were damaged
			from = metas[len(metas)-1].pos + 1
			continue
		}
		from = metas[0].pos
		if n := len(found); n > 0 {
			from = max(from, found[n-1].Position+1)
		}
	}
	return found, ctx.Err()
}

// look lists what is to be read, below position next, which it sets when it is 0. If
// something is not written yet it says what to wait for.
func (s *Store) look(session string, from uint64, limit int, next *uint64) ([]fetched, []wanted, *group) {
	s.ix.Lock()
	sess := s.x.byID[session]
	if sess == nil {
		s.ix.Unlock()
		return nil, nil, nil
	}
	if *next == 0 {
		*next = sess.next
	}
	n := min(limit, sess.q.count)
	metas, places, unwritten := make([]fetched, 0, n), make([]wanted, 0, n), false
	sess.q.from(from, func(pos uint64, p place) bool {
		if len(metas) == limit || pos >= *next {
			return false
		}
		m := fetched{pos: pos}
		m.id, m.received, _ = sess.state(pos)
		w := wanted{place: p}
		if !m.received {
			w.n, w.seg = s.x.sizeAt(p), s.x.segs[p.seg]
			unwritten = unwritten || !p.before(s.ends)
		}
		metas, places = append(metas, m), append(places, w)
		return true
	})
	s.ix.Unlock()
	if unwritten {
		return nil, nil, s.beingWritten()
	}
	return metas, places, nil
}

// fetch reads messages. Again says that some were not where they had been: look again
// from the last one that was found.
func (s *Store) fetch(session string, found []store.Queued, metas []fetched, places []wanted) (_ []store.Queued, again bool, _ error) {
	r := reader{s: s}
	defer r.close()
	for i, m := range metas {
		q := store.Queued{Position: m.pos, ID: m.id, Received: m.received}
		if !m.received {
			err := s.readQueued(&r, places, i, &q)
			switch {
			case err == nil:
			case s.moved(session, m.pos, places[i].place):
				return found, true, nil
			case errors.Is(err, errDamaged):
				s.loseMessage(session, m.pos, &places[i])
				continue
			default:
				return nil, false, err
			}
		}
		found = append(found, q)
	}
	return found, false, nil
}

func (s *Store) readQueued(r *reader, places []wanted, i int, q *store.Queued) error {
	rec, err := r.read(places, i)
	if err != nil {
		return err
	}
	d := decoder{b: bytes.Clone(rec.content)}
	h := d.head(rec.kind)
	q.Delivery = d.delivery()
	q.Message = d.message(s.epoch)
	if d.bad || rec.kind != kindMessage || h.pos != q.Position {
		return errDamaged
	}
	return nil
}

// moved reports whether a message is not at a place any more.
func (s *Store) moved(session string, pos uint64, p place) bool {
	s.ix.Lock()
	defer s.ix.Unlock()
	sess := s.x.byID[session]
	if sess == nil {
		return true
	}
	b, i := sess.q.find(pos)
	return b == nil || b.entries[i].place != p
}

// Records implements [store.Store]. It sees everything applied before it was called.
func (s *Store) Records(ctx context.Context, r store.Range) ([]store.Record, error) {
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	found, parts := s.lookRecords(&r)
	if r.NoValues {
		return found, nil
	}
	places := make([]wanted, len(parts))
	for i := range parts {
		places[i] = parts[i].w
	}
	rd := reader{s: s}
	defer rd.close()
	var lost []copied
	kept := found[:0]
	for i := range parts {
		l := &parts[i]
		value, err := s.readRecord(&rd, places, i)
		for err != nil && s.partMoved(l, &places[i]) { // it is being rewritten
			value, err = s.readRecord(&rd, places[i:i+1], 0)
		}
		switch {
		case err == nil:
			found[i].Value = value
			kept = append(kept, found[i])
		case !s.hasPart(l): // it was deleted meanwhile
		case errors.Is(err, errDamaged):
			s.setAside(l.w)
			lost = append(lost, copied{lost: true, kind: kindPut, head: head{part: l.part}, from: l.w.place})
		default:
			return nil, err
		}
	}
	s.lose(lost)
	return kept, ctx.Err()
}

// lookRecords lists the records that a range asks for.
func (s *Store) lookRecords(r *store.Range) (found []store.Record, parts []loading) {
	s.ix.Lock()
	defer s.ix.Unlock()
	names := s.x.bucket(r.Bucket)
	i, equal := slices.BinarySearch(names, recordName(r.Bucket, r.After))
	if equal && r.After != "" {
		i++
	}
	names = names[i:]
	for _, name := range names[:max(0, min(len(names), r.Limit))] {
		p := part{kind: partRecord, name: name}
		k := s.x.store.parts[p]
		_, key, _ := splitName(name)
		found = append(found, store.Record{Key: key, Size: int(k.extra)})
		parts = append(parts, loading{s: s.x.store, part: p, w: wanted{place: k.place, n: s.x.sizeAt(k.place), seg: s.x.segs[k.seg]}})
	}
	return found, parts
}

func (s *Store) readRecord(r *reader, places []wanted, i int) ([]byte, error) {
	rec, err := r.read(places, i)
	if err != nil {
		return nil, err
	}
	d := decoder{b: bytes.Clone(rec.content)}
	if d.head(rec.kind); d.bad || rec.kind != kindPut {
		return nil, errDamaged
	}
	return d.b, nil
}

func (s *Store) hasPart(l *loading) bool {
	s.ix.Lock()
	defer s.ix.Unlock()
	_, ok := l.s.parts[l.part]
	return ok
}
