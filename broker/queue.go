package broker

import (
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// What of a stored queue is held in memory as well, while the client is there.
const (
	windowMessages = 1024
	windowBytes    = 1 << 20
)

// item is one message on its way to one session.
type item struct {
	pos    uint64
	msg    *message.Message // nil while only the store has it, and once received
	qos    message.QoS
	retain bool // the RETAIN flag to send
	// asked: a retained message that a SUBSCRIBE asked for, not counted in limits.
	asked bool
	ids   []uint32 // subscription identifiers
	share string   // the filter of the shared subscription it came by, if any
	waits bool     // of a group none of whose members is connected: see target
	moves bool     // from another session, which made sure that it fits
	class uint8    // see Priority

	// In flight only.
	id       uint16 // packet identifier
	received bool   // a PUBREC came
	tried    bool   // sent before: DUP
	gone     bool   // acknowledged
	unsent   bool   // the store does not know that it was sent
	size     uint32 // that it counts in flight, while its message is held

	queued  bool // it has waited: the store got it in an earlier change than that it is sent
	refused bool // the store did not take it
	wait    bool // for an in-process subscriber: not safe in the store yet
}

// slot is a message in a queue: its position and size, and the message itself
// unless only the store has it.
type slot struct {
	pos   uint64
	size  uint32
	asked bool // as of the item
	zero  bool // of QoS 0
	item  *item
}

// queue is what waits to be sent to one session, oldest first. It is plain state
// under the session's lock.
type queue struct {
	slots    ring[slot] // of class 0
	urgent   *urgent    // of the classes above; nil if there never was one
	bytes    int64      // of all slots
	inMemory int        // slots with an item
	memory   int64      // their bytes
	asked    int        // slots not counted in limits
	askedFor int64      // their bytes
	zero     int        // slots of QoS 0
	next     uint64
	all      *totals // of all sessions; nil when the session has ended
}

// totals are what all sessions queue together.
type totals struct{ messages, bytes atomic.Int64 }

// grow counts messages and bytes, and asked ones by their number alone.
func (q *queue) grow(messages int, bytes int64, asked bool) {
	q.bytes += bytes
	if q.all == nil {
		return
	}
	if messages != 0 {
		q.all.messages.Add(int64(messages))
	}
	if !asked && bytes != 0 {
		q.all.bytes.Add(bytes)
	}
}

// uncount takes the queue out of the totals, for good.
func (q *queue) uncount() {
	if q.all != nil {
		q.all.messages.Add(-int64(q.len()))
		q.all.bytes.Add(q.askedFor - q.bytes)
		q.all = nil
	}
}

func (q *queue) len() int {
	n := q.slots.len()
	if q.urgent != nil {
		n += q.urgent.len()
	}
	return n
}

// position gives out the next one.
func (q *queue) position() uint64 {
	q.next++
	return q.next
}

// window reports whether one more message may be held in memory.
func (q *queue) window() bool { return q.inMemory < windowMessages && q.memory < windowBytes }

// push appends a message; hold says whether it is held in memory.
func (q *queue) push(it *item, hold bool) {
	s := slot{pos: it.pos, size: sizeOf(it.msg), asked: it.asked, zero: it.qos == 0}
	q.grow(1, int64(s.size), s.asked)
	if s.asked {
		q.asked++
		q.askedFor += int64(s.size)
	}
	if s.zero {
		q.zero++
	}
	if hold {
		q.holdIn(&s, it)
	}
	q.ring(it.class).push(s)
}

// holdIn has a slot hold its message in memory, and letGo no more.
func (q *queue) holdIn(s *slot, it *item) {
	s.item = it
	q.inMemory++
	q.memory += int64(s.size)
}

func (q *queue) letGo(s *slot) {
	if s.item != nil {
		s.item = nil
		q.inMemory--
		q.memory -= int64(s.size)
	}
}

// front is the message that is next: the oldest of the highest class.
func (q *queue) front() *slot { return q.first().at(0) }

// pop takes out the one that is next.
func (q *queue) pop() slot {
	s := q.first().pop()
	q.forget(s)
	return s
}

// drop takes out the one that is missed least: the oldest of the lowest class.
func (q *queue) drop() slot {
	s := q.last().pop()
	q.forget(s)
	return s
}

// forget takes a slot that leaves out of the counts.
func (q *queue) forget(s slot) {
	q.letGo(&s)
	q.grow(-1, -int64(s.size), s.asked)
	if s.asked {
		q.asked--
		q.askedFor -= int64(s.size)
	}
	if s.zero {
		q.zero--
	}
}

// over reports whether the queue is beyond the limits.
func (q *queue) over(l *Limits) bool {
	n := q.len() - q.asked
	return n > l.QueueMessages || q.bytes-q.askedFor > l.QueueBytes && n > 1
}

// fits reports whether a message of a size that another session has is within the
// limits of this one. What all sessions queue does not grow by it.
func (q *queue) fits(size int64, l *Limits) bool {
	n, bytes := int64(q.len()-q.asked), q.bytes-q.askedFor+size
	if n == 0 {
		return true
	}
	if n >= int64(l.QueueMessages) || bytes > l.QueueBytes {
		return false
	}
	return q.all == nil || n < int64(l.AllQueues.Count)-q.all.messages.Load() && bytes <= l.AllQueues.Bytes-q.all.bytes.Load()
}

// beyondShare reports whether the queue holds more than is free of what all may
// hold together (the dynamic threshold of shared buffers: A. Choudhury, E. Hahne,
// 1998): the total is never exceeded, and one session alone leaves half of it free.
func (q *queue) beyondShare(l *Limits) bool {
	n := q.len() - q.asked
	if q.all == nil || n == 0 {
		return false
	}
	free, freeBytes := int64(l.AllQueues.Count)-q.all.messages.Load(), l.AllQueues.Bytes-q.all.bytes.Load()
	return int64(n) > max(free, 0) || q.bytes-q.askedFor > max(freeBytes, 0)
}

// each calls f with every slot, oldest first within a class.
func (q *queue) each(f func(*slot)) {
	for r := range q.rings {
		for i := range r.len() {
			f(r.at(i))
		}
	}
}

// keep takes out all slots but those that f wants.
func (q *queue) keep(f func(*slot) bool) {
	for r := range q.rings {
		r.keep(func(s *slot) bool {
			if f(s) {
				return true
			}
			q.forget(*s)
			return false
		})
	}
}

// spill lets go of what the store has, and of what it does not have for good.
func (q *queue) spill() {
	q.keep(func(s *slot) bool {
		if !s.zero {
			q.letGo(s)
		}
		return !s.zero
	})
}

// wanted says what to fetch from the store to go on: from which position, and how
// many messages, about [windowBytes] of them. 0 is nothing.
func (q *queue) wanted() (from uint64, n int) {
	bytes, r := int64(0), q.first()
	for i := 0; i < r.len() && n < windowMessages && (n == 0 || bytes < windowBytes); i++ {
		s := r.at(i)
		if s.item != nil {
			if n == 0 {
				continue
			}
			break
		}
		if n == 0 {
			from = s.pos
		}
		n++
		bytes += int64(s.size)
	}
	return from, n
}

// fill takes what was fetched for the positions from up to below known. A slot in
// that range that the store does not have is lost, and is let go.
func (q *queue) fill(from, known uint64, fetched []store.Queued, complete bool) (lost int) {
	end := known
	if !complete && len(fetched) > 0 {
		end = min(known, fetched[len(fetched)-1].Position+1)
	}
	for r := range q.rings {
		if gone := q.fillRing(r, from, end, fetched); gone > 0 {
			lost += gone
			r.keep(func(s *slot) bool {
				if s.item != nil || s.pos < from || s.pos >= end {
					return true
				}
				q.forget(*s)
				return false
			})
		}
	}
	return lost
}

// fillRing fills the slots at the front of a ring, where the positions from up to
// below end are, and counts those that were not fetched.
func (q *queue) fillRing(r *ring[slot], from, end uint64, fetched []store.Queued) (gone int) {
	for i, at := 0, 0; i < r.len(); i++ {
		s := r.at(i)
		if s.pos >= end {
			break
		}
		if s.item != nil || s.pos < from {
			continue
		}
		for at < len(fetched) && fetched[at].Position < s.pos {
			at++
		}
		if at == len(fetched) || fetched[at].Position != s.pos || fetched[at].Message == nil {
			gone++
			continue
		}
		q.found(s, &fetched[at])
	}
	return gone
}

// found has a slot hold what was fetched for it.
func (q *queue) found(s *slot, f *store.Queued) {
	grown := int64(sizeOf(f.Message)) - int64(s.size) // it may have been a mean
	s.size = sizeOf(f.Message)
	q.grow(0, grown, s.asked)
	if s.asked {
		q.askedFor += grown
	}
	it := itemOf(f)
	it.asked = s.asked
	q.holdIn(s, it)
}

func itemOf(f *store.Queued) *item {
	return &item{
		pos: f.Position, msg: f.Message, qos: f.Delivery.QoS, retain: f.Delivery.Retain,
		ids: f.Delivery.SubscriptionIDs, share: f.Delivery.Share, id: f.ID, received: f.Received, queued: true,
	}
}

func sizeOf(m *message.Message) uint32 { return uint32(min(m.Size(), 1<<30)) }

// remaining is the message expiry interval to send at now, in seconds.
func remaining(m *message.Message, now time.Time) *uint32 {
	if m.Expires.IsZero() {
		return nil
	}
	left := (m.Expires.Sub(now) + time.Second - 1) / time.Second
	seconds := uint32(min(max(left, 0), 1<<32-1))
	return &seconds
}
