package packet

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Append adds the bytes of p to b and returns the longer slice, as the built-in
// append does; it takes no memory if b has room. Version is the version that the
// connection speaks; a CONNECT's own Version goes before it. To 3.x connections
// what only 5.0 knows is left out, and the Reason of a CONNACK or SUBACK becomes
// the return code that comes nearest.
//
// What cannot be written (a string of more than 65,535 bytes or not UTF-8, a
// packet identifier of 0, a reason code that the packet may not carry, an AUTH to
// a 3.x connection, ...) gives an error, [PacketTooLarge] if the packet would be
// larger than [MaxSize]; b is then returned as it was.
func Append(b []byte, p Packet, version Version) ([]byte, error) {
	if c, ok := p.(*Connect); ok {
		version = c.Version
	}
	if version != V5 && version != V311 && version != V31 {
		return b, fmt.Errorf("cannot write a packet of MQTT %s", version)
	}
	e := encoder{b: b, version: version}
	switch p := p.(type) {
	case *Publish:
		e.publish(p)
	case *Ack:
		e.ack(p)
	case *Connect:
		e.connect(p)
	case *Connack:
		e.connack(p)
	case *Subscribe:
		e.subscribe(p)
	case *Suback:
		e.suback(p)
	case *Unsubscribe:
		e.unsubscribe(p)
	case *Unsuback:
		e.unsuback(p)
	case *Pingreq:
		e.end(e.begin(PINGREQ, 0), 0)
	case *Pingresp:
		e.end(e.begin(PINGRESP, 0), 0)
	case *Disconnect:
		e.disconnect(p)
	case *Auth:
		e.auth(p)
	default:
		e.fail("cannot write a packet of an unknown type")
	}
	return e.result(b)
}

// AppendPublish is [Append] for a PUBLISH.
func AppendPublish(b []byte, p *Publish, version Version) ([]byte, error) {
	if version != V5 && version != V311 && version != V31 {
		return b, fmt.Errorf("cannot write a packet of MQTT %s", version)
	}
	e := encoder{b: b, version: version}
	e.publish(p)
	return e.result(b)
}

// SetPublishID changes the packet identifier and the DUP flag of a PUBLISH of QoS
// 1 or 2 that Append has written, so that one encoding, copied, serves many
// receivers. Written must hold that packet from its first byte on.
func SetPublishID(written []byte, id uint16, dup bool) {
	written[0] &^= 8
	if dup {
		written[0] |= 8
	}
	at := 1
	for written[at] >= 0x80 {
		at++
	}
	at++
	at += 2 + int(written[at])<<8 + int(written[at+1])
	written[at], written[at+1] = byte(id>>8), byte(id)
}

func (e *encoder) result(before []byte) ([]byte, error) {
	if e.err != nil {
		return before, e.err
	}
	return e.b, nil
}

// publish writes a PUBLISH (MQTT 5.0 §3.3).
func (e *encoder) publish(p *Publish) {
	if len(p.Payload) > maxRemaining-2-len(p.Topic) {
		e.err = PacketTooLarge
		return
	}
	flags := byte(p.QoS) << 1
	if p.Dup {
		flags |= 8
	}
	if p.Retain {
		flags |= 1
	}
	switch {
	case p.QoS > message.ExactlyOnce: // [MQTT-3.3.1-4]
		e.fail("cannot write a PUBLISH of QoS 3 or more")
	case p.QoS == message.AtMostOnce && (p.Dup || p.ID != 0): // [MQTT-2.2.1-2], [MQTT-3.3.1-2], [MQTT-4.3.1-1], [MQTT3-2.3.1-5], [MQTT3-4.3.1-1]
		e.fail("cannot write a PUBLISH of QoS 0 with DUP or a packet identifier")
	case p.Topic == "" && (e.version != V5 || p.Properties.TopicAlias == 0):
		e.fail("cannot write a PUBLISH without topic name")
	}
	e.b = slices.Grow(e.b, 16+len(p.Topic)+len(p.Payload))
	at := e.begin(PUBLISH, flags)
	e.topicName(p.Topic)
	if p.QoS > 0 {
		e.packetID(p.ID)
	}
	if e.version == V5 {
		props := e.open()
		e.messageProperties(&p.Properties)
		e.number16(propTopicAlias, p.Properties.TopicAlias)
		for _, id := range p.Properties.SubscriptionIDs {
			e.subscriptionID(id)
		}
		e.end(props, 0)
	}
	e.end(at, len(p.Payload))
	e.b = append(e.b, p.Payload...)
}

// messageProperties writes what a PUBLISH and a will have in common.
func (e *encoder) messageProperties(p *PublishProperties) {
	e.trueFlag(propPayloadFormat, p.UTF8)
	e.optional32(propMessageExpiry, p.MessageExpiryInterval)
	e.string(propContentType, p.ContentType)
	if p.ResponseTopic != "" {
		e.b = append(e.b, propResponseTopic)
		e.topicName(p.ResponseTopic) // [MQTT-3.3.2-14]
	}
	e.bytes(propCorrelationData, p.CorrelationData)
	e.userProperties(p.UserProperties)
}

// ack writes a PUBACK, PUBREC, PUBREL or PUBCOMP as short as it can be.
func (e *encoder) ack(p *Ack) {
	var flags byte
	switch p.Kind {
	case PUBACK, PUBREC, PUBCOMP:
	case PUBREL:
		flags = 2
	default:
		e.fail("cannot write an acknowledgement of another kind")
	}
	at := e.begin(p.Kind, flags)
	e.packetID(p.ID)
	properties := p.ReasonString != "" || len(p.UserProperties) > 0
	if e.version == V5 && (properties || p.Reason != Success) {
		e.reason(p.Reason, p.Kind) // [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]
		if properties {
			e.ackProperties(p.ReasonString, p.UserProperties)
		}
	}
	e.end(at, 0)
}

func (e *encoder) ackProperties(reason string, user []message.Property) {
	props := e.open()
	e.string(propReasonString, reason)
	e.userProperties(user)
	e.end(props, 0)
}

// subscribe writes a SUBSCRIBE (MQTT 5.0 §3.8).
func (e *encoder) subscribe(p *Subscribe) {
	at := e.begin(SUBSCRIBE, 2)
	e.packetID(p.ID)
	if e.version == V5 {
		props := e.open()
		if p.SubscriptionID != 0 {
			e.subscriptionID(p.SubscriptionID)
		}
		e.userProperties(p.UserProperties)
		e.end(props, 0)
	}
	for i := range p.Filters {
		e.text(p.Filters[i].Filter)
		e.subscribeOptions(p.Filters[i].Options)
	}
	if len(p.Filters) == 0 {
		e.fail("cannot write a SUBSCRIBE without topic filter")
	}
	e.end(at, 0)
}

func (e *encoder) subscribeOptions(o SubscribeOptions) {
	if o.QoS > message.ExactlyOnce || o.RetainHandling > NoRetained {
		e.fail("cannot write subscription options that do not exist")
	}
	b := byte(o.QoS)
	if e.version == V5 {
		if o.NoLocal {
			b |= 4
		}
		if o.RetainAsPublished {
			b |= 8
		}
		b |= byte(o.RetainHandling) << 4
	}
	e.b = append(e.b, b)
}

// unsubscribe writes an UNSUBSCRIBE (MQTT 5.0 §3.10).
func (e *encoder) unsubscribe(p *Unsubscribe) {
	at := e.begin(UNSUBSCRIBE, 2)
	e.packetID(p.ID)
	if e.version == V5 {
		props := e.open()
		e.userProperties(p.UserProperties)
		e.end(props, 0)
	}
	for _, f := range p.Filters {
		e.text(f)
	}
	if len(p.Filters) == 0 {
		e.fail("cannot write an UNSUBSCRIBE without topic filter")
	}
	e.end(at, 0)
}

// suback writes a SUBACK (MQTT 5.0 §3.9). In 3.x every failure is 0x80.
func (e *encoder) suback(p *Suback) {
	at := e.begin(SUBACK, 0)
	e.packetID(p.ID)
	if e.version == V5 {
		e.ackProperties(p.ReasonString, p.UserProperties)
	}
	for _, r := range p.Reasons {
		if e.version != V5 && r.Failed() {
			r = UnspecifiedError // [MQTT3-3.9.3-2]
		}
		e.reason(r, SUBACK) // [MQTT-3.9.3-2]
	}
	if len(p.Reasons) == 0 {
		e.fail("cannot write a SUBACK without reason code")
	}
	e.end(at, 0)
}

// unsuback writes an UNSUBACK (MQTT 5.0 §3.11).
func (e *encoder) unsuback(p *Unsuback) {
	at := e.begin(UNSUBACK, 0)
	e.packetID(p.ID)
	if e.version == V5 {
		e.ackProperties(p.ReasonString, p.UserProperties)
		for _, r := range p.Reasons {
			e.reason(r, UNSUBACK) // [MQTT-3.11.3-2]
		}
		if len(p.Reasons) == 0 {
			e.fail("cannot write an UNSUBACK without reason code")
		}
	}
	e.end(at, 0)
}

// disconnect writes a DISCONNECT (MQTT 5.0 §3.14) as short as it can be.
func (e *encoder) disconnect(p *Disconnect) {
	at := e.begin(DISCONNECT, 0)
	properties := p.SessionExpiryInterval != nil || p.ReasonString != "" ||
		len(p.UserProperties) > 0 || p.ServerReference != ""
	if e.version == V5 && (properties || p.Reason != NormalDisconnection) {
		e.reason(p.Reason, DISCONNECT) // [MQTT-3.14.2-1]
		if properties {
			props := e.open()
			e.optional32(propSessionExpiry, p.SessionExpiryInterval)
			e.string(propReasonString, p.ReasonString)
			e.string(propServerReference, p.ServerReference)
			e.userProperties(p.UserProperties)
			e.end(props, 0)
		}
	}
	e.end(at, 0)
}

// auth writes an AUTH (MQTT 5.0 §3.15); without a method it is the empty one.
func (e *encoder) auth(p *Auth) {
	if e.version != V5 {
		e.fail("cannot write an AUTH before MQTT 5.0")
	}
	at := e.begin(AUTH, 0)
	if p.AuthenticationMethod != "" {
		e.reason(p.Reason, AUTH)
		props := e.open()
		e.string(propAuthMethod, p.AuthenticationMethod)
		e.bytes(propAuthData, p.AuthenticationData)
		e.string(propReasonString, p.ReasonString)
		e.userProperties(p.UserProperties)
		e.end(props, 0)
	} else if p.Reason != Success || p.AuthenticationData != nil || p.ReasonString != "" || len(p.UserProperties) > 0 {
		e.fail("cannot write an AUTH without authentication method")
	}
	e.end(at, 0)
}

// fail keeps the first error; what is written after it is thrown away.
func (e *encoder) fail(text string) {
	if e.err == nil {
		e.err = errors.New(text)
	}
}
