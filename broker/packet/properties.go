package packet

// The property identifiers (MQTT 5.0 §2.2.2.2).
const (
	propPayloadFormat              = 0x01
	propMessageExpiry              = 0x02
	propContentType                = 0x03
	propResponseTopic              = 0x08
	propCorrelationData            = 0x09
	propSubscriptionID             = 0x0B
	propSessionExpiry              = 0x11
	propAssignedClientID           = 0x12
	propServerKeepAlive            = 0x13
	propAuthMethod                 = 0x15
	propAuthData                   = 0x16
	propRequestProblemInfo         = 0x17
	propWillDelay                  = 0x18
	propRequestResponseInfo        = 0x19
	propResponseInfo               = 0x1A
	propServerReference            = 0x1C
	propReasonString               = 0x1F
	propReceiveMaximum             = 0x21
	propTopicAliasMaximum          = 0x22
	propTopicAlias                 = 0x23
	propMaximumQoS                 = 0x24
	propRetainAvailable            = 0x25
	propUserProperty               = 0x26
	propMaximumPacketSize          = 0x27
	propWildcardAvailable          = 0x28
	propSubscriptionIDAvail        = 0x29
	propSharedAvailable            = 0x2A
	propLast                       = propSharedAvailable
	userProperty            uint64 = 1 << propUserProperty
)

// The properties that each packet may have, as sets of bits.
const (
	connectSet = 1<<propSessionExpiry | 1<<propReceiveMaximum | 1<<propMaximumPacketSize |
		1<<propTopicAliasMaximum | 1<<propRequestResponseInfo | 1<<propRequestProblemInfo |
		1<<propAuthMethod | 1<<propAuthData | userProperty
	connackSet = 1<<propSessionExpiry | 1<<propReceiveMaximum | 1<<propMaximumQoS |
		1<<propRetainAvailable | 1<<propMaximumPacketSize | 1<<propAssignedClientID |
		1<<propTopicAliasMaximum | 1<<propReasonString | 1<<propWildcardAvailable |
		1<<propSubscriptionIDAvail | 1<<propSharedAvailable | 1<<propServerKeepAlive |
		1<<propResponseInfo | 1<<propServerReference | 1<<propAuthMethod | 1<<propAuthData | userProperty
	messageSet = 1<<propPayloadFormat | 1<<propMessageExpiry | 1<<propContentType |
		1<<propResponseTopic | 1<<propCorrelationData | userProperty
	publishSet    = messageSet | 1<<propTopicAlias | 1<<propSubscriptionID
	willSet       = messageSet | 1<<propWillDelay
	ackSet        = 1<<propReasonString | userProperty
	subscribeSet  = 1<<propSubscriptionID | userProperty
	disconnectSet = 1<<propSessionExpiry | 1<<propReasonString | 1<<propServerReference | userProperty
	authSet       = 1<<propAuthMethod | 1<<propAuthData | 1<<propReasonString | userProperty
)

// section is where a decoder stands in the properties of a packet:
//
//	for d.section(ackSet, many); d.next(); {
//		switch d.at.id { ... read the value ... }
//	}
type section struct {
	id   byte   // the property at hand
	set  uint64 // those allowed
	many uint64 // those allowed more than once
	seen uint64
	rest []byte // what follows the properties
}

// section opens the properties of a 5.0 packet. (The state lies in the decoder
// and not beside it, because a pointer to it would put the decoder on the heap.)
func (d *decoder) section(set, many uint64) {
	props := d.take(int(d.varint()))
	d.at = section{set: set, many: many, rest: d.buf}
	d.buf = props
}

// next moves to the next property, or to the bytes behind the last.
func (d *decoder) next() bool {
	if d.failed != Success {
		return false
	}
	if len(d.buf) == 0 {
		d.buf = d.at.rest
		return false
	}
	id := d.varint()
	if id > propLast || d.at.set&(1<<id) == 0 {
		d.fail(MalformedPacket)
		return false
	}
	if d.at.seen&^d.at.many&(1<<id) != 0 {
		d.fail(ProtocolError)
		return false
	}
	d.at.seen |= 1 << id
	d.at.id = byte(id)
	return true
}
