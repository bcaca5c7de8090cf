package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// idle measures the resident memory before and with many connections that have a
// subscription each and nothing to do.
type idle struct {
	p     *process
	o     *options
	conns []*conn
	value float64
}

func prepareIdle(_ context.Context, p *process, o *options) (trial, error) {
	return &idle{p: p, o: o}, nil
}

func (t *idle) slice(ctx context.Context, _ time.Duration) error {
	before, err := t.p.settled(ctx)
	if err != nil {
		return err
	}
	for i := range t.o.idle {
		c, err := dial(ctx, t.p.address, i, &packet.Connect{
			Version: t.o.version, Clean: true, ClientID: fmt.Sprintf("idle-%d", i), KeepAlive: 600,
		})
		if err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		t.conns = append(t.conns, c)
		if err := c.subscribe(ctx, message.AtLeastOnce, fmt.Sprintf("idle/%d/set", i)); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
	}
	after, err := t.p.settled(ctx)
	t.value = float64(after-before) / (1 << 10) / float64(t.o.idle)
	return err
}

func (t *idle) result(context.Context) (result, error) {
	return result{values: map[metric]float64{perConnection: t.value}}, nil
}

func (t *idle) close() error {
	var errs []error
	for _, c := range t.conns {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

// atStart measures the resident memory of a broker that has just come up.
type atStart struct {
	p     *process
	value float64
}

func prepareStart(_ context.Context, p *process, _ *options) (trial, error) {
	return &atStart{p: p}, nil
}

func (t *atStart) slice(ctx context.Context, _ time.Duration) error {
	rss, err := t.p.settled(ctx)
	t.value = float64(rss) / (1 << 20)
	return err
}

func (t *atStart) result(context.Context) (result, error) {
	return result{values: map[metric]float64{megabytes: t.value}}, nil
}

func (t *atStart) close() error { return nil }
