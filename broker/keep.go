package broker

import (
	"context"
	"errors"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// Commit publishes as [Server.Publish] does, and keeps records of the store, changes
// that are [store.Put] and [store.Delete], with what the messages change: all or none.
// Nobody gets a message before the records are safe. It returns when they are.
//
// A message that is refused costs only itself: the error joins a [message.RefusedError]
// for each, and all else is done. Any other error, such as [store.ErrFull], says that
// nothing was, but that a full store takes what is deleted.
//
// If ctx is, or comes from, that of the handler of a durable subscription, the batch that
// the handler has is acknowledged in the same change: what it led to neither is lost nor
// comes twice, whenever the power goes.
func (srv *Server) Commit(ctx context.Context, records []store.Change, msgs ...message.Message) error {
	if err := srv.await(ctx); err != nil {
		return err
	}
	defer srv.leave()
	b := srv.newBatch(ctx, nil)
	defer b.free()
	b.lenient = true
	b.changes = append(b.changes, records...)
	taken, _ := ctx.Value(delivery{}).(*delivery)
	if taken != nil && taken.s.srv == srv {
		taken.s.mu.Lock()
		taken.s.takeUpTo(b, taken.last)
		taken.s.mu.Unlock()
	}
	var refused []error
	for i := range msgs {
		if reason := b.accept(msgs[i], i); reason != nil {
			refused = append(refused, &message.RefusedError{Index: i, Tried: len(msgs), Topic: msgs[i].Topic, Err: reason})
		}
	}
	if len(b.ops) == 0 {
		srv.commit(b, func() {})
	} else {
		b.work()
	}
	b.flush()
	for i := range b.pubs {
		if p := &b.pubs[i]; p.reason.Failed() {
			refused = append(refused, &message.RefusedError{Index: p.index, Tried: len(msgs), Topic: p.msg.Topic, Err: p.reason})
		}
	}
	if err := b.safe(ctx); err != nil {
		return err
	}
	return errors.Join(refused...)
}

// delivery is a batch that a handler has, as its context knows it.
type delivery struct {
	s    *Session
	last uint64 // position
}

// Clock is the time that the store counts, once the server is ready: points in time that
// are kept in records, and are to outlive jumps of the wall clock, are kept in it.
func (srv *Server) Clock() store.Clock { return srv.delays.clock }

// Keep keeps records of the store as [Server.Commit] does, and does not wait for it.
// The ticket tells when they are safe.
func (srv *Server) Keep(ctx context.Context, records []store.Change) (store.Ticket, error) {
	if err := srv.await(ctx); err != nil {
		return nil, err
	}
	defer srv.leave()
	srv.commitMu.Lock()
	defer srv.commitMu.Unlock()
	return srv.opts.Store.Apply(records), nil
}
