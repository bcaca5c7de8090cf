package listen

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// wire is the TCP connection below TLS, or behind a PROXY header. It hands out one
// TLS record at a time, so that crypto/tls never holds a piece of the next one and
// an idle connection shows on its socket; and it holds a buffer only while there is
// something in it.
type wire struct {
	*net.TCPConn
	raw     syscall.RawConn
	records bool // what is read is TLS
	now     bool // Read does not wait: it returns errNothing; the reader's
	closing atomic.Bool
	// turns, while a handshake is made, has room for as many as may compute at once;
	// whoever waits for the peer lets another. Nil otherwise.
	turns chan struct{}

	buf  *[]byte // of wireBuffers; nil while nothing is there
	have []byte  // what of it is not handed out
	head [recordHeader]byte
	got  int // bytes of head that were handed out
	left int // bytes of the record's body that were not
}

const recordHeader = 5

// wireBuffers hold what was read and not handed out: one record and its header.
var wireBuffers = sync.Pool{New: func() any {
	b := make([]byte, 16<<10+512)
	return &b
}}

func newWire(c *net.TCPConn) *wire {
	w := &wire{TCPConn: c}
	w.raw, _ = c.SyscallConn() // without one, Read is TCP's own
	return w
}

// begin takes a turn to compute what a handshake takes, and returns what ends it.
func (w *wire) begin(turns chan struct{}) (end func()) {
	turns <- struct{}{}
	w.turns = turns
	return func() {
		w.turns = nil
		<-turns
	}
}

// pause gives the turn away, and returns what takes it again.
func (w *wire) pause() (resume func()) {
	turns := w.turns
	if turns == nil {
		return func() {}
	}
	<-turns
	return func() { turns <- struct{}{} }
}

// errNothing is what a Read that is not to wait returns when there is nothing. It
// passes, so that crypto/tls goes on where it was.
var errNothing net.Error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing there yet" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// descriptor is that of the socket, valid until Close; -1 where there is none to poll.
func (w *wire) descriptor() int {
	fd := -1
	if w.raw == nil || w.raw.Control(func(number uintptr) { fd = int(number) }) != nil {
		return -1
	}
	return fd
}

// Read implements [net.Conn].
func (w *wire) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0 || w.raw == nil:
		return w.TCPConn.Read(p)
	case !w.records && w.now:
		return w.readNow(p)
	case !w.records:
		return w.TCPConn.Read(p)
	}
	if len(w.have) == 0 {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	n := w.handOut(p)
	if len(w.have) == 0 {
		w.free()
	}
	return n, nil
}

// fill reads into a buffer what the socket has, and waits for it without one.
func (w *wire) fill() error {
	var n int
	var failed error
	defer w.pause()()
	err := w.raw.Read(func(fd uintptr) bool {
		buf := wireBuffers.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
		var ready bool
		n, ready, failed = readNow(fd, *buf)
		if ready && n > 0 {
			w.buf, w.have = buf, (*buf)[:n]
			return true
		}
		wireBuffers.Put(buf)
		if !ready && w.now {
			failed = errNothing
		}
		return ready || w.now
	})
	return outcome(n, failed, err)
}

// readNow reads what the socket has.
func (w *wire) readNow(p []byte) (int, error) {
	var n int
	var failed error
	err := w.raw.Read(func(fd uintptr) bool {
		var ready bool
		if n, ready, failed = readNow(fd, p); !ready {
			failed = errNothing
		}
		return true
	})
	return max(n, 0), outcome(n, failed, err)
}

// outcome is the error of a read of n bytes.
func outcome(n int, failed, err error) error {
	switch {
	case err != nil:
		return err
	case failed != nil:
		return failed
	case n <= 0:
		return io.EOF
	default:
		return nil
	}
}

// handOut copies to p, up to the end of the record.
func (w *wire) handOut(p []byte) int {
	n := 0
	if w.got < recordHeader {
		n = copy(p, w.have[:min(len(w.have), recordHeader-w.got)])
		copy(w.head[w.got:], p[:n])
		w.have, w.got = w.have[n:], w.got+n
		if w.got < recordHeader {
			return n
		}
		w.left = int(binary.BigEndian.Uint16(w.head[3:]))
	}
	body := copy(p[n:], w.have[:min(len(w.have), w.left)])
	w.have, w.left = w.have[body:], w.left-body
	if w.left == 0 {
		w.got = 0
	}
	return n + body
}

func (w *wire) free() {
	if w.buf != nil {
		wireBuffers.Put(w.buf)
		w.buf, w.have = nil, nil
	}
}

// pending reports whether something was read that TLS has not had, or has only a
// part of.
func (w *wire) pending() bool { return len(w.have) > 0 || w.got > 0 }

// wait blocks until the socket has something.
func (w *wire) wait() error {
	if w.raw == nil {
		return nil
	}
	return w.raw.Read(readable)
}

// Write implements [net.Conn]. While the connection closes, it is for a last word
// that is not worth waiting for.
func (w *wire) Write(p []byte) (int, error) {
	if !w.closing.Load() || w.raw == nil {
		defer w.pause()()
		return w.TCPConn.Write(p)
	}
	n, failed := 0, error(nil)
	err := w.raw.Write(func(fd uintptr) bool {
		n, failed = writeNow(fd, p)
		return true
	})
	switch n = max(n, 0); {
	case err != nil:
		return n, err
	case failed == nil && n < len(p):
		return n, io.ErrShortWrite
	default:
		return n, failed
	}
}
