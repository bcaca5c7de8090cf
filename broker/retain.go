package broker

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// retained holds the retained messages by the levels of their topics, so that a
// filter finds them without looking at all. Who changes it holds the server's
// commitMu too, so that a subscription sees a retained message once, either
// replayed or live.
type retained struct {
	mu    sync.RWMutex
	root  level
	n     int
	bytes int64 // the sum of their sizes
	// open are the last changes of topics of which the store has not said whether it has
	// them, and that are undone if not.
	open map[string]*retaining
}

type level struct {
	msg   *message.Message
	below map[string]*level
}

// set keeps m as its topic's message, or clears it if the payload is empty. It is
// refused when that would make more than the limits allow.
func (r *retained) set(m *message.Message, l *Limits) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, m.Topic) // this one stays
	return r.setLocked(m, l)
}

func (r *retained) setLocked(m *message.Message, l *Limits) bool {
	if len(m.Payload) == 0 { // [MQTT-3.3.1-6], [MQTT-3.3.1-7], [MQTT3-3.3.1-10], [MQTT3-3.3.1-11]
		r.clear(&r.root, m.Topic, true)
		return true
	}
	if !r.fits(m, l) {
		return false
	}
	r.put(r.level(m.Topic), m) // [MQTT-3.3.1-5], [MQTT3-3.3.1-5], [MQTT3-3.3.1-7]
	return true
}

// level finds or makes the level of a topic.
func (r *retained) level(topic string) *level {
	at := &r.root
	for rest, more := topic, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		next := at.below[name]
		if next == nil {
			next = &level{}
			if at.below == nil {
				at.below = make(map[string]*level)
			}
			at.below[strings.Clone(name)] = next
		}
		at = next
	}
	return at
}

// put changes what a level holds, nil for nothing, and the counts.
func (r *retained) put(at *level, m *message.Message) {
	if at.msg != nil {
		r.n--
		r.bytes -= int64(at.msg.Size())
	}
	if m != nil {
		r.n++
		r.bytes += int64(m.Size())
	}
	at.msg = m
}

// fits reports whether the limits allow m. They always do when its topic has one
// that is no smaller.
func (r *retained) fits(m *message.Message, l *Limits) bool {
	n, grows := 1, int64(m.Size())
	if old := r.get(m.Topic); old != nil {
		n, grows = 0, grows-int64(old.Size())
	}
	return (n == 0 || r.n < l.Retained) && (grows <= 0 || r.bytes+grows <= l.RetainedBytes)
}

// get is the message of a topic, if there is one.
func (r *retained) get(topic string) *message.Message {
	at := &r.root
	for rest, more := topic, true; more && at != nil; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		at = at.below[name]
	}
	if at == nil {
		return nil
	}
	return at.msg
}

func (r *retained) clear(at *level, rest string, more bool) {
	if !more {
		r.put(at, nil)
		return
	}
	name, rest, more := strings.Cut(rest, "/")
	next := at.below[name]
	if next == nil {
		return
	}
	r.clear(next, rest, more)
	if next.msg == nil && len(next.below) == 0 {
		delete(at.below, name)
	}
}

// held is how many there are, and the sum of their sizes.
func (r *retained) held() (n int, bytes int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.n, r.bytes
}

// match returns the messages whose topics the filter matches, at most limit; a
// limit below 0 is none.
func (r *retained) match(filter string, limit int) []*message.Message {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m := matching{limit: limit}
	m.find(&r.root, filter, true, true)
	return m.found
}

type matching struct {
	found []*message.Message
	limit int
}

func (m *matching) take(at *level) {
	if at.msg != nil && (m.limit < 0 || len(m.found) < m.limit) {
		m.found = append(m.found, at.msg)
	}
}

func (m *matching) full() bool { return m.limit >= 0 && len(m.found) >= m.limit }

// find goes down with the rest of the filter; first says that at is the root,
// below which a wildcard does not meet a level with "$" ([MQTT-4.7.2-1]).
func (m *matching) find(at *level, rest string, more, first bool) {
	if !more {
		m.take(at)
		return
	}
	name, rest, more := strings.Cut(rest, "/")
	switch name {
	case "#":
		m.all(at, first)
	case "+":
		for text, next := range at.below {
			if m.full() {
				return
			}
			if !first || !strings.HasPrefix(text, "$") {
				m.find(next, rest, more, false)
			}
		}
	default:
		if next := at.below[name]; next != nil {
			m.find(next, rest, more, false)
		}
	}
}

func (m *matching) all(at *level, first bool) {
	m.take(at)
	for text, next := range at.below {
		if m.full() {
			return
		}
		if !first || !strings.HasPrefix(text, "$") {
			m.all(next, false)
		}
	}
}

// expired returns the messages that are worthless at now.
func (r *retained) expired(now time.Time) []*message.Message {
	var found []*message.Message
	for _, m := range r.match("#", -1) {
		if m.Expired(now) {
			found = append(found, m)
		}
	}
	return found
}

// isSystem reports whether a topic is the gateway's own: clients may not publish
// it, interceptors do not see it, and the store does not keep it.
func isSystem(topic string) bool { return topic == "$SYS" || strings.HasPrefix(topic, "$SYS/") }

// keepRetained sets or clears the retained message of m's topic; told says that its
// publisher hears of it if the store does not take that, and then it is undone: what a
// device says, or a client at QoS 0, is newer than what was before, kept or not. The
// caller holds commitMu.
func (srv *Server) keepRetained(b *batch, m *message.Message, told bool) bool {
	m = srv.limitLife(m, b.now)
	if told && !isSystem(m.Topic) {
		c, ok := srv.kept.change(m, &srv.opts.Limits)
		if !ok {
			return false
		}
		b.retains = append(b.retains, c)
	} else if !srv.kept.set(m, &srv.opts.Limits) {
		return false
	}
	if !isSystem(m.Topic) {
		b.change(store.Change{Op: store.Retain, Message: m})
	}
	return true
}

// RetainedExpiry is how long a retained message of a topic filter lives if it does
// not say so itself. Of several that match a topic the shortest counts.
type RetainedExpiry struct {
	Filter string
	After  time.Duration // at least 1 s
}

func (t *Topics) check() error {
	for _, e := range t.RetainedExpiry {
		switch {
		case !topic.ValidFilter(e.Filter):
			return fmt.Errorf("retained expiry: topic filter %q is not valid", e.Filter)
		case e.After < time.Second:
			return fmt.Errorf("retained expiry of %q is %v: it is at least 1 s", e.Filter, e.After)
		}
	}
	return checkPriorities(t.Priorities)
}

func expiryTree(table []RetainedExpiry) *topic.Tree[time.Duration] {
	if len(table) == 0 {
		return nil
	}
	t := &topic.Tree[time.Duration]{}
	for _, e := range table {
		t.Add(e.Filter, e.After)
	}
	return t
}

// limitLife gives a message that is to be retained its expiry, if it has none.
func (srv *Server) limitLife(m *message.Message, now time.Time) *message.Message {
	if srv.lives == nil || !m.Expires.IsZero() || len(m.Payload) == 0 {
		return m
	}
	least := time.Duration(0)
	for life := range srv.lives.Match(m.Topic) {
		if least == 0 || life < least {
			least = life
		}
	}
	if least == 0 {
		return m
	}
	limited := *m // what is delivered now is as it came
	limited.Expires = now.Add(least)
	return &limited
}

// RetainedBeside lists what [Server.Retained] does, and says which of the messages wait in the
// queue of the in-process subscriber called name, or are with its handler: it hears those
// without being told, and all that is retained later. What only the store has of a durable
// subscriber's queue is not among them. Whoever asks sees to it that the handler is not done
// with any meanwhile.
func (srv *Server) RetainedBeside(name, filter string, limit int) (messages []message.Message, waits []bool) {
	messages = srv.Retained(filter, limit)
	waits = make([]bool, len(messages))
	s := srv.session(busPrefix + name)
	if s == nil || len(messages) == 0 {
		return messages, waits
	}
	queued := make(map[uint64]bool)
	func() {
		srv.commitMu.Lock() // under which each was retained and queued
		defer srv.commitMu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		held := &s.q.plain.held // of which alone such a queue is
		for i := range held.len() {
			if it := *held.at(i); it != nil && !it.refused && it.msg.Order != 0 {
				queued[it.msg.Order] = true
			}
		}
	}()
	for i := range messages {
		waits[i] = queued[messages[i].Order]
	}
	return messages, waits
}

// replay queues the retained messages that a new subscription hears, but for those
// seen before if seen is not nil. The caller holds commitMu.
func (srv *Server) replay(b *batch, sub *subscription, seen map[*message.Message]bool) {
	s := sub.s
	for _, m := range srv.kept.match(sub.filter, -1) { // [MQTT-3.3.1-9], [MQTT3-3.3.1-6]
		if m.Expired(b.now) || sub.noLocal && m.Origin == s.origin || seen[m] {
			continue
		}
		if seen != nil {
			seen[m] = true
		}
		if !s.mayReceive(b.ctx, m.Topic) {
			srv.stats.drop(dropNotAuthorized)
			continue
		}
		s.mu.Lock()
		s.put(b, &item{msg: m, qos: min(m.QoS, sub.qos), retain: true, ids: sub.ids, asked: true}, false) // [MQTT3-3.3.1-8]
		s.mu.Unlock()
	}
}

// mayReplay reports whether the retained messages of a filter may come on top of
// those that wait already: with them they must not be more, nor more bytes, than
// may exist.
func (srv *Server) mayReplay(s *Session, filter string) bool {
	s.mu.Lock()
	waiting, bytes := s.q.asked, s.q.bytes[1]
	s.mu.Unlock()
	l := &srv.opts.Limits
	free := l.AllQueues.Count - int(srv.queued.messages.Load())
	if kept, _ := srv.kept.held(); waiting == 0 && kept <= free {
		return true
	}
	found := srv.kept.match(filter, l.Retained)
	for _, m := range found {
		bytes += int64(sizeOf(m))
	}
	if len(found) > max(free, 0) {
		return false
	}
	return waiting == 0 || waiting+len(found) <= l.Retained && bytes <= l.RetainedBytes
}

// clearMessage clears the retained message of a topic.
func clearMessage(topic string) *message.Message { return &message.Message{Topic: topic} }

// sweep clears retained messages that have expired.
func (srv *Server) sweep(b *batch) {
	gone := srv.kept.expired(b.now)
	if len(gone) == 0 {
		return
	}
	srv.commit(b, func() {
		for _, m := range gone {
			if now := srv.kept.match(m.Topic, 1); len(now) == 1 && now[0] == m {
				srv.keepRetained(b, clearMessage(m.Topic), false)
			}
		}
	})
}
