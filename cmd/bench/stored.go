package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// stored is a row in which the broker first gets many messages to keep and then
// gives them all to one subscriber, who begins to ask when the clock starts.
type stored struct {
	*test
	count    int
	size     int
	retained bool // else they are queued for a client that is away
	seen     []bool
	last     time.Time // when the last message came
	res      result
}

func prepareStored(count int, retained bool) func(context.Context, *process, *options) (trial, error) {
	return func(_ context.Context, p *process, o *options) (trial, error) {
		t, err := newTest(load{publishers: 1, subscribers: 1, qos: message.AtLeastOnce, burst: 1, window: windowSize}, p, o)
		if err != nil {
			return nil, err
		}
		return &stored{test: t, count: count, size: o.size, retained: retained, seen: make([]bool, count)}, p.look()
	}
}

func (s *stored) slice(ctx context.Context, _ time.Duration) error {
	if !s.retained {
		if err := s.leave(ctx); err != nil {
			return err
		}
	}
	if err := s.fill(ctx); err != nil {
		return err
	}
	var spent sum
	var start time.Time
	s.last = time.Now()
	err := spent.measure(s.p, &s.delivered, func() (err error) {
		start = time.Now()
		if err = s.ask(ctx); err != nil {
			return err
		}
		wait := patience // for the first
		for s.last = start; s.delivered < int64(s.count) && time.Since(s.last) < wait; {
			if err := s.loop.poll(ctx, 20*time.Millisecond); err != nil {
				return err
			}
			if s.delivered > 0 {
				wait = quiet
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.loop.poll(ctx, 20*time.Millisecond); err != nil { // for what comes twice
		return err
	}
	took := s.last.Sub(start).Seconds()
	s.res.values = map[metric]float64{}
	switch {
	case s.delivered == 0: // the faults say it
	case s.retained:
		s.res.values[seconds], s.res.values[cpuPerMessage] = took, spent.each()
	default:
		s.res.values[thousands], s.res.values[cpuPerMessage] = float64(s.delivered)/took/1e3, spent.each()
	}
	for _, seen := range s.seen {
		if !seen {
			s.res.faults.lost++
		}
	}
	return nil
}

func (s *stored) drainer() *packet.Connect {
	c := &packet.Connect{Version: s.version, ClientID: "drain", Clean: s.retained}
	if s.version == packet.V5 && !s.retained {
		c.Properties.SessionExpiryInterval = 3600
	}
	return c
}

// leave makes the session whose messages are queued.
func (s *stored) leave(ctx context.Context) error {
	c, err := dial(ctx, s.p.address, 0, s.drainer())
	if err != nil {
		return err
	}
	err = c.subscribe(ctx, message.AtLeastOnce, "stored/#")
	if err == nil {
		if c.out, err = packet.Append(c.out, &packet.Disconnect{}, s.version); err == nil {
			err = c.flush()
		}
	}
	return errors.Join(err, c.close())
}

// fill publishes the messages and waits for their acknowledgements.
func (s *stored) fill(ctx context.Context) error {
	c, err := dial(ctx, s.p.address, 1, &packet.Connect{Version: s.version, Clean: true, ClientID: "fill"})
	if err != nil {
		return err
	}
	acked := 0
	c.handle = func(f frame) error {
		if f.kind != packet.PUBACK {
			return fmt.Errorf("a publisher was sent a %s", f.kind)
		}
		acked++
		_, err := f.ack()
		return err
	}
	if err := s.loop.add(c); err != nil {
		return err
	}
	p, err := newTemplate("stored/000/000", message.AtLeastOnce, s.retained, s.size, s.version)
	if err != nil {
		return err
	}
	for sent, last := 0, time.Now(); acked < s.count; {
		had := acked
		for ; sent < s.count && sent-acked < windowSize; sent++ {
			digits(p.bytes[p.topic+len("stored/"):][:3], sent/1000)
			digits(p.bytes[p.topic+len("stored/000/"):][:3], sent)
			stamp(p.bytes[p.payload:], 0, uint64(sent), 0)
			p.setID(uint16(sent%65535) + 1)
			c.out = append(c.out, p.bytes...)
		}
		if err := s.loop.flush(c); err != nil {
			return err
		}
		if err := s.loop.poll(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if now := time.Now(); acked > had {
			last = now
		} else if now.Sub(last) > patience {
			return fmt.Errorf("%d of %d messages were acknowledged, then none for %v", acked, s.count, patience)
		}
	}
	return s.loop.drop(c)
}

// ask connects the one who gets the messages.
func (s *stored) ask(ctx context.Context) error {
	c, err := dial(ctx, s.p.address, 2, s.drainer())
	if err != nil {
		return err
	}
	next := uint64(0)
	c.handle = func(f frame) error {
		if f.kind == packet.SUBACK {
			return nil
		}
		if f.kind != packet.PUBLISH {
			return fmt.Errorf("a subscriber was sent a %s", f.kind)
		}
		d, err := f.delivery(s.version)
		if err != nil {
			return err
		}
		if d.qos == message.AtLeastOnce {
			c.out = appendAck(c.out, packet.PUBACK, d.id)
		}
		_, sequence, _, ok := readStamp(d.payload)
		switch {
		case !ok || sequence >= uint64(s.count):
			s.res.faults.strange++
			return nil
		case s.seen[sequence]:
			s.res.faults.twice++
			return nil
		case !s.retained && sequence < next:
			s.res.faults.disordered++
		}
		next = max(next, sequence+1)
		s.seen[sequence] = true
		s.delivered++
		s.last = time.Now()
		return nil
	}
	if s.retained {
		subscribe := &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "#"}}}
		if c.out, err = packet.Append(c.out, subscribe, s.version); err != nil {
			return err
		}
	}
	return s.loop.add(c)
}

func (s *stored) result(context.Context) (result, error) { return s.res, nil }
