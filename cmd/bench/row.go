package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// metric is what a row measures.
type metric string

const (
	cpuPerMessage metric = "CPU us/msg" // of the broker's processes, a delivered message
	cpuEach       metric = "CPU us each"
	growth        metric = "growth" // of CPU us/msg
	seconds       metric = "s"
	thousands     metric = "k msg/s"
	p50           metric = "p50 us"
	p99           metric = "p99 us"
	perSecond     metric = "per second"
	straight      metric = "R0 us/msg"    // of the same clients without a rule, in the same run
	overStraight  metric = "us/msg above" // that
	firstFiring   metric = "ms to firing"
	moreMegabytes metric = "MiB more"   // than without rules
	workMegabytes metric = "MiB worker" // of the scripts
	reloads       metric = "reloads"
	lost          metric = "lost"
	doubled       metric = "doubled"
	forgotten     metric = "state lost"
	perConnection metric = "KiB/conn"
	megabytes     metric = "MiB"
	kept          metric = "kept"
	back          metric = "s to CONNACK" // from kill -9
)

// metrics are all, in the order in which a row's are printed.
var metrics = []metric{
	growth, cpuPerMessage, straight, overStraight, cpuEach, seconds, thousands, p50, p99, perConnection, megabytes, kept, back, perSecond,
	firstFiring, moreMegabytes, workMegabytes, reloads, lost, doubled, forgotten,
}

// row is a line of the table: one way to drive a broker.
type row struct {
	name    string
	needs   needs
	alone   bool // one broker at a time, one slice
	prepare func(context.Context, *process, *options) (trial, error)
	bounds  []bound
}

// trial is a row at work on one broker. After an error only close is called.
type trial interface {
	slice(ctx context.Context, d time.Duration) error // measures once more
	result(ctx context.Context) (result, error)
	close() error
}

// result is what one run gave.
type result struct {
	values map[metric]float64
	faults faults
}

// bound is what the gateway is to keep.
type bound struct {
	metric metric
	of     kind
	value  float64
}

type kind string

const (
	timesPeer kind = "x mosquitto" // at most so many times mosquitto's
	peerTimes kind = "x mosquitto or more"
	atMost    kind = "at most"
	atLeast   kind = "at least"
)

// more reports whether more is better.
func (k kind) more() bool { return k == atLeast || k == peerTimes }

func (b bound) String() string {
	switch b.of {
	case timesPeer:
		return fmt.Sprintf("%g x", b.value)
	case peerTimes:
		return fmt.Sprintf(">= %g x", b.value)
	case atLeast:
		return fmt.Sprintf(">= %g", b.value)
	default:
		return fmt.Sprintf("<= %g", b.value)
	}
}

// windowSize is how many messages of a publisher may be under way. Together they
// stay below the 1,000 messages that mosquitto queues for a client, and below the
// 20 that it takes unacknowledged from one of 5.0.
const windowSize = 16

// What the rows with stored messages store.
const (
	retainedCount = 100_000
	queuedCount   = 50_000
	crashCount    = 50
	backCount     = 10_000
)

// rows are all, with what the broker is to keep in each.
func rows(o *options) []row {
	cpu := func(times float64) []bound { return []bound{{cpuPerMessage, timesPeer, times}} }
	fanIn := func(qos message.QoS, burst int) load {
		return load{publishers: 50, subscribers: 1, filter: "bench/+", qos: qos, burst: burst, window: windowSize}
	}
	fanOut := func(subscribers int) load {
		return load{publishers: 1, subscribers: subscribers, filter: "bench/0", burst: 1, window: windowSize}
	}
	open := func(rate int) load {
		return load{publishers: 10, subscribers: 1, filter: "bench/+", burst: 1, rate: rate}
	}
	closed := func(name string, l load, times float64) row {
		return row{name: name, prepare: l.prepare, bounds: cpu(times)}
	}
	nodelay := needs{nodelay: true}
	latency := []bound{{p50, timesPeer, 1.3}}
	return []row{
		closed("fan-in 50 to 1, QoS 0, 1 packet a write", fanIn(message.AtMostOnce, 1), 0.67),
		closed("fan-in 50 to 1, QoS 0, 16 packets a write", fanIn(message.AtMostOnce, 16), 0.27),
		closed("fan-in 50 to 1, QoS 1", fanIn(message.AtLeastOnce, 1), 0.30),
		closed("fan-in 50 to 1, QoS 2", fanIn(message.ExactlyOnce, 1), 0.22),
		closed("fan-out 1 to 100, QoS 0", fanOut(100), 0.37),
		closed("fan-out 1 to 1,000, QoS 0", fanOut(1000), 0.47),
		closed("pairs 100 to 100, QoS 0", load{publishers: 100, subscribers: 100, burst: 1, window: windowSize}, 0.53),
		{
			name: "routing, 100,000 filters against 30", alone: true, prepare: prepareRouting,
			bounds: []bound{{growth, atMost, 1.2}},
		},
		{
			name: "retained, 100,000 to one #", alone: true, prepare: prepareStored(retainedCount, true),
			needs: needs{retained: retainedCount}, bounds: []bound{{seconds, timesPeer, 1.5}},
		},
		{
			name: "drain of 50,000 queued, QoS 1", alone: true, prepare: prepareStored(queuedCount, false),
			needs: needs{queue: queuedCount}, bounds: []bound{{thousands, atLeast, 300}},
		},
		{
			name: "durable, 64 to 1 session, QoS 1", needs: needs{data: true},
			prepare: load{publishers: 64, subscribers: 1, filter: "bench/+", qos: message.AtLeastOnce, burst: 1, window: windowSize, durable: true}.prepare,
			bounds:  []bound{{perSecond, peerTimes, 0.5}},
		},
		{
			name: "kill -9 after 50 acknowledged", alone: true, prepare: prepareCrash(crashCount),
			needs: needs{data: true, persist: true, queue: crashCount}, bounds: []bound{{kept, atLeast, crashCount}},
		},
		{
			name: "kill -9 after 10,000 acknowledged", alone: true, prepare: prepareCrash(backCount),
			needs: needs{data: true, persist: true, queue: backCount}, bounds: []bound{{kept, atLeast, backCount}, {back, atMost, 1}},
		},
		{
			name: "CONNECT, CONNACK, DISCONNECT", prepare: prepareChurn,
			bounds: []bound{{cpuEach, timesPeer, 1.8}},
		},
		{name: "open loop 1,000/s, as shipped", prepare: open(1000).prepare, bounds: cpu(2.0)},
		{name: "open loop 5,000/s, as shipped", prepare: open(5000).prepare, bounds: cpu(2.0)},
		{name: "open loop 1,000/s, nodelay", needs: nodelay, prepare: open(1000).prepare, bounds: latency},
		{name: "open loop 5,000/s, nodelay", needs: nodelay, prepare: open(5000).prepare, bounds: latency},
		{
			name: fmt.Sprintf("idle, %d connections", o.idle), alone: true, prepare: prepareIdle,
			bounds: []bound{{perConnection, atMost, 5}},
		},
		{
			name: "at start, everything on", alone: true, needs: needs{whole: true}, prepare: prepareStart,
			bounds: []bound{{megabytes, atMost, 20}},
		},
	}
}
