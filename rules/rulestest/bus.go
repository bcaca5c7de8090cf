package rulestest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// Interceptor judges messages before they are routed; the rules engine is one.
type Interceptor interface {
	Intercept(ctx context.Context, msgs []message.Message) []message.Verdict
}

// Bus is a message bus in memory, for tests. Its queues have no bounds. The zero
// value is an empty bus; its methods may be called by any goroutine.
type Bus struct {
	// Interceptor judges what is published; nil passes everything. Set it before
	// the first use.
	Interceptor Interceptor

	mu       sync.Mutex
	tree     topic.Tree[*standing]
	subs     map[string]*standing
	retained map[string]message.Message
	routed   []message.Message
	changed  chan struct{} // closed and replaced whenever something was routed
}

// standing is one subscription.
type standing struct {
	name    string
	filters []string
	queue   []message.Message
	wake    chan struct{}
}

var _ message.Bus = (*Bus)(nil)

// Publish routes the messages at once.
func (b *Bus) Publish(ctx context.Context, msgs ...message.Message) error {
	var verdicts []message.Verdict
	if b.Interceptor != nil {
		verdicts = b.Interceptor.Intercept(ctx, msgs)
	}
	for i, m := range msgs {
		if !topic.ValidName(m.Topic) {
			return &message.RefusedError{Index: i, Tried: i + 1, Topic: m.Topic, Err: errors.New("not a topic name")}
		}
		if verdicts != nil {
			switch v := verdicts[i]; v.Action {
			case message.Pass:
			case message.Replace:
				m = *v.Message
			case message.Drop:
				continue
			case message.Reject:
				return &message.RefusedError{Index: i, Tried: i + 1, Topic: m.Topic, Err: fmt.Errorf("rejected by %s: 0x%02x", v.By, v.Reason)}
			}
		}
		b.route(m)
	}
	return nil
}

func (b *Bus) route(m message.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.At.IsZero() {
		m.At = time.Now()
	}
	if m.Retain {
		if b.retained == nil {
			b.retained = make(map[string]message.Message)
		}
		b.retained[m.Topic] = m
		if len(m.Payload) == 0 {
			delete(b.retained, m.Topic)
		}
	}
	b.routed = append(b.routed, m)
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	m.Retain = false
	var heard []*standing
	for s := range b.tree.Match(m.Topic) {
		if slices.Contains(heard, s) || s.name == m.Origin {
			continue
		}
		heard = append(heard, s)
		s.queue = append(s.queue, m)
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Subscribe delivers to h until ctx ends.
func (b *Bus) Subscribe(ctx context.Context, sub message.Subscription, h message.Handler) error {
	s := &standing{name: sub.Name, wake: make(chan struct{}, 1)}
	if err := b.stand(s, sub); err != nil {
		return err
	}
	defer b.fall(s)
	if sub.Ready != nil {
		sub.Ready()
	}
	for {
		if batch := b.take(s); len(batch) > 0 {
			if err := h(ctx, batch); err != nil && ctx.Err() == nil {
				return fmt.Errorf("handler of %q: %w", s.name, err)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
	}
}

func (b *Bus) stand(s *standing, sub message.Subscription) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs[s.name] != nil {
		return fmt.Errorf("subscription %q stands already", s.name)
	}
	if b.subs == nil {
		b.subs = make(map[string]*standing)
	}
	if err := b.setFilters(s, sub.Filters); err != nil {
		return err
	}
	b.subs[s.name] = s
	for name, m := range b.retained {
		if sub.Retained && slices.ContainsFunc(sub.Filters, func(f string) bool { return topic.Match(f, name) }) {
			s.queue = append(s.queue, m)
		}
	}
	return nil
}

func (b *Bus) fall(s *standing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, s.name)
	_ = b.setFilters(s, nil) // no filter is a valid list of them
}

func (b *Bus) setFilters(s *standing, filters []string) error {
	for _, f := range filters {
		if !topic.ValidFilter(f) {
			return fmt.Errorf("not a topic filter: %q", f)
		}
	}
	for _, f := range s.filters {
		b.tree.Remove(f, s)
	}
	for _, f := range filters {
		b.tree.Add(f, s)
	}
	s.filters = slices.Clone(filters)
	return nil
}

// take takes the next batch of at most 256 messages.
func (b *Bus) take(s *standing) []message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(s.queue), 256)
	batch := slices.Clone(s.queue[:n])
	s.queue = s.queue[n:]
	return batch
}

// Resubscribe replaces the filters of a standing subscription.
func (b *Bus) Resubscribe(_ context.Context, name string, filters []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.subs[name]
	if s == nil {
		return fmt.Errorf("no subscription %q stands", name)
	}
	return b.setFilters(s, filters)
}

// Filters returns the filters of a standing subscription.
func (b *Bus) Filters(name string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.subs[name]; s != nil {
		return slices.Clone(s.filters)
	}
	return nil
}

// Routed returns the messages, routed so far, whose topic the filter matches.
func (b *Bus) Routed(filter string) []message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.matching(filter)
}

func (b *Bus) matching(filter string) []message.Message {
	var found []message.Message
	for _, m := range b.routed {
		if topic.Match(filter, m.Topic) {
			found = append(found, m)
		}
	}
	return found
}

// Await waits until at least n messages that the filter matches were routed, and
// returns them, or nil when ctx ends first.
func (b *Bus) Await(ctx context.Context, filter string, n int) []message.Message {
	for {
		b.mu.Lock()
		found := b.matching(filter)
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// Retained returns the retained message of a topic.
func (b *Bus) Retained(name string) (message.Message, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.retained[name]
	return m, ok
}
