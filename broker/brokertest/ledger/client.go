package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// patience is how long a client waits for a packet: long, as it only ends what hangs.
const patience = 60 * time.Second

// expiry is that of lasting sessions, in seconds.
const expiry = 3600

// maxFlying is how many messages may be in flight: few, so that identifiers come again
// soon.
const maxFlying = 20

// presence is what a client knows of its session on the broker.
type presence uint8

const (
	absent presence = iota
	uncertain
	present
)

// flight is a message that has no final answer.
type flight struct {
	number   int
	packet   packet.Publish
	received bool // a PUBREC came
}

// Client is a client whose memory lasts. It is used by one goroutine at a time. An error
// of its methods means that the connection is of no more use; [Client.Lose] it, and
// Connect again.
type Client struct {
	// Withhold keeps back the acknowledgements of what comes, until Answer.
	Withhold bool
	// Alive, if not nil, is asked after every packet that comes: an error says that it
	// did not, as the sender had no power any more.
	Alive func() error
	// Will is what the client leaves when it connects; nil is none. Its payload is made
	// by the client.
	Will *packet.Will

	ledger  *Ledger
	id      string
	version packet.Version
	session presence
	flying  []*flight
	lastID  uint16
	held    map[uint16]bool // of QoS 2 messages that came and are not released
	owed    []packet.Ack
	will    int // the number of the will that the broker has

	nc net.Conn
	r  *bufio.Reader
}

// Client makes a client with a session that lasts.
func (l *Ledger) Client(id string, version packet.Version) *Client {
	return &Client{ledger: l, id: id, version: version, held: make(map[uint16]bool)}
}

// CloneFor is a copy for a clone of the ledger, without a connection.
func (c *Client) CloneFor(l *Ledger) *Client {
	n := *c
	n.ledger, n.nc, n.r, n.owed = l, nil, nil, nil
	n.held = maps.Clone(c.held)
	n.flying = make([]*flight, len(c.flying))
	for i, f := range c.flying {
		flying := *f
		n.flying[i] = &flying
	}
	return &n
}

// ID is the client identifier.
func (c *Client) ID() string { return c.id }

// Connected reports whether there is a connection.
func (c *Client) Connected() bool { return c.nc != nil }

// Connect connects, goes on with the session, and sends again what is in flight
// [MQTT-4.4.0-1].
func (c *Client) Connect(nc net.Conn) error {
	p := &packet.Connect{Version: c.version, ClientID: c.id, Will: c.leaveWill()}
	if c.version == packet.V5 {
		p.Properties.SessionExpiryInterval = expiry
	}
	if c.session == absent {
		c.session = uncertain
	}
	ack, err := c.connect(nc, p)
	if err != nil {
		return err
	}
	if ack.SessionPresent && c.session == absent || !ack.SessionPresent && c.session == present {
		c.ledger.mu.Lock()
		c.ledger.breach("lost: the session of %q is present: %v, it is to be %v", c.id, ack.SessionPresent, c.session == present)
		c.ledger.mu.Unlock()
	}
	if !ack.SessionPresent {
		c.forget()
	}
	c.session = present
	for _, f := range c.flying {
		if f.received {
			err = c.send(&packet.Ack{Kind: packet.PUBREL, ID: f.packet.ID})
		} else {
			f.packet.Dup = true
			err = c.send(&f.packet)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ConnectClean connects with a clean start and without a session that lasts; what the
// session was is gone.
func (c *Client) ConnectClean(nc net.Conn) error {
	c.ledger.leaving(c.id, "")
	if c.session == present {
		c.session = uncertain
	}
	ack, err := c.connect(nc, &packet.Connect{Version: c.version, ClientID: c.id, Clean: true})
	if err != nil {
		return err
	}
	if ack.SessionPresent {
		return fmt.Errorf("%q has a session after a clean start", c.id)
	}
	c.forget()
	c.session = absent
	return nil
}

// forget is the end of a session.
func (c *Client) forget() {
	c.ledger.left(c.id, "")
	clear(c.held)
}

func (c *Client) connect(nc net.Conn, p *packet.Connect) (*packet.Connack, error) {
	c.nc, c.r, c.owed = nc, bufio.NewReader(nc), nil
	if err := c.send(p); err != nil {
		return nil, err
	}
	answer, err := c.read()
	if err != nil {
		return nil, err
	}
	ack, ok := answer.(*packet.Connack)
	if !ok || ack.Reason.Failed() {
		return nil, fmt.Errorf("%q is not connected: %+v", c.id, answer)
	}
	if c.will != 0 {
		c.ledger.settle(c.will, acked) // it comes, as the client never says goodbye
	}
	return ack, nil
}

// leaveWill numbers the will.
func (c *Client) leaveWill() *packet.Will {
	if c.Will == nil {
		return nil
	}
	w := *c.Will
	c.will = c.ledger.send(entry{topic: w.Topic, qos: w.QoS, retain: w.Retain})
	w.Payload = payload(c.will, 0)
	return &w
}

// Lose closes the connection without a word.
func (c *Client) Lose() {
	if c.nc != nil {
		_ = c.nc.Close() // it may be gone
	}
	c.nc, c.will = nil, 0
}

func (c *Client) send(p packet.Packet) error {
	if c.nc == nil {
		return errors.New("not connected")
	}
	b, err := packet.Append(nil, p, c.version)
	if err != nil {
		return err
	}
	_, err = c.nc.Write(b)
	return err
}

func (c *Client) read() (packet.Packet, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	p, err := packet.Read(c.r, c.version, 0)
	if err == nil && c.Alive != nil {
		err = c.Alive()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.ledger.mu.Lock()
		c.ledger.breach("silent: %q got no answer in %v", c.id, patience)
		c.ledger.mu.Unlock()
	}
	return p, err
}

// Publish sends a message of about size bytes; of size 0 it has no payload but its
// number.
func (c *Client) Publish(topic string, qos message.QoS, retain bool, size int) error {
	number := c.ledger.send(entry{topic: topic, qos: qos, retain: retain})
	return c.publish(number, packet.Publish{Topic: topic, QoS: qos, Retain: retain, Payload: payload(number, size)})
}

// Clear clears the retained message of a topic.
func (c *Client) Clear(topic string, qos message.QoS) error {
	number := c.ledger.send(entry{topic: topic, qos: qos, retain: true, clear: true})
	return c.publish(number, packet.Publish{Topic: topic, QoS: qos, Retain: true})
}

func (c *Client) publish(number int, p packet.Publish) error {
	if p.QoS == 0 {
		return c.send(&p)
	}
	if len(c.flying) >= maxFlying {
		return fmt.Errorf("%q has %d messages in flight", c.id, maxFlying)
	}
	for c.lastID = c.lastID%maxFlying + 1; c.inFlight(c.lastID) != nil; {
		c.lastID = c.lastID%maxFlying + 1
	}
	p.ID = c.lastID
	f := &flight{number: number, packet: p}
	c.flying = append(c.flying, f)
	return c.send(&f.packet)
}

func (c *Client) inFlight(id uint16) *flight {
	for _, f := range c.flying {
		if f.packet.ID == id {
			return f
		}
	}
	return nil
}

// Flying is how many messages have no final answer.
func (c *Client) Flying() int { return len(c.flying) }

// Settle waits for the answers of all that is in flight.
func (c *Client) Settle() error {
	for len(c.flying) > 0 {
		if _, err := c.Step(); err != nil {
			return err
		}
	}
	return nil
}

// Ping takes what has come, up to the answer of a PINGREQ, and tells how many messages
// there were among it.
func (c *Client) Ping() (messages int, err error) {
	if err := c.send(&packet.Pingreq{}); err != nil {
		return 0, err
	}
	for {
		p, err := c.Step()
		if err != nil {
			return messages, err
		}
		switch p.(type) {
		case *packet.Publish:
			messages++
		case *packet.Pingresp:
			return messages, nil
		}
	}
}

// Subscribe subscribes, and waits until the broker says so. That it does not is no error.
func (c *Client) Subscribe(filter string, qos message.QoS) error {
	if err := c.send(&packet.Subscribe{ID: 1000, Filters: []packet.Filter{
		{Filter: filter, Options: packet.SubscribeOptions{QoS: qos}},
	}}); err != nil {
		return err
	}
	c.ledger.mu.Lock()
	c.ledger.reader(c.id).spans = append(c.ledger.reader(c.id).spans, span{ // from now on messages may come
		filter: filter, qos: qos, to: -1, // none must
	})
	c.ledger.mu.Unlock()
	for {
		p, err := c.Step()
		if err != nil {
			return err
		}
		if ack, ok := p.(*packet.Suback); ok {
			if !ack.Reasons[0].Failed() {
				c.ledger.subscribed(c.id, filter, qos)
			}
			return nil
		}
	}
}

// Unsubscribe ends a subscription, and waits until the broker says so.
func (c *Client) Unsubscribe(filter string) error {
	c.ledger.leaving(c.id, filter)
	if err := c.send(&packet.Unsubscribe{ID: 1001, Filters: []string{filter}}); err != nil {
		return err
	}
	for {
		p, err := c.Step()
		if err != nil {
			return err
		}
		if ack, ok := p.(*packet.Unsuback); ok {
			if len(ack.Reasons) == 0 || !ack.Reasons[0].Failed() {
				c.ledger.left(c.id, filter)
			}
			return nil
		}
	}
}

// Answer sends the acknowledgements that were kept back.
func (c *Client) Answer() error {
	for len(c.owed) > 0 {
		ack := c.owed[0]
		c.owed = c.owed[1:]
		if err := c.send(&ack); err != nil {
			return err
		}
	}
	return nil
}

// owe sends an acknowledgement, or keeps it back.
func (c *Client) owe(kind packet.Type, id uint16) error {
	c.owed = append(c.owed, packet.Ack{Kind: kind, ID: id})
	if c.Withhold {
		return nil
	}
	return c.Answer()
}

// Step takes one packet.
func (c *Client) Step() (packet.Packet, error) {
	p, err := c.read()
	if err != nil {
		return nil, err
	}
	switch p := p.(type) {
	case *packet.Publish:
		err = c.hear(p)
	case *packet.Ack:
		err = c.acknowledged(p)
	case *packet.Disconnect:
		err = fmt.Errorf("%q was disconnected: %w", c.id, p.Reason)
	}
	return p, err
}

// hear takes a message.
func (c *Client) hear(p *packet.Publish) error {
	if p.Retain && Number(p.Payload) > 0 { // it may be older than the subscription
		return c.receipt(p)
	}
	again := p.QoS == 2 && c.held[p.ID]
	if len(p.Payload) > 0 {
		c.ledger.received(c.id, p.Topic, p.Payload, p.QoS, again)
	}
	return c.receipt(p)
}

func (c *Client) receipt(p *packet.Publish) error {
	switch p.QoS {
	case 1:
		return c.owe(packet.PUBACK, p.ID)
	case 2:
		c.held[p.ID] = true
		return c.owe(packet.PUBREC, p.ID)
	default:
		return nil
	}
}

// acknowledged takes one of the four acknowledgements.
func (c *Client) acknowledged(a *packet.Ack) error {
	if a.Kind == packet.PUBREL {
		delete(c.held, a.ID)
		return c.owe(packet.PUBCOMP, a.ID)
	}
	f := c.inFlight(a.ID)
	if f == nil || (a.Kind == packet.PUBACK) != (f.packet.QoS == 1) || a.Kind == packet.PUBCOMP && !f.received {
		return fmt.Errorf("%q got %+v for %+v", c.id, a, f)
	}
	switch {
	case a.Kind == packet.PUBCOMP:
	case a.Reason.Failed():
		c.ledger.settle(f.number, refused)
	case a.Kind == packet.PUBREC:
		c.ledger.settle(f.number, acked)
		f.received = true
		return c.send(&packet.Ack{Kind: packet.PUBREL, ID: a.ID})
	default:
		c.ledger.settle(f.number, acked)
	}
	c.flying = slices.DeleteFunc(c.flying, func(other *flight) bool { return other == f })
	return nil
}

// CheckRetained subscribes to a filter over a connection of its own, which it closes, and
// lists what is not retained as it was promised.
func (l *Ledger) CheckRetained(nc net.Conn, filter string) (broken []string, err error) {
	defer func() { _ = nc.Close() }()        // it has served
	c := New().Client("retained", packet.V5) // whose own ledger is of no interest
	if err := c.ConnectClean(nc); err != nil {
		return nil, err
	}
	if err := errors.Join(
		c.send(&packet.Subscribe{ID: 1000, Filters: []packet.Filter{{Filter: filter}}}), c.send(&packet.Pingreq{}),
	); err != nil {
		return nil, err
	}
	found := make(map[string]int)
	for {
		switch p, err := c.read(); p := p.(type) {
		case *packet.Publish:
			if p.Retain {
				found[p.Topic] = Number(p.Payload)
			}
		case *packet.Pingresp:
			return l.Retained(found), nil
		default:
			if err != nil {
				return nil, err
			}
		}
	}
}
