package rules

import (
	"context"
	"slices"
	"sync"

	"github.com/gatehouse/gatehouse/broker/message"
)

// A lane hears by two subscriptions: what rules ask for at QoS 0, and what is to wait for
// them while nobody listens, and until it is done with.
const (
	plainEar = iota
	keptEar
	ears
)

// ear is one subscription of a lane.
type ear struct {
	lane  *lane
	index int
	name  string
	stood chan struct{} // closed when it has stood once

	// Of whoever holds the lane.
	history *history
	last    []uint64 // the message.Message.Order of each of the last batch

	// Of whoever holds subscribing.
	subscribing chan struct{}
	filters     []string
	standing    bool
}

func newEar(l *lane, index int) *ear {
	e := &ear{
		lane: l, index: index, name: l.name, stood: make(chan struct{}), subscribing: make(chan struct{}, 1),
		history: newHistory(),
	}
	if index == keptEar {
		e.name += "/kept"
	}
	return e
}

// subscribe stands on the bus until ctx ends.
func (e *ear) subscribe(ctx context.Context, bus message.Bus) error {
	select {
	case e.subscribing <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	release := sync.OnceFunc(func() { <-e.subscribing })
	defer func() { // the subscription is gone, or never stood
		release()
		e.subscribing <- struct{}{}
		e.standing = false
		<-e.subscribing
	}()
	return bus.Subscribe(ctx, message.Subscription{
		Name:    e.name,
		Filters: e.filters,
		QoS:     message.ExactlyOnce,
		Durable: e.index == keptEar,
		Ready: func() {
			e.standing = true
			release()
			select {
			case <-e.stood:
			default:
				close(e.stood)
				e.lane.engine.oneReady()
			}
		},
	}, func(taking context.Context, msgs []message.Message) error {
		return e.lane.hear(ctx, batch{ctx: taking, ear: e.index, msgs: msgs})
	})
}

// done notes that a batch was judged: the bus may not know yet.
func (e *ear) done(msgs []message.Message) {
	e.last = e.last[:0]
	for i := range msgs {
		e.last = append(e.last, msgs[i].Order)
	}
}

// judged reports whether a message that waits was judged, and is only to be acknowledged.
func (e *ear) judged(order uint64) bool { return slices.Contains(e.last, order) }

// hear makes the subscription stand on filters, now or when it next stands.
func (e *ear) hear(ctx context.Context, filters []string) error {
	select {
	case e.subscribing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.subscribing }()
	if bus := e.lane.engine.currentBus(); e.standing && bus != nil && !slices.Equal(e.filters, filters) {
		if err := bus.Resubscribe(ctx, e.name, filters); err != nil {
			return err
		}
	}
	e.filters = slices.Clone(filters)
	return nil
}

// earOf is by which subscription a rule hears.
func (r *Rule) ear() int {
	if r.Stage == After && r.QoS > message.AtMostOnce {
		return keptEar
	}
	return plainEar
}
