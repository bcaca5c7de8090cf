package broker

import (
	"context"

	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// pump sends what may be sent of a session's queue, and has the rest fetched from the
// store. Anyone may call it, with no lock held; it does not wait for the store.
func (srv *Server) pump(b *batch, s *Session) {
	fetch, more := false, false
	step := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.q.len() > 0 || len(s.resend) > 0 {
			fetch = s.pump(b) && !s.fetching
			s.fetching = s.fetching || fetch
		}
		more = s.wantsMore()
	}
	if s.stored {
		srv.commit(b, step)
	} else {
		step()
		b.settle() // what must not come before the store has it
	}
	b.flush()
	if more {
		srv.collectMore(s)
	}
	if fetch {
		srv.fetch(s)
	}
}

// recall fetches what was in flight when the session's last connection ended. The
// caller holds the claim of the session, which has no connection.
func (srv *Server) recall(ctx context.Context, s *Session) error {
	s.mu.Lock()
	missing := make(map[uint64]*item)
	var from uint64
	for _, it := range s.flying() {
		if it.msg == nil && !it.received {
			if len(missing) == 0 {
				from = it.pos
			}
			missing[it.pos] = it
		}
	}
	s.mu.Unlock()
	for len(missing) > 0 {
		fetched, err := srv.opts.Store.Fetch(ctx, s.id, from, min(len(missing), 64))
		if err != nil {
			srv.storeFailed(err)
			return err
		}
		if len(fetched) == 0 {
			return nil // attach lets go of what is lost
		}
		s.mu.Lock()
		for i := range fetched {
			if it := missing[fetched[i].Position]; it != nil {
				it.msg = fetched[i].Message
				delete(missing, it.pos)
			}
		}
		s.mu.Unlock()
		from = fetched[len(fetched)-1].Position + 1
	}
	return nil
}

// released takes a PUBREL ([MQTT-4.3.3-11], [MQTT-4.3.3-12], [MQTT3-4.3.3-2]).
func (b *batch) released(id uint16) {
	s := b.c.session
	if !s.release(id) {
		b.reply(packet.PUBCOMP, id, packet.PacketIdentifierNotFound)
		return
	}
	if s.stored {
		b.change(store.Change{Op: store.ReleaseID, Session: s.id, ID: id})
	}
	b.acks = append(b.acks, ack{kind: packet.PUBCOMP, id: id, quota: true})
}
