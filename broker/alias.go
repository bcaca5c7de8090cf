package broker

import "github.com/gatehouse/gatehouse/broker/packet"

// aliases are the topic aliases that we use towards one client (MQTT 5.0
// §3.3.2.3.4): the first topics that come get them, for as long as the connection
// stands. They are plain state under the lock of the connection's output, where the
// order of packets is decided; the encoding that all receivers share is spliced as
// it is copied.
type aliases struct {
	byTopic   map[string]uint16
	most      int
	maxPacket int // that the client takes; 0 is no limit
}

// newAliases is nil for a client that takes none ([MQTT-3.1.2-26], [MQTT-3.1.2-27]).
func newAliases(most, maxPacket int) *aliases {
	if most <= 0 {
		return nil
	}
	return &aliases{byTopic: make(map[string]uint16), most: most, maxPacket: maxPacket}
}

// append copies an encoded packet to the end of b, a PUBLISH with its alias if that
// is shorter or will be.
func (a *aliases) append(b, encoded []byte) []byte {
	name := packet.PublishTopic(encoded)
	if len(name) <= packet.AliasCost {
		return append(b, encoded...)
	}
	if alias, known := a.byTopic[string(name)]; known {
		return packet.AppendAliased(b, encoded, alias, false)
	}
	if len(a.byTopic) >= a.most || a.maxPacket != 0 && len(encoded)+packet.AliasGrowth > a.maxPacket {
		return append(b, encoded...)
	}
	alias := uint16(len(a.byTopic) + 1) // [MQTT-3.3.2-8], [MQTT-3.3.2-11]
	a.byTopic[string(name)] = alias
	return packet.AppendAliased(b, encoded, alias, true)
}
