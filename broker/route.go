package broker

import (
	"slices"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// intercept lets the interceptor see the batch, and does what it says.
func (b *batch) intercept() {
	if b.srv.opts.Interceptor == nil {
		return
	}
	for i := range b.pubs {
		p := &b.pubs[i]
		if p.shown = p.goes() && !p.private && b.srv.intercepts(p.msg.Topic); p.shown {
			p.own()
			b.msgs = append(b.msgs, p.msg)
		}
	}
	if len(b.msgs) == 0 {
		return
	}
	b.flush() // it may take its time
	verdicts := b.srv.opts.Interceptor.Intercept(b.ctx, b.msgs)
	n := 0
	for i := range b.pubs {
		p := &b.pubs[i]
		if !p.shown {
			continue
		}
		if n < len(verdicts) {
			b.judge(p, &verdicts[n])
		}
		n++
	}
}

// intercepts reports whether the interceptor wants to see messages of a topic.
func (srv *Server) intercepts(name string) bool {
	return srv.opts.Interceptor != nil && !isSystem(name) && (srv.hearer == nil || srv.hearer.Hears(name))
}

// own gives the message memory of its own.
func (p *pub) own() {
	if p.borrowed {
		m := p.msg
		m.CloneTo(&p.msg)
		p.borrowed = false
	}
}

// goes reports whether a publish is to be routed, as far as is known.
func (p *pub) goes() bool { return !p.reason.Failed() && !p.drop && !p.again && p.delay == 0 }

func (b *batch) judge(p *pub, v *message.Verdict) {
	stats := &b.srv.stats
	switch v.Action {
	case message.Pass:
	case message.Drop:
		stats.interceptDrops.Add(1)
		p.drop = true
	case message.Reject:
		stats.interceptRejects.Add(1)
		p.reason = packet.Reason(v.Reason)
		if !p.reason.Failed() {
			p.reason = packet.ImplementationSpecificError
		}
	case message.Replace:
		if v.Message != nil {
			b.replace(p, v.Message)
		}
	default: // an action that is not known passes nothing
		stats.interceptRejects.Add(1)
		p.reason = packet.ImplementationSpecificError
	}
}

// replace goes on with another message; one with another topic is authorized
// again.
func (b *batch) replace(p *pub, m *message.Message) {
	old := p.msg
	p.msg = *m
	if m.Origin == "" {
		p.msg.Origin = old.Origin
	}
	if m.At.IsZero() {
		p.msg.At = old.At
	}
	p.msg.NoResponse = old.NoResponse && m.ResponseTopic == old.ResponseTopic // another one is the interceptor's
	switch {
	case m.QoS > 2 || !topic.ValidName(m.Topic):
		p.reason = packet.TopicNameInvalid
		b.srv.stats.drop(dropInvalid)
	case m.Topic == old.Topic || p.by == nil:
	default:
		if err := b.srv.mayPublish(b.ctx, p.by, m.Topic); err != nil {
			p.reason = reasonOf(err, packet.NotAuthorized)
			b.srv.stats.drop(dropNotAuthorized)
		}
	}
	p.postpone(&b.srv.opts.Limits.Delayed)
}

// target is one session that is to get a message.
type target struct {
	s      *Session
	qos    message.QoS
	asKept bool
	waits  bool   // of a group none of whose members is connected
	moves  bool   // from a session that lives: see fits
	share  string // the filter of the group, with its prefix
	ids    []uint32
}

// match finds the targets of the batch's next publishes: of one at least, and of no
// more than make many targets, or many bytes for them.
func (b *batch) match() {
	if b.matched == len(b.pubs) {
		return
	}
	b.srv.treeMu.RLock()
	defer b.srv.treeMu.RUnlock()
	for bytes := 0; b.matched < len(b.pubs) && len(b.targets) < keepTargets && bytes < mostGathered; b.matched++ {
		p := &b.pubs[b.matched]
		p.from = len(b.targets)
		if p.goes() {
			b.matchOne(p)
			b.leaveOut(p)
		}
		p.to = len(b.targets)
		bytes += (p.to - p.from) * len(p.msg.Payload)
	}
}

// leaveOut leaves out the targets of a publish that have heard it.
func (b *batch) leaveOut(p *pub) {
	if !p.missed {
		return
	}
	missed := slices.DeleteFunc(b.targets[p.from:], func(t target) bool {
		return t.share == "" && (!t.s.stored || t.qos == 0)
	})
	b.targets = b.targets[:p.from+len(missed)]
}

func (b *batch) matchOne(p *pub) {
	for sub := range b.srv.tree.Match(p.msg.Topic) { // [MQTT-3.3.2-3], [MQTT-4.5.0-1], [MQTT3-3.3.2-3], [MQTT3-4.5.0-1]
		if sub.group != nil {
			b.matchGroup(p, sub.group)
			continue
		}
		if sub.noLocal && sub.s.origin == p.msg.Origin { // [MQTT-3.8.3-3]
			continue
		}
		t := target{s: sub.s, qos: sub.qos, asKept: sub.asKept, ids: sub.ids}
		if len(sub.s.subs) < 2 {
			b.targets = append(b.targets, t)
			continue
		}
		if twice := b.targetOf(p, sub.s); twice != nil {
			twice.merge(&t)
			continue
		}
		b.targets = append(b.targets, t)
	}
	clear(b.seen)
}

// fewTargets is up to how many targets of a publish one is looked for among all.
const fewTargets = 16

// targetOf is what a session is to get of a publish already by a subscription of its
// own, or nil; then the next target is the session's.
func (b *batch) targetOf(p *pub, s *Session) *target {
	own := b.targets[p.from:]
	if len(own) < fewTargets {
		for i := range own {
			if own[i].s == s && own[i].share == "" {
				return &own[i]
			}
		}
		return nil
	}
	if len(b.seen) == 0 {
		for i := range own {
			if own[i].share == "" {
				b.seen[own[i].s] = p.from + i
			}
		}
	}
	if at, twice := b.seen[s]; twice {
		return &b.targets[at]
	}
	b.seen[s] = len(b.targets)
	return nil
}

// merge makes one delivery of two overlapping subscriptions: the higher QoS, all
// identifiers ([MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4], [MQTT3-3.3.5-1]).
func (t *target) merge(other *target) {
	t.qos = max(t.qos, other.qos)
	t.asKept = t.asKept || other.asKept
	if len(other.ids) > 0 {
		t.ids = append(t.ids[:len(t.ids):len(t.ids)], other.ids...)
	}
}

// publish retains and routes one publish, and answers it.
func (b *batch) publish(p *pub) {
	later := b.ordered && (p.qos == 2 || p.msg.QoS == 2 || p.tried || p.bound || len(b.later) > 0) // what follows too, to keep the order
	routed := p.goes()
	if routed {
		b.order++
		p.msg.Order = b.order
	}
	if p.reuses {
		b.lapse(p)
	}
	if p.record != "" {
		b.change(store.Change{Op: store.Delete, Bucket: delayBucket, Key: p.record})
	}
	if p.delay > 0 && !p.reason.Failed() && !p.drop && !p.again {
		if p.reason = b.wait(p); !p.reason.Failed() {
			b.hold(p)
		}
	}
	if routed && p.msg.Retain && !b.srv.keepRetained(b, p.keep(), p.by != nil && p.qos > 0) { // [MQTT-3.3.1-8], [MQTT3-3.3.1-12]
		p.reason, routed = packet.QuotaExceeded, false
		b.srv.stats.drop(dropRetained)
	}
	if routed {
		b.hold(p)
		b.frames.forget()
		for i := p.from; i < p.to; i++ {
			if t := &b.targets[i]; !b.deliver(p, t, later) && t.share != "" {
				b.redeliver(p, t, later)
			}
			if b.gathered > mostGathered && !b.ordered {
				b.flush()
			}
		}
		if p.from == p.to {
			p.reason = packet.NoMatchingSubscribers
		}
	}
	if p.will != nil {
		b.later = append(b.later, emit{delayed: p.will, due: true})
	}
	if p.id == 0 {
		return
	}
	if p.qos == 1 {
		// [MQTT-2.2.1-5], [MQTT-3.3.4-1], [MQTT-4.3.2-4], [MQTT-4.3.2-5], [MQTT3-2.3.1-6],
		// [MQTT3-3.3.4-1], [MQTT3-3.3.5-2], [MQTT3-4.3.2-2]
		b.acks = append(b.acks, ack{kind: packet.PUBACK, id: p.id, reason: p.reason, quota: true, number: p.number})
		return
	}
	// [MQTT-4.3.3-8], [MQTT-4.3.3-13]
	b.acks = append(b.acks, ack{kind: packet.PUBREC, id: p.id, reason: p.reason, again: p.again, number: p.number, holder: p.holder})
}

// hold has the store remember the identifier of a QoS 2 message of a client.
func (b *batch) hold(p *pub) {
	if p.qos == 2 && b.c.session.stored {
		b.change(store.Change{Op: store.HoldID, Session: b.c.session.id, ID: p.id})
	}
}

// deliver gives a message to one session. It is false if that has ended, or if
// another member of the group is to have it, because this one has left.
func (b *batch) deliver(p *pub, t *target, later bool) bool {
	s := t.s
	qos := min(t.qos, p.msg.QoS)       // [MQTT-3.8.4-8], [MQTT-4.8.2-3], [MQTT3-3.8.4-6]
	retain := p.msg.Retain && t.asKept // [MQTT-3.3.1-12], [MQTT-3.3.1-13], [MQTT3-3.3.1-9]
	if !s.mayReceive(b.ctx, p.msg.Topic) {
		b.srv.stats.drop(dropNotAuthorized)
		return true
	}
	if p.msg.Expired(b.now) { // an interval of 0, or a late interceptor, [MQTT-3.3.2-5]
		b.srv.stats.drop(dropExpired)
		return true
	}
	if qos > 0 || s.bus != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		it := p.item(s)
		it.qos, it.retain, it.ids, it.share = qos, retain, t.ids, t.share
		it.waits, it.moves, it.again = t.waits, t.moves, p.tried
		it.class = b.srv.classOf(s, p)
		return s.put(b, it, later)
	}
	c := s.conn.Load()
	switch {
	case c == nil:
		return false
	case later:
		b.later = append(b.later, emit{s: s, it: &item{msg: p.keep(), retain: retain, ids: t.ids, again: p.tried}, epoch: c.epoch})
	case s.behind.Load():
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.q.zero == 0 { // they have left meanwhile, and nobody would come for this one
			b.sendNow(c, p.keep(), retain, t.ids)
			return true
		}
		it := &item{msg: p.keep(), retain: retain, ids: t.ids, share: t.share, waits: t.waits}
		it.class = b.srv.classOf(s, p)
		return s.put(b, it, false)
	default:
		b.sendNow(c, p.current(), retain, t.ids)
	}
	return true
}

// sendQoS0 sends a message of QoS 0, or drops it if the client is slow.
func (b *batch) sendQoS0(c *conn, it *item) { b.sendNow(c, it.msg, it.retain, it.ids) }

func (b *batch) sendNow(c *conn, m *message.Message, retain bool, ids []uint32) {
	if m.Expired(b.now) {
		b.srv.stats.drop(dropExpired)
		return
	}
	frame := b.encode(c, m, 0, retain, ids)
	switch {
	case frame == nil:
		b.srv.stats.drop(dropTooLarge)
	case !b.append(c, frame, 0, false, false):
		b.srv.stats.drop(dropSlow)
	default:
		c.countSent(m, 0)
	}
}

// frames are the encodings of one message, each made once.
type frames struct {
	msg  *message.Message
	made [12]bool
	enc  [12][]byte
	own  []byte // of what is not shared
	ack  packet.Ack
	pub  packet.Publish
}

func (f *frames) forget() {
	f.msg = nil
	f.pub = packet.Publish{}
}

// frame is a message encoded for a connection, with any packet identifier; nil if
// the client does not take as much.
func (b *batch) frame(c *conn, it *item) []byte {
	return b.encode(c, it.msg, it.qos, it.retain, it.ids)
}

func (b *batch) encode(c *conn, m *message.Message, qos message.QoS, retain bool, ids []uint32) []byte {
	f := &b.frames
	if f.msg != m {
		f.msg, f.made = m, [12]bool{}
	}
	var frame []byte
	if len(ids) > 0 && c.version == packet.V5 {
		f.own = f.write(f.own[:0], m, b, c.version, qos, retain, ids)
		frame = f.own
	} else {
		i := int(qos) * 2
		if retain {
			i++
		}
		if c.version == packet.V5 {
			i += 6
		}
		if !f.made[i] {
			f.enc[i], f.made[i] = f.write(f.enc[i][:0], m, b, c.version, qos, retain, nil), true
		}
		frame = f.enc[i]
	}
	if len(frame) == 0 || !c.takes(len(frame)) {
		return nil
	}
	return frame
}

func (f *frames) write(to []byte, m *message.Message, b *batch, v packet.Version, qos message.QoS, retain bool, ids []uint32) []byte {
	f.pub = packet.Publish{
		QoS: qos, Retain: retain, Topic: m.Topic, Payload: m.Payload,
	}
	if qos > 0 {
		f.pub.ID = 1
	}
	if v == packet.V5 {
		// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18],
		// [MQTT-3.3.2-20]
		f.pub.Properties = packet.PublishProperties{
			UTF8: m.UTF8, MessageExpiryInterval: remaining(m, b.now), ResponseTopic: m.ResponseTopic, // [MQTT-3.3.2-6]
			CorrelationData: m.CorrelationData, UserProperties: m.UserProperties, SubscriptionIDs: ids, ContentType: m.ContentType,
		}
	}
	out, err := packet.AppendPublish(to, &f.pub, v)
	if err != nil { // what came in can go out; only an interceptor's message cannot
		b.srv.log.Warn("message cannot be encoded", "topic", m.Topic, "err", err)
		return to[:0]
	}
	return out
}
