package broker_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// A publisher and a subscriber whose sessions last lose their connections at any
// point, withhold what they owe, and come back; the server too stops and starts
// again. Whatever happens, as a model of both sides sees it: a message of QoS 0 comes
// at most once, of QoS 1 at least once, of QoS 2 exactly once; each topic keeps its
// order; packet identifiers are not used twice at once; DUP is set when a packet comes
// again and only then; neither side has more in flight than the other's Receive
// Maximum.
func TestSessionsAgainstAModel(t *testing.T) {
	o := options()
	o.Limits.InFlight = modelInFlight
	w := &world{server: brokertest.Start(t, o)}
	w.restart = func() {
		w.server.Stop()
		w.server = brokertest.Start(t, o)
	}
	for _, version := range []packet.Version{packet.V311, packet.V5} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			examples(t, 400, 20_000)
			rapid.Check(t, func(t *rapid.T) {
				w.n++
				m := newModel(t, w, version)
				for range rapid.IntRange(5, 60).Draw(t, "steps") {
					m.step()
				}
				m.finish()
			})
		})
	}
}

// modelInFlight is the limit of the server that is tested, both ways.
const modelInFlight = 5

// world is what examples share.
type world struct {
	server  *brokertest.Server
	restart func()
	n       int
}

// side is one client of the model.
type side struct {
	id        string
	nc        net.Conn
	client    *brokertest.Client // nil while it is away
	connects  int
	connected time.Time
}

// sent is a message of the publisher that has no final answer.
type sent struct {
	packet   *packet.Publish
	received bool // a PUBREC came
	released bool // a PUBREL was sent on this connection
}

// owed is a packet that the subscriber has not answered yet.
type owed struct {
	kind packet.Type
	id   uint16
}

type model struct {
	t       *rapid.T
	w       *world
	version packet.Version
	told    []string

	pub, sub  side
	n         int                // messages published
	published map[int]*published // by number
	flying    []*sent            // oldest first
	lastID    uint16

	receiveMax int
	owes       []owed
	window     map[uint16]bool // identifiers that count against receiveMax, on this connection
	held       map[uint16]int  // QoS 2: numbers that were received and not released
	seen       map[uint16]int  // numbers last received under an identifier and not acknowledged
	last       map[string]int  // the highest number of a topic and QoS
}

// published is what is known of one message.
type published struct {
	qos      message.QoS
	at       time.Time // when it was sent first
	sent     int       // how often: at QoS 1 each is a message of its own to the server
	received int       // how often, duplicates of QoS 2 not counted
	conn     int       // of the subscriber, where it came last
}

func newModel(t *rapid.T, w *world, version packet.Version) *model {
	m := &model{
		t: t, w: w, version: version, published: make(map[int]*published),
		pub: side{id: fmt.Sprint("p", w.n)}, sub: side{id: fmt.Sprint("s", w.n)},
		held: make(map[uint16]int), seen: make(map[uint16]int), last: make(map[string]int),
	}
	m.connectSub()
	m.send(&m.sub, &packet.Subscribe{ID: 1, Filters: []packet.Filter{
		{Filter: fmt.Sprintf("m%d/#", w.n), Options: packet.SubscribeOptions{QoS: 2}},
	}})
	m.drainSub()
	m.connectPub()
	return m
}

func (m *model) tell(format string, args ...any) {
	m.told = append(m.told, fmt.Sprintf(format, args...))
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nafter\n  %s", fmt.Sprintf(format, args...), strings.Join(m.told, "\n  "))
}

func (m *model) step() {
	switch kind := rapid.IntRange(0, 99).Draw(m.t, "step"); {
	case kind < 35:
		m.publish()
	case kind < 50:
		m.drainPub()
	case kind < 57:
		m.release()
	case kind < 68:
		m.drainSub()
	case kind < 84:
		m.answer(rapid.IntRange(1, 4).Draw(m.t, "answers"))
	case kind < 89:
		m.lose(&m.pub)
	case kind < 94:
		m.lose(&m.sub)
	case kind < 96:
		m.connectPub()
	case kind < 99:
		m.connectSub()
	default:
		m.tell("the server is started again")
		var leaving sync.WaitGroup
		for _, s := range []*side{&m.pub, &m.sub} {
			nc := s.nc
			leaving.Go(func() { _, _ = io.Copy(io.Discard, nc); _ = nc.Close() }) // when the server says so
			s.client = nil
		}
		m.w.restart()
		leaving.Wait()
	}
}

// connect opens a side's connection; one that it has is taken over.
func (m *model) connect(s *side, receiveMax int) {
	if s.nc != nil {
		defer s.nc.Close()
	}
	nc, err := net.Dial("tcp", m.w.server.Address())
	if err != nil {
		m.fail("%v", err)
	}
	s.nc, s.client = nc, brokertest.NewClient(nc)
	p := &packet.Connect{Version: m.version, ClientID: s.id}
	if m.version == packet.V5 {
		p.Properties.SessionExpiryInterval, p.Properties.ReceiveMaximum = 1000, uint16(receiveMax)
	}
	ack, err := s.client.Connect(p)
	if err != nil || ack.Reason.Failed() {
		m.fail("%q is not connected: %+v, %v", s.id, ack, err)
	}
	if ack.SessionPresent != (s.connects > 0) {
		m.fail("connection %d of %q: session present is %v", s.connects, s.id, ack.SessionPresent)
	}
	if m.version == packet.V5 && ack.Properties.ReceiveMaximum != modelInFlight {
		m.fail("the server's Receive Maximum is %d", ack.Properties.ReceiveMaximum)
	}
	s.connects++
	s.connected = time.Now()
}

// connectPub sends again what has no final answer ([MQTT-4.4.0-1]).
func (m *model) connectPub() {
	m.tell("the publisher connects")
	m.connect(&m.pub, 0)
	for _, f := range m.flying {
		if f.released = f.received; f.received {
			m.send(&m.pub, &packet.Ack{Kind: packet.PUBREL, ID: f.packet.ID})
			continue
		}
		f.packet.Dup = true
		m.published[numberOf(f.packet)].sent++
		m.send(&m.pub, f.packet)
	}
}

func (m *model) connectSub() {
	m.receiveMax = modelInFlight
	if m.version == packet.V5 {
		m.receiveMax = rapid.IntRange(1, modelInFlight).Draw(m.t, "receive maximum")
	}
	m.tell("the subscriber connects with Receive Maximum %d", m.receiveMax)
	m.owes, m.window = nil, make(map[uint16]bool)
	m.connect(&m.sub, m.receiveMax)
}

// lose ends a connection at any point, in the middle of a packet perhaps.
func (m *model) lose(s *side) {
	if s.client == nil {
		return
	}
	m.tell("%q is lost", s.id)
	if rapid.Bool().Draw(m.t, "within a packet") {
		_ = s.client.Write([]byte{0x32, 100, 0, 3, 'm'}) // as well
	}
	if tcp, ok := s.nc.(*net.TCPConn); ok && rapid.Bool().Draw(m.t, "reset") {
		_ = tcp.SetLinger(0)
	}
	_ = s.nc.Close()
	s.client = nil
}

// send sends, unless the server has been stopped meanwhile.
func (m *model) send(s *side, p packet.Packet) {
	if err := s.client.Send(p); err != nil {
		m.fail("%q cannot send: %v", s.id, err)
	}
}

// publish sends one message, within the server's Receive Maximum.
func (m *model) publish() {
	qos := message.QoS(rapid.IntRange(0, 2).Draw(m.t, "qos"))
	if m.pub.client == nil || qos > 0 && len(m.flying) >= modelInFlight {
		return
	}
	m.n++
	m.published[m.n] = &published{qos: qos, at: time.Now(), sent: 1}
	p := &packet.Publish{
		Topic: fmt.Sprintf("m%d/%d", m.w.n, rapid.IntRange(1, 2).Draw(m.t, "topic")), QoS: qos, Payload: fmt.Append(nil, m.n),
	}
	if qos > 0 {
		p.ID = m.nextID()
		m.flying = append(m.flying, &sent{packet: p})
	}
	m.tell("publish %d to %q, QoS %d, identifier %d", m.n, p.Topic, qos, p.ID)
	m.send(&m.pub, p)
}

// nextID uses few identifiers, so that they come again soon.
func (m *model) nextID() uint16 {
	for {
		m.lastID = m.lastID%(modelInFlight+1) + 1
		if m.flight(m.lastID) == nil {
			return m.lastID
		}
	}
}

func (m *model) flight(id uint16) *sent {
	at := slices.IndexFunc(m.flying, func(f *sent) bool { return f.packet.ID == id })
	if at < 0 {
		return nil
	}
	return m.flying[at]
}

// drain reads what has come for one side, up to the answer of a PINGREQ.
func (m *model) drain(s *side, take func(packet.Packet)) {
	if s.client == nil {
		return
	}
	m.send(s, &packet.Pingreq{})
	for {
		p, err := s.client.Read()
		switch {
		case errors.Is(err, io.EOF):
			m.fail("the server has closed the connection of %q", s.id)
		case err != nil:
			m.fail("%q reads: %v", s.id, err)
		}
		if _, ok := p.(*packet.Pingresp); ok {
			return
		}
		take(p)
	}
}

// drainPub takes acknowledgements; a PUBREL is left to release.
func (m *model) drainPub() {
	m.drain(&m.pub, func(p packet.Packet) {
		ack, ok := p.(*packet.Ack)
		if !ok || ack.Reason.Failed() && (ack.Kind != packet.PUBCOMP || ack.Reason != packet.PacketIdentifierNotFound) {
			m.fail("the publisher got %+v", p)
		}
		f := m.flight(ack.ID)
		if f == nil {
			m.fail("the publisher got %+v for what is not in flight", ack)
		}
		switch {
		case ack.Kind == packet.PUBREC && f.packet.QoS == 2:
			f.received = true
			return
		case ack.Kind == packet.PUBACK && f.packet.QoS == 1, ack.Kind == packet.PUBCOMP && f.released:
		default:
			m.fail("the publisher got %+v for %+v", ack, f.packet)
		}
		m.flying = slices.DeleteFunc(m.flying, func(other *sent) bool { return other == f })
	})
}

// release sends the PUBRELs that are due.
func (m *model) release() {
	for _, f := range m.flying {
		if m.pub.client != nil && f.received && !f.released {
			f.released = true
			m.send(&m.pub, &packet.Ack{Kind: packet.PUBREL, ID: f.packet.ID})
		}
	}
}

func (m *model) drainSub() {
	m.drain(&m.sub, func(p packet.Packet) {
		switch p := p.(type) {
		case *packet.Suback:
		case *packet.Publish:
			m.hear(p)
		case *packet.Ack:
			if p.Kind != packet.PUBREL {
				m.fail("the subscriber got %+v", p)
			}
			m.owes = append(m.owes, owed{packet.PUBCOMP, p.ID}) // a PUBREL takes no room in the window (MQTT 5.0 §4.9)
		default:
			m.fail("the subscriber got %+v", p)
		}
		if len(m.window) > m.receiveMax {
			m.fail("there are %d messages in flight, Receive Maximum is %d", len(m.window), m.receiveMax)
		}
	})
}

// numberOf is what a payload says, 0 if it says no number.
func numberOf(p *packet.Publish) int {
	number, _ := strconv.Atoi(string(p.Payload))
	return number
}

// hear judges one PUBLISH to the subscriber.
func (m *model) hear(p *packet.Publish) {
	number := numberOf(p)
	known := m.published[number]
	m.tell("  number %d comes, QoS %d, identifier %d, DUP %v", number, p.QoS, p.ID, p.Dup)
	switch {
	case known == nil || known.qos != p.QoS:
		m.fail("number %d came with QoS %d, published was %+v", number, p.QoS, known)
	case p.QoS > 0 && m.window[p.ID]:
		m.fail("identifier %d is in use", p.ID) // [MQTT-2.2.1-4]
	case p.QoS > 0 && known.conn == m.sub.connects && (p.QoS == 2 || known.sent == 1):
		m.fail("number %d came twice on one connection", number) // [MQTT-4.4.0-1]
	case p.Dup && known.sent == 1 && known.at.After(m.sub.connected):
		m.fail("number %d has DUP and was never sent before", number) // [MQTT-3.3.1-2]
	}
	before, again := m.seen[p.ID]
	again = again && p.QoS > 0
	if again && (before != number || !p.Dup) { // [MQTT-3.3.1-1]
		m.fail("identifier %d had number %d before, which is not acknowledged; DUP is %v", p.ID, before, p.Dup)
	}
	known.conn = m.sub.connects
	fresh := p.QoS != 2 || !again
	if held, ok := m.held[p.ID]; p.QoS == 2 && ok {
		if held != number {
			m.fail("identifier %d is held for number %d", p.ID, held)
		}
		fresh = false
	}
	if fresh {
		known.received++
	}
	if key := fmt.Sprint(p.Topic, p.QoS); known.received == 1 && fresh {
		if number < m.last[key] {
			m.fail("number %d of %q came first after %d", number, p.Topic, m.last[key])
		}
		m.last[key] = number
	}
	if known.received > 1 && p.QoS != 1 {
		m.fail("number %d of QoS %d came %d times", number, p.QoS, known.received)
	}
	switch p.QoS {
	case 1:
		m.owes = append(m.owes, owed{packet.PUBACK, p.ID})
	case 2:
		m.held[p.ID] = number
		m.owes = append(m.owes, owed{packet.PUBREC, p.ID})
	default:
		return
	}
	m.window[p.ID], m.seen[p.ID] = true, number
}

// answer sends the first n packets that the subscriber owes.
func (m *model) answer(n int) {
	for ; n > 0 && len(m.owes) > 0 && m.sub.client != nil; n-- {
		o := m.owes[0]
		m.owes = m.owes[1:]
		m.tell("the subscriber answers %v %d", o.kind, o.id)
		switch o.kind {
		case packet.PUBACK:
			delete(m.window, o.id)
			delete(m.seen, o.id)
		case packet.PUBREC:
			delete(m.seen, o.id)
		case packet.PUBCOMP:
			delete(m.window, o.id)
			delete(m.held, o.id)
		default:
		}
		m.send(&m.sub, &packet.Ack{Kind: o.kind, ID: o.id})
	}
}

// finish has both sides do all that they owe, and looks at what has come.
func (m *model) finish() {
	m.tell("the end")
	if m.pub.client == nil {
		m.connectPub()
	}
	if m.sub.client == nil {
		m.connectSub()
	}
	missing := func() (numbers []int) {
		for number, p := range m.published {
			if p.qos > 0 && p.received == 0 {
				numbers = append(numbers, number)
			}
		}
		return numbers
	}
	deadline := time.Now().Add(patience)
	for len(m.flying) > 0 || len(missing()) > 0 || len(m.owes) > 0 {
		m.release()
		m.drainPub()
		m.drainSub()
		m.answer(len(m.owes))
		if time.Now().After(deadline) {
			m.fail("numbers %v never came, %d messages of the publisher have no answer", missing(), len(m.flying))
		}
	}
	for _, s := range []*side{&m.pub, &m.sub} {
		_ = s.nc.Close()
		m.clear(s)
	}
}

// clear ends a session.
func (m *model) clear(s *side) {
	nc, err := net.Dial("tcp", m.w.server.Address())
	if err != nil {
		m.fail("%v", err)
	}
	defer nc.Close()
	c := brokertest.NewClient(nc)
	if _, err := c.Connect(&packet.Connect{Version: m.version, ClientID: s.id, Clean: true}); err != nil {
		m.fail("%v", err)
	}
	_ = c.Send(&packet.Disconnect{}) // it has no more use for it
}
