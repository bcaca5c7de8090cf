package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// load is publishers and subscribers and the pace of the messages between them.
// Publisher i publishes to bench/i.
type load struct {
	publishers, subscribers int
	subscribe               string // the filter of all; empty is bench/i for subscriber i
	qos                     message.QoS
	burst                   int           // packets a write
	window                  int           // messages of a publisher under way; or
	every                   time.Duration // between two writes, whatever is under way
}

// test is a load at work.
type test struct {
	load
	version packet.Version
	size    int
	pubs    []*publisher
	subs    []*subscriber

	delivered atomic.Int64
	failed    chan error // the first error of any connection
	readers   sync.WaitGroup
	closed    bool
}

type publisher struct {
	*client
	index     int
	topic     string
	fan       int64   // deliveries of one message
	delivery  *window // in deliveries
	acks      *window
	sequence  uint64 // of the next message
	unsettled atomic.Int64
}

type subscriber struct {
	*client
	ledgers   map[int]*ledger // by publisher
	strange   uint64
	latencies []time.Duration
}

// run connects, warms up, measures, waits for what is under way, and counts.
func (l load) run(ctx context.Context, p *process, o *options) (r result, err error) {
	t := &test{load: l, version: o.version, size: o.size, failed: make(chan error, 1)}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.connect(ctx, p.address); err != nil {
		return r, err
	}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var writers sync.WaitGroup
	for _, pub := range t.pubs {
		writers.Go(func() { t.check(t.publish(publishing, pub)) })
	}
	values, err := t.measure(ctx, p, o.time)
	stop()
	writers.Wait()
	if err != nil {
		return r, err
	}
	if err := t.settle(ctx); err != nil {
		return r, err
	}
	if err := t.close(); err != nil { // no reader touches the ledgers any more
		return r, err
	}
	r.values, r.faults = values, t.count()
	if l.every > 0 {
		t.latencies(r.values)
	}
	return r, nil
}

func (t *test) connect(ctx context.Context, address string) error {
	for i := range t.subscribers {
		c, err := dial(ctx, address, fmt.Sprintf("sub-%d", i), t.version)
		if err != nil {
			return err
		}
		t.subs = append(t.subs, &subscriber{client: c, ledgers: map[int]*ledger{}})
		filter := t.subscribe
		if filter == "" {
			filter = fmt.Sprintf("bench/%d", i)
		}
		if err := c.subscribe(filter, t.qos); err != nil {
			return err
		}
	}
	fan := 1
	if t.publishers == 1 {
		fan = t.subscribers
	}
	for i := range t.publishers {
		c, err := dial(ctx, address, fmt.Sprintf("pub-%d", i), t.version)
		if err != nil {
			return err
		}
		t.pubs = append(t.pubs, &publisher{
			client: c, index: i, topic: fmt.Sprintf("bench/%d", i), fan: int64(fan),
			delivery: newWindow(t.window * fan), acks: newWindow(t.window),
		})
	}
	t.listen()
	return nil
}

// listen starts a reader for each connection.
func (t *test) listen() {
	for _, p := range t.pubs {
		t.readers.Go(func() {
			t.check(p.listen(func(*packet.Publish) {}, func() { p.unsettled.Add(-1); p.acks.give() }))
		})
	}
	for _, s := range t.subs {
		t.readers.Go(func() { t.check(s.listen(func(p *packet.Publish) { t.receive(s, p) }, func() {})) })
	}
}

// check keeps the first error.
func (t *test) check(err error) {
	if err != nil {
		select {
		case t.failed <- err:
		default:
		}
	}
}

func (t *test) receive(s *subscriber, p *packet.Publish) {
	index, sequence, at, ok := readStamp(p.Payload)
	if !ok || index >= len(t.pubs) || p.Topic != t.pubs[index].topic {
		s.strange++
		return
	}
	l := s.ledgers[index]
	if l == nil {
		l = &ledger{}
		s.ledgers[index] = l
	}
	l.enter(sequence)
	if t.every > 0 {
		s.latencies = append(s.latencies, time.Since(at))
	}
	t.delivered.Add(1)
	t.pubs[index].delivery.give()
}

// publish writes until ctx ends.
func (t *test) publish(ctx context.Context, p *publisher) error {
	var tick <-chan time.Time
	if t.every > 0 {
		// The publishers take turns instead of sending all at once.
		pause(ctx, t.every*time.Duration(p.index)/time.Duration(t.publishers))
		ticker := time.NewTicker(t.every)
		defer ticker.Stop()
		tick = ticker.C
	}
	packets := packet.Publish{Topic: p.topic, QoS: t.qos, Payload: make([]byte, t.size)}
	for t.next(ctx, p, tick) {
		for range t.burst {
			stamp(packets.Payload, p.index, p.sequence, time.Now())
			if t.qos > message.AtMostOnce {
				packets.ID = uint16(p.sequence%65535) + 1
				p.unsettled.Add(1)
			}
			p.sequence++
			if err := p.queue(&packets); err != nil {
				return err
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
	}
	return nil
}

// next waits until the publisher may write once more.
func (t *test) next(ctx context.Context, p *publisher, tick <-chan time.Time) bool {
	if tick != nil {
		select {
		case <-tick:
			return true
		case <-ctx.Done():
			return false
		}
	}
	burst := int64(t.burst)
	if t.qos > message.AtMostOnce && !p.acks.take(ctx, burst) {
		return false
	}
	return p.delivery.take(ctx, burst*p.fan) && ctx.Err() == nil
}

// measure takes the difference between two looks at the broker.
func (t *test) measure(ctx context.Context, p *process, d time.Duration) (map[string]float64, error) {
	if err := t.wait(ctx, d/4); err != nil {
		return nil, err
	}
	before, err := p.usage()
	if err != nil {
		return nil, err
	}
	start, had := time.Now(), t.delivered.Load()
	if err := t.wait(ctx, d); err != nil {
		return nil, err
	}
	after, err := p.usage()
	if err != nil {
		return nil, err
	}
	took, n := time.Since(start), float64(t.delivered.Load()-had)
	return map[string]float64{ // without any message, infinite and 0; the faults say why
		cpuPerMessage: float64((after.cpu - before.cpu).Nanoseconds()) / 1e3 / n,
		rate:          n / took.Seconds(),
	}, nil
}

// wait waits, but not beyond the end of ctx or the first error.
func (t *test) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case err := <-t.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle waits until everything sent was delivered and acknowledged, or until
// nothing has come for two seconds.
func (t *test) settle(ctx context.Context) error {
	var want int64
	for _, p := range t.pubs {
		want += int64(p.sequence) * p.fan
	}
	const quiet = 100 // looks
	for had, looks := int64(-1), 0; looks < quiet; looks++ {
		now, unsettled := t.delivered.Load(), int64(0)
		for _, p := range t.pubs {
			unsettled += p.unsettled.Load()
		}
		if now >= want && unsettled == 0 {
			break
		}
		if now-unsettled != had {
			had, looks = now-unsettled, 0
		}
		if err := t.wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return t.wait(ctx, 20*time.Millisecond) // for what comes twice
}

// close ends all connections, once, and waits for their readers.
func (t *test) close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	var errs []error
	for _, p := range t.pubs {
		errs = append(errs, p.conn.Close())
	}
	for _, s := range t.subs {
		errs = append(errs, s.conn.Close())
	}
	t.readers.Wait()
	return errors.Join(errs...)
}

func (t *test) count() (f faults) {
	for _, s := range t.subs {
		f.strange += s.strange
		for i, p := range t.pubs {
			if t.subscribe == "" && s != t.subs[i] {
				continue
			}
			l := s.ledgers[i]
			if l == nil {
				l = &ledger{}
			}
			f.add(l.close(p.sequence))
		}
	}
	return f
}

func (t *test) latencies(values map[string]float64) {
	var all []time.Duration
	for _, s := range t.subs {
		all = append(all, s.latencies...)
	}
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	at := func(share float64) float64 {
		return float64(all[min(len(all)-1, int(share*float64(len(all))))].Nanoseconds()) / 1e3
	}
	values[median], values[p99] = at(0.5), at(0.99)
}
