package packet

import (
	"fmt"
	"strings"
)

// String gives the version as people write it: 3.1, 3.1.1 or 5.0.
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	default:
		return fmt.Sprintf("level %d", uint8(v))
	}
}

var typeNames = [16]string{
	"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// String gives the standard's name of the type, such as PUBLISH.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

var reasonNames = map[Reason]string{
	Success:                     "Success",
	GrantedQoS1:                 "Granted QoS 1",
	GrantedQoS2:                 "Granted QoS 2",
	DisconnectWithWill:          "Disconnect with Will Message",
	NoMatchingSubscribers:       "No matching subscribers",
	NoSubscriptionExisted:       "No subscription existed",
	ContinueAuthentication:      "Continue authentication",
	ReAuthenticate:              "Re-authenticate",
	UnspecifiedError:            "Unspecified error",
	MalformedPacket:             "Malformed Packet",
	ProtocolError:               "Protocol Error",
	ImplementationSpecificError: "Implementation specific error",
	UnsupportedProtocolVersion:  "Unsupported Protocol Version",
	ClientIdentifierNotValid:    "Client Identifier not valid",
	BadUserNameOrPassword:       "Bad User Name or Password",
	NotAuthorized:               "Not authorized",
	ServerUnavailable:           "Server unavailable",
	ServerBusy:                  "Server busy",
	Banned:                      "Banned",
	ServerShuttingDown:          "Server shutting down",
	BadAuthenticationMethod:     "Bad authentication method",
	KeepAliveTimeout:            "Keep Alive timeout",
	SessionTakenOver:            "Session taken over",
	TopicFilterInvalid:          "Topic Filter invalid",
	TopicNameInvalid:            "Topic Name invalid",
	PacketIdentifierInUse:       "Packet Identifier in use",
	PacketIdentifierNotFound:    "Packet Identifier not found",
	ReceiveMaximumExceeded:      "Receive Maximum exceeded",
	TopicAliasInvalid:           "Topic Alias invalid",
	PacketTooLarge:              "Packet too large",
	MessageRateTooHigh:          "Message rate too high",
	QuotaExceeded:               "Quota exceeded",
	AdministrativeAction:        "Administrative action",
	PayloadFormatInvalid:        "Payload format invalid",
	RetainNotSupported:          "Retain not supported",
	QoSNotSupported:             "QoS not supported",
	UseAnotherServer:            "Use another server",
	ServerMoved:                 "Server moved",
	SharedNotSupported:          "Shared Subscriptions not supported",
	ConnectionRateExceeded:      "Connection rate exceeded",
	MaximumConnectTime:          "Maximum connect time",
	SubscriptionIDNotSupported:  "Subscription Identifiers not supported",
	WildcardNotSupported:        "Wildcard Subscriptions not supported",
}

// String gives the standard's name of the code (MQTT 5.0 §2.4).
func (r Reason) String() string {
	if name, ok := reasonNames[r]; ok {
		return name
	}
	return "Unknown reason"
}

// reasonsIn holds the reason codes that each type of packet may carry.
var reasonsIn = [16]string{
	CONNACK:    "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8C\x90\x95\x97\x99\x9A\x9B\x9C\x9D\x9F",
	PUBACK:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	PUBREC:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	PUBREL:     "\x00\x92",
	PUBCOMP:    "\x00\x92",
	SUBACK:     "\x00\x01\x02\x80\x83\x87\x8F\x91\x97\x9E\xA1\xA2",
	UNSUBACK:   "\x00\x11\x80\x83\x87\x8F\x91",
	DISCONNECT: "\x00\x04\x80\x81\x82\x83\x87\x89\x8B\x8C\x8D\x8E\x8F\x90\x93\x94\x95\x96\x97\x98\x99\x9A\x9B\x9C\x9D\x9E\x9F\xA0\xA1\xA2",
	AUTH:       "\x00\x18\x19",
}

// ValidIn reports whether a packet of type t may carry the code (MQTT 5.0 §2.4).
// [Read] and [Append] refuse others.
func (r Reason) ValidIn(t Type) bool {
	return int(t) < len(reasonsIn) && strings.IndexByte(reasonsIn[t], byte(r)) >= 0
}
