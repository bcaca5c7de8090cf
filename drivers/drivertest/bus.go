package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// Bus is a message.Bus in memory for tests. It routes at once, keeps retained
// messages, and remembers all that was published. All methods may be called by any
// goroutine.
type Bus struct {
	mu       sync.Mutex
	log      []message.Message
	retained map[string]message.Message
	subs     map[string]*subscriber
	refuse   func(message.Message) error
	changed  chan struct{} // closed and replaced with each publish
}

type subscriber struct {
	name     string
	retained bool // what stands on new filters comes first
	filters  []string
	queue    []message.Message
	wake     chan struct{} // capacity 1
}

// NewBus returns an empty bus.
func NewBus() *Bus {
	return &Bus{
		retained: make(map[string]message.Message),
		subs:     make(map[string]*subscriber),
		changed:  make(chan struct{}),
	}
}

// Refuse has Publish return f's error for the messages that f has one for. Nil
// refuses none.
func (b *Bus) Refuse(f func(message.Message) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = f
}

// Publish implements message.Bus.
func (b *Bus) Publish(ctx context.Context, msgs ...message.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, m := range msgs {
		var err error
		if !topic.ValidName(m.Topic) {
			err = errors.New("not a topic name")
		} else if b.refuse != nil {
			err = b.refuse(m)
		}
		if err != nil {
			return &message.RefusedError{Index: i, Tried: i + 1, Topic: m.Topic, Err: err}
		}
		b.route(m)
	}
	return nil
}

// route delivers one message. b.mu is held.
func (b *Bus) route(m message.Message) {
	if m.At.IsZero() {
		m.At = time.Now()
	}
	b.log = append(b.log, m)
	switch {
	case m.Retain && len(m.Payload) == 0:
		delete(b.retained, m.Topic)
	case m.Retain:
		b.retained[m.Topic] = m
	}
	m.Retain = false
	for name, s := range b.subs {
		if name != m.Origin && s.hears(m.Topic) {
			s.put(m)
		}
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

func (s *subscriber) hears(name string) bool {
	return slices.ContainsFunc(s.filters, func(f string) bool { return topic.Match(f, name) })
}

func (s *subscriber) put(m message.Message) {
	s.queue = append(s.queue, m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Subscribe implements message.Bus.
func (b *Bus) Subscribe(ctx context.Context, sub message.Subscription, h message.Handler) error {
	s, err := b.stand(sub)
	if err != nil {
		return err
	}
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, sub.Name)
	}()
	if sub.Ready != nil {
		sub.Ready()
	}
	for {
		if batch := b.batch(s); len(batch) > 0 {
			_ = h(ctx, batch) // not durable: what the handler refuses is lost
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
	}
}

func (b *Bus) stand(sub message.Subscription) (*subscriber, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs[sub.Name] != nil || sub.Name == "" {
		return nil, fmt.Errorf("cannot subscribe as %q: the name is in use", sub.Name)
	}
	if err := validFilters(sub.Filters); err != nil {
		return nil, err
	}
	s := &subscriber{name: sub.Name, retained: sub.Retained, wake: make(chan struct{}, 1)}
	b.subs[sub.Name] = s
	b.refilter(s, sub.Filters)
	return s, nil
}

// refilter gives a subscriber other filters, and the retained messages of those that are
// new if it wants them. b.mu is held.
func (b *Bus) refilter(s *subscriber, filters []string) {
	added := slices.DeleteFunc(slices.Clone(filters), func(f string) bool { return slices.Contains(s.filters, f) })
	s.filters = slices.Clone(filters)
	if !s.retained {
		return
	}
	for _, m := range b.retained {
		if m.Origin != s.name && slices.ContainsFunc(added, func(f string) bool { return topic.Match(f, m.Topic) }) {
			s.put(m)
		}
	}
}

func validFilters(filters []string) error {
	for _, f := range filters {
		if !topic.ValidFilter(f) {
			return fmt.Errorf("cannot subscribe to %q: not a topic filter", f)
		}
	}
	return nil
}

func (b *Bus) batch(s *subscriber) []message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := s.queue[:min(len(s.queue), 256)]
	s.queue = s.queue[len(batch):]
	if len(s.queue) > 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return batch
}

// Resubscribe implements message.Bus.
func (b *Bus) Resubscribe(_ context.Context, name string, filters []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.subs[name]
	if s == nil {
		return errors.New("cannot change the filters: there is no such subscription")
	}
	if err := validFilters(filters); err != nil {
		return err
	}
	b.refilter(s, filters)
	return nil
}

// Deliver hands a message to the subscription called name as it is, past all
// filters: with Retain set it looks like a replay.
func (b *Bus) Deliver(name string, m message.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.subs[name]; s != nil {
		s.put(m)
	}
}

// Filters are those of the subscription called name, nil if it does not stand.
func (b *Bus) Filters(name string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.subs[name]; s != nil {
		return slices.Clone(s.filters)
	}
	return nil
}

// Messages are those published so far whose topic the filter matches, in order.
func (b *Bus) Messages(filter string) []message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []message.Message
	for _, m := range b.log {
		if topic.Match(filter, m.Topic) {
			found = append(found, m)
		}
	}
	return found
}

// Payloads are the payloads of [Bus.Messages] as text.
func (b *Bus) Payloads(filter string) []string {
	var all []string
	for _, m := range b.Messages(filter) {
		all = append(all, string(m.Payload))
	}
	return all
}

// Standing are the retained messages whose topics the filter matches, in no order.
func (b *Bus) Standing(filter string) []message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []message.Message
	for _, m := range b.retained {
		if topic.Match(filter, m.Topic) {
			found = append(found, m)
		}
	}
	return found
}

// Retained is the payload of the retained message of a topic; empty is none.
func (b *Bus) Retained(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.retained[name].Payload)
}

// Wait waits until n messages that the filter matches were published, at most
// 10 s, and returns the n-th. Too few fail the test.
func (b *Bus) Wait(t testing.TB, filter string, n int) message.Message {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if found := b.Messages(filter); len(found) >= n {
			return found[n-1]
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("waited 10 s for message %d on %s, got %q", n, filter, b.Payloads(filter))
		}
	}
}

// WaitRetained waits, at most 10 s, until the retained message of a topic has the
// payload.
func (b *Bus) WaitRetained(t testing.TB, name, payload string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if b.Retained(name) == payload {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("waited 10 s for %s to be %q, it is %q", name, payload, b.Retained(name))
		}
	}
}
