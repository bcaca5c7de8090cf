package disk

import (
	"context"
	"errors"
	"time"
	"unsafe"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// errClosed is what a closed store says.
var errClosed = errors.New("store is closed")

// group is what is written together. Its done is closed when that is over.
type group struct{ done chan struct{} }

func newGroup() *group { return &group{make(chan struct{})} }

// ticket follows one Apply. Its error is written before the group is done, by the writer
// if the Apply was not refused at once.
type ticket struct {
	g   *group
	err error
}

// Done implements [store.Ticket].
func (t *ticket) Done() <-chan struct{} { return t.g.done }

// Wait implements [store.Ticket].
func (t *ticket) Wait(ctx context.Context) error {
	select {
	case <-t.g.done:
		return t.err
	default:
	}
	select {
	case <-t.g.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lazyAfter is how late an Apply may be that nobody needs to be safe: one that only
// keeps retained messages of QoS 0, or only takes messages out of queues, which come
// again if that is lost.
const lazyAfter = time.Second

// need is what an Apply needs before it is done, and before it is safe.
type need uint8

const (
	needNothing need = iota // written within [lazyAfter]
	needWrite               // done at once, written now, safe within an interval
	needSync                // done when it is safe
)

// apply is one Apply on its way.
type apply struct {
	changes []store.Change
	copies  []copied // for the keeper, instead of changes
	try     bool     // for the keeper: only to see whether it can be written
	after   []*ticket
	t       *ticket
	err     error
	tells   bool // the ticket is not done before it is written
	need    need
	every   time.Duration // with needWrite: safe after; 0 is never
	grows   bool
	size    int
}

// fails notes that an Apply is not made, or that it may be, for those after it and, when
// its group is done, for who waits.
func (a *apply) fails(err error) {
	if a.err = err; a.tells {
		a.t.err = err
	}
}

// refused says why an Apply is not even tried.
func (a *apply) refused(full bool) error {
	for _, t := range a.after {
		if t.err != nil {
			return t.err
		}
	}
	if full && a.grows {
		return store.ErrFull
	}
	return nil
}

// weigh says what an Apply needs, by the durability and what is relaxed.
func (a *apply) weigh(o *Options) {
	lazy, relaxed, any := true, true, false
	for i := range a.changes {
		c := &a.changes[i]
		a.size += int(unsafe.Sizeof(*c))
		switch c.Op {
		case store.Enqueue, store.Retain:
			any = true
			a.size += c.Message.Size()
			a.grows = a.grows || c.Op == store.Enqueue || len(c.Message.Payload) > 0
			lazy = lazy && c.Op == store.Retain && c.Message.QoS == message.AtMostOnce
			relaxed = relaxed && a.relax(o, c.Message)
			continue
		case store.Dequeue:
			continue
		case store.Send, store.Received:
		case store.Put:
			a.size += len(c.Value)
			a.grows, relaxed = true, false
		case store.Subscribe:
			a.grows, relaxed = true, false
		default:
			relaxed = false
		}
		lazy = false
	}
	d := o.Durability
	switch {
	case len(a.changes) == 0: // it tells that all before it are done
		a.need = needSync
		if d.Mode != Commit {
			a.need, a.every = needWrite, d.Every
		}
	case lazy:
		a.need = needNothing
	case d.Mode != Commit:
		a.need, a.every = needWrite, d.Every
	case relaxed && any:
		a.need = needWrite
	default:
		a.need, a.every = needSync, 0
	}
}

// relax reports whether a message needs less than the store gives, and notes
// the shortest interval.
func (a *apply) relax(o *Options, m *message.Message) bool {
	if o.Relaxed == nil {
		return false
	}
	d, ok := o.Relaxed(m)
	if !ok || d.Mode == Commit {
		return false
	}
	if d.Mode == Interval && (a.every == 0 || d.Every < a.every) {
		a.every = d.Every
	}
	return true
}
