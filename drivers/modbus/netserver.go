package modbus

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// maxClients is how many clients are served, if nobody says otherwise.
	maxClients = 16
	// clientIdle is after how much silence a client is closed.
	clientIdle = 5 * time.Minute
	// clientWrite is how long a client may take to accept an answer.
	clientWrite = 5 * time.Second
	// acceptPause is the pause after a failed accept.
	acceptPause = 50 * time.Millisecond
)

// answerer adds the answer to a request to b; none adds nothing.
type answerer = func(b []byte, unit uint8, pdu []byte) []byte

// netServer serves Modbus TCP clients, and those who send the frames of a line.
type netServer struct {
	ln     net.Listener
	log    *slog.Logger
	admit  func(net.Conn) (answerer, error) // by the goroutine of a client; it may shake hands
	mode   mode                             // of the frames; nil is those of Modbus TCP
	places places
	ended  sync.WaitGroup
}

func newNetServer(ln net.Listener, log *slog.Logger, most int, admit func(net.Conn) (answerer, error)) *netServer {
	return &netServer{
		ln: ln, log: log, admit: admit,
		places: places{most: most, log: log, addr: ln.Addr().String(), taken: map[net.Conn]*seated{}},
	}
}

func (s *netServer) start() { s.ended.Go(s.accept) }

// stop closes everything and waits; false is that it was stopped before.
func (s *netServer) stop() bool {
	if !s.places.stop() {
		return false
	}
	_ = s.ln.Close() // nobody can act on an error here
	s.ended.Wait()
	return true
}

func (s *netServer) accept() {
	failed := 0 // in a row; only the first is told
	for {
		c, err := s.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if failed++; failed == 1 {
				s.log.Warn("modbus server cannot accept", "address", s.ln.Addr().String(), "err", err)
			}
			_ = pause(context.Background(), acceptPause) // it has no end that would be an error
			continue
		}
		if failed > 0 {
			s.log.Info("modbus server accepts again", "address", s.ln.Addr().String(), "failed", failed)
			failed = 0
		}
		if !s.places.take(c) {
			_ = c.Close()
			continue
		}
		s.ended.Go(func() { s.serve(c) })
	}
}

// serve answers one client until it is silent, gone or out of step.
func (s *netServer) serve(c net.Conn) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("modbus server panicked", "panic", p, "stack", string(debug.Stack()))
		}
		s.places.leave(c)
		_ = c.Close()
	}()
	answer, err := s.admit(c)
	if err != nil {
		s.log.Warn("modbus client refused", "client", c.RemoteAddr().String(), "err", err)
		return
	}
	counted := func(b []byte, unit uint8, pdu []byte) []byte {
		s.places.busy(c, true)
		defer s.places.busy(c, false)
		return answer(b, unit, pdu)
	}
	if s.mode != nil {
		line := &lineServer{port: &streamPort{Conn: c}, mode: s.mode, silence: streamLine.silence(), hunt: huntSilenceStream, idle: clientIdle, answer: counted}
		_ = line.run(context.Background()) // it ends with its connection
		return
	}
	serveADUs(c, counted)
}

// serveADUs answers the frames of Modbus TCP.
func serveADUs(c net.Conn, answer answerer) {
	in, out := make([]byte, 0, maxMBAP), make([]byte, 0, maxMBAP)
	for {
		a, n, err := readADU(c, in)
		if err != nil {
			return
		}
		pdu := answer(nil, a.unit, a.pdu)
		in = in[:copy(in[:cap(in)], n)]
		if len(pdu) == 0 {
			continue
		}
		out = adu{transaction: a.transaction, unit: a.unit, pdu: pdu}.append(out[:0])
		if c.SetWriteDeadline(time.Now().Add(clientWrite)) != nil {
			return
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// readADU reads until in begins with a frame; rest is what came behind it.
func readADU(c net.Conn, in []byte) (a adu, rest []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(clientIdle)); err != nil {
		return a, nil, err
	}
	for {
		a, n, err := cutADU(in)
		if err != nil || n > 0 {
			return a, in[n:], err
		}
		if len(in) == cap(in) {
			return a, nil, io.ErrShortBuffer
		}
		n, err = c.Read(in[len(in):cap(in)])
		in = in[:len(in)+n]
		if n == 0 && err != nil {
			return a, nil, err
		}
	}
}
