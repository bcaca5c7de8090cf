package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The routing row: the same messages to the same 30 of 100 subscribers, first with a
// filter each, then with 1,000 filters for each of the 100. A topic is matched by
// one filter. A quarter of the filters is topics as they are; the others have + for
// the last level, # for it, and + for the second.
const (
	routeSubscribers = 100
	routeHeard       = 30
	routeFilters     = 1000                  // a subscriber
	routeTopic       = "bench/s000/d00000/t" // the digits are overwritten
	routeTime        = 30 * time.Second      // in which all filters must stand
)

// routeFilter is filter j of subscriber i.
func routeFilter(i, j int) string {
	n := i*routeFilters + j
	switch (i + j) % 4 {
	case 0:
		return fmt.Sprintf("bench/s%03d/d%05d/t", n/100, n)
	case 1:
		return fmt.Sprintf("bench/s%03d/d%05d/+", n/100, n)
	case 2:
		return fmt.Sprintf("bench/s%03d/d%05d/#", n/100, n)
	default:
		return fmt.Sprintf("bench/+/d%05d/t", n)
	}
}

// aims chooses the topics of the routing row.
type aims struct {
	each int // filters of a subscriber that are used
	turn int
}

// next writes the topic of the next message into the template. The topics go round
// all filters, but not in the order in which they were subscribed to.
func (a *aims) next(p *publisher) (lane int) {
	lane = a.turn % routeHeard
	n := lane*routeFilters + a.turn/routeHeard*617%a.each
	a.turn++
	digits(p.bytes[p.topic+len("bench/s"):][:3], n/100)
	digits(p.bytes[p.topic+len("bench/s000/d"):][:5], n)
	return lane
}

// meant reports whether subscriber i has the filter for a topic.
func (a *aims) meant(topic []byte, i int) bool {
	if len(topic) != len(routeTopic) {
		return false
	}
	n, err := strconv.Atoi(string(topic[len("bench/s000/d"):][:5]))
	return err == nil && n/routeFilters == i
}

func digits(b []byte, n int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

type routing struct {
	*test
	aims *aims
	few  sum // with 30 filters
}

func prepareRouting(ctx context.Context, p *process, o *options) (trial, error) {
	t, err := newTest(load{publishers: 50, subscribers: routeSubscribers, burst: 1, window: windowSize}, p, o)
	if err != nil {
		return nil, err
	}
	r := &routing{test: t, aims: &aims{each: 1}}
	if err := r.connect(ctx, o.size); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return r, nil
}

func (r *routing) connect(ctx context.Context, size int) error {
	for i := range routeSubscribers {
		var filters []string
		if i < routeHeard {
			filters = append(filters, routeFilter(i, 0))
		}
		s, err := r.subscriber(ctx, i, filters...)
		if err != nil {
			return err
		}
		s.lane = i
		for j := range s.ledgers {
			s.ledgers[j] = &ledger{}
		}
	}
	for i := range r.publishers {
		if err := r.publisher(ctx, routeTopic, 1, routeSubscribers, size); err != nil {
			return err
		}
		r.pubs[i].aims = r.aims
	}
	return r.p.look()
}

// slice measures with few filters, adds the others, and measures again.
func (r *routing) slice(ctx context.Context, d time.Duration) error {
	if err := r.test.slice(ctx, d); err != nil {
		return err
	}
	r.few, r.sum = r.sum, sum{}
	if err := r.fill(ctx); err != nil {
		return err
	}
	r.aims.each = routeFilters
	return r.test.slice(ctx, d)
}

// fill subscribes to the rest of the filters.
func (r *routing) fill(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, routeTime, fmt.Errorf("%d filters did not stand within %v",
		routeSubscribers*routeFilters, routeTime))
	defer cancel()
	const together = 100 // filters in a SUBSCRIBE
	for i, s := range r.subs {
		for j := 0; j < routeFilters; j += together {
			var filters []string
			for k := j; k < j+together; k++ {
				if k > 0 || i >= routeHeard { // the first stands
					filters = append(filters, routeFilter(i, k))
				}
			}
			if err := s.subscribe(ctx, r.qos, filters...); err != nil {
				return errors.Join(context.Cause(ctx), err)
			}
		}
	}
	return nil
}

func (r *routing) result(ctx context.Context) (result, error) {
	res, err := r.test.result(ctx)
	if err == nil {
		res.values[growth] = r.sum.each() / r.few.each()
	}
	return res, err
}
