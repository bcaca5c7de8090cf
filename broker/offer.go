package broker

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// Offer says what of MQTT clients are offered. The zero value is all of it.
type Offer struct {
	// MaximumQoS is the highest level of a PUBLISH or a will from a client, and of a
	// subscription granted (MQTT 5.0 §3.2.2.3.4). Nil means 2. A 3.x client that
	// publishes above it is cut off, since it cannot be told.
	MaximumQoS *message.QoS
	// NoRetain refuses retained messages and wills from clients (MQTT 5.0
	// §3.2.2.3.5). What the gateway retains itself is still replayed.
	NoRetain bool
	// ResponsePrefix begins the Response Information (MQTT 5.0 §3.2.2.3.15) of
	// clients that ask for it: it is the prefix, the client identifier as one topic
	// level, and a slash, such as "answers/pump-1/". Empty offers none. Each client
	// needs the right to subscribe there, and others to publish.
	ResponsePrefix string
	// Reference is another server (MQTT 5.0 §4.11), such as "other.lan:1883": 5.0
	// clients are told to use it when this one stops or is full. Empty is none.
	Reference string
	// Moved says that they are to use it for good: 0x9D, not 0x9C.
	Moved bool
}

func (o *Offer) check() error {
	switch {
	case o.MaximumQoS != nil && *o.MaximumQoS > message.ExactlyOnce:
		return fmt.Errorf("maximum QoS is %d: it is 0 to 2", *o.MaximumQoS)
	case o.ResponsePrefix != "" && !topic.ValidName(o.ResponsePrefix):
		return fmt.Errorf("response prefix %q is not the beginning of a topic name", o.ResponsePrefix)
	case len(o.Reference) > 0xffff || !utf8.ValidString(o.Reference):
		return errors.New("server reference is not UTF-8 or too long")
	case o.Moved && o.Reference == "":
		return errors.New("the server has moved, but there is no reference to where")
	default:
		return nil
	}
}

// maximumQoS is the highest level that clients may use.
func (o *Offer) maximumQoS() message.QoS {
	if o.MaximumQoS == nil {
		return message.ExactlyOnce
	}
	return *o.MaximumQoS
}

// elsewhere is the reason that sends a client to the other server.
func (o *Offer) elsewhere() packet.Reason {
	if o.Moved {
		return packet.ServerMoved
	}
	return packet.UseAnotherServer
}

// full is what a client is told when it finds no room, otherwise if there is no
// other server.
func (o *Offer) full(otherwise packet.Reason) packet.Reason {
	if o.Reference == "" {
		return otherwise
	}
	return o.elsewhere()
}

// redirects is how many connections above the limit may be open at once to be told
// of the other server.
const redirects = 32

// surplus is how many connections above the limit are taken.
func (o *Offer) surplus() int {
	if o.Reference == "" {
		return 0
	}
	return redirects
}

// farewell is what clients are told when this server stops.
func (o *Offer) farewell() packet.Reason { return o.full(packet.ServerShuttingDown) }

// refuses says why a PUBLISH or a will is more than is offered.
func (o *Offer) refuses(qos message.QoS, retain bool) packet.Reason {
	switch {
	case qos > o.maximumQoS(): // [MQTT-3.2.2-11], [MQTT-3.2.2-12]
		return packet.QoSNotSupported
	case retain && o.NoRetain: // [MQTT-3.2.2-13], [MQTT-3.2.2-14]
		return packet.RetainNotSupported
	default:
		return packet.Success
	}
}

// tell puts into a CONNACK of 5.0 what is not offered, and what was asked for.
func (o *Offer) tell(to *packet.ConnackProperties, p *packet.Connect, clientID string) {
	if most := uint8(o.maximumQoS()); most < 2 { // [MQTT-3.2.2-9]
		to.MaximumQoS = &most
	}
	if o.NoRetain {
		available := false
		to.RetainAvailable = &available
	}
	if p.Properties.RequestResponseInfo && o.ResponsePrefix != "" { // [MQTT-3.1.2-28]
		to.ResponseInformation = o.ResponsePrefix + topicLevel(clientID) + "/"
	}
}

// topicLevel makes any text one level of a topic name: what may not stand there is
// written as "%" and its number.
func topicLevel(s string) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/', c == '+', c == '#', c == '%', c < 0x20, c == 0x7f:
			b = append(b, '%', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
