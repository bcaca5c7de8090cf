package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// keepAlive is what the client asks for; it pings twice as often.
const keepAlive = 60 * time.Second

// maxPacket is the largest packet the client takes, in bytes.
const maxPacket = 256 << 20

// client is a small MQTT 5.0 client for the pub and sub subcommands.
type client struct {
	conn   net.Conn
	reader *bufio.Reader
	lastID uint16
	limit  int               // of a packet that the server takes, in bytes; 0 is none
	early  []*packet.Publish // that came while another packet was awaited

	mu sync.Mutex // of writes
}

// dial connects to mqtt://HOST:PORT or unix:///PATH.
func dial(ctx context.Context, server string, as login) (*client, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("server %q is not a URL such as mqtt://127.0.0.1:1883: %w", server, err)
	}
	network, address := "tcp", u.Host
	switch u.Scheme {
	case "mqtt":
		if u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), "1883")
		}
	case "unix":
		network, address = "unix", u.Path
	default:
		return nil, fmt.Errorf("server %q: the scheme is not one of mqtt, unix", server)
	}
	var dialer net.Dialer
	dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(dialing, network, address)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w (is the gateway running?)", server, err)
	}
	c := &client{conn: conn, reader: bufio.NewReader(conn)}
	if err := c.connect(as); err != nil {
		_ = conn.Close() // the error at hand says more
		return nil, err
	}
	return c, nil
}

func (c *client) connect(as login) error {
	hello := &packet.Connect{Version: packet.V5, Clean: true, KeepAlive: uint16(keepAlive / time.Second)}
	if as.user != "" {
		hello.Username, hello.HasUsername, hello.Password, hello.HasPassword = as.user, true, as.password, true
	}
	if err := c.send(hello); err != nil {
		return err
	}
	p, err := c.receive(10 * time.Second)
	if err != nil {
		return err
	}
	ack, ok := p.(*packet.Connack)
	if !ok {
		return fmt.Errorf("the server answered CONNECT with %v", p.Type())
	}
	if ack.Reason.Failed() {
		return fmt.Errorf("the server refused the connection: %w", ack.Reason)
	}
	c.limit = int(min(ack.Properties.MaximumPacketSize, maxPacket))
	return nil
}

// close says goodbye.
func (c *client) close() {
	_ = c.send(&packet.Disconnect{}) // the connection ends either way
	_ = c.conn.Close()
}

func (c *client) send(p packet.Packet) error {
	b, err := packet.Append(nil, p, packet.V5)
	if err != nil {
		return err
	}
	if c.limit > 0 && len(b) > c.limit { // [MQTT-3.2.2-15]
		return fmt.Errorf("the packet is too large: it has %d bytes, the server takes at most %d", len(b), c.limit)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	_, err = c.conn.Write(b)
	return err
}

// receive reads one packet. A DISCONNECT of the server is an error.
func (c *client) receive(within time.Duration) (packet.Packet, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	p, err := packet.Read(c.reader, packet.V5, maxPacket)
	if err != nil {
		return nil, fmt.Errorf("the connection to the server ended: %w", err)
	}
	if d, ok := p.(*packet.Disconnect); ok {
		return nil, fmt.Errorf("the server ended the connection: %w", d.Reason)
	}
	return p, nil
}

func (c *client) nextID() uint16 {
	c.lastID = max(1, c.lastID+1)
	return c.lastID
}

// publish sends one message and returns when the server has it, by its QoS.
func (c *client) publish(m message.Message) error {
	p := &packet.Publish{QoS: m.QoS, Retain: m.Retain, Topic: m.Topic, Payload: m.Payload}
	p.Properties.ResponseTopic, p.Properties.CorrelationData = m.ResponseTopic, m.CorrelationData
	p.Properties.UserProperties = m.UserProperties
	if m.QoS > 0 {
		p.ID = c.nextID()
	}
	if err := c.send(p); err != nil || m.QoS == 0 {
		return err
	}
	want := packet.PUBACK
	if m.QoS == message.ExactlyOnce {
		want = packet.PUBREC
	}
	if err := c.await(want, p.ID); err != nil || want == packet.PUBACK {
		return err
	}
	if err := c.send(&packet.Ack{Kind: packet.PUBREL, ID: p.ID}); err != nil {
		return err
	}
	return c.await(packet.PUBCOMP, p.ID)
}

func (c *client) await(kind packet.Type, id uint16) error {
	for {
		p, err := c.receive(30 * time.Second)
		if err != nil {
			return err
		}
		if early, ok := p.(*packet.Publish); ok {
			c.early = append(c.early, early)
			continue
		}
		ack, ok := p.(*packet.Ack)
		if !ok || ack.Kind != kind || ack.ID != id {
			continue
		}
		if ack.Reason.Failed() {
			return fmt.Errorf("the server refused the message: %w", ack.Reason)
		}
		return nil
	}
}

// subscribe asks for the filters and returns when they stand.
func (c *client) subscribe(filters []string, qos message.QoS, retained bool) error {
	s := &packet.Subscribe{ID: c.nextID()}
	for _, f := range filters {
		o := packet.SubscribeOptions{QoS: qos, RetainAsPublished: true}
		if !retained {
			o.RetainHandling = packet.NoRetained
		}
		s.Filters = append(s.Filters, packet.Filter{Filter: f, Options: o})
	}
	if err := c.send(s); err != nil {
		return err
	}
	for {
		p, err := c.receive(10 * time.Second)
		if err != nil {
			return err
		}
		switch p := p.(type) {
		case *packet.Publish:
			c.early = append(c.early, p)
		case *packet.Suback:
			return refused(p, filters)
		}
	}
}

// refused names the first filter that the server did not take.
func refused(ack *packet.Suback, filters []string) error {
	for i, r := range ack.Reasons {
		if r.Failed() && i < len(filters) {
			return fmt.Errorf("the server refused the filter %q: %w", filters[i], r)
		}
	}
	return nil
}

// next returns the next message, acknowledged once handle has returned nil.
func (c *client) next(handle func(*packet.Publish) error) error {
	return c.nextWithin(2*keepAlive, handle)
}

// nextWithin is next with a limit for the time between two packets.
func (c *client) nextWithin(within time.Duration, handle func(*packet.Publish) error) error {
	for {
		p, err := c.takeIn(within)
		if err != nil {
			return err
		}
		switch p := p.(type) {
		case *packet.Publish:
			if err := handle(p); err != nil {
				return err
			}
			return c.acknowledge(p)
		case *packet.Ack:
			if p.Kind == packet.PUBREL {
				if err := c.send(&packet.Ack{Kind: packet.PUBCOMP, ID: p.ID}); err != nil {
					return err
				}
			}
		}
	}
}

func (c *client) takeIn(within time.Duration) (packet.Packet, error) {
	if len(c.early) == 0 {
		return c.receive(within)
	}
	p := c.early[0]
	c.early = c.early[1:]
	return p, nil
}

func (c *client) acknowledge(p *packet.Publish) error {
	switch p.QoS {
	case message.AtLeastOnce:
		return c.send(&packet.Ack{Kind: packet.PUBACK, ID: p.ID})
	case message.ExactlyOnce:
		return c.send(&packet.Ack{Kind: packet.PUBREC, ID: p.ID})
	case message.AtMostOnce:
	}
	return nil
}

// ping keeps the connection alive until ctx ends, and then ends the connection.
func (c *client) ping(ctx context.Context) {
	tick := time.NewTicker(keepAlive / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.close()
			return
		case <-tick.C:
			if c.send(&packet.Pingreq{}) != nil {
				return
			}
		}
	}
}
