package packet

import "github.com/gatehouse/gatehouse/broker/message"

// The bits of the connect flags (MQTT 5.0 §3.1.2.3).
const (
	flagReserved   = 0x01
	flagClean      = 0x02
	flagWill       = 0x04
	maskWillQoS    = 0x18
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUsername   = 0x80
)

// connect reads a CONNECT (MQTT 5.0 §3.1) and sets the decoder's version.
func (d *decoder) connect() *Connect {
	p := &Connect{}
	if !d.protocol(p) {
		return p
	}
	flags := d.byte()
	if !connectFlagsAllowed(flags, d.version) {
		d.fail(MalformedPacket)
		return p
	}
	p.Clean = flags&flagClean != 0
	p.KeepAlive = d.uint16()
	if d.version == V5 {
		d.connectProperties(&p.Properties)
	}
	p.ClientID = d.text() // [MQTT-3.1.3-1], [MQTT-3.1.3-3], [MQTT-3.1.3-4], [MQTT3-3.1.3-1], [MQTT3-3.1.3-3], [MQTT3-3.1.3-4]
	if flags&flagWill != 0 {
		p.Will = d.will(flags) // [MQTT-3.1.2-9], [MQTT3-3.1.2-9]
	}
	if p.HasUsername = flags&flagUsername != 0; p.HasUsername {
		p.Username = d.text() // [MQTT-3.1.2-17], [MQTT-3.1.3-12], [MQTT3-3.1.2-19], [MQTT3-3.1.3-11]
	}
	if p.HasPassword = flags&flagPassword != 0; p.HasPassword {
		p.Password = d.binary() // [MQTT-3.1.2-19], [MQTT3-3.1.2-21]
	}
	return p
}

// protocol reads the protocol's name and version.
func (d *decoder) protocol(p *Connect) bool {
	name := d.text()
	version := Version(d.byte())
	if d.failed != Success {
		return false
	}
	switch {
	case name == "MQTT" && (version == V311 || version == V5), name == "MQIsdp" && version == V31:
		p.Version, d.version = version, version
		return true
	case name == "MQTT" || name == "MQIsdp": // [MQTT-3.1.2-2]
		p.Version = version
	}
	d.fail(UnsupportedProtocolVersion) // [MQTT-3.1.2-1], [MQTT3-3.1.2-1]
	return false
}

func connectFlagsAllowed(flags byte, version Version) bool {
	will, qos := flags&flagWill != 0, flags&maskWillQoS>>3
	switch {
	case version == V31:
		// Bits that mean nothing in 3.1 may have any value.
		return !will || qos < 3
	case flags&flagReserved != 0: // [MQTT-3.1.2-3], [MQTT3-3.1.2-3]
		return false
	case !will && (qos != 0 || flags&flagWillRetain != 0): // [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT3-3.1.2-11], [MQTT3-3.1.2-13], [MQTT3-3.1.2-15]
		return false
	case qos == 3: // [MQTT-3.1.2-12], [MQTT3-3.1.2-14]
		return false
	default: // a password without a user name came with 5.0 ([MQTT3-3.1.2-22])
		return version == V5 || flags&flagPassword == 0 || flags&flagUsername != 0
	}
}

func (d *decoder) connectProperties(p *ConnectProperties) {
	for d.section(connectSet, userProperty); d.next(); {
		switch d.at.id {
		case propSessionExpiry:
			p.SessionExpiryInterval = d.uint32()
		case propReceiveMaximum:
			p.ReceiveMaximum = positive(d, d.uint16())
		case propMaximumPacketSize:
			p.MaximumPacketSize = positive(d, d.uint32())
		case propTopicAliasMaximum:
			p.TopicAliasMaximum = d.uint16()
		case propRequestResponseInfo:
			p.RequestResponseInfo = d.flag()
		case propRequestProblemInfo:
			p.NoProblemInfo = !d.flag()
		case propAuthMethod:
			p.AuthenticationMethod = d.text()
		case propAuthData:
			p.AuthenticationData = d.binary()
		default:
			d.userProperty(&p.UserProperties)
		}
	}
	if p.AuthenticationData != nil && p.AuthenticationMethod == "" {
		d.fail(ProtocolError)
	}
}

// will reads the will's properties, topic and payload (MQTT 5.0 §3.1.3.2 to §3.1.3.4).
func (d *decoder) will(flags byte) *Will {
	w := &Will{QoS: message.QoS(flags & maskWillQoS >> 3), Retain: flags&flagWillRetain != 0}
	if d.version == V5 {
		for d.section(willSet, userProperty); d.next(); {
			if d.at.id == propWillDelay {
				w.Properties.DelayInterval = d.uint32()
			} else {
				d.publishProperty(d.at.id, &w.Properties.PublishProperties)
			}
		}
	}
	w.Topic = d.topicName() // [MQTT-3.1.3-11], [MQTT3-3.1.3-10]
	if w.Topic == "" {      // [MQTT-4.7.3-1]
		d.fail(TopicNameInvalid)
	}
	w.Payload = d.binary()
	return w
}

// connack reads a CONNACK (MQTT 5.0 §3.2).
func (d *decoder) connack() *Connack {
	p := &Connack{}
	flags := d.byte()
	if flags > 1 && d.version != V31 { // [MQTT-3.2.2-1]
		d.fail(MalformedPacket)
	}
	p.SessionPresent = flags == 1 && d.version != V31
	if d.version != V5 {
		code := d.byte()
		if int(code) >= len(returnCodes) {
			d.fail(MalformedPacket)
			return p
		}
		p.Reason = returnCodes[code]
	} else {
		p.Reason = d.reason(CONNACK) // [MQTT-3.2.2-8]
		d.connackProperties(&p.Properties)
	}
	if p.SessionPresent && p.Reason != Success { // [MQTT-3.2.2-6]
		d.fail(ProtocolError)
	}
	return p
}

func (d *decoder) connackProperties(p *ConnackProperties) {
	for d.section(connackSet, userProperty); d.next(); {
		switch d.at.id {
		case propSessionExpiry:
			v := d.uint32()
			p.SessionExpiryInterval = &v
		case propReceiveMaximum:
			p.ReceiveMaximum = positive(d, d.uint16())
		case propMaximumPacketSize:
			p.MaximumPacketSize = positive(d, d.uint32())
		case propTopicAliasMaximum:
			p.TopicAliasMaximum = d.uint16()
		case propServerKeepAlive:
			v := d.uint16()
			p.ServerKeepAlive = &v
		case propAssignedClientID:
			p.AssignedClientID = d.text()
		case propReasonString:
			p.ReasonString = d.text()
		case propResponseInfo:
			p.ResponseInformation = d.text()
		case propServerReference:
			p.ServerReference = d.text()
		case propAuthMethod:
			p.AuthenticationMethod = d.text()
		case propAuthData:
			p.AuthenticationData = d.binary()
		case propUserProperty:
			d.userProperty(&p.UserProperties)
		default:
			d.availability(d.at.id, p)
		}
	}
	if p.AuthenticationData != nil && p.AuthenticationMethod == "" {
		d.fail(ProtocolError)
	}
}

// availability reads what a server says that it can and cannot do.
func (d *decoder) availability(id byte, p *ConnackProperties) {
	v := d.flag()
	switch id {
	case propMaximumQoS:
		var qos uint8
		if v {
			qos = 1
		}
		p.MaximumQoS = &qos
	case propRetainAvailable:
		p.RetainAvailable = &v
	case propWildcardAvailable:
		p.WildcardAvailable = &v
	case propSubscriptionIDAvail:
		p.SubscriptionIDAvailable = &v
	default:
		p.SharedAvailable = &v
	}
}
