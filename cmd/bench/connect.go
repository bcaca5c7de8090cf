package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// connecting is how many connections are being made at once in the connect row.
const connecting = 16

// churn makes connections that end as soon as they are answered: CONNECT, CONNACK,
// DISCONNECT, and the end of the stream, for which the next one waits.
type churn struct {
	p       *process
	version packet.Version
	loop    *loop
	opened  int64
	closed  int64
	going   bool // those that end are followed by others
	sum     sum
}

func prepareChurn(_ context.Context, p *process, o *options) (trial, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	return &churn{p: p, version: o.version, loop: l}, p.look()
}

func (t *churn) open() error {
	t.opened++
	c, err := open(t.p.address, int(t.opened), t.version)
	if err != nil {
		return err
	}
	connect := &packet.Connect{Version: t.version, Clean: true, ClientID: fmt.Sprintf("connect-%d", t.opened), KeepAlive: 60}
	if c.out, err = packet.Append(c.out, connect, t.version); err != nil {
		return errors.Join(err, c.close())
	}
	answered := false
	c.handle = func(f frame) (err error) {
		if f.kind != packet.CONNACK || len(f.body) < 2 || f.body[1] != 0 || answered {
			return fmt.Errorf("CONNECT was answered with %s % x", f.kind, f.body)
		}
		answered = true
		c.out, err = packet.Append(c.out, &packet.Disconnect{}, t.version)
		return err
	}
	c.ended = func() error {
		if !answered {
			return errors.New("a connection was closed without an answer to its CONNECT")
		}
		t.closed++
		if err := t.loop.drop(c); err != nil || !t.going {
			return err
		}
		return t.open()
	}
	return t.loop.add(c)
}

func (t *churn) work(ctx context.Context, until time.Time) error {
	for {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		if err := t.loop.poll(ctx, left); err != nil {
			return err
		}
	}
}

func (t *churn) slice(ctx context.Context, d time.Duration) error {
	t.going = true
	for range connecting {
		if err := t.open(); err != nil {
			return err
		}
	}
	if err := t.work(ctx, time.Now().Add(d/5)); err != nil {
		return err
	}
	err := t.sum.measure(t.p, &t.closed, func() error { return t.work(ctx, time.Now().Add(d)) })
	if err != nil {
		return err
	}
	t.going = false
	for last := time.Now(); t.closed < t.opened && time.Since(last) < quiet; {
		had := t.closed
		if err := t.loop.poll(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if t.closed > had {
			last = time.Now()
		}
	}
	return nil
}

func (t *churn) result(context.Context) (result, error) {
	return result{
		values: map[metric]float64{cpuEach: t.sum.each(), perSecond: t.sum.perSecond()},
		faults: faults{lost: uint64(t.opened - t.closed)},
	}, nil
}

func (t *churn) close() error { return t.loop.close() }
