package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// The pause after an accept error that may pass, and what it doubles up to.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// Serve accepts connections from l until ctx ends or the server does, and closes
// l. It returns nil then; any other return is the error of a listener that failed
// for good. It waits for the store to be loaded. Connections accepted live until
// the server ends.
func (srv *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close() //nolint:errcheck // it is closed already when the server stops
	if err := srv.await(ctx); err != nil {
		if errors.Is(err, ErrClosed) || ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer srv.leave()
	returns := make(chan struct{})
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		select {
		case <-ctx.Done():
		case <-srv.stopping.Done():
		case <-returns:
		}
		_ = l.Close() // wakes Accept
	}()
	defer func() { close(returns); <-closed }()
	return srv.accept(ctx, l)
}

func (srv *Server) accept(ctx context.Context, l net.Listener) error {
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			srv.take(nc)
		case srv.over(ctx):
			return nil
		case !passing(err):
			return fmt.Errorf("cannot accept on %s: %w", l.Addr(), err)
		default:
			pause = min(max(acceptPause, 2*pause), acceptPauseMax)
			srv.log.Warn("accept failed", "listener", l.Addr(), "pause", pause, "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			case <-srv.stopping.Done():
			}
		}
	}
}

func (srv *Server) over(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-srv.stopping.Done():
		return true
	default:
		return false
	}
}

// passing reports whether an accept error may pass: a connection that was gone
// before it was taken, or no descriptors left.
func passing(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// take starts the life of a connection, unless there are too many.
func (srv *Server) take(nc net.Conn) {
	srv.stats.accepted.Add(1)
	srv.mu.Lock()
	full := len(srv.conns) - srv.opts.Limits.Connections
	var from netip.Addr
	why, ok := whyConnections, false
	if !srv.stopped && full < srv.opts.Offer.surplus() {
		why = whyAddress
		from, ok = srv.admit(nc.RemoteAddr())
	}
	if !ok {
		srv.mu.Unlock()
		srv.refused(nc, why)
		_ = nc.Close() // it is refused
		return
	}
	c := srv.newConn(nc)
	c.redirect = full >= 0
	c.from = from
	srv.conns[c] = struct{}{}
	srv.work.Add(1)
	srv.mu.Unlock()
	srv.stats.connections.Add(1)
	go c.serve()
}

func (srv *Server) untake(c *conn) {
	srv.stats.connections.Add(-1)
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.dismiss(c.from)
	delete(srv.conns, c)
}
