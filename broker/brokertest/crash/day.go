package crash

import (
	"fmt"
	"math/rand/v2"
	"net"

	"github.com/gatehouse/gatehouse/broker/brokertest/ledger"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// house is the clients of a day: two that publish, two that subscribe, one with a will,
// one that comes and goes.
type house struct {
	ledger *ledger.Ledger
	pubs   []*ledger.Client
	subs   []*ledger.Client
	guest  *ledger.Client
	will   *ledger.Client
	dial   func() (net.Conn, error)
}

func newHouse() *house {
	l := ledger.New()
	h := &house{
		ledger: l,
		pubs:   []*ledger.Client{l.Client("pub5", packet.V5), l.Client("pub4", packet.V311)},
		subs:   []*ledger.Client{l.Client("sub5", packet.V5), l.Client("sub4", packet.V311)},
		guest:  l.Client("guest", packet.V5),
		will:   l.Client("will", packet.V5),
	}
	h.will.Will = &packet.Will{Topic: "w/1", QoS: 2}
	return h
}

// clone is a house with the same memories, none of whose clients is connected.
func (h *house) clone() *house {
	l := h.ledger.Clone()
	n := &house{ledger: l, guest: h.guest.CloneFor(l), will: h.will.CloneFor(l)}
	for _, c := range h.pubs {
		n.pubs = append(n.pubs, c.CloneFor(l))
	}
	for _, c := range h.subs {
		n.subs = append(n.subs, c.CloneFor(l))
	}
	return n
}

func (h *house) clients() []*ledger.Client {
	return append(append([]*ledger.Client{h.guest, h.will}, h.pubs...), h.subs...)
}

// lose ends all connections.
func (h *house) lose() {
	for _, c := range h.clients() {
		c.Lose()
	}
}

// with has a client do something, connected first if it is not; when it cannot it loses
// its connection.
func (h *house) with(c *ledger.Client, do func() error) error {
	err := h.connect(c)
	if err == nil {
		err = do()
	}
	if err != nil {
		c.Lose()
	}
	return err
}

func (h *house) connect(c *ledger.Client) error {
	if c.Connected() {
		return nil
	}
	nc, err := h.dial()
	if err != nil {
		return err
	}
	return c.Connect(nc)
}

// move in: the subscriptions that last all day.
func (h *house) moveIn() error {
	for _, s := range []struct {
		c      *ledger.Client
		filter string
		qos    message.QoS
	}{{h.subs[0], "a/#", 2}, {h.subs[0], "w/#", 2}, {h.subs[1], "a/+/1", 1}} {
		if err := h.with(s.c, func() error { return s.c.Subscribe(s.filter, s.qos) }); err != nil {
			return err
		}
	}
	return nil
}

// step is one thing that happens. An error means that somebody lost its connection.
func (h *house) step(r *rand.Rand) error {
	pub, sub := h.pubs[r.IntN(len(h.pubs))], h.subs[r.IntN(len(h.subs))]
	switch kind := r.IntN(20); {
	case kind < 8:
		return h.with(pub, func() error { return burst(r, pub) })
	case kind < 11:
		return h.with(sub, func() error { _, err := sub.Ping(); return err })
	case kind < 12:
		sub.Withhold = !sub.Withhold
		return h.with(sub, sub.Answer)
	case kind < 14:
		sub.Lose()
		return nil
	case kind < 15:
		pub.Lose()
		return nil
	case kind < 16:
		h.will.Lose()
		return h.with(sub, func() error { _, err := sub.Ping(); return err })
	case kind < 17:
		if h.will.Connected() || len(h.ledger.Missing()) > 0 { // the last will may be on its way
			return nil
		}
		return h.connect(h.will)
	case kind < 18:
		return h.with(h.guest, func() error { return h.guest.Subscribe(fmt.Sprintf("a/%d/#", r.IntN(2)), 1) })
	case kind < 19:
		if r.IntN(2) == 0 {
			return h.with(h.guest, func() error { return h.guest.Unsubscribe("a/0/#") })
		}
		h.guest.Lose()
		return nil
	default:
		h.guest.Lose()
		nc, err := h.dial()
		if err == nil {
			err = h.guest.ConnectClean(nc)
		}
		h.guest.Lose()
		return err
	}
}

// burst publishes some messages at once, and waits for the answers.
func burst(r *rand.Rand, c *ledger.Client) error {
	for range 1 + r.IntN(4) {
		if c.Flying() > 10 { // nothing was answered for long
			break
		}
		size := 10
		if r.IntN(8) == 0 {
			size = 3000
		}
		qos := message.QoS(r.IntN(3))
		var err error
		switch r.IntN(6) {
		case 0:
			err = c.Publish(fmt.Sprintf("r/%s/%d", c.ID(), r.IntN(2)), max(qos, 1), true, size)
		case 1:
			err = c.Clear(fmt.Sprintf("r/%s/%d", c.ID(), r.IntN(2)), max(qos, 1))
		default:
			err = c.Publish(fmt.Sprintf("a/%d/%s", r.IntN(2), map[string]string{"pub5": "1", "pub4": "2"}[c.ID()]), qos, false, size)
		}
		if err != nil {
			return err
		}
	}
	return c.Settle()
}
