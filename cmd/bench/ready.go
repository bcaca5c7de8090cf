package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// readyTime is how long rules may take to be at work.
const readyTime = time.Minute

// firing waits until the rules at p answer bench/ready. It asks so often.
func firing(ctx context.Context, p *process, every time.Duration) error {
	const version = packet.V311
	c, err := dial(ctx, p.address, 0, &packet.Connect{Version: version, Clean: true, ClientID: "ready"})
	if err != nil {
		return err
	}
	l, err := newLoop()
	if err != nil {
		return errors.Join(err, c.close())
	}
	answered := false
	c.handle = func(f frame) error {
		answered = answered || f.kind == packet.PUBLISH
		return nil
	}
	err = c.subscribe(ctx, message.AtMostOnce, readyAnswer)
	if err := errors.Join(err, l.add(c)); err != nil {
		return errors.Join(err, l.close())
	}
	for until := time.Now().Add(readyTime); err == nil && !answered; {
		if time.Now().After(until) {
			err = fmt.Errorf("the rules did nothing within %v", readyTime)
			break
		}
		if c.out, err = packet.Append(c.out, &packet.Publish{Topic: readyTopic, Payload: []byte(`{"open":true}`)}, version); err == nil {
			if err = l.flush(c); err == nil {
				err = l.poll(ctx, every)
			}
		}
	}
	return errors.Join(err, l.close())
}
