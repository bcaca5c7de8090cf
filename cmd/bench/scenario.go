package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// scenario is one way to drive a broker.
type scenario struct {
	name    string
	nodelay bool // mosquitto's set_tcp_nodelay
	run     func(context.Context, *process, *options) (result, error)
}

// The metrics, in the order in which they are printed.
const (
	cpuPerMessage = "CPU us/msg"
	rate          = "msg/s"
	median        = "p50 us"
	p99           = "p99 us"
	perConnection = "KiB/conn"
	idleSize      = "MiB idle"
)

// result is what one run gave.
type result struct {
	values map[string]float64 // by metric
	faults faults
}

// windowSize is how many messages of a publisher may be under way. Together they
// stay below the 1,000 messages that mosquitto queues for a client, and below the
// 20 that it takes unacknowledged from one of 5.0.
const windowSize = 16

func scenarios(o *options) []scenario {
	fanIn := load{publishers: 50, subscribers: 1, subscribe: "bench/+", burst: 1, window: windowSize}
	fanInBurst, fanIn1, fanIn2 := fanIn, fanIn, fanIn
	fanInBurst.burst = 16
	fanIn1.qos, fanIn2.qos = message.AtLeastOnce, message.ExactlyOnce
	fanOut := load{publishers: 1, subscribers: 100, subscribe: "bench/0", burst: 1, window: windowSize}
	pairs := load{publishers: 100, subscribers: 100, burst: 1, window: windowSize}
	latency := load{publishers: 10, subscribers: 1, subscribe: "bench/+", burst: 1, every: 10 * time.Millisecond}
	latency1 := latency
	latency1.qos = message.AtLeastOnce
	return []scenario{
		{"fan-in 50 to 1, QoS 0, 1 packet a write", false, fanIn.run},
		{"fan-in 50 to 1, QoS 0, 16 packets a write", false, fanInBurst.run},
		{"fan-in 50 to 1, QoS 1", false, fanIn1.run},
		{"fan-in 50 to 1, QoS 2", false, fanIn2.run},
		{"fan-out 1 to 100, QoS 0", false, fanOut.run},
		{"pairs 100 to 100, QoS 0", false, pairs.run},
		{"latency at 1,000 msg/s, QoS 0", true, latency.run},
		{"latency at 1,000 msg/s, QoS 1", true, latency1.run},
		{fmt.Sprintf("idle, %d connections", o.idle), false, idle},
	}
}

// idle measures the resident set before and with many connections.
func idle(ctx context.Context, p *process, o *options) (r result, err error) {
	pause(ctx, o.time/4)
	before, err := p.usage()
	if err != nil {
		return r, err
	}
	var clients []*client
	defer func() {
		for _, c := range clients {
			err = errors.Join(err, c.conn.Close())
		}
	}()
	for i := range o.idle {
		c, err := dial(ctx, p.address, fmt.Sprintf("idle-%d", i), o.version)
		if err != nil {
			return r, fmt.Errorf("connection %d: %w", i+1, err)
		}
		clients = append(clients, c)
		if err := c.subscribe(fmt.Sprintf("idle/%d/set", i), message.AtLeastOnce); err != nil {
			return r, fmt.Errorf("connection %d: %w", i+1, err)
		}
	}
	pause(ctx, o.time/2)
	after, err := p.usage()
	if err != nil {
		return r, err
	}
	r.values = map[string]float64{
		idleSize:      float64(before.rss) / (1 << 20),
		perConnection: float64(after.rss-before.rss) / (1 << 10) / float64(o.idle),
	}
	return r, nil
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}
