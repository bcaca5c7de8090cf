package broker

import (
	"slices"
	"strings"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// subscription is one topic filter of a session, or stands for all members of a
// group of shared subscriptions. It is not changed once it is in the tree.
type subscription struct {
	s       *Session
	full    string // with its $share prefix
	filter  string // without it
	qos     message.QoS
	noLocal bool
	asKept  bool // retain as published
	ids     []uint32
	group   *group // in the tree: pick one of its members
	hash    uint64 // of a member of a group: its number in the choice by hash
}

func newSubscription(s *Session, kept *store.Subscription) *subscription {
	filter, share, _ := splitShare(kept.Filter)
	sub := &subscription{
		s: s, full: kept.Filter, filter: filter, qos: kept.QoS, noLocal: kept.NoLocal, asKept: kept.RetainAsPublished,
	}
	if kept.ID != 0 {
		sub.ids = []uint32{kept.ID}
	}
	if share != "" {
		sub.hash = hashText(s.id)
	}
	return sub
}

// addSub puts a subscription into the tree in place of the one that the session
// had to the same filter ([MQTT-3.8.4-3], [MQTT-3.8.4-4], [MQTT3-3.8.4-3]).
func (srv *Server) addSub(sub *subscription) {
	srv.treeMu.Lock()
	defer srv.treeMu.Unlock()
	old := sub.s.subs[sub.full]
	srv.insertLocked(sub)
	if old != nil {
		srv.removeLocked(old)
	} else {
		srv.subCount++
	}
	if sub.s.subs == nil {
		sub.s.subs = make(map[string]*subscription)
	}
	sub.s.subs[sub.full] = sub
}

// removeSub takes the session's subscription to a filter out of the tree; what was
// queued for it stays ([MQTT-3.10.4-1], [MQTT-3.10.4-2], [MQTT-3.10.4-3],
// [MQTT3-3.10.4-1], [MQTT3-3.10.4-2], [MQTT3-3.10.4-3]).
func (srv *Server) removeSub(s *Session, full string) bool {
	srv.treeMu.Lock()
	defer srv.treeMu.Unlock()
	old := s.subs[full]
	if old == nil {
		return false
	}
	srv.removeLocked(old)
	delete(s.subs, full)
	srv.subCount--
	return true
}

// removeSubs takes all subscriptions of a session out of the tree.
func (srv *Server) removeSubs(s *Session) {
	srv.treeMu.Lock()
	defer srv.treeMu.Unlock()
	for _, sub := range s.subs {
		srv.removeLocked(sub)
		srv.subCount--
	}
	s.subs = nil
}

func (srv *Server) insertLocked(sub *subscription) {
	if sub.full == sub.filter {
		srv.tree.Add(sub.filter, sub)
		return
	}
	g := srv.groups[sub.full]
	if g == nil {
		_, name, _ := splitShare(sub.full)
		g = &group{filter: sub.filter, strategy: srv.opts.Shared.of(name)}
		g.node = &subscription{group: g}
		srv.groups[sub.full] = g
		srv.tree.Add(g.filter, g.node)
	}
	g.members = append(g.members, sub)
	srv.stats.shared.Add(1)
}

func (srv *Server) removeLocked(sub *subscription) {
	if sub.full == sub.filter {
		srv.tree.Remove(sub.filter, sub)
		return
	}
	g := srv.groups[sub.full]
	g.forget(sub)
	if i := slices.Index(g.members, sub); i >= 0 {
		g.members = slices.Delete(g.members, i, i+1)
		srv.stats.shared.Add(-1)
	}
	if len(g.members) == 0 {
		srv.tree.Remove(g.filter, g.node)
		delete(srv.groups, sub.full)
	}
}

// subscribe answers a SUBSCRIBE (MQTT 5.0 §3.8).
func (c *conn) subscribe(p *packet.Subscribe) {
	b := c.batch
	// [MQTT-2.2.1-6], [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT3-2.3.1-7], [MQTT3-3.8.4-1],
	// [MQTT3-3.8.4-2]
	answer := &packet.Suback{ID: p.ID, Reasons: make([]packet.Reason, 0, len(p.Filters))}
	rights := c.srv.rights.Load()
	shares, tooMany := false, c.srv.opts.Limits.tooMany(p.UserProperties)
	c.srv.commit(b, func() {
		b.acks = append(b.acks, ack{packet: answer})
		for i := range p.Filters { // [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.9.3-1], [MQTT3-3.8.4-4], [MQTT3-3.8.4-5], [MQTT3-3.9.3-1]
			reason := packet.QuotaExceeded
			if !tooMany {
				reason = c.subscribeOne(p, &p.Filters[i], b)
			}
			if reason.Failed() && c.version == packet.V31 {
				reason = packet.Reason(p.Filters[i].Options.QoS) // 3.1 has no word for it (§3.9)
			}
			answer.Reasons = append(answer.Reasons, reason)
			shares = shares || isShared(p.Filters[i].Filter)
		}
		answer.ReasonString = c.explainAll(answer.Reasons, packet.SUBACK)
	})
	c.srv.pump(b, c.session)
	if shares {
		c.srv.collect(c.session, false)
	}
	c.srv.subscribed(c, p, answer)
	if rights != c.srv.rights.Load() { // Reauthorize may not have seen them
		c.srv.recheck(c.session)
	}
}

func (c *conn) subscribeOne(p *packet.Subscribe, f *packet.Filter, b *batch) packet.Reason {
	filter, share, ok := splitShare(f.Filter)
	qos := min(f.Options.QoS, c.srv.opts.Offer.maximumQoS()) // [MQTT-3.2.2-10]
	switch {
	case !ok, c.srv.opts.Limits.tooDeep(filter):
		return packet.TopicFilterInvalid
	case c.tooManyFilters(f.Filter):
		return packet.QuotaExceeded
	}
	replays := share == "" && c.replays(f)
	if err := c.allow(ActSubscribe, filter); err != nil {
		return told(reasonOf(err, packet.NotAuthorized), packet.SUBACK)
	}
	if replays && !c.srv.mayReplay(c.session, filter) {
		return packet.QuotaExceeded
	}
	kept := &store.Subscription{
		Filter: strings.Clone(f.Filter), QoS: qos, NoLocal: f.Options.NoLocal,
		RetainAsPublished: f.Options.RetainAsPublished, RetainHandling: uint8(f.Options.RetainHandling), ID: p.SubscriptionID,
	}
	sub := newSubscription(c.session, kept)
	c.srv.addSub(sub)
	if c.session.stored {
		b.change(store.Change{Op: store.Subscribe, Session: c.session.id, Sub: kept})
	}
	if replays {
		c.srv.replay(b, sub, nil)
	}
	return packet.Reason(qos) // [MQTT-3.8.4-7]
}

// replays reports whether a filter is answered with retained messages.
func (c *conn) replays(f *packet.Filter) bool {
	if f.Options.RetainHandling != packet.SendRetainedIfNew { // [MQTT-3.3.1-11]
		return f.Options.RetainHandling == packet.SendRetained
	}
	c.srv.treeMu.RLock()
	defer c.srv.treeMu.RUnlock()
	return c.session.subs[f.Filter] == nil // [MQTT-3.3.1-10]
}

func (c *conn) tooManyFilters(full string) bool {
	c.srv.treeMu.RLock()
	defer c.srv.treeMu.RUnlock()
	return c.session.subs[full] == nil && len(c.session.subs) >= c.srv.opts.Limits.Filters
}

// sharedNoLocal reports the one combination of options that is a protocol error
// ([MQTT-3.8.3-4]).
func sharedNoLocal(p *packet.Subscribe) bool {
	return slices.ContainsFunc(p.Filters, func(f packet.Filter) bool {
		return f.Options.NoLocal && isShared(f.Filter)
	})
}

// unsubscribe answers an UNSUBSCRIBE (MQTT 5.0 §3.10).
func (c *conn) unsubscribe(p *packet.Unsubscribe) {
	b := c.batch
	// [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT3-3.10.4-4], [MQTT3-3.10.4-5]
	answer := &packet.Unsuback{ID: p.ID}
	c.srv.commit(b, func() {
		for _, filter := range p.Filters { // [MQTT-3.10.4-6], [MQTT-3.11.3-1], [MQTT3-3.10.4-6]
			reason := packet.NoSubscriptionExisted
			if c.srv.removeSub(c.session, filter) {
				reason = packet.Success
			}
			if c.session.stored { // it may have one that it was not to forget before
				b.change(store.Change{Op: store.Unsubscribe, Session: c.session.id, Sub: &store.Subscription{Filter: filter}})
			}
			answer.Reasons = append(answer.Reasons, reason)
		}
		b.acks = append(b.acks, ack{packet: answer})
	})
	c.srv.unsubscribed(c, p, answer)
}
