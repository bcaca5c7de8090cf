package broker

import (
	"strings"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// receive takes a PUBLISH into the batch. A reason that failed ends the
// connection.
func (c *conn) receive(p *packet.Publish) packet.Reason {
	if len(p.Properties.SubscriptionIDs) > 0 { // [MQTT-3.3.4-6]
		return packet.ProtocolError
	}
	name, reason := c.topicOf(p)
	if reason.Failed() {
		return reason
	}
	if !topic.ValidName(name) { // [MQTT-3.3.2-2]
		return packet.TopicNameInvalid
	}
	if reason := c.srv.opts.Offer.refuses(p.QoS, p.Retain); reason.Failed() {
		return reason
	}
	in := pub{id: p.ID, qos: p.QoS, by: c.access, borrowed: true}
	if p.QoS > 0 {
		c.number(&in, p, name)
	}
	if p.QoS > 0 && !in.again && !in.reuses && c.quota.Add(1) > int32(c.srv.opts.Limits.InFlight) && c.version == packet.V5 {
		return packet.ReceiveMaximumExceeded // [MQTT-3.3.4-7]
	}
	limits := &c.srv.opts.Limits
	switch {
	case limits.tooDeep(name):
		in.reason = packet.TopicNameInvalid
		c.srv.stats.drop(dropLimits)
	case limits.tooMany(p.Properties.UserProperties):
		in.reason = packet.QuotaExceeded
		c.srv.stats.drop(dropLimits)
	case !in.again:
		if err := c.srv.mayPublish(c.srv.ctx, c.access, name); err != nil {
			in.reason = reasonOf(err, packet.NotAuthorized)
			c.srv.stats.drop(dropNotAuthorized)
		}
	}
	in.msg = message.Message{
		Topic: name, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Origin: c.session.origin, At: c.batch.now,
	}
	if c.version == packet.V5 {
		setProperties(&in.msg, &p.Properties, c.batch.now)
	}
	c.pace.take(c.batch.now)
	stats := &c.srv.stats
	stats.received[p.QoS].Add(1)
	stats.receivedBytes[p.QoS].Add(int64(len(name) + len(p.Payload)))
	c.batch.add(in)
	return packet.Success
}

// topicOf resolves a topic alias (MQTT 5.0 §3.3.2.3.4).
func (c *conn) topicOf(p *packet.Publish) (string, packet.Reason) {
	alias := p.Properties.TopicAlias
	switch {
	case alias == 0 && p.Topic == "":
		return "", packet.ProtocolError
	case alias == 0:
		return p.Topic, packet.Success
	case int(alias) > c.srv.opts.Limits.TopicAliases: // [MQTT-3.3.2-9], [MQTT-3.2.2-17]
		return "", packet.TopicAliasInvalid
	case p.Topic == "":
		name, known := c.aliases[alias]
		if !known {
			return "", packet.ProtocolError
		}
		return name, packet.Success
	}
	if c.aliases == nil {
		c.aliases = make(map[uint16]string)
	}
	c.aliases[alias] = strings.Clone(p.Topic) // [MQTT-3.3.2-12]
	return p.Topic, packet.Success
}

// add takes a publish into the batch.
func (b *batch) add(p pub) {
	if to := p.msg.ResponseTopic; to != "" && p.by != nil {
		p.msg.NoResponse = b.srv.mayPublish(b.ctx, p.by, to) != nil
	}
	if p.msg.Topic[0] == '$' && !p.private {
		p.postpone(&b.srv.opts.Limits.Delayed)
	}
	b.ops = append(b.ops, op{kind: packet.PUBLISH, pub: len(b.pubs)})
	b.pubs = append(b.pubs, p)
	b.bytes += p.msg.Size()
}
