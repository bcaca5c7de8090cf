package config

import (
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/broker"
)

// Limits bound what clients may use; docs/operate.md says what happens beyond each.
// Sizes are bytes. The tags "min" and "max" are the range of a key.
type Limits struct {
	// Connections may be open at once, connected or not.
	Connections int `yaml:"connections" min:"1" max:"1000000"`
	// ConnectionsPerAddress may be open at once from one IPv4 address or IPv6 /64
	// network; loopback is not counted. 0 is no limit.
	ConnectionsPerAddress int `yaml:"connections_per_address" min:"0" max:"1000000"`
	// ConnectTime is how long a client may take to be connected.
	ConnectTime Duration `yaml:"connect_time" min:"100ms" max:"1m"`
	// ConnectBytes is the largest CONNECT.
	ConnectBytes int `yaml:"connect_bytes" min:"256" max:"1048576"`
	// Sessions may exist, connected or not.
	Sessions int `yaml:"sessions" min:"1" max:"1000000"`
	// PacketBytes is the largest packet of a connected client.
	PacketBytes int `yaml:"packet_bytes" min:"256" max:"268435455"`
	// TopicLevels are those of a topic name or filter.
	TopicLevels int `yaml:"topic_levels" min:"1" max:"65535"`
	// UserProperties and UserPropertyBytes are those of one packet.
	UserProperties    int   `yaml:"user_properties" min:"1" max:"65535"`
	UserPropertyBytes int64 `yaml:"user_property_bytes" min:"1" max:"268435455"`
	// Filters are the subscriptions of a session.
	Filters int `yaml:"filters" min:"1" max:"1000000"`
	// InFlight are messages of QoS 1 and 2 on their way to or from a client.
	InFlight int `yaml:"in_flight" min:"1" max:"65535"`
	// TopicAliases are those that a client may use.
	TopicAliases int `yaml:"topic_aliases" min:"1" max:"65535"`
	// KeepAlive is the longest; 0s leaves it to clients.
	KeepAlive Duration `yaml:"keep_alive" min:"0s" max:"65535s"`
	// PublishRate is how many messages a second are read from one client; beyond it
	// the reader pauses. 0 is no limit.
	PublishRate int `yaml:"publish_rate" min:"0" max:"1000000"`
	// QueueMessages and QueueBytes are what waits for one session.
	QueueMessages int   `yaml:"queue_messages" min:"1" max:"100000000"`
	QueueBytes    int64 `yaml:"queue_bytes" min:"1024" max:"1099511627776"`
	// AllQueuesMessages and AllQueuesBytes are what waits for all sessions together.
	AllQueuesMessages int   `yaml:"all_queues_messages" min:"1" max:"1000000000"`
	AllQueuesBytes    int64 `yaml:"all_queues_bytes" min:"1024" max:"1099511627776"`
	// QueueDrop says what a full queue drops: the oldest message in it, or the newest,
	// which is the one that comes.
	QueueDrop string `yaml:"queue_drop" jsonschema:"enum=oldest,enum=newest"`
	// WindowBytes are what of a session's queue is in memory though the store has it,
	// AllWindowsBytes what of all queues is.
	WindowBytes     int64 `yaml:"window_bytes" min:"1024" max:"1073741824"`
	AllWindowsBytes int64 `yaml:"all_windows_bytes" min:"65536" max:"1099511627776"`
	// OutputBytes may wait for one client's socket, which may take nothing for
	// WriteTime.
	OutputBytes int      `yaml:"output_bytes" min:"4096" max:"1073741824"`
	WriteTime   Duration `yaml:"write_time" min:"1s" max:"1h"`
	// RetainedMessages and RetainedBytes are what is retained.
	RetainedMessages int   `yaml:"retained_messages" min:"1" max:"100000000"`
	RetainedBytes    int64 `yaml:"retained_bytes" min:"1024" max:"1099511627776"`
}

// Duration is a time in the words of Go: 250ms, 5s, 1h30m.
type Duration time.Duration

// UnmarshalYAML implements [yaml.NodeUnmarshaler].
func (d *Duration) UnmarshalYAML(node ast.Node) error {
	text := node.GetToken().Value
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return &yaml.SyntaxError{Message: fmt.Sprintf("%q is not a time such as 250ms, 5s or 1h30m", text), Token: node.GetToken()}
	}
	*d = Duration(parsed)
	return nil
}

// What queue_drop may be.
const (
	dropOldest = "oldest"
	dropNewest = "newest"
)

func defaultLimits() Limits {
	return Limits{
		Connections: 10_000, ConnectionsPerAddress: 256, ConnectTime: Duration(5 * time.Second), ConnectBytes: 64 << 10,
		Sessions: 20_000, PacketBytes: 1 << 20, TopicLevels: 128, UserProperties: 64, UserPropertyBytes: 16 << 10,
		Filters: 1_000, InFlight: 1_024, TopicAliases: 128,
		QueueMessages: 10_000, QueueBytes: 8 << 20, AllQueuesMessages: 1_000_000, AllQueuesBytes: 128 << 20,
		QueueDrop: dropOldest, WindowBytes: 1 << 20, AllWindowsBytes: 64 << 20,
		OutputBytes: 1 << 20, WriteTime: Duration(30 * time.Second), RetainedMessages: 100_000, RetainedBytes: 64 << 20,
	}
}

// Broker are the limits as the broker takes them.
func (l *Limits) Broker() broker.Limits {
	perAddress := l.ConnectionsPerAddress
	if perAddress == 0 {
		perAddress = -1 // no limit, and not the default
	}
	return broker.Limits{
		Connections: l.Connections, ConnectionsPerAddress: perAddress, ConnectTime: time.Duration(l.ConnectTime), ConnectPacket: l.ConnectBytes,
		Sessions: l.Sessions, Packet: l.PacketBytes, TopicLevels: l.TopicLevels,
		UserProperties: broker.Amount{Count: l.UserProperties, Bytes: l.UserPropertyBytes},
		Filters:        l.Filters, InFlight: l.InFlight, TopicAliases: l.TopicAliases, KeepAlive: time.Duration(l.KeepAlive), PublishRate: l.PublishRate,
		QueueMessages: l.QueueMessages, QueueBytes: l.QueueBytes,
		AllQueues:  broker.Amount{Count: l.AllQueuesMessages, Bytes: l.AllQueuesBytes},
		KeepOldest: l.QueueDrop == dropNewest, Window: l.WindowBytes, AllWindows: l.AllWindowsBytes,
		Output: l.OutputBytes, WriteTime: time.Duration(l.WriteTime), Retained: l.RetainedMessages, RetainedBytes: l.RetainedBytes,
	}
}

// check holds every key to its range.
func (l *Limits) check(fail func(key, format string, args ...any)) {
	if l.QueueDrop != dropOldest && l.QueueDrop != dropNewest {
		fail("queue_drop", "%q is neither %s nor %s", l.QueueDrop, dropOldest, dropNewest)
	}
	for field, value := range reflect.ValueOf(l).Elem().Fields() {
		if !value.CanInt() {
			continue
		}
		lowest, highest := field.Tag.Get("min"), field.Tag.Get("max")
		n := value.Int()
		if n >= bound(lowest, field.Type) && n <= bound(highest, field.Type) {
			continue
		}
		shown := strconv.FormatInt(n, 10)
		if field.Type == durationType {
			shown = time.Duration(n).String()
		}
		fail(field.Tag.Get("yaml"), "%s is not from %s to %s", shown, lowest, highest)
	}
}

var durationType = reflect.TypeFor[Duration]()

// bound reads a tag; the tags are ours and can be read.
func bound(text string, t reflect.Type) int64 {
	if t == durationType {
		d, _ := time.ParseDuration(text) // see above
		return int64(d)
	}
	n, _ := strconv.ParseInt(text, 10, 64) // see above
	return n
}
