package message

import "context"

// Bus is all that everything but the broker sees of the broker.
type Bus interface {
	// Publish routes messages in order. It returns when each was accepted: for
	// QoS 1 and 2 when the store has it. An error names the first message that
	// was refused; those before it were accepted. A message that no
	// subscription hears is not an error. Topics below $SYS may be published. The
	// slice is the caller's again when it returns.
	Publish(ctx context.Context, msgs ...Message) error

	// Subscribe delivers what the subscription's filters hear to h, in batches
	// of 1 to 256 messages, one call at a time, from the caller's goroutine. It
	// blocks until ctx ends and then returns nil; any other return is an error
	// (a filter that is not valid, a Name that is in use, a broker that ended).
	Subscribe(ctx context.Context, s Subscription, h Handler) error

	// Resubscribe replaces the filters of the standing subscription called name
	// between two messages; what is queued stays. It returns when the new
	// filters stand.
	Resubscribe(ctx context.Context, name string, filters []string) error
}

// Handler takes a batch. Its nil acknowledges all of it. After an error a durable
// subscription sees the batch again, after a pause; any other has lost it, which
// is counted. The slice is the handler's until it returns; the messages' bytes
// are shared and must not be written.
type Handler func(ctx context.Context, batch []Message) error

// Subscription says what a subscriber on a [Bus] wants to hear.
type Subscription struct {
	// Name identifies the subscription: unique among those standing, 1 to 200
	// bytes. Messages whose Origin equals Name are not delivered to it (the
	// no-local of MQTT 5.0 §3.8.3.1).
	Name string
	// Filters are topic filters; a message that several of them match is
	// delivered once. Empty hears nothing (yet).
	Filters []string
	// QoS is the highest level wanted.
	QoS QoS
	// Durable keeps the subscription's place under its Name while nobody
	// subscribes: messages queue, within the limits of a session.
	Durable bool
	// Retained asks for the retained messages of the filters first.
	Retained bool
	// Ready, if not nil, is called once, when the filters stand.
	Ready func()
}
