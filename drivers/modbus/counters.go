package modbus

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/drivers"
)

// counters are what a device counts of its exchanges, for [drivers.Metrics]. A nil one
// counts nothing. Its methods may be called by any goroutine.
type counters struct {
	mu         sync.Mutex // guards what follows
	requests   uint64     // that were sent
	answers    uint64     // exceptions among them
	exceptions map[Code]uint64
	timeouts   uint64 // nothing came
	garbled    uint64 // what came was no valid answer
	broken     uint64 // pieces whose checksum is wrong, or that are no frame
	strays     uint64 // frames that were not asked for: late, doubled, or of others
	retries    uint64
	sent       uint64 // bytes
	received   uint64
	latency    drivers.Latency
}

// exchange counts what became of a request, in how long, and the bytes that went over
// the wire for it.
func (c *counters) exchange(got reply, err error, took time.Duration, sent, received uint64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent += sent
	c.received += received
	c.broken += got.broken
	c.strays += got.strays
	if sent > 0 {
		c.requests++
	}
	if err == nil {
		c.answers++
		c.latency.Observe(took)
		return
	}
	c.failed(err, took)
}

// failed counts an exchange without the answer that was asked for; mu is held.
func (c *counters) failed(err error, took time.Duration) {
	var e Exception
	switch {
	case errors.As(err, &e):
		c.answers++
		c.latency.Observe(took)
		if c.exceptions == nil {
			c.exceptions = map[Code]uint64{}
		}
		c.exceptions[e.Code]++
	case errors.Is(err, errSilent):
		c.timeouts++
	case errors.Is(err, errGarbled):
		c.garbled++
	}
}

// retry counts that a request is sent once more.
func (c *counters) retry() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retries++
}

// Metrics implements drivers.Metered.
func (c *counters) Metrics() drivers.Metrics {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := drivers.Metrics{Exchanges: c.latency, Counters: map[string]uint64{
		"requests": c.requests, "answers": c.answers, "timeouts": c.timeouts, "garbled": c.garbled,
		"crc_errors": c.broken, "strays": c.strays, "retries": c.retries,
		"sent_bytes": c.sent, "received_bytes": c.received,
	}}
	for code, n := range c.exceptions {
		m.Counters[fmt.Sprintf("exception_%d", code)] = n
	}
	return m
}
