package broker

import (
	"fmt"

	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// causeKnown is set in a connection's cause when we ended it.
const causeKnown = 0x100

// why says for what reason the connection was ended by us; success if it was not.
func (c *conn) why() packet.Reason { return packet.Reason(c.cause.Load() & 0xff) }

// lastWords is a DISCONNECT that says why, as long as the client takes it; nothing
// for a client that is not told.
func (c *conn) lastWords(reason packet.Reason) []byte {
	if !c.told.Load() { // [MQTT-3.14.0-1]
		return nil
	}
	reason = told(reason, packet.DISCONNECT)
	p := &packet.Disconnect{Reason: reason, ReasonString: c.srv.hint(reason, packet.DISCONNECT)} // [MQTT-3.14.2-2]
	if reason == packet.UseAnotherServer || reason == packet.ServerMoved {
		p.ServerReference = c.srv.opts.Offer.Reference
	}
	return c.encode(nil, p)
}

// encode writes a packet for the client. A reason string that would make it more
// than the client takes is left out ([MQTT-3.2.2-19], [MQTT-3.4.2-2], [MQTT-3.5.2-2],
// [MQTT-3.6.2-2], [MQTT-3.7.2-2], [MQTT-3.9.2-1], [MQTT-3.11.2-1], [MQTT-3.14.2-3]);
// user properties there are none ([MQTT-3.2.2-20], [MQTT-3.4.2-3], [MQTT-3.5.2-3],
// [MQTT-3.6.2-3], [MQTT-3.7.2-3], [MQTT-3.9.2-2], [MQTT-3.11.2-2], [MQTT-3.14.2-4]).
// If it is too large still, nothing is written ([MQTT-3.1.2-24]).
func (c *conn) encode(to []byte, p packet.Packet) []byte {
	encoded, err := packet.Append(to, p, c.version)
	if err == nil && !c.takes(len(encoded)-len(to)) && curt(p) {
		encoded, err = packet.Append(to, p, c.version)
	}
	if err != nil {
		c.srv.log.Warn("packet cannot be written", "type", p.Type(), "err", err)
		return nil
	}
	if !c.takes(len(encoded) - len(to)) {
		return nil
	}
	return encoded
}

// takesReasons reports whether the client takes a SUBACK or UNSUBACK with n reason
// codes. If not, nothing of what it asks for is done: it could not be told.
func (c *conn) takesReasons(n int) bool {
	return c.maxPacket == 0 || c.encode(nil, &packet.Suback{ID: 1, Reasons: make([]packet.Reason, n)}) != nil
}

// curt takes out of a packet what need not be said, and reports whether there was
// such.
func curt(p packet.Packet) bool {
	var text *string
	switch p := p.(type) {
	case *packet.Connack:
		text = &p.Properties.ReasonString
	case *packet.Disconnect:
		if p.ServerReference != "" && p.ReasonString == "" {
			p.ServerReference = ""
			return true
		}
		text = &p.ReasonString
	case *packet.Suback:
		text = &p.ReasonString
	case *packet.Unsuback:
		text = &p.ReasonString
	case *packet.Ack:
		text = &p.ReasonString
	default:
		return false
	}
	had := *text != ""
	*text = ""
	return had
}

// explain is the reason string of an answer other than CONNACK and DISCONNECT:
// none for a client that has no use for it ([MQTT-3.1.2-29]).
func (c *conn) explain(reason packet.Reason, t packet.Type) string {
	if !reason.Failed() || c.version != packet.V5 || c.quiet {
		return ""
	}
	return c.srv.hint(reason, t)
}

// explainAll explains the first failure of several.
func (c *conn) explainAll(reasons []packet.Reason, t packet.Type) string {
	for _, r := range reasons {
		if r.Failed() {
			return c.explain(r, t)
		}
	}
	return ""
}

// hint says of a reason what the one who has to mend it wants to know; empty if the
// code says it all.
func (srv *Server) hint(reason packet.Reason, t packet.Type) string {
	l := &srv.opts.Limits
	switch reason {
	case packet.UnsupportedProtocolVersion:
		return "MQTT 3.1, 3.1.1 and 5.0 are spoken here"
	case packet.ClientIdentifierNotValid:
		return fmt.Sprintf("a client identifier has at most %d bytes and does not begin with %s", maxClientID, busPrefix)
	case packet.SessionTakenOver:
		return "another client has connected with this client identifier"
	case packet.KeepAliveTimeout:
		return "nothing came for one and a half times the keep alive"
	case packet.ReceiveMaximumExceeded:
		return fmt.Sprintf("at most %d messages of QoS 1 and 2 may be without final answer", l.InFlight)
	case packet.TopicAliasInvalid:
		return fmt.Sprintf("topic aliases are 1 to %d", l.TopicAliases)
	case packet.PacketTooLarge:
		if t == packet.CONNACK {
			return fmt.Sprintf("a CONNECT has at most %d bytes", l.ConnectPacket)
		}
		return fmt.Sprintf("a packet has at most %d bytes", l.Packet)
	case packet.TopicFilterInvalid:
		return fmt.Sprintf("+ fills a level, # the last, there are at most %d levels, and $share/NAME/FILTER has a NAME", topic.MaxLevels)
	case packet.TopicNameInvalid:
		return fmt.Sprintf("a topic name has no wildcard and at most %d levels; %sSECONDS/TOPIC delays by at most %d s",
			topic.MaxLevels, delayPrefix, int64(l.Delayed.Longest.Seconds()))
	case packet.QoSNotSupported:
		return fmt.Sprintf("the highest QoS here is %d", srv.opts.Offer.maximumQoS())
	case packet.RetainNotSupported:
		return "clients may not retain messages here"
	case packet.NotAuthorized:
		return notAuthorizedHint(t)
	case packet.QuotaExceeded:
		return srv.quotaHint(t)
	default:
		return ""
	}
}

func notAuthorizedHint(t packet.Type) string {
	switch t {
	case packet.SUBACK:
		return "this client may not subscribe to the topic filter"
	case packet.PUBACK, packet.PUBREC:
		return "this client may not publish to the topic"
	case packet.CONNACK:
		return "this client may not connect, or not leave this will, or the session is another user's"
	default:
		return ""
	}
}

func (srv *Server) quotaHint(t packet.Type) string {
	l := &srv.opts.Limits
	switch t {
	case packet.CONNACK:
		return fmt.Sprintf("there may be %d sessions, and %d user properties in a packet", l.Sessions, l.UserProperties.Count)
	case packet.SUBACK:
		return fmt.Sprintf("a session has at most %d subscriptions, and as many retained messages may wait as exist", l.Filters)
	case packet.PUBACK, packet.PUBREC:
		return "the retained or delayed messages, or the store, are full"
	default:
		return ""
	}
}
