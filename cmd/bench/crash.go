package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// crashed is a row in which a broker acknowledges messages for a client that is away,
// is killed, runs again, and gives the client what it has kept.
type crashed struct{ *stored }

func prepareCrash(count int) func(context.Context, *process, *options) (trial, error) {
	return func(ctx context.Context, p *process, o *options) (trial, error) {
		t, err := prepareStored(count, false)(ctx, p, o)
		if err != nil {
			return nil, err
		}
		return &crashed{t.(*stored)}, nil
	}
}

func (c *crashed) slice(ctx context.Context, _ time.Duration) error {
	if err := c.leave(ctx); err != nil {
		return err
	}
	if err := c.fill(ctx); err != nil {
		return err
	}
	start := time.Now()
	if err := c.p.crash(); err != nil {
		return err
	}
	if err := c.again(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	for last, had := time.Now(), int64(0); c.delivered < int64(c.count) && time.Since(last) < quiet; {
		if err := c.loop.poll(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		if c.delivered > had {
			last, had = time.Now(), c.delivered
		}
	}
	// What comes twice may: the broker was killed before it heard of it.
	c.res.faults.twice, c.res.faults.disordered = 0, 0
	c.res.values = map[metric]float64{kept: float64(c.delivered), back: took.Seconds()}
	return c.p.look()
}

// again connects the client as soon as the broker lets it.
func (c *crashed) again(ctx context.Context) error {
	for begin := time.Now(); ; {
		err := c.ask(ctx)
		if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		if time.Since(begin) > patience || !pause(ctx, time.Millisecond) {
			return fmt.Errorf("takes no connections %v after it was killed: %w", patience, err)
		}
	}
}
