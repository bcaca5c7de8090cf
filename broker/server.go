package broker

import (
	"context"
	"errors"
	"net"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// ErrClosed is what calls on a server get when it has ended.
var ErrClosed = errors.New("broker has ended")

// Server is an MQTT server and a [message.Bus].
type Server struct {
	opts  Options
	ready chan struct{}
	stats counters
}

// Session is what one client identifier keeps between connections.
type Session struct{}

// New checks the options and starts nothing.
func New(opts Options) (*Server, error) {
	opts.Limits.setDefaults()
	return &Server{opts: opts, ready: make(chan struct{})}, opts.Limits.check()
}

// Run loads the store and serves until ctx ends.
func (s *Server) Run(ctx context.Context) error { return ctx.Err() }

// Serve accepts connections.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return ErrClosed }

// Publish implements [message.Bus].
func (s *Server) Publish(ctx context.Context, msgs ...message.Message) error { return ErrClosed }

// Subscribe implements [message.Bus].
func (s *Server) Subscribe(ctx context.Context, sub message.Subscription, h message.Handler) error {
	return ErrClosed
}

// Resubscribe implements [message.Bus].
func (s *Server) Resubscribe(ctx context.Context, name string, filters []string) error {
	return ErrClosed
}

// Ready is closed when the store is loaded and publishes are taken.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Clients lists the sessions of MQTT clients, by client identifier.
func (s *Server) Clients() []ClientInfo { return nil }

// Retained lists retained messages that a filter matches, at most limit.
func (s *Server) Retained(filter string, limit int) []message.Message { return nil }

// Stats returns the counters.
func (s *Server) Stats() Stats { return Stats{} }

// Disconnect ends the connection of a client.
func (s *Server) Disconnect(clientID string, reason packet.Reason) bool { return false }
