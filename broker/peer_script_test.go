package broker_test

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// What scripts publish and subscribe to. Topics below "s/" are those that shared
// subscriptions are to, and those below "w/" are of wills.
var (
	topics  = []string{"t", "t/u", "t/u/v", "/t", "t/", "t//v", "$odd/t", "s/x", "s/y", "w/a", "w/b"}
	filters = []string{
		"#", "+", "t", "t/#", "t/+", "t/u", "+/+", "+/u", "t/+/v", "/+", "/#", "+/", "t/+/#", "$odd/#", "$odd/+", "s/+", "s/x", "w/+", "w/a",
		"$share/g/s/+", "$share/g/s/x", "$share/h/s/#", "$share/g/s/+",
	}
)

// action is what one client does in one step.
type action struct {
	client  string
	connect *packet.Connect
	bye     *packet.Disconnect
	lost    bool // without a word
	packets []packet.Packet
	ownWill string // the payload of its will, if it takes over and its session ends
	noLocal bool   // it subscribes with no local
	sharing bool   // it makes a shared subscription
	will    string // the payload of the will that this publishes, or empty
}

// script draws actions that make sense where the last ones have led to.
type script struct {
	t       *rapid.T
	version packet.Version
	told    []string
	n       int // payloads are numbers, with the QoS and the client

	clients    map[string]*actor
	open       map[string]bool // see observed
	takenWills map[string]bool
	overlap    map[string]overlap
}

// actor is what the script knows of one client.
type actor struct {
	connected bool
	lasting   bool // the session outlives the connection
	session   bool
	filters   map[string]packet.SubscribeOptions
	will      *packet.Will
}

// shares reports whether it has a shared subscription.
func (c *actor) shares() bool {
	for f := range c.filters {
		if strings.HasPrefix(f, "$share/") {
			return true
		}
	}
	return false
}

func newScript(t *rapid.T, version packet.Version) *script {
	return &script{
		t: t, version: version, open: make(map[string]bool), takenWills: make(map[string]bool), overlap: make(map[string]overlap),
		clients: map[string]*actor{"a": {filters: make(map[string]packet.SubscribeOptions)}, "b": {filters: make(map[string]packet.SubscribeOptions)}},
	}
}

func (s *script) tell(format string, args ...any) {
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

func (s *script) chance(label string, percent int) bool {
	return rapid.IntRange(1, 100).Draw(s.t, label) > 100-percent
}

func (s *script) qos() message.QoS { return message.QoS(rapid.IntRange(0, 2).Draw(s.t, "qos")) }

func (s *script) payload(by string, qos message.QoS) []byte {
	s.n++
	return fmt.Appendf(nil, "%d q%d %s", s.n, qos, by)
}

func (s *script) step() *action {
	id := rapid.SampledFrom([]string{"a", "b"}).Draw(s.t, "client")
	act := &action{client: id}
	c := s.clients[id]
	if !c.connected {
		s.connect(act, c)
		return act
	}
	switch kind := rapid.IntRange(0, 19).Draw(s.t, "action"); {
	case kind < 8:
		qos := s.qos() // one, for between two there is no order, not even of what is retained
		for range rapid.IntRange(1, 3).Draw(s.t, "messages") {
			s.publish(act, qos, len(act.packets))
		}
	case kind < 13:
		s.subscribe(act, c)
	case kind < 15:
		s.unsubscribe(act, c)
	case kind < 17:
		s.bye(act, c)
	case kind < 18 && !c.will.Retain:
		s.connect(act, c)
	default:
		s.tell("%s is lost, with will %s", id, c.will.Payload)
		act.lost, act.will = true, string(c.will.Payload)
		s.away(c)
		s.mark(c.will.Topic, c.will.Payload)
	}
	return act
}

// connect connects, or takes the client's own connection over.
func (s *script) connect(act *action, c *actor) {
	p := &packet.Connect{Version: s.version, ClientID: act.client, Clean: s.chance("clean", 40)}
	p.Will = &packet.Will{Topic: "w/" + act.client, QoS: s.qos(), Retain: s.chance("will retained", 30)}
	p.Will.Payload = s.payload(act.client, p.Will.QoS)
	lasting := !p.Clean
	if s.version == packet.V5 {
		if lasting = s.chance("lasting", 60); lasting {
			p.Properties.SessionExpiryInterval = 1000
		}
	}
	if c.connected {
		if c.lasting && !p.Clean {
			s.takenWills[string(c.will.Payload)] = true
		} else {
			act.ownWill = string(c.will.Payload)
		}
		s.away(c)
		s.mark(c.will.Topic, c.will.Payload)
	}
	if p.Clean {
		clear(c.filters)
	}
	s.tell("%s connects, clean %v, lasting %v, will %s of QoS %d, retained %v", act.client, p.Clean, lasting, p.Will.Payload, p.Will.QoS, p.Will.Retain)
	c.connected, c.lasting, c.session, c.will = true, lasting, true, p.Will
	act.connect = p
}

// away notes that a connection is gone.
func (s *script) away(c *actor) {
	c.connected = false
	if !c.lasting {
		c.session = false
		clear(c.filters)
	}
}

func (s *script) bye(act *action, c *actor) {
	act.bye = &packet.Disconnect{}
	if s.version == packet.V5 && s.chance("with will", 40) {
		act.bye.Reason, act.will = packet.DisconnectWithWill, string(c.will.Payload)
	}
	s.tell("%s disconnects with %v, its will was %s", act.client, act.bye.Reason, c.will.Payload)
	s.away(c)
	s.mark(c.will.Topic, c.will.Payload)
}

func (s *script) publish(act *action, qos message.QoS, n int) {
	p := &packet.Publish{
		Topic: rapid.SampledFrom(topics).Draw(s.t, "topic"), QoS: qos, Retain: s.chance("retain", 30),
	}
	p.Payload = s.payload(act.client, p.QoS)
	if p.QoS > 0 {
		p.ID = uint16(n + 1)
	}
	if p.Retain && s.chance("empty", 30) {
		p.Payload = nil
	}
	if s.version == packet.V5 && s.chance("properties", 40) {
		expiry := uint32(3600)
		p.Properties = packet.PublishProperties{
			UTF8: true, ContentType: "text/plain", ResponseTopic: "t/u", CorrelationData: []byte("c"), MessageExpiryInterval: &expiry,
			UserProperties: []message.Property{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}},
		}
	}
	s.mark(p.Topic, p.Payload)
	s.tell("%s publishes %q to %q, QoS %d, retain %v", act.client, p.Payload, p.Topic, p.QoS, p.Retain)
	act.packets = append(act.packets, p)
}

// mark notes what is open about a message that is published now.
func (s *script) mark(name string, payload []byte) {
	for id, c := range s.clients {
		if strings.HasPrefix(name, "s/") && !c.connected && c.shares() {
			s.open[string(payload)] = true
		}
		matches := 0
		for f := range c.filters {
			if topic.Match(f, name) {
				matches++
			}
		}
		if matches > 1 {
			s.overlap[id+string(payload)] = overlapHere
			if !c.connected {
				s.overlap[id+string(payload)] = overlapAway
			}
		}
	}
}

func (s *script) subscribe(act *action, c *actor) {
	f := packet.Filter{Filter: rapid.SampledFrom(filters).Draw(s.t, "filter"), Options: packet.SubscribeOptions{QoS: s.qos()}}
	shared := strings.HasPrefix(f.Filter, "$share/")
	p := &packet.Subscribe{ID: 100}
	if s.version == packet.V5 {
		f.Options.NoLocal = !shared && s.chance("no local", 20)
		f.Options.RetainAsPublished = s.chance("as published", 30)
		f.Options.RetainHandling = packet.RetainHandling(rapid.IntRange(0, 2).Draw(s.t, "retain handling"))
		if s.chance("identifier", 40) {
			p.SubscriptionID = uint32(rapid.IntRange(1, 5).Draw(s.t, "identifier"))
		}
	}
	if before, again := c.filters[f.Filter]; again { // see differences
		f.Options.NoLocal, f.Options.RetainAsPublished = before.NoLocal, before.RetainAsPublished
	}
	c.filters[f.Filter] = f.Options
	act.sharing, act.noLocal = shared, f.Options.NoLocal
	p.Filters = []packet.Filter{f}
	s.tell("%s subscribes to %q, %+v, identifier %d", act.client, f.Filter, f.Options, p.SubscriptionID)
	act.packets = []packet.Packet{p}
}

func (s *script) unsubscribe(act *action, c *actor) {
	filter := rapid.SampledFrom(filters).Draw(s.t, "filter")
	delete(c.filters, filter)
	s.tell("%s unsubscribes from %q", act.client, filter)
	act.packets = []packet.Packet{&packet.Unsubscribe{ID: 101, Filters: []string{filter}}}
}
