package packet

import "github.com/gatehouse/gatehouse/broker/message"

// connect writes a CONNECT (MQTT 5.0 §3.1).
func (e *encoder) connect(p *Connect) {
	at := e.begin(CONNECT, 0)
	if p.Version == V31 {
		e.text("MQIsdp")
	} else {
		e.text("MQTT")
	}
	e.b = append(e.b, byte(p.Version), e.connectFlags(p))
	e.uint16(p.KeepAlive)
	if e.version == V5 {
		e.connectProperties(&p.Properties)
	}
	e.text(p.ClientID)
	if p.Will != nil {
		e.will(p.Will)
	}
	if p.HasUsername {
		e.text(p.Username)
	}
	if p.HasPassword {
		e.binary(p.Password)
	}
	e.end(at, 0)
}

func (e *encoder) connectFlags(p *Connect) (flags byte) {
	if p.Clean {
		flags |= flagClean
	}
	if p.HasUsername {
		flags |= flagUsername
	}
	if p.HasPassword {
		flags |= flagPassword
		if e.version != V5 && !p.HasUsername {
			e.fail("cannot write a CONNECT with password and without user name before MQTT 5.0")
		}
	}
	if w := p.Will; w != nil {
		flags |= flagWill | byte(w.QoS)<<3&maskWillQoS
		if w.Retain {
			flags |= flagWillRetain
		}
		if w.QoS > message.ExactlyOnce {
			e.fail("cannot write a will of QoS 3 or more")
		}
	}
	return flags
}

func (e *encoder) connectProperties(p *ConnectProperties) {
	props := e.open()
	e.number32(propSessionExpiry, p.SessionExpiryInterval)
	e.number16(propReceiveMaximum, p.ReceiveMaximum)
	e.number32(propMaximumPacketSize, p.MaximumPacketSize)
	e.number16(propTopicAliasMaximum, p.TopicAliasMaximum)
	e.trueFlag(propRequestResponseInfo, p.RequestResponseInfo)
	if p.NoProblemInfo {
		e.b = append(e.b, propRequestProblemInfo, 0)
	}
	e.authentication(p.AuthenticationMethod, p.AuthenticationData)
	e.userProperties(p.UserProperties)
	e.end(props, 0)
}

func (e *encoder) authentication(method string, data []byte) {
	if method == "" && data != nil {
		e.fail("cannot write authentication data without authentication method")
	}
	e.string(propAuthMethod, method)
	e.bytes(propAuthData, data)
}

func (e *encoder) will(w *Will) {
	if e.version == V5 {
		props := e.open()
		e.number32(propWillDelay, w.Properties.DelayInterval)
		e.messageProperties(&w.Properties.PublishProperties)
		e.end(props, 0)
	}
	if w.Topic == "" || w.Properties.TopicAlias != 0 || len(w.Properties.SubscriptionIDs) > 0 {
		e.fail("cannot write a will without topic name, or with topic alias or subscription identifiers")
	}
	e.topicName(w.Topic)
	e.binary(w.Payload)
}

// returnCodes are what the return codes of a 3.x CONNACK mean (MQTT 3.1.1 §3.2.2.3).
var returnCodes = [6]Reason{
	Success,
	UnsupportedProtocolVersion,
	ClientIdentifierNotValid,
	ServerUnavailable,
	BadUserNameOrPassword,
	NotAuthorized,
}

// returnCode is the return code that comes nearest to a reason code.
func returnCode(r Reason) byte {
	switch r {
	case Success:
		return 0
	case UnsupportedProtocolVersion:
		return 1 // [MQTT3-3.1.2-2]
	case ClientIdentifierNotValid:
		return 2
	case BadUserNameOrPassword, BadAuthenticationMethod:
		return 4
	case NotAuthorized, Banned:
		return 5
	default:
		return 3
	}
}

// connack writes a CONNACK (MQTT 5.0 §3.2).
func (e *encoder) connack(p *Connack) {
	at := e.begin(CONNACK, 0)
	var flags byte // [MQTT-3.2.2-1]
	if p.SessionPresent {
		if p.Reason != Success { // [MQTT-3.2.2-6], [MQTT3-3.2.2-4]
			e.fail("cannot write a CONNACK that refuses with a session present")
		}
		if e.version != V31 {
			flags = 1
		}
	}
	e.b = append(e.b, flags)
	if e.version == V5 {
		e.reason(p.Reason, CONNACK) // [MQTT-3.2.2-8]
		e.connackProperties(&p.Properties)
	} else {
		e.b = append(e.b, returnCode(p.Reason))
	}
	e.end(at, 0)
}

func (e *encoder) connackProperties(p *ConnackProperties) {
	props := e.open()
	e.optional32(propSessionExpiry, p.SessionExpiryInterval)
	e.number16(propReceiveMaximum, p.ReceiveMaximum)
	if p.MaximumQoS != nil {
		if *p.MaximumQoS > 1 {
			e.fail("cannot write a maximum QoS other than 0 and 1")
		}
		e.b = append(e.b, propMaximumQoS, *p.MaximumQoS)
	}
	e.optionalFlag(propRetainAvailable, p.RetainAvailable)
	e.number32(propMaximumPacketSize, p.MaximumPacketSize)
	e.string(propAssignedClientID, p.AssignedClientID)
	e.number16(propTopicAliasMaximum, p.TopicAliasMaximum)
	e.string(propReasonString, p.ReasonString)
	e.optionalFlag(propWildcardAvailable, p.WildcardAvailable)
	e.optionalFlag(propSubscriptionIDAvail, p.SubscriptionIDAvailable)
	e.optionalFlag(propSharedAvailable, p.SharedAvailable)
	if p.ServerKeepAlive != nil {
		e.b = append(e.b, propServerKeepAlive)
		e.uint16(*p.ServerKeepAlive)
	}
	e.string(propResponseInfo, p.ResponseInformation)
	e.string(propServerReference, p.ServerReference)
	e.authentication(p.AuthenticationMethod, p.AuthenticationData)
	e.userProperties(p.UserProperties)
	e.end(props, 0)
}
