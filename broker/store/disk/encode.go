package disk

import (
	"github.com/gatehouse/gatehouse/broker/store"
)

// encoder appends changes to the log and makes them in the index.
type encoder struct {
	*log
	x  *index
	at *epoch
}

// apply appends the changes of one Apply. An error is a [needSegment].
func (e *encoder) apply(changes []store.Change) error {
	e.first = true
	for i := range changes {
		if err := e.change(&changes[i]); err != nil {
			return err
		}
	}
	e.finish(flagLast)
	return nil
}

// try appends the beginning of a group, and nothing else.
func (e *encoder) try() error {
	e.headLen = 0
	if err := e.fit(e.x, 0); err != nil {
		return err
	}
	e.extent()
	return nil
}

func (e *encoder) change(c *store.Change) error {
	switch c.Op {
	case store.Retain:
		p := part{kind: partRetained, name: c.Message.Topic}
		if len(c.Message.Payload) == 0 {
			return e.remove(e.x.store, p)
		}
		e.begin(e.x.store, p, 0)
		e.content = appendMessage(e.content, c.Message, e.at)
		return e.keep(e.x.store, p, 0)
	case store.PutSession:
		s := e.x.byID[c.Session]
		if s == nil {
			s = e.x.create(c.Session)
		}
		return e.session(s, c.Record)
	case store.Put:
		p := part{kind: partRecord, name: recordName(c.Bucket, c.Key)}
		size := uint32(len(c.Value))
		e.begin(e.x.store, p, size)
		e.content = append(e.content, c.Value...)
		return e.keep(e.x.store, p, size)
	case store.Delete:
		return e.remove(e.x.store, part{kind: partRecord, name: recordName(c.Bucket, c.Key)})
	default:
		if s := e.x.byID[c.Session]; s != nil {
			return e.ofSession(s, c)
		}
		return nil
	}
}

func (e *encoder) ofSession(s *session, c *store.Change) error {
	switch c.Op {
	case store.DropSession:
		if err := e.deletes(kindDrop, &head{owner: s.num, low: 1}); err != nil {
			return err
		}
		e.x.drop(s)
		return nil
	case store.Subscribe:
		p := part{kind: partSub, name: c.Sub.Filter}
		e.begin(s, p, 0)
		e.content = appendSubscription(e.content, c.Sub)
		return e.keep(s, p, 0)
	case store.Unsubscribe:
		return e.remove(s, part{kind: partSub, name: c.Sub.Filter})
	case store.Enqueue:
		return e.enqueue(s, c)
	case store.Send, store.Received:
		return e.state(s, c)
	case store.Dequeue:
		return e.dequeue(s, c.Position)
	case store.HoldID:
		p := part{kind: partHeld, n: uint64(c.ID)}
		if _, ok := s.parts[p]; ok {
			return nil
		}
		e.begin(s, p, 0)
		return e.keep(s, p, 0)
	case store.ReleaseID:
		return e.remove(s, part{kind: partHeld, n: uint64(c.ID)})
	default:
		return nil
	}
}

// session writes a session's record twice: all that the session has hangs on it, and
// one flipped bit must not take that. See reader.part.
func (e *encoder) session(s *session, r *store.SessionRecord) error {
	p := part{kind: partSession, name: s.id}
	e.begin(s, p, 0)
	e.content = appendSession(e.content, r, e.at)
	if err := e.keep(s, p, 0); err != nil {
		return err
	}
	return e.keep(s, p, 0)
}

// begin begins the record that puts a part.
func (e *encoder) begin(s *session, p part, extra uint32) {
	e.put(kindPut, &head{owner: s.num, part: p, extra: extra})
}

// keep appends it.
func (e *encoder) keep(s *session, p part, extra uint32) error {
	at, err := e.end(e.x)
	if err != nil {
		return err
	}
	k := kept{place: at, low: at.seg, extra: extra}
	if was, ok := s.parts[p]; ok {
		k.low = was.low
	}
	e.x.setPart(s, p, k)
	return nil
}

// deletes appends a record that deletes what may be in segments from h.low on.
func (e *encoder) deletes(k kind, h *head) error {
	e.headLen = 0
	if err := e.fit(e.x, int64(padded(48+len(h.part.name)))+64+int64(len(h.part.name))); err != nil { // then seg is the one it goes to
		return err
	}
	h.high = e.seg.id
	e.put(k, h)
	_, err := e.end(e.x)
	return err
}

// remove deletes a part, if it is there.
func (e *encoder) remove(s *session, p part) error {
	k, ok := s.parts[p]
	if !ok {
		return nil
	}
	if err := e.deletes(kindDelete, &head{owner: s.num, part: p, low: k.low}); err != nil {
		return err
	}
	e.x.removePart(s, p)
	return nil
}

func (e *encoder) enqueue(s *session, c *store.Change) error {
	if c.Position < s.next { // positions only grow: this one was there before
		return nil
	}
	e.put(kindMessage, &head{owner: s.num, pos: c.Position, size: uint32(c.Message.Size())})
	e.content = appendDelivery(e.content, &c.Delivery)
	e.content = appendMessage(e.content, c.Message, e.at)
	at, err := e.end(e.x)
	if err != nil {
		return err
	}
	e.x.push(s, c.Position, at)
	return nil
}

// state notes that a message was sent, or received. The payload of one that was
// received is not needed any more.
func (e *encoder) state(s *session, c *store.Change) error {
	b, i := s.q.find(c.Position)
	if b == nil {
		return nil
	}
	id, received, _ := s.state(c.Position)
	if c.Op == store.Received && received {
		return nil
	}
	if c.ID != 0 || c.Op == store.Send {
		id = c.ID
	}
	p, extra := part{kind: partState, n: c.Position}, stateOf(id, received || c.Op == store.Received)
	e.begin(s, p, extra)
	if err := e.keep(s, p, extra); err != nil {
		return err
	}
	if at := b.entries[i].place; c.Op == store.Received {
		k := s.parts[p]
		k.low = min(k.low, at.seg)
		s.parts[p] = k
		e.x.move(s, b, i, nowhere)
	}
	return nil
}

func (e *encoder) dequeue(s *session, pos uint64) error {
	b, i := s.q.find(pos)
	if b == nil {
		return nil
	}
	p := part{kind: partState, n: pos}
	low := b.entries[i].seg
	if k, ok := s.parts[p]; ok {
		if low = min(low, k.low); b.entries[i].place == nowhere {
			low = k.low
		}
	}
	if err := e.deletes(kindDone, &head{owner: s.num, pos: pos, low: low}); err != nil {
		return err
	}
	e.x.take(s, b, i)
	e.x.removePart(s, p)
	return nil
}
