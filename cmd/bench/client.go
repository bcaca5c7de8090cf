package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// client is one connection. One goroutine reads from it; any may write.
type client struct {
	conn    net.Conn
	r       *bufio.Reader
	version packet.Version

	mu  sync.Mutex
	out []byte // what is not written yet
}

// dial connects with a clean session and no keep alive.
func dial(ctx context.Context, address, id string, version packet.Version) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, r: bufio.NewReaderSize(conn, 16<<10), version: version}
	answer, err := c.ask(&packet.Connect{Version: version, Clean: true, ClientID: id})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if ack, ok := answer.(*packet.Connack); !ok || ack.Reason != packet.Success {
		return nil, errors.Join(fmt.Errorf("CONNECT of %q was answered with %+v", id, answer), conn.Close())
	}
	return c, nil
}

// ask writes a packet and reads its answer.
func (c *client) ask(p packet.Packet) (packet.Packet, error) {
	if err := c.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if err := c.queue(p); err != nil {
		return nil, err
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	answer, err := packet.Read(c.r, c.version, 0)
	if err != nil {
		return nil, err
	}
	return answer, c.conn.SetDeadline(time.Time{})
}

func (c *client) subscribe(filter string, qos message.QoS) error {
	answer, err := c.ask(&packet.Subscribe{ID: 1, Filters: []packet.Filter{
		{Filter: filter, Options: packet.SubscribeOptions{QoS: qos}},
	}})
	if err != nil {
		return err
	}
	if ack, ok := answer.(*packet.Suback); !ok || ack.Reasons[0] != packet.Reason(qos) {
		return fmt.Errorf("SUBSCRIBE to %q was answered with %+v", filter, answer)
	}
	return nil
}

// queue adds a packet to what flush writes.
func (c *client) queue(p packet.Packet) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out, err = packet.Append(c.out, p, c.version)
	return err
}

// flush writes what is queued, in one system call.
func (c *client) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// listen reads until the connection is closed. It answers what QoS 1 and 2 want
// answered when all that has come is read; publish gets each message, and acked
// is called for each own publish that is acknowledged for good.
func (c *client) listen(publish func(*packet.Publish), acked func()) error {
	for {
		p, err := packet.Read(c.r, c.version, 0)
		if err != nil {
			return err
		}
		switch p := p.(type) {
		case *packet.Publish:
			publish(p)
			switch p.QoS {
			case message.AtLeastOnce:
				err = c.queue(&packet.Ack{Kind: packet.PUBACK, ID: p.ID})
			case message.ExactlyOnce:
				err = c.queue(&packet.Ack{Kind: packet.PUBREC, ID: p.ID})
			case message.AtMostOnce:
			}
		case *packet.Ack:
			err = c.acknowledged(p, acked)
		default:
			err = fmt.Errorf("%s came unasked", p.Type())
		}
		if err == nil && c.r.Buffered() == 0 {
			err = c.flush()
		}
		if err != nil {
			return err
		}
	}
}

func (c *client) acknowledged(p *packet.Ack, acked func()) error {
	if p.Reason.Failed() {
		return fmt.Errorf("%s says %w", p.Kind, p.Reason)
	}
	switch p.Kind {
	case packet.PUBREC:
		return c.queue(&packet.Ack{Kind: packet.PUBREL, ID: p.ID})
	case packet.PUBREL:
		return c.queue(&packet.Ack{Kind: packet.PUBCOMP, ID: p.ID})
	default: // PUBACK, PUBCOMP
		acked()
		return nil
	}
}
