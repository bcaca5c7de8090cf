package brokertest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// chosen are the keys whose values the server chooses: an expectation may leave
// them out.
var chosen = []string{"id=", "receive-max=", "max-packet=", "alias-max=", "assigned=", "why="}

// render writes a received packet as an expectation would.
func render(p packet.Packet) []string {
	switch p := p.(type) {
	case *packet.Connack:
		return renderConnack(p)
	case *packet.Publish:
		return renderPublish(p)
	case *packet.Ack:
		w := words{kindName(p.Kind), fmt.Sprint(p.ID)}
		w.flag(p.Reason != 0, code(p.Reason))
		w.explained(p.ReasonString, p.UserProperties)
		return w
	case *packet.Suback:
		w := append(words{"suback", fmt.Sprint(p.ID)}, codes(p.Reasons)...)
		w.explained(p.ReasonString, p.UserProperties)
		return w
	case *packet.Unsuback:
		w := append(words{"unsuback", fmt.Sprint(p.ID)}, codes(p.Reasons)...)
		w.explained(p.ReasonString, p.UserProperties)
		return w
	case *packet.Pingresp:
		return []string{"pong"}
	case *packet.Auth:
		w := words{"auth", code(p.Reason)}
		w.authentication(p.AuthenticationMethod, p.AuthenticationData)
		return w
	case *packet.Disconnect:
		w := words{"disconnect", code(p.Reason)}
		w.value(p.ServerReference != "", "reference", p.ServerReference)
		if p.SessionExpiryInterval != nil {
			w.value(true, "expiry", *p.SessionExpiryInterval)
		}
		w.explained(p.ReasonString, p.UserProperties)
		return w
	default:
		return []string{fmt.Sprintf("%T", p)}
	}
}

func kindName(t packet.Type) string {
	return map[packet.Type]string{
		packet.PUBACK: "puback", packet.PUBREC: "pubrec", packet.PUBREL: "pubrel", packet.PUBCOMP: "pubcomp",
	}[t]
}

func code(r packet.Reason) string { return fmt.Sprintf("0x%02x", uint8(r)) }

func codes(reasons []packet.Reason) []string {
	words := make([]string, len(reasons))
	for i, r := range reasons {
		words[i] = code(r)
	}
	return words
}

// words collects words that are there.
type words []string

func (w *words) flag(is bool, name string) {
	if is {
		*w = append(*w, name)
	}
}

func (w *words) value(is bool, key string, value any) {
	if is {
		*w = append(*w, fmt.Sprintf("%s=%v", key, value))
	}
}

func (w *words) authentication(method string, data []byte) {
	w.value(method != "", "method", method)
	w.value(data != nil, "data", string(data))
}

// explained adds a reason string, with "_" for its spaces, and user properties.
func (w *words) explained(reason string, user []message.Property) {
	w.value(reason != "", "why", strings.ReplaceAll(reason, " ", "_"))
	for _, u := range user {
		w.value(true, "user", u.Key+":"+u.Value)
	}
}

func renderConnack(p *packet.Connack) []string {
	w := words{"connack", code(p.Reason)}
	props := &p.Properties
	w.flag(p.SessionPresent, "present")
	w.value(props.ReceiveMaximum > 0, "receive-max", props.ReceiveMaximum)
	w.value(props.MaximumPacketSize > 0, "max-packet", props.MaximumPacketSize)
	w.value(props.TopicAliasMaximum > 0, "alias-max", props.TopicAliasMaximum)
	w.value(props.AssignedClientID != "", "assigned", props.AssignedClientID)
	if props.ServerKeepAlive != nil {
		w.value(true, "keep-alive", *props.ServerKeepAlive)
	}
	if props.SessionExpiryInterval != nil {
		w.value(true, "expiry", *props.SessionExpiryInterval)
	}
	if props.MaximumQoS != nil {
		w.value(true, "max-qos", *props.MaximumQoS)
	}
	w.flag(props.RetainAvailable != nil && !*props.RetainAvailable, "no-retain")
	w.value(props.ResponseInformation != "", "response-info", props.ResponseInformation)
	w.value(props.ServerReference != "", "reference", props.ServerReference)
	w.authentication(props.AuthenticationMethod, props.AuthenticationData)
	w.explained(props.ReasonString, props.UserProperties)
	return w
}

func renderPublish(p *packet.Publish) []string {
	w := words{"pub", p.Topic, string(p.Payload)}
	props := &p.Properties
	if p.QoS > 0 {
		w.flag(true, fmt.Sprintf("q%d", p.QoS))
		w.value(true, "id", p.ID)
	}
	w.flag(p.Dup, "dup")
	w.flag(p.Retain, "retain")
	w.flag(props.UTF8, "utf8")
	if props.MessageExpiryInterval != nil {
		w.value(true, "expiry", *props.MessageExpiryInterval)
	}
	w.value(props.TopicAlias != 0, "alias", props.TopicAlias)
	w.value(props.ResponseTopic != "", "response", props.ResponseTopic)
	w.value(props.ContentType != "", "type", props.ContentType)
	w.value(props.CorrelationData != nil, "correlation", string(props.CorrelationData))
	w.explained("", props.UserProperties)
	ids := slices.Clone(props.SubscriptionIDs)
	slices.Sort(ids)
	for _, id := range ids {
		w.value(true, "sub", id)
	}
	return w
}

// users are the user properties among words.
func users(words []string) []string {
	var found []string
	for _, w := range words {
		if strings.HasPrefix(w, "user=") {
			found = append(found, w)
		}
	}
	return found
}

// agree reports whether a packet is what was expected.
func agree(expected, got []string) bool {
	rest := slices.Clone(got)
	if !slices.Equal(users(expected), users(got)) { // their order matters
		return false
	}
	for _, w := range expected {
		i := slices.Index(rest, w)
		if i < 0 {
			return false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	for _, w := range rest {
		if !slices.ContainsFunc(chosen, func(key string) bool { return strings.HasPrefix(w, key) }) {
			return false
		}
	}
	return len(expected) > 0 && len(got) > 0 && expected[0] == got[0]
}
