package broker

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// ErrClosed is what calls on a server get when it has ended.
var ErrClosed = errors.New("broker has ended")

// Server is an MQTT server, and a [message.Bus] for the rest of the gateway. Its
// methods may be called by any goroutine.
type Server struct {
	opts  Options
	log   *slog.Logger
	authz Authorizer
	// hearer is the interceptor, if it says what it hears.
	hearer interface{ Hears(topic string) bool }
	// rights counts the times that what the authorizer answers has changed, from 1.
	rights atomic.Uint64
	stats  counters
	pools  pools
	made   time.Time
	seed   maphash.Seed // of [Server.sum]

	// ctx is for work that no connection is behind; it ends after all else.
	ctx      context.Context
	ready    chan struct{}   // closed when the store is loaded
	stopping context.Context // ends when Run begins to stop
	halt     context.CancelFunc
	started  atomic.Bool

	queued totals // of all sessions

	refusals refusals

	mu       sync.Mutex
	stopped  bool // no work may begin
	sessions map[string]*Session
	conns    map[*conn]struct{}
	from     addresses
	// undropped are sessions that have ended and that the store did not let go of.
	undropped map[string]struct{}
	claims    map[string]*claim
	work      sync.WaitGroup
	loops     []*loop // nil until there is a plain socket
	looping   sync.WaitGroup

	treeMu   sync.RWMutex
	tree     topic.Tree[*subscription]
	groups   map[string]*group // by the whole filter
	subCount int

	// commitMu puts what changes durable state, and retained messages, into one
	// order. It is the outermost lock.
	commitMu sync.Mutex
	kept     retained
	orders   orders
	journal  journal
	fetches  fetches
	delays   delays

	classes *topic.Tree[int]           // of Options.Topics.Priorities; nil without
	lives   *topic.Tree[time.Duration] // of Options.Topics.RetainedExpiry; nil without
	status  status
}

var _ message.Bus = (*Server)(nil)

// New checks the options and starts nothing.
func New(opts Options) (*Server, error) {
	if opts.Store == nil {
		return nil, errors.New("broker has no store")
	}
	opts.Limits.setDefaults()
	if err := opts.Limits.check(); err != nil {
		return nil, fmt.Errorf("broker limits: %w", err)
	}
	if err := errors.Join(opts.Shared.check(), opts.Offer.check(), opts.Topics.check()); err != nil {
		return nil, fmt.Errorf("broker options: %w", err)
	}
	def(&opts.Version, "gatehouse")
	def(&opts.StatusEvery, 10*time.Second)
	srv := &Server{
		opts:     opts,
		log:      opts.Log,
		authz:    opts.Authorizer,
		made:     time.Now(),
		seed:     maphash.MakeSeed(),
		ctx:      context.Background(),
		ready:    make(chan struct{}),
		sessions: make(map[string]*Session),
		conns:    make(map[*conn]struct{}),
		from:     make(addresses),
		claims:   make(map[string]*claim),
		groups:   make(map[string]*group),
		journal:  journal{wake: make(chan struct{}, 1)},
		classes:  priorityTree(opts.Topics.Priorities),
		lives:    expiryTree(opts.Topics.RetainedExpiry),
		delays:   delays{wake: make(chan struct{}, 1)},
	}
	srv.rights.Store(1)
	srv.stopping, srv.halt = context.WithCancel(context.Background())
	if srv.log == nil {
		srv.log = slog.New(slog.DiscardHandler)
	}
	srv.hearer, _ = opts.Interceptor.(interface{ Hears(topic string) bool })
	if srv.authz == nil {
		srv.authz = denyAll{}
	}
	return srv, nil
}

// Run loads the store and serves until ctx ends; then connected 5.0 clients get
// DISCONNECT 0x8B, all connections are closed, and it returns nil when everything
// it started has ended. An error means that the store could not be loaded, or that
// Run was called before.
func (srv *Server) Run(ctx context.Context) error {
	if srv.started.Swap(true) {
		return errors.New("broker was run before")
	}
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv.ctx = lasting
	if err := srv.load(ctx); err != nil {
		srv.mu.Lock()
		srv.stopped = true
		srv.mu.Unlock()
		srv.halt()
		return fmt.Errorf("cannot load the store: %w", err)
	}
	var helpers sync.WaitGroup
	unfollow := make(chan struct{})
	helpers.Go(func() { srv.follow(unfollow) })
	close(srv.ready)
	srv.resumeTimers()
	helpers.Go(srv.watch)
	helpers.Go(srv.deliverDelayed)
	stats := srv.Stats()
	srv.log.Info("broker ready", "sessions", stats.Sessions, "retained", stats.Retained)
	<-ctx.Done()
	srv.stop()
	close(unfollow)
	srv.stopLoops()
	helpers.Wait()
	srv.log.Info("broker stopped")
	return nil
}

// stop ends all connections and waits for all work.
func (srv *Server) stop() {
	srv.halt()
	srv.mu.Lock()
	srv.stopped = true
	conns := make([]*conn, 0, len(srv.conns))
	for c := range srv.conns {
		conns = append(conns, c)
	}
	srv.mu.Unlock()
	for _, c := range conns {
		c.shut(srv.opts.Offer.farewell())
	}
	srv.work.Wait()
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for _, s := range srv.sessions {
		s.mu.Lock()
		for _, timer := range []*time.Timer{s.timer, s.refetch} {
			if timer != nil {
				timer.Stop()
			}
		}
		s.mu.Unlock()
	}
}

// loopOf is the loop for a socket, nil for what is none. The first one starts the
// loops. The caller holds mu, and the server is not stopped.
func (srv *Server) loopOf(fd int) *loop {
	if fd < 0 {
		return nil
	}
	if srv.loops == nil {
		srv.loops = make([]*loop, 0, runtime.GOMAXPROCS(0))
		for range cap(srv.loops) {
			l, err := newLoop(srv)
			if err != nil {
				srv.log.Warn("connections have goroutines of their own", "err", err)
				break
			}
			srv.loops = append(srv.loops, l)
			srv.looping.Go(l.run)
		}
	}
	if len(srv.loops) == 0 {
		return nil
	}
	return srv.loops[fd%len(srv.loops)]
}

// stopLoops ends the loops, when no connection is left.
func (srv *Server) stopLoops() {
	for _, l := range srv.loops {
		l.close()
	}
	srv.looping.Wait()
}

// enter begins a piece of work that stop waits for; it is false when it is too
// late to begin.
func (srv *Server) enter() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.stopped {
		return false
	}
	srv.work.Add(1)
	return true
}

func (srv *Server) leave() { srv.work.Done() }

// await waits until publishes are taken, and begins a piece of work.
func (srv *Server) await(ctx context.Context) error {
	select {
	case <-srv.ready:
	case <-srv.stopping.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if !srv.enter() {
		return ErrClosed
	}
	return nil
}

// recovered, deferred, keeps a panic from ending more than what panicked.
func (srv *Server) recovered(where string, who net.Addr) {
	if r := recover(); r != nil {
		srv.log.Error("panic", "in", where, "remote", who, "panic", r, "stack", string(debug.Stack()))
	}
}

// Ready is closed when the store is loaded and publishes are taken.
func (srv *Server) Ready() <-chan struct{} { return srv.ready }

// Clients lists the sessions of MQTT clients, connected or not, by client
// identifier.
func (srv *Server) Clients() []ClientInfo {
	srv.mu.Lock()
	sessions := make([]*Session, 0, len(srv.sessions))
	for _, s := range srv.sessions {
		if s.bus == nil {
			sessions = append(sessions, s)
		}
	}
	srv.mu.Unlock()
	infos := make([]ClientInfo, len(sessions))
	for i, s := range sessions {
		infos[i] = s.info()
	}
	slices.SortFunc(infos, func(a, b ClientInfo) int { return strings.Compare(a.ClientID, b.ClientID) })
	return infos
}

func (s *Session) info() ClientInfo {
	s.srv.treeMu.RLock()
	subs := len(s.subs)
	s.srv.treeMu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	info := ClientInfo{
		ClientID: s.id, Principal: s.principal(), Version: s.version, Since: s.ended, Expiry: s.expiry,
		Subscriptions: subs, Queued: s.q.len(), InFlight: s.inFlight.len(),
	}
	if a := s.access.Load(); a != nil {
		info.Username, info.Listener = a.who.Username, a.who.Listener
	}
	if c := s.conn.Load(); c != nil {
		info.Connected, info.Since, info.KeepAlive = true, c.since, c.keepAlive
		info.Remote = c.nc.RemoteAddr().String()
	}
	return info
}

// Retained lists the retained messages whose topics the filter matches, at most
// limit, in no order. It is nil if the filter is not valid.
func (srv *Server) Retained(filter string, limit int) []message.Message {
	if !topic.ValidFilter(filter) || limit <= 0 {
		return nil
	}
	now := time.Now()
	var messages []message.Message
	for _, m := range srv.kept.match(filter, limit) {
		if !m.Expired(now) {
			messages = append(messages, *m)
		}
	}
	return messages
}

// Heard reports whether somebody is subscribed to a topic now, a session whose client is
// away included.
func (srv *Server) Heard(name string) bool {
	srv.treeMu.RLock()
	defer srv.treeMu.RUnlock()
	for range srv.tree.Match(name) {
		return true
	}
	return false
}

// Stats returns the counters, and what is held now.
func (srv *Server) Stats() Stats {
	s := Stats{Uptime: time.Since(srv.made)}
	s.Retained, s.RetainedBytes = srv.kept.held()
	srv.stats.fill(&s)
	s.Queued, s.QueuedBytes, s.QueuedInMemory = srv.queued.messages.Load(), srv.queued.bytes.Load(), srv.queued.memory.Load()
	srv.mu.Lock()
	srv.countLocked(&s)
	srv.mu.Unlock()
	s.Delayed, s.DelayedBytes = srv.delays.held()
	s.PacketsReceived, s.PacketsSent = srv.pools.packetsIn.Load(), srv.pools.packetsOut.Load()
	s.SocketReceived, s.SocketSent = srv.pools.bytesIn.Load(), srv.pools.bytesOut.Load()
	srv.treeMu.RLock()
	s.Subscriptions = srv.subCount
	srv.treeMu.RUnlock()
	return s
}

// Disconnect ends the connection of a client; a 5.0 client is told the reason. It
// reports whether the client was connected.
func (srv *Server) Disconnect(clientID string, reason packet.Reason) bool {
	srv.mu.Lock()
	s := srv.sessions[clientID]
	srv.mu.Unlock()
	if s == nil {
		return false
	}
	c := s.conn.Load()
	if c == nil {
		return false
	}
	c.shut(reason)
	return true
}
