package broker

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// windowMessages is how many messages of a stored queue are held in memory as well,
// while the client is there; [Limits].Window bounds their bytes.
const windowMessages = 1024

// item is one message on its way to one session.
type item struct {
	pos   uint64
	msg   *message.Message // nil while only the store has it, and once received
	ids   []uint32         // subscription identifiers
	share string           // the filter of the shared subscription it came by, if any
	size  uint32           // that it counts, in the queue or in flight
	id    uint16           // packet identifier, in flight

	qos    message.QoS
	class  uint8 // see Priority
	retain bool  // the RETAIN flag to send
	// asked: a retained message that a SUBSCRIBE asked for, not counted in limits.
	asked bool
	waits bool // of a group none of whose members is connected: see target
	moves bool // from another session, which made sure that it fits

	// In flight only.
	received bool // a PUBREC came
	tried    bool // sent before: DUP
	gone     bool // acknowledged
	unsent   bool // the store does not know that it was sent

	queued  bool // it has waited: the store got it in an earlier change than that it is sent
	doubt   bool // the store has not said whether it took it, and it must not come if not
	refused bool // the store did not take it
	again   bool // it comes again if it is refused: a delayed message
	wait    bool // for an in-process subscriber: not safe in the store yet
	lone    bool // nobody else has it, or the memory of its message: see subscriber.reuse
}

// queue is what waits to be sent to one session, oldest first. It is plain state
// under the session's lock.
type queue struct {
	plain  lane    // of class 0
	urgent *urgent // of the classes above; nil if there never was one
	n      int     // messages
	bytes  sizes
	asked  int   // messages not counted in limits
	zero   int   // of QoS 0
	held   int   // in memory
	memory int64 // their bytes
	next   uint64
	back   uint64  // how often something was put back: what the store had before may be old
	all    *totals // of all sessions; nil when the session has ended
}

// lane is what waits of one class: messages in memory, and those that only the store
// has. Those go first whose positions are lower, and in a lane that nothing was taken
// back into the messages of QoS 1 and 2 that are in memory are the first of all.
type lane struct {
	held ring[*item] // by position; nil is one that was taken out from between
	live int         // of held: not nil
	skip int         // of held: at the front, nothing that limits count
	back backlog
}

// totals are what all sessions queue together.
type totals struct{ messages, bytes, memory atomic.Int64 }

// spot is a message in a queue: where it is, or was.
type spot struct {
	pos   uint64
	size  uint32
	zero  bool // of QoS 0
	asked bool
	class uint8
}

func spotOf(it *item) spot {
	return spot{pos: it.pos, size: it.size, zero: it.qos == 0, asked: it.asked, class: it.class}
}

// grow counts messages and bytes, and asked ones by their number alone in the totals.
func (q *queue) grow(messages int, bytes int64, asked bool) {
	q.n += messages
	q.bytes[kind(asked)] += bytes
	if asked {
		q.asked += messages
	}
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

// keepIn counts a message as in memory, or with -1 as not any more.
func (q *queue) keepIn(it *item, n int) {
	bytes := int64(n) * int64(it.size)
	q.held += n
	q.memory += bytes
	if it.qos == 0 {
		q.zero += n
	}
	if q.all != nil {
		q.all.memory.Add(bytes)
	}
}

// together counts what f does to the queue in the totals at once.
func (q *queue) together(f func()) {
	all, n, bytes, memory := q.all, q.n, q.bytes[kind(false)], q.memory
	q.all = nil
	defer func() {
		if q.all = all; all != nil {
			all.messages.Add(int64(q.n - n))
			all.bytes.Add(q.bytes[kind(false)] - bytes)
			all.memory.Add(q.memory - memory)
		}
	}()
	f()
}

// uncount takes the queue out of the totals, for good.
func (q *queue) uncount() {
	if q.all != nil {
		q.all.messages.Add(-int64(q.n))
		q.all.bytes.Add(-q.bytes[0])
		q.all.memory.Add(-q.memory)
		q.all = nil
	}
}

func (q *queue) len() int { return q.n }

// position gives out the next one.
func (q *queue) position() uint64 {
	q.next++
	return q.next
}

// room is how many bytes may be in memory: less than the session's window when those
// of all have little left, so that one who comes late finds some.
func (q *queue) room(l *Limits) int64 {
	if q.all == nil {
		return l.Window
	}
	return min(l.Window, max(0, l.AllWindows-q.all.memory.Load())/8)
}

// mayHold reports whether one more message of a class, which the store has, may be in
// memory as well.
func (q *queue) mayHold(class uint8, l *Limits) bool {
	return q.lane(class).back.n == 0 && q.held < windowMessages && q.memory < q.room(l)
}

// push appends a message; hold says whether it is held in memory.
func (q *queue) push(it *item, hold bool) {
	it.size = sizeOf(it.msg)
	q.grow(1, int64(it.size), it.asked)
	l := q.lane(it.class)
	if !hold {
		l.back.add(it.pos, int64(it.size), it.asked)
		return
	}
	q.keepIn(it, 1)
	l.held.push(it)
	l.live++
}

// head is the first message of a lane that is in memory, or nil.
func (l *lane) head() *item {
	for l.held.len() > 0 {
		if it := *l.held.at(0); it != nil {
			return it
		}
		l.popHeld()
	}
	return nil
}

func (l *lane) popHeld() {
	if l.held.pop() != nil {
		l.live--
	}
	l.skip = max(0, l.skip-1)
}

func (l *lane) len() int { return l.live + l.back.n }

// stored reports whether the next message of a lane is not in memory.
func (l *lane) stored() bool {
	if l.back.n == 0 {
		return false
	}
	it := l.head()
	return it == nil || it.pos > l.back.front()
}

// position is that of the next message of a lane, of which there is one.
func (l *lane) position() uint64 {
	if l.stored() {
		return l.back.front()
	}
	return l.head().pos
}

// front is the message that is next, the oldest of the highest class; nil if only the
// store has it.
func (q *queue) front() *item {
	l := q.first()
	if l.stored() {
		return nil
	}
	return l.head()
}

// pop takes out the one that is next.
func (q *queue) pop() spot { return q.popFrom(q.first()) }

func (q *queue) popFrom(l *lane) spot {
	if l.stored() {
		return q.takeBack(l, l.back.front())
	}
	it := l.head()
	l.popHeld()
	return q.forget(it)
}

// takeBack takes out one that only the store has.
func (q *queue) takeBack(l *lane, pos uint64) spot {
	size, asked, _ := l.back.remove(pos, -1)
	q.grow(-1, -size, asked)
	return spot{pos: pos, size: uint32(min(size, 1<<31)), asked: asked, class: q.classOf(l)}
}

// forget takes a message that leaves memory and the queue out of the counts.
func (q *queue) forget(it *item) spot {
	q.keepIn(it, -1)
	q.grow(-1, -int64(it.size), it.asked)
	return spotOf(it)
}

// drop takes out the one that is missed least: the oldest of the lowest class, or the
// newest. Nothing is dropped that was asked for.
func (q *queue) drop(newest bool) (gone spot, ok bool) {
	for l := range q.lowestFirst {
		if gone, ok = q.dropFrom(l, newest); ok {
			return gone, true
		}
	}
	return spot{}, false
}

func (q *queue) dropFrom(l *lane, newest bool) (gone spot, ok bool) {
	i, it := l.oldest()
	pos, back := l.back.oldest()
	if newest {
		i, it = l.newest()
		pos, back = l.back.newest()
	}
	switch {
	case it == nil && !back:
		return spot{}, false
	case it == nil, back && pos < it.pos != newest:
		return q.takeBack(l, pos), true
	default:
		*l.held.at(i) = nil
		l.live--
		return q.forget(it), true
	}
}

// oldest is the first message in memory that limits count, and where it is in held.
func (l *lane) oldest() (int, *item) {
	for ; l.skip < l.held.len(); l.skip++ {
		if it := *l.held.at(l.skip); it != nil && !it.asked {
			return l.skip, it
		}
	}
	return 0, nil
}

func (l *lane) newest() (int, *item) {
	for i := l.held.len() - 1; i >= 0; i-- {
		if it := *l.held.at(i); it != nil && !it.asked {
			return i, it
		}
	}
	return 0, nil
}

// over reports whether the queue is beyond the limits.
func (q *queue) over(l *Limits) bool {
	n := q.n - q.asked
	return n > l.QueueMessages || q.bytes[0] > l.QueueBytes && n > 1
}

// fits reports whether a message of a size that another session has is within the
// limits of this one. What all sessions queue does not grow by it.
func (q *queue) fits(size int64, l *Limits) bool {
	n, bytes := int64(q.n-q.asked), q.bytes[0]+size
	if n == 0 {
		return true
	}
	if n >= int64(l.QueueMessages) || bytes > l.QueueBytes {
		return false
	}
	return q.all == nil || n < int64(l.AllQueues.Count)-q.all.messages.Load() && bytes <= l.AllQueues.Bytes-q.all.bytes.Load()
}

// takes reports whether one more message of a size is within all limits.
func (q *queue) takes(size int64, l *Limits) bool {
	n, bytes := int64(q.n-q.asked)+1, q.bytes[0]+size
	if n > int64(l.QueueMessages) || bytes > l.QueueBytes && n > 1 {
		return false
	}
	return q.all == nil || n <= int64(l.AllQueues.Count)-q.all.messages.Load()-1 && bytes <= l.AllQueues.Bytes-q.all.bytes.Load()-size
}

// beyondShare reports whether the queue holds more than is free of what all may
// hold together (the dynamic threshold of shared buffers: A. Choudhury, E. Hahne,
// 1998): the total is never exceeded, and one session alone leaves half of it free.
func (q *queue) beyondShare(l *Limits) bool {
	n := q.n - q.asked
	if q.all == nil || n == 0 {
		return false
	}
	free, freeBytes := int64(l.AllQueues.Count)-q.all.messages.Load(), l.AllQueues.Bytes-q.all.bytes.Load()
	return int64(n) > max(free, 0) || q.bytes[0] > max(freeBytes, 0)
}

// beyondMemory reports whether a queue that no store has is more than is free of the
// memory of all windows.
func (q *queue) beyondMemory(l *Limits) bool {
	return q.all != nil && q.n-q.asked > 1 && q.memory > max(0, l.AllWindows-q.all.memory.Load())
}

// each calls f with every message that is in memory, oldest first within a class.
func (q *queue) each(f func(*item)) {
	for l := range q.lanes {
		for i := range l.held.len() {
			if it := *l.held.at(i); it != nil {
				f(it)
			}
		}
	}
}

// take takes out the messages at some positions, which are in order, and lists those
// that were there.
func (q *queue) take(positions []uint64) (gone []spot) {
	for l := range q.lanes {
		for i := range l.held.len() {
			at := l.held.at(i)
			if *at == nil {
				continue
			}
			if _, found := slices.BinarySearch(positions, (*at).pos); found {
				gone = append(gone, q.forget(*at))
				*at = nil
				l.live--
			}
		}
		for _, pos := range positions {
			if size, asked, ok := l.back.remove(pos, -1); ok {
				q.grow(-1, -size, asked)
				gone = append(gone, spot{pos: pos, size: uint32(min(size, 1<<31)), asked: asked, class: q.classOf(l)})
			}
		}
	}
	return gone
}

// takeStored takes out a message that only the store was to have.
func (q *queue) takeStored(pos uint64) bool {
	for l := range q.lanes {
		if size, asked, ok := l.back.remove(pos, -1); ok {
			q.grow(-1, -size, asked)
			return true
		}
	}
	return false
}

// restore puts back what was taken out, and what the store still has.
func (q *queue) restore(s spot) {
	q.back++
	q.grow(1, int64(s.size), s.asked)
	q.lane(s.class).back.add(s.pos, int64(s.size), s.asked)
}

// spill lets go of what the store has, and of what it does not have for good.
func (q *queue) spill() {
	for l := range q.lanes {
		for i := l.held.len() - 1; i >= 0; i-- {
			it := *l.held.at(i)
			if it == nil {
				continue
			}
			if gone := q.forget(it); !gone.zero && !it.refused {
				q.restore(gone)
			}
		}
		l.held, l.live, l.skip = ring[*item]{}, 0, 0
	}
}

// wanted says what to fetch from the store to go on: from which position, and how
// many messages, about as many bytes as the window has room for. 0 is nothing.
func (q *queue) wanted(l *Limits) (from uint64, limit int) {
	first := q.first()
	if first.back.n == 0 {
		return 0, 0
	}
	room, bytes := windowMessages-q.held, q.room(l)-q.memory
	if !first.stored() && (room < windowMessages/2 || bytes < l.Window/4) {
		return 0, 0 // there is enough to go on with
	}
	from = first.back.front()
	for i := range first.back.blocks.len() {
		n, size := 0, int64(0)
		for other := range q.lanes { // what is between comes too
			m, b := other.back.within(first.back.blocks.at(i).first)
			n, size = n+m, size+b
		}
		if n > room || size > bytes {
			if limit == 0 { // a part of it, one at least
				limit = max(1, min(n, room, int(int64(n)*max(bytes, 0)/max(size, 1))))
			}
			return from, limit
		}
		limit, room, bytes = limit+n, room-n, bytes-size
	}
	return from, limit
}

// fill takes in what was fetched of the positions from up to below end. What the store
// does not have of them is lost, and is let go.
func (q *queue) fill(from, end uint64, fetched []store.Queued, limits *Limits) (lost int) {
	first := q.first()
	for l := range q.lanes {
		if l.back.n > 0 && l.back.front() >= from {
			lost += q.fillLane(l, end, fetched, func() bool { return l == first || q.held < windowMessages && q.memory < q.room(limits) })
		}
	}
	return lost
}

func (q *queue) fillLane(l *lane, end uint64, fetched []store.Queued, room func() bool) (lost int) {
	var came []*item
	for at := 0; l.back.n > 0; {
		pos := l.back.front()
		if pos >= end {
			break
		}
		for at < len(fetched) && fetched[at].Position < pos {
			at++
		}
		if at == len(fetched) || fetched[at].Position != pos || fetched[at].Message == nil {
			q.takeBack(l, pos)
			lost++
			continue
		}
		if !room() {
			break
		}
		it := itemOf(&fetched[at])
		it.size, it.class = sizeOf(it.msg), q.classOf(l)
		size, asked, _ := l.back.remove(pos, int64(it.size)) // it may have been a mean
		it.asked = asked
		q.grow(0, int64(it.size)-size, asked)
		q.keepIn(it, 1)
		came = append(came, it)
	}
	l.merge(came)
	return lost
}

// merge takes messages into memory, by their positions.
func (l *lane) merge(came []*item) {
	l.live += len(came)
	l.skip = 0
	for n := l.held.len(); n > 0 && len(came) > 0; n-- { // all that were there go round once
		it := l.held.pop()
		for it != nil && len(came) > 0 && came[0].pos < it.pos {
			l.held.push(came[0])
			came = came[1:]
		}
		l.held.push(it)
		if len(came) == 0 {
			for range n - 1 {
				l.held.push(l.held.pop())
			}
		}
	}
	for _, it := range came {
		l.held.push(it)
	}
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
