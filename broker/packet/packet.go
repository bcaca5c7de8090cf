package packet

import "github.com/gatehouse/gatehouse/broker/message"

// Version is a protocol level as CONNECT carries it (MQTT 5.0 §3.1.2.2).
type Version uint8

// The versions.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// Type is a control packet type (MQTT 5.0 §2.1.2), 1 to 15.
type Type uint8

// The fifteen types.
const (
	CONNECT Type = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

// Packet is one control packet: a pointer to one of the structs of this package.
type Packet interface {
	// Type is the packet's control packet type.
	Type() Type
}

// Will is the will of a CONNECT (MQTT 5.0 §3.1.3.2, §3.1.3.3).
type Will struct {
	Topic      string
	Payload    []byte
	QoS        message.QoS
	Retain     bool
	Properties WillProperties
}

// WillProperties are the properties of a will (MQTT 5.0 §3.1.3.2). A will has
// neither topic alias nor subscription identifiers.
type WillProperties struct {
	DelayInterval uint32 // seconds
	PublishProperties
}

// Connect is a CONNECT packet (MQTT 5.0 §3.1). Its Version decides how it is
// written.
type Connect struct {
	Version     Version
	Clean       bool   // clean start (5.0), clean session (3.1.1)
	KeepAlive   uint16 // seconds, 0 is off
	ClientID    string
	Will        *Will // nil is none
	HasUsername bool
	Username    string
	HasPassword bool
	Password    []byte
	Properties  ConnectProperties
}

// ConnectProperties are the properties of a CONNECT (MQTT 5.0 §3.1.2.11). A zero
// value is an absent property.
type ConnectProperties struct {
	SessionExpiryInterval uint32 // seconds; 0xFFFFFFFF never expires
	ReceiveMaximum        uint16 // 0 is absent, which means 65,535
	MaximumPacketSize     uint32 // 0 is absent, which means no limit
	TopicAliasMaximum     uint16
	RequestResponseInfo   bool
	NoProblemInfo         bool // Request Problem Information was sent as 0
	UserProperties        []message.Property
	AuthenticationMethod  string
	AuthenticationData    []byte // nil is absent; only with a method
}

// Connack is a CONNACK packet (MQTT 5.0 §3.2). To a 3.x client its Reason is
// written as the return code that comes nearest (MQTT 3.1.1 §3.2.2.3).
type Connack struct {
	SessionPresent bool
	Reason         Reason
	Properties     ConnackProperties
}

// ConnackProperties are the properties of a CONNACK (MQTT 5.0 §3.2.2.3). A zero
// value, or nil, is an absent property.
type ConnackProperties struct {
	SessionExpiryInterval   *uint32
	ReceiveMaximum          uint16
	MaximumQoS              *uint8 // 0 or 1
	RetainAvailable         *bool
	MaximumPacketSize       uint32
	AssignedClientID        string
	TopicAliasMaximum       uint16
	ReasonString            string
	UserProperties          []message.Property
	WildcardAvailable       *bool
	SubscriptionIDAvailable *bool
	SharedAvailable         *bool
	ServerKeepAlive         *uint16
	ResponseInformation     string
	ServerReference         string
	AuthenticationMethod    string
	AuthenticationData      []byte
}

// Publish is a PUBLISH packet (MQTT 5.0 §3.3).
type Publish struct {
	Dup        bool
	QoS        message.QoS
	Retain     bool
	Topic      string // empty when a topic alias stands for it
	ID         uint16 // packet identifier; 0 at QoS 0
	Payload    []byte
	Properties PublishProperties
}

// PublishProperties are the properties of a PUBLISH (MQTT 5.0 §3.3.2.3). A zero
// value, or nil, is an absent property.
type PublishProperties struct {
	UTF8                  bool // payload format indicator
	MessageExpiryInterval *uint32
	TopicAlias            uint16
	ResponseTopic         string
	CorrelationData       []byte // nil is absent, empty is present
	UserProperties        []message.Property
	SubscriptionIDs       []uint32 // 1 to 268,435,455
	ContentType           string
}

// Ack is what PUBACK, PUBREC, PUBREL and PUBCOMP carry (MQTT 5.0 §3.4 to §3.7).
type Ack struct {
	Kind           Type // PUBACK, PUBREC, PUBREL or PUBCOMP
	ID             uint16
	Reason         Reason
	ReasonString   string
	UserProperties []message.Property
}

// RetainHandling says when a SUBSCRIBE is answered with retained messages: retain
// handling (MQTT 5.0 §3.8.3.1).
type RetainHandling uint8

// The three ways.
const (
	SendRetained      RetainHandling = 0
	SendRetainedIfNew RetainHandling = 1
	NoRetained        RetainHandling = 2
)

// SubscribeOptions are the options of one topic filter (MQTT 5.0 §3.8.3.1).
type SubscribeOptions struct {
	QoS               message.QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    RetainHandling
}

// Filter is one topic filter of a SUBSCRIBE with its options.
type Filter struct {
	Filter  string
	Options SubscribeOptions
}

// Subscribe is a SUBSCRIBE packet (MQTT 5.0 §3.8).
type Subscribe struct {
	ID             uint16
	Filters        []Filter // at least one
	SubscriptionID uint32   // 0 is absent
	UserProperties []message.Property
}

// Suback is a SUBACK packet (MQTT 5.0 §3.9): a Reason for each filter, in order.
type Suback struct {
	ID             uint16
	Reasons        []Reason
	ReasonString   string
	UserProperties []message.Property
}

// Unsubscribe is an UNSUBSCRIBE packet (MQTT 5.0 §3.10).
type Unsubscribe struct {
	ID             uint16
	Filters        []string // at least one
	UserProperties []message.Property
}

// Unsuback is an UNSUBACK packet (MQTT 5.0 §3.11); a 3.x client gets no Reasons.
type Unsuback struct {
	ID             uint16
	Reasons        []Reason
	ReasonString   string
	UserProperties []message.Property
}

// Pingreq is a PINGREQ packet (MQTT 5.0 §3.12).
type Pingreq struct{}

// Pingresp is a PINGRESP packet (MQTT 5.0 §3.13).
type Pingresp struct{}

// Disconnect is a DISCONNECT packet (MQTT 5.0 §3.14).
type Disconnect struct {
	Reason                Reason
	SessionExpiryInterval *uint32 // nil is absent
	ReasonString          string
	UserProperties        []message.Property
	ServerReference       string
}

// Auth is an AUTH packet (MQTT 5.0 §3.15).
type Auth struct {
	Reason               Reason
	AuthenticationMethod string
	AuthenticationData   []byte
	ReasonString         string
	UserProperties       []message.Property
}

// Type returns CONNECT.
func (*Connect) Type() Type { return CONNECT }

// Type returns CONNACK.
func (*Connack) Type() Type { return CONNACK }

// Type returns PUBLISH.
func (*Publish) Type() Type { return PUBLISH }

// Type returns the kind of acknowledgement.
func (a *Ack) Type() Type { return a.Kind }

// Type returns SUBSCRIBE.
func (*Subscribe) Type() Type { return SUBSCRIBE }

// Type returns SUBACK.
func (*Suback) Type() Type { return SUBACK }

// Type returns UNSUBSCRIBE.
func (*Unsubscribe) Type() Type { return UNSUBSCRIBE }

// Type returns UNSUBACK.
func (*Unsuback) Type() Type { return UNSUBACK }

// Type returns PINGREQ.
func (*Pingreq) Type() Type { return PINGREQ }

// Type returns PINGRESP.
func (*Pingresp) Type() Type { return PINGRESP }

// Type returns DISCONNECT.
func (*Disconnect) Type() Type { return DISCONNECT }

// Type returns AUTH.
func (*Auth) Type() Type { return AUTH }
