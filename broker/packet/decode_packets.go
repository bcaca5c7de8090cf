package packet

import (
	"strings"

	"github.com/gatehouse/gatehouse/broker/message"
)

// publish reads a PUBLISH (MQTT 5.0 §3.3).
func (d *decoder) publish(flags byte) *Publish {
	p := d.newPublish()
	p.Dup, p.QoS, p.Retain = flags&8 != 0, message.QoS(flags>>1&3), flags&1 != 0
	p.Topic = d.topicName() // [MQTT-3.3.2-1], [MQTT3-3.3.2-1]
	if p.QoS > 0 {
		p.ID = d.packetID()
	}
	if d.version == V5 {
		for d.section(publishSet, userProperty|1<<propSubscriptionID); d.next(); {
			d.publishProperty(d.at.id, &p.Properties)
		}
	}
	switch {
	case p.Topic != "":
	case d.version != V5: // [MQTT-4.7.3-1], [MQTT3-4.7.3-1]
		d.fail(TopicNameInvalid)
	case p.Properties.TopicAlias == 0: // [MQTT-3.3.2-1]
		d.fail(ProtocolError)
	}
	if len(d.buf) > 0 {
		p.Payload = d.take(len(d.buf))
	}
	return p
}

func (d *decoder) newPublish() *Publish {
	if d.scratch == nil {
		return &Publish{}
	}
	d.scratch.publish = Publish{}
	return &d.scratch.publish
}

func (d *decoder) newAck() *Ack {
	if d.scratch == nil {
		return &Ack{}
	}
	d.scratch.ack = Ack{}
	return &d.scratch.ack
}

// publishProperty reads a property of a PUBLISH or of a will.
func (d *decoder) publishProperty(id byte, p *PublishProperties) {
	switch id {
	case propPayloadFormat:
		p.UTF8 = d.flag()
	case propMessageExpiry:
		v := d.uint32()
		p.MessageExpiryInterval = &v
	case propContentType:
		p.ContentType = d.text() // [MQTT-3.3.2-19]
	case propResponseTopic:
		p.ResponseTopic = d.text()                               // [MQTT-3.3.2-13]
		if p.ResponseTopic == "" || wildcards(p.ResponseTopic) { // [MQTT-3.3.2-14], [MQTT-4.7.3-1]
			d.fail(ProtocolError)
		}
	case propCorrelationData:
		p.CorrelationData = d.binary()
	case propTopicAlias:
		p.TopicAlias = d.uint16()
		if p.TopicAlias == 0 { // [MQTT-3.3.2-8]
			d.fail(TopicAliasInvalid)
		}
	case propSubscriptionID:
		p.SubscriptionIDs = append(p.SubscriptionIDs, positive(d, d.varint()))
	default:
		d.userProperty(&p.UserProperties)
	}
}

// ack reads a PUBACK, PUBREC, PUBREL or PUBCOMP. In 5.0 the reason code and the
// properties may be left out (MQTT 5.0 §3.4.2.1, §3.4.2.2.1).
func (d *decoder) ack(kind Type) *Ack {
	p := d.newAck()
	p.Kind, p.ID = kind, d.packetID()
	if d.version != V5 || len(d.buf) == 0 {
		return p
	}
	p.Reason = d.reason(kind) // [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]
	if len(d.buf) > 0 {
		d.ackProperties(&p.ReasonString, &p.UserProperties)
	}
	return p
}

func (d *decoder) ackProperties(reason *string, user *[]message.Property) {
	for d.section(ackSet, userProperty); d.next(); {
		if d.at.id == propReasonString {
			*reason = d.text()
		} else {
			d.userProperty(user)
		}
	}
}

// subscribe reads a SUBSCRIBE (MQTT 5.0 §3.8). Whether the filters are valid is
// not looked at: each gets an answer of its own.
func (d *decoder) subscribe() *Subscribe {
	p := &Subscribe{ID: d.packetID()}
	if d.version == V5 {
		for d.section(subscribeSet, userProperty); d.next(); {
			if d.at.id == propSubscriptionID {
				p.SubscriptionID = positive(d, d.varint())
			} else {
				d.userProperty(&p.UserProperties)
			}
		}
	}
	for len(d.buf) > 0 {
		f := Filter{Filter: d.text()} // [MQTT-3.8.3-1], [MQTT3-3.8.3-1]
		f.Options = d.subscribeOptions()
		if f.Options.NoLocal && strings.HasPrefix(f.Filter, "$share/") { // [MQTT-3.8.3-4]
			d.fail(ProtocolError)
		}
		p.Filters = append(p.Filters, f)
	}
	if len(p.Filters) == 0 { // [MQTT-3.8.3-2], [MQTT3-3.8.3-3]
		d.fail(ProtocolError)
	}
	return p
}

func (d *decoder) subscribeOptions() SubscribeOptions {
	b := d.byte()
	if d.version == V31 {
		b &= 3 // the other bits mean nothing
	}
	o := SubscribeOptions{
		QoS:               message.QoS(b & 3),
		NoLocal:           b&4 != 0,
		RetainAsPublished: b&8 != 0,
		RetainHandling:    RetainHandling(b >> 4 & 3),
	}
	switch {
	case b&0xc0 != 0, d.version != V5 && b > 2: // [MQTT-3.8.3-5], [MQTT3-3.8.3-4]
		d.fail(MalformedPacket)
	case o.QoS > message.ExactlyOnce, o.RetainHandling > NoRetained:
		d.fail(ProtocolError)
	}
	return o
}

// unsubscribe reads an UNSUBSCRIBE (MQTT 5.0 §3.10).
func (d *decoder) unsubscribe() *Unsubscribe {
	p := &Unsubscribe{ID: d.packetID()}
	if d.version == V5 {
		for d.section(userProperty, userProperty); d.next(); {
			d.userProperty(&p.UserProperties)
		}
	}
	for len(d.buf) > 0 {
		p.Filters = append(p.Filters, d.text()) // [MQTT-3.10.3-1], [MQTT3-3.10.3-1]
	}
	if len(p.Filters) == 0 { // [MQTT-3.10.3-2], [MQTT3-3.10.3-2]
		d.fail(ProtocolError)
	}
	return p
}

// suback reads a SUBACK (MQTT 5.0 §3.9).
func (d *decoder) suback() *Suback {
	p := &Suback{ID: d.packetID()}
	if d.version == V5 {
		d.ackProperties(&p.ReasonString, &p.UserProperties)
	}
	p.Reasons = d.reasons(SUBACK)
	return p
}

// unsuback reads an UNSUBACK (MQTT 5.0 §3.11).
func (d *decoder) unsuback() *Unsuback {
	p := &Unsuback{ID: d.packetID()}
	if d.version == V5 {
		d.ackProperties(&p.ReasonString, &p.UserProperties)
		p.Reasons = d.reasons(UNSUBACK)
	}
	return p
}

// reasons reads the reason codes that fill the rest of the packet, at least one.
func (d *decoder) reasons(t Type) []Reason {
	if len(d.buf) == 0 {
		d.fail(ProtocolError)
		return nil
	}
	codes := make([]Reason, 0, len(d.buf))
	for len(d.buf) > 0 {
		r := d.reason(t)
		if d.version != V5 && r > GrantedQoS2 && r != UnspecifiedError {
			d.fail(MalformedPacket)
		}
		codes = append(codes, r)
	}
	return codes
}

// disconnect reads a DISCONNECT (MQTT 5.0 §3.14). What is left out at its end is
// success and no properties.
func (d *decoder) disconnect() *Disconnect {
	p := &Disconnect{}
	if d.version != V5 || len(d.buf) == 0 {
		return p
	}
	p.Reason = d.reason(DISCONNECT) // [MQTT-3.14.2-1]
	if len(d.buf) == 0 {
		return p
	}
	for d.section(disconnectSet, userProperty); d.next(); {
		switch d.at.id {
		case propSessionExpiry:
			v := d.uint32()
			p.SessionExpiryInterval = &v
		case propReasonString:
			p.ReasonString = d.text()
		case propServerReference:
			p.ServerReference = d.text()
		default:
			d.userProperty(&p.UserProperties)
		}
	}
	return p
}

// auth reads an AUTH (MQTT 5.0 §3.15): empty, or with a method.
func (d *decoder) auth() *Auth {
	p := &Auth{}
	if len(d.buf) == 0 {
		return p
	}
	p.Reason = d.reason(AUTH) // [MQTT-3.15.2-1]
	for d.section(authSet, userProperty); d.next(); {
		switch d.at.id {
		case propAuthMethod:
			p.AuthenticationMethod = d.text()
		case propAuthData:
			p.AuthenticationData = d.binary()
		case propReasonString:
			p.ReasonString = d.text()
		default:
			d.userProperty(&p.UserProperties)
		}
	}
	if p.AuthenticationMethod == "" {
		d.fail(ProtocolError)
	}
	return p
}
