package broker

import (
	"strings"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// retained holds the retained messages by the levels of their topics, so that a
// filter finds them without looking at all. Who changes it holds the server's
// commitMu too, so that a subscription sees a retained message once, either
// replayed or live.
type retained struct {
	mu   sync.RWMutex
	root level
	n    int
}

type level struct {
	msg   *message.Message
	below map[string]*level
}

// set keeps m as its topic's message, or clears it if the payload is empty. It is
// refused when that would make more than limit.
func (r *retained) set(m *message.Message, limit int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(m.Payload) == 0 {
		r.clear(&r.root, m.Topic, true)
		return true
	}
	at := &r.root
	if r.n >= limit && !r.hasLocked(m.Topic) {
		return false
	}
	for rest, more := m.Topic, true; more; {
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
	if at.msg == nil {
		r.n++
	}
	at.msg = m
	return true
}

func (r *retained) hasLocked(topic string) bool {
	at := &r.root
	for rest, more := topic, true; more && at != nil; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		at = at.below[name]
	}
	return at != nil && at.msg != nil
}

func (r *retained) clear(at *level, rest string, more bool) {
	if !more {
		if at.msg != nil {
			at.msg = nil
			r.n--
		}
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

func (r *retained) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.n
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

// keepRetained sets or clears the retained message of m's topic. The caller holds
// commitMu.
func (srv *Server) keepRetained(b *batch, m *message.Message) bool {
	if !srv.kept.set(m, srv.opts.Limits.Retained) {
		return false
	}
	if !isSystem(m.Topic) {
		b.change(store.Change{Op: store.Retain, Message: m})
	}
	return true
}

// replay queues the retained messages that a new subscription hears, but for those
// seen before if seen is not nil. The caller holds commitMu.
func (srv *Server) replay(b *batch, sub *subscription, seen map[*message.Message]bool) {
	s := sub.s
	for _, m := range srv.kept.match(sub.filter, -1) {
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
		s.put(b, &item{msg: m, qos: min(m.QoS, sub.qos), retain: true, ids: sub.ids, asked: true}, false)
		s.mu.Unlock()
	}
}

// mayReplay reports whether the retained messages of a filter may come on top of
// those that wait already: with them they must not be more than may exist.
func (srv *Server) mayReplay(s *Session, filter string) bool {
	s.mu.Lock()
	waiting := s.q.asked
	s.mu.Unlock()
	most := srv.opts.Limits.Retained
	return waiting == 0 || waiting+len(srv.kept.match(filter, most)) <= most
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
				srv.keepRetained(b, clearMessage(m.Topic))
			}
		}
	})
}
