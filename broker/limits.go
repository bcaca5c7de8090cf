package broker

import (
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Limits bound what clients may use of a [Server]. A zero field means its default.
type Limits struct {
	// Connections is how many may be open at once; more are closed as they come.
	// Default 10,000.
	Connections int
	// ConnectionsPerAddress is how many may be open at once from one address: an IPv4
	// address, or the /64 network of an IPv6 address; more are closed as they come.
	// Loopback and Unix sockets are not counted. Default 256; below 0 is no limit.
	ConnectionsPerAddress int
	// Sessions is how many may exist, connected or not; a CONNECT that would make
	// one more is refused with 0x97, quota exceeded. Default 20,000.
	Sessions int
	// ConnectPacket is the largest CONNECT in bytes, limited before anything is
	// known of the client. Default 64 KiB.
	ConnectPacket int
	// ConnectTime is how long a client may take to be connected. Default 5 s.
	ConnectTime time.Duration
	// Packet is the largest packet in bytes taken from a connected client
	// (Maximum Packet Size). Default 1 MiB.
	Packet int
	// TopicLevels is how many levels a topic name or filter may have; more are refused
	// with 0x90, topic name invalid, or 0x8F, topic filter invalid. Default 128, at
	// most 65,535.
	TopicLevels int
	// UserProperties bound those of one packet, and of a will, in number and bytes
	// (names and values). More are refused with 0x97, quota exceeded, in CONNACK,
	// PUBACK, PUBREC and SUBACK; a PUBLISH of QoS 0 is dropped and counted. Those of
	// other packets are not kept. Default 64, 16 KiB.
	UserProperties Amount
	// PublishRate is how many PUBLISH packets a second are taken from one client, on
	// average: it may send those of one second at once, then the reader pauses, and
	// nothing is dropped. 0 is no limit; at most 1,000,000.
	PublishRate int
	// Filters is how many subscriptions a session may have. Default 1,000.
	Filters int
	// SessionExpiry is the longest that a session may outlive its connection: that of
	// a 3.x client that is not clean, and that of a 5.0 client that asks for more,
	// which is told this one. 0 is no limit: such sessions of 3.x never end.
	SessionExpiry time.Duration
	// QueueMessages and QueueBytes bound what is queued for one session, in flight
	// not counted. When either is reached the oldest queued message is dropped and
	// counted, or with KeepOldest the one that comes; retained messages that a SUBSCRIBE asked for come on top, as many as
	// Retained and RetainedBytes say: a subscription that asks for more while others
	// wait is refused with 0x97, quota exceeded. Default 10,000 messages, 8 MiB.
	QueueMessages int
	QueueBytes    int64
	// AllQueues bound what is queued for all sessions together. A session may queue
	// as much as is free of it, so that one that queues much leaves as much to others;
	// beyond that a message is dropped and counted. Retained messages that a SUBSCRIBE
	// asked for count by their number, and are refused with 0x97 when they are too
	// many. Default 1,000,000 messages, 128 MiB.
	AllQueues Amount
	// KeepOldest drops the message that comes to a full queue (of another class: the
	// newest of the lowest, see [Priority]) instead of the oldest in it.
	KeepOldest bool
	// Window is how many bytes of a queue that the store has are in memory as well
	// while its client is there, and AllWindows how many of all queues: when little of
	// it is left each gets less, but one message. Queues of sessions that end with their
	// connection, and messages of QoS 0, are in memory only: they count in AllWindows,
	// and may be as much as is free of it. Default 1 MiB, 64 MiB.
	Window, AllWindows int64
	// InFlight is how many messages of QoS 1 and 2 may be on their way at once: to
	// a client, unless its Receive Maximum is lower, and from it (our Receive
	// Maximum). Default 1,024; at most 65,535.
	InFlight int
	// Output is how many bytes may wait for one client's socket. Above it messages
	// of QoS 0 for it are dropped and counted, those of QoS 1 and 2 stay queued, and
	// nothing more is read from the client. Default 1 MiB.
	Output int
	// WriteTime is how long a client's socket may take nothing at all before the
	// connection is ended. Default 30 s.
	WriteTime time.Duration
	// KeepAlive is the longest keep alive; a 5.0 client that asks for more or none
	// is told this one. 0 leaves the choice to clients.
	KeepAlive time.Duration
	// TopicAliases is how many a 5.0 client may use, and the most that we use towards
	// one, if it takes as many. Default 128.
	TopicAliases int
	// Retained and RetainedBytes bound the retained messages, those from inside the
	// gateway too, by their number and by the sum of their [message.Message.Size];
	// one that would make them more is refused with 0x97, quota exceeded, and what
	// its topic had stays. One no larger than that is always taken. Default 100,000
	// messages, 64 MiB.
	Retained      int
	RetainedBytes int64
	// Delayed bounds messages that wait below $delayed.
	Delayed DelayLimits
}

// DelayLimits bound messages that are to be delivered later: those published to
// $delayed/SECONDS/TOPIC. One that would be more is refused with 0x97, quota
// exceeded; one that would wait for longer with 0x90, topic name invalid. A zero
// field means its default.
type DelayLimits struct {
	// Messages and Bytes are how many may wait, the bytes by [message.Message.Size].
	// Default 10,000 messages, 16 MiB.
	Messages int
	Bytes    int64
	// Longest is the longest delay. Default 30 days; at most [MaxDelay].
	Longest time.Duration
}

// Amount is a number of things and of their bytes.
type Amount struct {
	Count int
	Bytes int64
}

// DefaultLimits are those of a zero Limits.
func DefaultLimits() Limits {
	var l Limits
	l.setDefaults()
	return l
}

func (l *Limits) setDefaults() {
	def(&l.Connections, 10_000)
	def(&l.ConnectionsPerAddress, 256)
	def(&l.TopicLevels, 128)
	def(&l.UserProperties.Count, 64)
	def(&l.UserProperties.Bytes, 16<<10)
	def(&l.AllQueues.Count, 1_000_000)
	def(&l.AllQueues.Bytes, 128<<20)
	def(&l.Sessions, 20_000)
	def(&l.ConnectPacket, 64<<10)
	def(&l.ConnectTime, 5*time.Second)
	def(&l.Packet, 1<<20)
	def(&l.Filters, 1_000)
	def(&l.QueueMessages, 10_000)
	def(&l.QueueBytes, 8<<20)
	def(&l.Window, 1<<20)
	def(&l.AllWindows, 64<<20)
	def(&l.InFlight, 1_024)
	def(&l.Output, 1<<20)
	def(&l.WriteTime, 30*time.Second)
	def(&l.TopicAliases, 128)
	def(&l.Retained, 100_000)
	def(&l.RetainedBytes, 64<<20)
	def(&l.Delayed.Messages, 10_000)
	def(&l.Delayed.Bytes, 16<<20)
	def(&l.Delayed.Longest, 30*24*time.Hour)
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (l *Limits) check() error {
	switch {
	case l.Connections < 0, l.Sessions < 0, l.ConnectPacket < 0, l.ConnectTime < 0, l.Packet < 0, l.Filters < 0,
		l.QueueMessages < 0, l.QueueBytes < 0, l.InFlight < 0, l.Output < 0, l.WriteTime < 0, l.KeepAlive < 0,
		l.TopicAliases < 0, l.Retained < 0, l.RetainedBytes < 0, l.SessionExpiry < 0,
		l.Delayed.Messages < 0, l.Delayed.Bytes < 0, l.Delayed.Longest < 0, l.TopicLevels < 0, l.PublishRate < 0,
		l.UserProperties.Count < 0, l.UserProperties.Bytes < 0, l.AllQueues.Count < 0, l.AllQueues.Bytes < 0, l.Window < 0, l.AllWindows < 0:
		return fmt.Errorf("a limit is below 0")
	case l.TopicLevels > 65_535:
		return fmt.Errorf("limit of topic levels is %d, the most is 65535", l.TopicLevels)
	case l.PublishRate > 1_000_000:
		return fmt.Errorf("limit of the publish rate is %d a second, the most is 1000000", l.PublishRate)
	case l.InFlight > 65_535:
		return fmt.Errorf("limit of messages in flight is %d, the most is 65535", l.InFlight)
	case l.TopicAliases > 65_535:
		return fmt.Errorf("limit of topic aliases is %d, the most is 65535", l.TopicAliases)
	case l.Packet > 268_435_455:
		return fmt.Errorf("limit of a packet is %d bytes, the most is 268435455", l.Packet)
	case l.Delayed.Longest > MaxDelay:
		return fmt.Errorf("limit of delays is %v, the most is %v", l.Delayed.Longest, MaxDelay)
	case l.KeepAlive > 65_535*time.Second:
		return fmt.Errorf("limit of the keep alive is %v, the most is 65535 s", l.KeepAlive)
	default:
		return nil
	}
}

// tooDeep reports whether a topic name or filter has too many levels.
func (l *Limits) tooDeep(topic string) bool {
	return len(topic) >= l.TopicLevels && strings.Count(topic, "/") >= l.TopicLevels
}

// tooMany reports whether the user properties of a packet are beyond the limit.
func (l *Limits) tooMany(properties []message.Property) bool {
	if len(properties) > l.UserProperties.Count {
		return true
	}
	bytes := int64(0)
	for i := range properties {
		bytes += int64(len(properties[i].Key) + len(properties[i].Value))
	}
	return bytes > l.UserProperties.Bytes
}
