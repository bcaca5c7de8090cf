package config

import (
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// Shared is how groups of shared subscriptions choose the member that gets a
// message: round-robin (default), least-in-flight, sticky, hash-client or hash-topic.
type Shared struct {
	Strategy string `yaml:"strategy"`
	// Groups has a strategy of its own for a share name, the NAME of
	// $share/NAME/FILTER; "$queue" is that of $queue/FILTER.
	Groups map[string]string `yaml:"groups"`
}

// Priority has messages of a topic filter that wait for a client served before those
// of a lower class; the class is 1 to 3, all else is of class 0.
type Priority struct {
	Filter string `yaml:"filter"`
	Class  int    `yaml:"class"`
}

// RetainedExpiry is how long retained messages of a topic filter live if they do not
// say so themselves; at least 1s.
type RetainedExpiry struct {
	Filter string        `yaml:"filter"`
	After  time.Duration `yaml:"after"`
}

// Delayed bounds messages to $delayed/SECONDS/TOPIC that wait.
type Delayed struct {
	Messages int           `yaml:"messages"` // default 10000
	Bytes    int64         `yaml:"bytes"`    // default 16777216
	Longest  time.Duration `yaml:"longest"`  // default 720h
}

// Offer is what of MQTT clients are offered.
type Offer struct {
	MaximumQoS     int    `yaml:"maximum_qos"`     // default 2
	Retain         bool   `yaml:"retain"`          // default true
	ResponsePrefix string `yaml:"response_prefix"` // of Response Information; default none
	// ServerReference is another server, HOST:PORT, for 5.0 clients that find no room,
	// or are connected when this one stops; ServerMoved says that it is so for good.
	ServerReference string `yaml:"server_reference"`
	ServerMoved     bool   `yaml:"server_moved"`
}

func defaultOffer() Offer { return Offer{MaximumQoS: 2, Retain: true} }

func defaultDelayed() Delayed {
	return Delayed{Messages: 10_000, Bytes: 16 << 20, Longest: 720 * time.Hour}
}

// Apply puts what the file says of the protocol into the broker's options. The
// configuration was checked.
func (b *Broker) Apply(to *broker.Options) {
	to.Shared = broker.Shared{Groups: make(map[string]broker.Strategy, len(b.Shared.Groups))}
	to.Shared.Strategy, _ = broker.ParseStrategy(b.Shared.Strategy)
	for name, strategy := range b.Shared.Groups {
		to.Shared.Groups[name], _ = broker.ParseStrategy(strategy)
	}
	for _, p := range b.Priorities {
		to.Topics.Priorities = append(to.Topics.Priorities, broker.Priority(p))
	}
	for _, e := range b.RetainedExpiry {
		to.Topics.RetainedExpiry = append(to.Topics.RetainedExpiry, broker.RetainedExpiry(e))
	}
	to.Limits.Delayed = broker.DelayLimits(b.Delayed)
	to.Limits.SessionExpiry = b.SessionExpiry
	most := message.QoS(b.Offer.MaximumQoS)
	to.Offer = broker.Offer{
		MaximumQoS: &most, NoRetain: !b.Offer.Retain, ResponsePrefix: b.Offer.ResponsePrefix,
		Reference: b.Offer.ServerReference, Moved: b.Offer.ServerMoved,
	}
	to.ClientEvents = b.ClientEvents
}

// checkFeatures judges what Apply takes; the keys are below "broker.".
func (b *Broker) checkFeatures(fail func(key, format string, args ...any)) {
	if _, err := broker.ParseStrategy(b.Shared.Strategy); err != nil {
		fail("broker.shared.strategy", "%v", err)
	}
	for name, strategy := range b.Shared.Groups {
		if _, err := broker.ParseStrategy(strategy); err != nil {
			fail("broker.shared.groups", "%s: %v", name, err)
		}
	}
	for i, p := range b.Priorities {
		key := fmt.Sprintf("broker.priorities[%d]", i)
		if !topic.ValidFilter(p.Filter) {
			fail(key+".filter", "%q is not a topic filter, such as alarm/#", p.Filter)
		}
		if p.Class < 1 || p.Class > broker.MaxClass {
			fail(key+".class", "%d is not a class: 1 to %d", p.Class, broker.MaxClass)
		}
	}
	for i, e := range b.RetainedExpiry {
		key := fmt.Sprintf("broker.retained_expiry[%d]", i)
		if !topic.ValidFilter(e.Filter) {
			fail(key+".filter", "%q is not a topic filter, such as tmp/#", e.Filter)
		}
		if e.After < time.Second {
			fail(key+".after", "%v is less than 1s", e.After)
		}
	}
	if e := b.SessionExpiry; e < 0 || e > 0 && e < time.Second {
		fail("broker.session_expiry", "%v is neither 0s, which is never, nor at least 1s", e)
	}
	b.checkDelayed(fail)
	b.checkOffer(fail)
}

func (b *Broker) checkDelayed(fail func(key, format string, args ...any)) {
	d := &b.Delayed
	if d.Messages < 1 {
		fail("broker.delayed.messages", "%d is less than 1", d.Messages)
	}
	if d.Bytes < 1 {
		fail("broker.delayed.bytes", "%d is less than 1", d.Bytes)
	}
	if d.Longest < time.Second || d.Longest > broker.MaxDelay {
		fail("broker.delayed.longest", "%v is not between 1s and %v", d.Longest, broker.MaxDelay)
	}
}

func (b *Broker) checkOffer(fail func(key, format string, args ...any)) {
	o := &b.Offer
	if o.MaximumQoS < 0 || o.MaximumQoS > 2 {
		fail("broker.offer.maximum_qos", "%d is not 0, 1 or 2", o.MaximumQoS)
	}
	if o.ResponsePrefix != "" && !topic.ValidName(o.ResponsePrefix) {
		fail("broker.offer.response_prefix", "%q is not the beginning of a topic name, such as answers/", o.ResponsePrefix)
	}
	if o.ServerMoved && o.ServerReference == "" {
		fail("broker.offer.server_moved", "it is not said to where: server_reference is missing")
	}
}
