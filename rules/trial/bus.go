package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/rules"
)

// Interceptor judges messages before they are routed; the rules engine is one.
type Interceptor interface {
	Intercept(ctx context.Context, msgs []message.Message) []message.Verdict
}

// Bus is a message bus in memory. A durable subscription keeps its place on it. What
// waits is bounded by what is published: see maxRouted. The zero value is an empty bus;
// its methods may be called by any goroutine.
type Bus struct {
	// Interceptor judges what is published; nil passes everything. Set it before
	// the first use.
	Interceptor Interceptor
	// Now is when a message came; nil is the machine's time. Set it as Interceptor.
	Now func() time.Time

	mu       sync.Mutex
	tree     topic.Tree[*standing]
	subs     map[string]*standing
	retained map[string]message.Message
	routed   []message.Message
	gone     int           // that were forgotten
	changed  chan struct{} // closed and replaced whenever something was routed, or a handler returned
}

// maxRouted is how many messages a bus takes in its life: what is beyond it is a rule
// that feeds itself.
const maxRouted = 1_000_000

// standing is one subscription.
type standing struct {
	name    string
	filters []string
	durable bool
	away    bool // nobody subscribes to it now
	busy    bool // a handler has a batch
	queue   []message.Message
	wake    chan struct{}
}

var (
	_ message.Bus       = (*Bus)(nil)
	_ rules.RetainedBus = (*Bus)(nil)
)

// Publish routes the messages at once.
func (b *Bus) Publish(ctx context.Context, msgs ...message.Message) error {
	msgs = slices.Clone(msgs)
	for i, v := range b.judge(ctx, msgs) {
		if _, err := b.settle(msgs[i], v); err != nil {
			return &message.RefusedError{Index: i, Tried: i + 1, Topic: msgs[i].Topic, Err: err}
		}
	}
	return nil
}

// post publishes one message. It returns the verdict on it and, if it was routed, its
// place among all that were, else -1.
func (b *Bus) post(ctx context.Context, m message.Message) (message.Verdict, int, error) {
	msgs := []message.Message{m}
	v := b.judge(ctx, msgs)[0]
	at, err := b.settle(msgs[0], v)
	return v, at, err
}

// judge notes when the messages came and has the interceptor judge them.
func (b *Bus) judge(ctx context.Context, msgs []message.Message) []message.Verdict {
	now := time.Now
	if b.Now != nil {
		now = b.Now
	}
	for i := range msgs {
		if msgs[i].At.IsZero() {
			msgs[i].At = now()
		}
	}
	var verdicts []message.Verdict
	if b.Interceptor != nil {
		verdicts = b.Interceptor.Intercept(ctx, msgs)
	}
	if verdicts == nil { // all pass
		verdicts = make([]message.Verdict, len(msgs))
	}
	return verdicts
}

// settle does with a message what the verdict says.
func (b *Bus) settle(m message.Message, v message.Verdict) (at int, err error) {
	switch {
	case !topic.ValidName(m.Topic):
		return -1, errors.New("not a topic name")
	case v.Action == message.Reject:
		return -1, fmt.Errorf("rejected by %s: 0x%02x", v.By, v.Reason)
	case v.Action == message.Drop:
		return -1, nil
	case v.Action == message.Replace:
		m = *v.Message
	}
	if at = b.route(m); at < 0 {
		return -1, errTooMany
	}
	return at, nil
}

// errTooMany is what ends a rule that feeds itself.
var errTooMany = fmt.Errorf("more than %d messages in one trial", maxRouted)

// route delivers the message, and returns its place among all that were routed, or -1
// if there were too many.
func (b *Bus) route(m message.Message) (at int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.routed) >= maxRouted {
		return -1
	}
	m.Order = uint64(b.gone + len(b.routed) + 1)
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
	b.change()
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
	return len(b.routed) - 1
}

// change wakes those who wait for something to happen.
func (b *Bus) change() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// Subscribe delivers to h until ctx ends. What the handler of a durable subscription
// returns an error for comes again when it is next subscribed to.
func (b *Bus) Subscribe(ctx context.Context, sub message.Subscription, h message.Handler) error {
	s, err := b.stand(sub)
	if err != nil {
		return err
	}
	defer b.fall(s)
	if sub.Ready != nil {
		sub.Ready()
	}
	for {
		if batch := b.take(s); len(batch) > 0 {
			err := h(ctx, batch)
			b.done(s, len(batch), err == nil)
			switch {
			case err == nil:
				continue
			case ctx.Err() != nil: // it comes again when the name is next subscribed to
				return nil
			}
			return fmt.Errorf("handler of %q: %w", s.name, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
	}
}

func (b *Bus) stand(sub message.Subscription) (*standing, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = make(map[string]*standing)
	}
	s, fresh := b.subs[sub.Name], false
	switch {
	case s == nil:
		s, fresh = &standing{name: sub.Name, wake: make(chan struct{}, 1)}, true
	case !s.away:
		return nil, fmt.Errorf("subscription %q stands already", s.name)
	}
	if err := b.setFilters(s, sub.Filters); err != nil {
		return nil, err
	}
	s.durable, s.away = sub.Durable, false
	b.subs[s.name] = s
	if sub.Retained && fresh {
		s.queue = append(s.queue, b.retainedOf(sub.Filters)...)
	}
	return s, nil
}

// retainedOf is what is retained on the filters, by topic.
func (b *Bus) retainedOf(filters []string) []message.Message {
	var all []message.Message
	for name, m := range b.retained {
		if slices.ContainsFunc(filters, func(f string) bool { return topic.Match(f, name) }) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b message.Message) int { return cmp.Compare(a.Topic, b.Topic) })
	return all
}

func (b *Bus) fall(s *standing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.away, s.busy = true, false
	if !s.durable {
		delete(b.subs, s.name)
		_ = b.setFilters(s, nil) // no filter is a valid list of them
	}
	b.change()
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

// take returns the next batch of at most 256 messages, which stays in the queue.
func (b *Bus) take(s *standing) []message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := slices.Clone(s.queue[:min(len(s.queue), 256)])
	s.busy = len(batch) > 0
	return batch
}

// done takes the first n messages from the queue, unless they are to come again.
func (b *Bus) done(s *standing, n int, acknowledged bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.busy = false; acknowledged || !s.durable {
		s.queue = s.queue[n:]
	}
	b.change()
}

// quiet waits until nothing is in a queue that somebody takes from, and returns how
// many messages had been routed then.
func (b *Bus) quiet(ctx context.Context) (routed int, err error) {
	for {
		b.mu.Lock()
		routed, waits := b.gone+len(b.routed), false
		for _, s := range b.subs {
			waits = waits || !s.away && (s.busy || len(s.queue) > 0)
		}
		changed := b.next()
		b.mu.Unlock()
		if !waits {
			return routed, nil
		}
		select {
		case <-ctx.Done():
			return routed, ctx.Err()
		case <-changed:
		}
	}
}

// next is closed when something changes.
func (b *Bus) next() <-chan struct{} {
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
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
		changed := b.next()
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

// Retained returns the retained messages whose topics the filter matches, at most
// limit of them, by topic.
func (b *Bus) Retained(filter string, limit int) []message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := b.retainedOf([]string{filter})
	return found[:min(len(found), limit)]
}

// RetainedBeside is Retained, and says which of the messages wait for the handler of the
// subscription called name, or are with it.
func (b *Bus) RetainedBeside(name, filter string, limit int) (messages []message.Message, waits []bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	messages = b.retainedOf([]string{filter})
	messages = messages[:min(len(messages), limit)]
	waits = make([]bool, len(messages))
	if s := b.subs[name]; s != nil {
		for i := range messages {
			waits[i] = slices.ContainsFunc(s.queue, func(m message.Message) bool { return m.Order == messages[i].Order })
		}
	}
	return messages, waits
}

// RetainedOn returns the retained message of a topic.
func (b *Bus) RetainedOn(name string) (message.Message, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.retained[name]
	return m, ok
}

// since returns what was routed from the nth message on.
func (b *Bus) since(n int) []message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.routed[n:len(b.routed):len(b.routed)]
}

// count is how many messages were routed.
func (b *Bus) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone + len(b.routed)
}

// forget returns what was routed since it was last called, and takes it away.
func (b *Bus) forget() []message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.routed
	b.gone, b.routed = b.gone+len(all), nil
	return all
}
