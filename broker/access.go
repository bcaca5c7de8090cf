package broker

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
)

// access is whom a session acts for, and what need not be asked.
type access struct {
	who Identity
	// all holds what AllowsAll has answered, and above it when: the server's rights
	// of then. Any other rights make it void.
	all atomic.Uint64
}

// The bits of access.all.
const (
	allReceive = 1 << iota
	allPublish
	allBits = iota
)

// allows reports whether what the bit stands for need not be asked.
func (srv *Server) allows(a *access, bit uint64) bool {
	rights, all := srv.rights.Load(), a.all.Load()
	if all>>allBits != rights {
		all = srv.askAll(a, rights)
	}
	return all&bit != 0
}

// askAll asks the authorizer. Rights were read before, so that an answer which is
// older than they are is not taken for one of theirs.
func (srv *Server) askAll(a *access, rights uint64) uint64 {
	all := rights << allBits
	if asked, ok := srv.authz.(interface{ AllowsAll(Identity, Action) bool }); ok {
		if asked.AllowsAll(a.who, ActReceive) {
			all |= allReceive
		}
		if asked.AllowsAll(a.who, ActPublish) {
			all |= allPublish
		}
	}
	a.all.Store(all)
	return all
}

// mayReceive asks the authorizer about a delivery.
func (s *Session) mayReceive(ctx context.Context, name string) bool {
	a := s.access.Load()
	if a == nil || name[0] != '$' && s.srv.allows(a, allReceive) {
		return true
	}
	return s.srv.authz.Allow(ctx, a.who, ActReceive, name) == nil
}

// mayPublish asks the authorizer about a publish of a client.
func (srv *Server) mayPublish(ctx context.Context, a *access, name string) error {
	if strings.HasPrefix(name, delayPrefix) {
		_, target, ok := splitDelay(name)
		if !ok {
			return packet.TopicNameInvalid
		}
		name = target
	}
	if isSystem(name) {
		return packet.NotAuthorized
	}
	if name[0] != '$' && srv.allows(a, allPublish) {
		return nil
	}
	return srv.authz.Allow(ctx, a.who, ActPublish, name)
}

// forgetCertificate lets go of the certificate of a client that has left: its session
// is then as one that the store kept.
func (s *Session) forgetCertificate() {
	if a := s.access.Load(); a != nil && a.who.Certificate != nil {
		who := a.who
		who.Certificate, who.Remote = nil, nil
		s.access.Store(&access{who: who})
	}
}

// Reauthorize is to be called after the [Authorizer] has begun to answer otherwise:
// what it was asked before counts no more. Clients who may not stay are disconnected
// with 0x87, not authorized; subscriptions that a client, connected or not, may not
// have any more end, and are logged, since MQTT has no word for it; and what waits for
// a client is asked about again before it is sent. A message that was routed before may still be on its way to a socket.
func (srv *Server) Reauthorize() {
	srv.rights.Add(1)
	srv.mu.Lock()
	sessions := make([]*Session, 0, len(srv.sessions))
	for _, s := range srv.sessions {
		if s.bus == nil {
			sessions = append(sessions, s)
		}
	}
	srv.mu.Unlock()
	for _, s := range sessions {
		srv.recheck(s)
	}
}

// recheck asks about the client of a session, and has what waits for it asked about.
func (srv *Server) recheck(s *Session) {
	s.mu.Lock()
	s.before = s.q.next
	s.mu.Unlock()
	srv.withdraw(s)
	c, a := s.conn.Load(), s.access.Load()
	if c == nil || a == nil {
		return
	}
	if asked, ok := srv.authz.(interface{ Stays(Identity) bool }); ok && !asked.Stays(a.who) {
		srv.log.Info("client lost its access", "client", a.who.ClientID, "principal", a.who.Principal, "remote", a.who.Remote)
		c.shut(packet.NotAuthorized)
	}
}

// withdraw ends the subscriptions of a session that its client may not have any more.
func (srv *Server) withdraw(s *Session) {
	a := s.access.Load()
	if a == nil {
		return
	}
	srv.treeMu.RLock()
	subs := slices.Collect(maps.Values(s.subs))
	srv.treeMu.RUnlock()
	subs = slices.DeleteFunc(subs, func(sub *subscription) bool {
		return srv.authz.Allow(srv.ctx, a.who, ActSubscribe, sub.filter) == nil
	})
	if len(subs) == 0 {
		return
	}
	b := srv.newBatch(srv.ctx, nil)
	defer b.free()
	srv.commit(b, func() {
		for _, sub := range subs {
			if srv.removeSub(s, sub.full) && s.stored {
				b.change(store.Change{Op: store.Unsubscribe, Session: s.id, Sub: &store.Subscription{Filter: sub.full}})
			}
		}
	})
	srv.log.Warn("client lost subscriptions", "client", s.id, "principal", a.who.Principal, "subscriptions", len(subs))
}
