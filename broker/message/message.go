package message

import (
	"time"
	"unsafe"
)

// QoS is a quality of service level of MQTT 5.0 §4.3: 0, 1 or 2.
// The zero value is [AtMostOnce].
type QoS uint8

// The three levels.
const (
	AtMostOnce  QoS = 0
	AtLeastOnce QoS = 1
	ExactlyOnce QoS = 2
)

// Property is one user property (MQTT 5.0 §3.3.2.3.7): a name and a value, both
// UTF-8, at most 65,535 bytes each. The same name may appear more than once.
type Property struct {
	Key, Value string
}

// Message is one application message on its way through the gateway.
//
// A Message is copied by value; what its slices point at is shared by everyone
// who holds the message and is never written after it was published.
type Message struct {
	// Topic is the topic name: valid by topic.ValidName, never an alias.
	Topic string
	// Payload is opaque bytes; nil and empty are the same. A retained message
	// with an empty payload clears the retained message of its topic.
	Payload []byte
	// QoS is the level it was published at; a delivery may be at a lower one.
	QoS QoS
	// Retain is the RETAIN flag of the publish. In a delivery to a subscriber of
	// a [Bus] it is true only for messages replayed from the retained store.
	Retain bool
	// UTF8 is the payload format indicator (MQTT 5.0 §3.3.2.3.2): the payload
	// claims to be UTF-8 text.
	UTF8 bool
	// NoResponse says that whoever published the message may not publish to ResponseTopic
	// himself: who answers there does it in his stead. The broker says so of what clients
	// publish; it is not sent, nor kept over a restart.
	NoResponse bool
	// Hops counts the rules behind the message: 0 for one from outside. Above 8
	// the message is dropped, counted and shown.
	Hops uint8
	// ContentType describes the payload (MQTT 5.0 §3.3.2.3.9); empty means none.
	ContentType string
	// ResponseTopic is where an answer is wanted (MQTT 5.0 §3.3.2.3.5); empty
	// means that none is.
	ResponseTopic string
	// CorrelationData belongs to ResponseTopic (MQTT 5.0 §3.3.2.3.6).
	CorrelationData []byte
	// UserProperties are carried through in order (MQTT 5.0 §3.3.2.3.7).
	UserProperties []Property
	// Expires is when the message is worthless; the zero time means never. While
	// the gateway runs it carries a monotonic reading, so that a jump of the wall
	// clock neither purges a message nor makes it immortal.
	Expires time.Time
	// Origin says who published: client/ID, device/NAME, rule/NAME, plugin/NAME
	// or uplink/NAME. Empty means the gateway itself.
	Origin string
	// At is when the broker accepted the message; Publish fills it in when zero. It does
	// not say which of two came later: clocks are set, and publishers overtake each other.
	At time.Time
	// Order says that: of two messages of a topic the one with the greater Order was routed
	// later, or at the same time, and whoever hears both takes it for the later one. No two
	// messages have the same. The broker sets it as it routes a message, whatever it was,
	// and keeps it over restarts; it is 0 before, and of what a store has from before there
	// was one: nobody knows when that came, but for that it was before this run.
	Order uint64
}

// MaxHops is how many rules a message may pass through before it is dropped.
const MaxHops = 8

// Expired reports whether the message is worthless at now.
func (m *Message) Expired(now time.Time) bool {
	return !m.Expires.IsZero() && !now.Before(m.Expires)
}

// Size is what the message counts against a limit in bytes: its topic, payload
// and properties, and a fixed share for the rest.
func (m *Message) Size() int {
	const fixed = 64
	n := fixed + len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for _, p := range m.UserProperties {
		n += len(p.Key) + len(p.Value) + 4
	}
	return n
}

// Clone returns a copy that shares no memory with m, but for its Origin.
func (m *Message) Clone() *Message {
	c := new(Message)
	m.CloneTo(c)
	return c
}

// CloneTo makes of c what Clone returns.
func (m *Message) CloneTo(c *Message) {
	*c = *m
	n := len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for _, p := range m.UserProperties {
		n += len(p.Key) + len(p.Value)
	}
	a := arena(make([]byte, 0, n))
	c.Topic, c.ContentType, c.ResponseTopic = a.text(m.Topic), a.text(m.ContentType), a.text(m.ResponseTopic)
	c.Payload, c.CorrelationData = a.bytes(m.Payload), a.bytes(m.CorrelationData)
	if m.UserProperties != nil {
		c.UserProperties = make([]Property, len(m.UserProperties))
		for i, p := range m.UserProperties {
			c.UserProperties[i] = Property{Key: a.text(p.Key), Value: a.text(p.Value)}
		}
	}
}

// SetCopies sets the topic and the payload to copies in one piece of memory; nil leaves
// what is there.
func (m *Message) SetCopies(topic, payload []byte) {
	if topic == nil && payload == nil {
		return
	}
	a := arena(make([]byte, 0, len(topic)+len(payload)))
	if topic != nil {
		m.Topic = a.text(unsafe.String(unsafe.SliceData(topic), len(topic)))
	}
	if payload != nil {
		m.Payload = a.bytes(payload)
	}
}

// arena is memory that is taken at once and given out in parts.
type arena []byte

func (a *arena) bytes(b []byte) []byte {
	if b == nil {
		return nil
	}
	at := len(*a)
	*a = append(*a, b...)
	return (*a)[at:len(*a):len(*a)]
}

func (a *arena) text(s string) string {
	if s == "" {
		return ""
	}
	at := len(*a)
	*a = append(*a, s...)
	return unsafe.String(&(*a)[at], len(s)) // the arena never grows beyond its memory, and is not written again
}
