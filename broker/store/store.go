package store

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// ErrFull is what a Ticket gives when there is no room for the changes. See
// [Store.Apply] for what a full store takes all the same.
var ErrFull = errors.New("store is full")

// Store is durable state. Its methods may be called by any goroutine.
type Store interface {
	// Load returns what is held. It is called once, before the first Apply.
	Load(ctx context.Context) (*Snapshot, error)

	// Apply makes the changes, in order, all or none, after those of every
	// earlier Apply. It does not block for the disk; the Ticket tells when the
	// changes are safe. The store keeps the messages' bytes, not the slice.
	//
	// A store that is full takes an Apply that only frees, however long it is full: one
	// without [Enqueue], [Put], [Subscribe] and [Retain] of a payload. What has one of
	// these is refused as a whole, with [ErrFull]: whoever wants the rest of it done
	// applies that again, alone.
	//
	// With tickets of earlier ones it makes the changes only if those have not failed, and
	// fails with their error otherwise, though they were not done yet when it was called.
	Apply(changes []Change, after ...Ticket) Ticket

	// Fetch returns the queued messages of one session from position from on, at
	// most limit of them, oldest first. Positions already removed are passed over, and
	// so is what cannot be read any more: fewer than limit are all there are.
	Fetch(ctx context.Context, session string, from uint64, limit int) ([]Queued, error)

	// Records returns keyed records of one bucket, in the order of their keys.
	Records(ctx context.Context, r Range) ([]Record, error)

	// Close waits for what was applied and gives the resources back.
	Close() error
}

// Ticket follows one Apply. Tickets of one store are done in the order of Apply.
type Ticket interface {
	// Done is closed when the changes are safe, or have failed.
	Done() <-chan struct{}
	// Wait waits for Done and returns nil or why the changes were not made
	// ([ErrFull], an I/O error), or ctx's error.
	Wait(ctx context.Context) error
}

// Failed is the error of the first of the tickets that is done and has failed, or nil.
func Failed(tickets []Ticket) error {
	for _, t := range tickets {
		select {
		case <-t.Done():
			if err := t.Wait(context.Background()); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// Op says what a [Change] does, and which of its fields it reads.
type Op uint8

// The operations. A change to a session that does not exist is passed over.
const (
	// Retain keeps Message as the retained message of its topic, or clears the
	// topic's retained message if the payload is empty.
	Retain Op = iota + 1
	// PutSession creates or replaces the record of Session with Record; its
	// subscriptions, queue and identifiers stay.
	PutSession
	// DropSession removes Session with all that belongs to it.
	DropSession
	// Subscribe adds or replaces the subscription Sub of Session.
	Subscribe
	// Unsubscribe removes the subscription of Session to Sub.Filter.
	Unsubscribe
	// Enqueue puts Message into the queue of Session at Position. Positions of a
	// session only grow; one that does not is passed over.
	Enqueue
	// Send marks the message at Position of Session as sent with packet
	// identifier ID (QoS 1 and 2).
	Send
	// Received marks the message at Position of Session as received by the client
	// (a PUBREC came): its payload is not needed any more, only ID is.
	Received
	// Dequeue removes Position of Session: acknowledged, expired or dropped.
	Dequeue
	// HoldID records that packet identifier ID of Session was received with QoS 2
	// and not released yet.
	HoldID
	// ReleaseID forgets it: a PUBREL came.
	ReleaseID
	// Put keeps Value under Bucket and Key.
	Put
	// Delete removes Bucket and Key.
	Delete
)

// Change is one change; Op says which fields it reads.
type Change struct {
	Op       Op
	Session  string // client identifier
	Position uint64 // in the queue of Session, from 1
	ID       uint16 // packet identifier
	Message  *message.Message
	// Delivery goes with Enqueue: how this session is to get the message.
	Delivery Delivery
	Record   *SessionRecord
	Sub      *Subscription
	Bucket   string
	Key      string
	Value    []byte
}

// Delivery is how one session gets a queued message.
type Delivery struct {
	QoS             message.QoS // the level of this delivery, 1 or 2
	Retain          bool        // the RETAIN flag to send
	SubscriptionIDs []uint32    // of the subscriptions that matched, if any
	// Share is the filter, with its prefix, of the shared subscription that it came
	// by; empty for any other. While it is set another session may get the message
	// instead.
	Share string
}

// Queued is one message in the queue of a session.
type Queued struct {
	Position uint64
	Message  *message.Message // nil once Received
	Delivery Delivery
	ID       uint16 // packet identifier when sent, else 0
	Received bool   // a PUBREC came: PUBREL is what is to be sent
}

// SessionRecord is what a session is, apart from its parts.
type SessionRecord struct {
	ClientID  string
	Principal string        // whom the session belongs to
	Expiry    time.Duration // after the connection ends; Forever never
	// Ended is when the connection ended; the zero time while it stands.
	Ended time.Time
	// Will is published at WillAt, or when the session ends, if not nil. Its
	// Expires, if set, counts from the Unix epoch until then; and while Ended is
	// zero WillAt does too: it is the will delay.
	Will   *message.Message
	WillAt time.Time
}

// Forever is the Expiry of a session that never expires.
const Forever = time.Duration(1<<63 - 1)

// Subscription is one subscription of a session (MQTT 5.0 §3.8.3.1).
type Subscription struct {
	Filter            string // with its $share prefix, if any
	QoS               message.QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    uint8
	ID                uint32 // subscription identifier; 0 is none
}

// Snapshot is what a store held when it was opened.
type Snapshot struct {
	Retained []*message.Message
	Sessions []Session
	// Run counts how often the store was opened to be written to, this time with it: what
	// is numbered within a run is in order with it before the number.
	Run uint32
	// Clock is how times are kept: those of messages and sessions are translated by the
	// store, those in records by whoever keeps them.
	Clock Clock
}

// Session is one session of a [Snapshot]. The queue itself stays in the store:
// Fetch reads it.
type Session struct {
	SessionRecord
	Subscriptions []Subscription
	First, Next   uint64   // positions: of the oldest queued message, of the next one
	Queued        int      // messages in the queue
	Tail          uint64   // of these, the last: all positions from Next-Tail to Next-1 are in the queue
	Bytes         int64    // their message.Size together
	InFlight      []Queued // those sent and not yet acknowledged, oldest first
	HeldIDs       []uint16 // of received QoS 2 messages not yet released
}

// Range says which keyed records [Store.Records] returns.
type Range struct {
	Bucket string
	After  string // keys that are greater; empty for all
	Limit  int    // records at most; below 1 none
	// NoValues leaves the values where they are: only keys and sizes are wanted.
	NoValues bool
}

// Record is one keyed record of a bucket. It is shared: Value is not written.
type Record struct {
	Key   string
	Size  int    // of the value, in bytes
	Value []byte // nil if it was not asked for
}
