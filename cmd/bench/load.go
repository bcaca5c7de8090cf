package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// load is publishers and subscribers and the pace of the messages between them.
// Publisher i publishes to bench/i.
type load struct {
	publishers, subscribers int
	filter                  string // of all subscribers; empty is bench/i for subscriber i
	qos                     message.QoS
	burst                   int  // packets a write
	window                  int  // messages of a publisher under way; or
	rate                    int  // messages a second of all publishers, whatever is under way
	durable                 bool // the subscribers' sessions outlive their connections
	rules                   *ruled
}

// test is a load at work on one broker.
type test struct {
	load
	p       *process
	version packet.Version
	loop    *loop
	pubs    []*publisher
	subs    []*subscriber
	ready   []*publisher // those that may write
	spare   []*publisher // memory for the next ready
	next    time.Time    // when the next message is due, if there is a rate
	turn    int          // of the publisher that sends it

	delivered, unsettled int64
	timed                bool // latencies are kept
	latencies            []int64
	sum                  sum
}

type publisher struct {
	*conn
	template
	index    int
	name     string   // of its topic
	aims     *aims    // sets another topic for each message; nil leaves name and lane 0
	sequence []uint64 // of the next message, by lane
	sent     uint64
	fan      int // deliveries of one message
	free     int // deliveries that may come under way
	acks     int // messages that may come to wait for an acknowledgement
	queued   bool
}

type subscriber struct {
	*conn
	lane    int
	ledgers []*ledger // by publisher; nil for those that it is not to hear
	strange uint64
}

// prepare connects everybody.
func (l load) prepare(ctx context.Context, p *process, o *options) (trial, error) {
	t, err := newTest(l, p, o)
	if err != nil {
		return nil, err
	}
	if err := t.connect(ctx, o.size); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func newTest(l load, p *process, o *options) (*test, error) {
	loop, err := newLoop()
	return &test{load: l, p: p, version: o.version, loop: loop}, err
}

func (t *test) connect(ctx context.Context, size int) error {
	for i := range t.subscribers {
		filter := t.filter
		if filter == "" {
			filter = fmt.Sprintf("bench/%d", i)
		}
		s, err := t.subscriber(ctx, i, filter)
		if err != nil {
			return err
		}
		for j := range s.ledgers {
			if t.filter != "" || j == i {
				s.ledgers[j] = &ledger{}
			}
		}
	}
	fan := 1
	if t.publishers == 1 {
		fan = t.subscribers
	}
	for i := range t.publishers {
		name := fmt.Sprintf("bench/%d", i)
		if t.rules != nil {
			name, size = fmt.Sprintf(ruleTopic, i), max(size, len(rulePayload(i, 0)))
		}
		if err := t.publisher(ctx, name, fan, 1, size); err != nil {
			return err
		}
		if t.rules != nil {
			t.rules.publisher(t.pubs[i], size)
		}
	}
	return t.p.look()
}

func (t *test) subscriber(ctx context.Context, i int, filters ...string) (*subscriber, error) {
	hello := &packet.Connect{Version: t.version, Clean: !t.durable, ClientID: fmt.Sprintf("sub-%d", i)}
	if t.durable && t.version == packet.V5 {
		hello.Properties.SessionExpiryInterval = 3600
	}
	c, err := dial(ctx, t.p.address, i, hello)
	if err != nil {
		return nil, err
	}
	s := &subscriber{conn: c, ledgers: make([]*ledger, t.publishers)}
	c.handle = func(f frame) error { return t.subscriberGets(s, f) }
	t.subs = append(t.subs, s)
	if err := c.subscribe(ctx, t.qos, filters...); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return s, t.loop.add(c)
}

func (t *test) publisher(ctx context.Context, topic string, fan, lanes, size int) error {
	i := len(t.pubs)
	c, err := dial(ctx, t.p.address, i, &packet.Connect{Version: t.version, Clean: true, ClientID: fmt.Sprintf("pub-%d", i)})
	if err != nil {
		return err
	}
	p := &publisher{conn: c, index: i, name: topic, sequence: make([]uint64, lanes), fan: fan, free: t.window * fan, acks: t.window}
	c.handle = func(f frame) error { return t.publisherGets(p, f) }
	t.pubs = append(t.pubs, p)
	if err := t.loop.add(c); err != nil {
		return err
	}
	p.template, err = newTemplate(topic, t.qos, false, size, t.version)
	t.wake(p)
	return err
}

// wake lets a publisher write if it may.
func (t *test) wake(p *publisher) {
	if !p.queued && t.rate == 0 && p.free >= t.burst*p.fan && (t.qos == message.AtMostOnce || p.acks >= t.burst) {
		p.queued = true
		t.ready = append(t.ready, p)
	}
}

func (t *test) publisherGets(p *publisher, f frame) error {
	id, err := f.ack()
	if err != nil {
		return err
	}
	switch f.kind {
	case packet.PUBREC:
		p.out = appendAck(p.out, packet.PUBREL, id)
	case packet.PUBACK, packet.PUBCOMP:
		p.acks++
		t.unsettled--
		t.wake(p)
	default:
		return fmt.Errorf("a publisher was sent a %s", f.kind)
	}
	return nil
}

func (t *test) subscriberGets(s *subscriber, f frame) error {
	switch f.kind {
	case packet.PUBLISH:
		d, err := f.delivery(t.version)
		if err != nil {
			return err
		}
		switch d.qos {
		case message.AtLeastOnce:
			s.out = appendAck(s.out, packet.PUBACK, d.id)
		case message.ExactlyOnce:
			s.out = appendAck(s.out, packet.PUBREC, d.id)
		case message.AtMostOnce:
		}
		t.receive(s, d)
		return nil
	case packet.PUBREL:
		id, err := f.ack()
		s.out = appendAck(s.out, packet.PUBCOMP, id)
		return err
	default:
		return fmt.Errorf("a subscriber was sent a %s", f.kind)
	}
}

func (t *test) receive(s *subscriber, d delivery) {
	read := readStamp
	if t.rules != nil {
		read = t.rules.read
	}
	index, sequence, at, ok := read(d.payload)
	if !ok || index >= len(t.pubs) || s.ledgers[index] == nil || !t.pubs[index].wrote(d.topic, s) {
		s.strange++
		return
	}
	s.ledgers[index].enter(sequence)
	if t.timed {
		t.latencies = append(t.latencies, clock()-at)
	}
	t.delivered++
	p := t.pubs[index]
	p.free++
	t.wake(p)
}

// wrote reports whether a message of the topic goes from the publisher to s.
func (p *publisher) wrote(topic []byte, s *subscriber) bool {
	if p.aims != nil {
		return p.aims.meant(topic, s.lane)
	}
	return string(topic) == p.name
}

// write sends as many messages as go into a write.
func (t *test) write(p *publisher) error {
	at := clock()
	for range t.burst {
		lane := 0
		if p.aims != nil {
			lane = p.aims.next(p)
		}
		if t.rules != nil {
			t.rules.stamp(p.bytes[p.payload:], p.index, p.sequence[lane], at)
		} else {
			stamp(p.bytes[p.payload:], p.index, p.sequence[lane], at)
		}
		if t.qos > message.AtMostOnce {
			p.setID(uint16(p.sent%65535) + 1)
			p.acks--
			t.unsettled++
		}
		p.sequence[lane]++
		p.sent++
		p.free -= p.fan
		p.out = append(p.out, p.bytes...)
	}
	return t.loop.flush(p.conn)
}

// work goes on until a time; it publishes what may be published.
func (t *test) work(ctx context.Context, until time.Time) error {
	for {
		now := time.Now()
		if now.After(until) {
			return nil
		}
		wait, err := t.publish(now, until)
		if err != nil {
			return err
		}
		if err := t.loop.poll(ctx, wait); err != nil {
			return err
		}
	}
}

// publish does one write of each publisher that is ready, and says how long there
// is nothing more to do.
func (t *test) publish(now, until time.Time) (wait time.Duration, err error) {
	if t.rate > 0 {
		for ; !t.next.After(now); t.next = t.next.Add(time.Second / time.Duration(t.rate)) {
			p := t.pubs[t.turn%len(t.pubs)]
			t.turn++
			if err := t.write(p); err != nil {
				return 0, err
			}
		}
		return min(t.next.Sub(now), until.Sub(now)), nil
	}
	turn := t.ready
	t.ready, t.spare = t.spare[:0], turn
	for _, p := range turn {
		p.queued = false
		if !p.blocked {
			if err := t.write(p); err != nil {
				return 0, err
			}
		}
		t.wake(p)
	}
	if len(t.ready) > 0 {
		return 0, nil
	}
	return until.Sub(now), nil
}

// slice warms up, measures, and waits for what is under way.
func (t *test) slice(ctx context.Context, d time.Duration) error {
	t.next = time.Now()
	warm := d / 5
	if t.rules != nil && t.delivered == 0 {
		warm = 4 * d // Node-RED's code is compiled while it runs
	}
	if err := t.work(ctx, t.next.Add(warm)); err != nil {
		return err
	}
	t.timed = t.rate > 0
	err := t.sum.measure(t.p, &t.delivered, func() error { return t.work(ctx, time.Now().Add(d)) })
	t.timed = false
	return errors.Join(err, t.settle(ctx))
}

// quiet is how long nothing comes before what is missing is taken for lost.
const quiet = 2 * time.Second

// quietRules is the same where rules run: a hundred of them keep Node-RED busy.
const quietRules = time.Minute

// settle waits until everything sent was delivered and acknowledged, or until
// nothing has come for a while.
func (t *test) settle(ctx context.Context) error {
	var want int64
	for _, p := range t.pubs {
		want += int64(p.sent) * int64(p.fan)
	}
	patient := quiet
	if t.rules != nil {
		patient = cmp.Or(t.rules.quiet, quietRules)
	}
	for last := time.Now(); t.delivered < want || t.unsettled > 0; {
		had := t.delivered - t.unsettled
		if err := t.loop.poll(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if now := time.Now(); t.delivered-t.unsettled != had {
			last = now
		} else if now.Sub(last) > patient {
			return nil
		}
	}
	return nil
}

func (t *test) result(ctx context.Context) (r result, err error) {
	if err := t.loop.poll(ctx, 20*time.Millisecond); err != nil { // for what comes twice
		return r, err
	}
	r.faults = t.count()
	r.values = map[metric]float64{}
	if t.sum.done > 0 { // else the faults say why
		r.values[cpuPerMessage], r.values[perSecond] = t.sum.each(), t.sum.perSecond()
	}
	if len(t.latencies) > 0 {
		slices.Sort(t.latencies)
		at := func(share float64) float64 {
			return float64(t.latencies[min(len(t.latencies)-1, int(share*float64(len(t.latencies))))]) / 1e3
		}
		r.values[p50], r.values[p99] = at(0.5), at(0.99)
	}
	return r, nil
}

func (t *test) count() (f faults) {
	for _, s := range t.subs {
		f.strange += s.strange
		for i, l := range s.ledgers {
			if l != nil {
				f.add(l.close(t.pubs[i].sequence[s.lane]))
			}
		}
	}
	return f
}

func (t *test) close() error {
	return t.loop.close()
}
