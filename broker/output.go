package broker

import (
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// endTime is how long the last bytes to a client may take, and how long it may
// then take to read them before the socket is closed under it.
const (
	endTime    = time.Second
	lingerTime = 500 * time.Millisecond
)

// output is what waits to be written to one connection. Whoever has output
// appends it and, if that made the connection dirty, flushes it when done with the
// input at hand. A flush that would block leaves the rest to a goroutine that ends
// when all is written.
type output struct {
	nc    net.Conn
	limit int
	slow  time.Duration
	raw   *rawWriter
	// hear is called, with no lock held, when there is room again and someone had
	// asked for it.
	hear func()

	mu      sync.Mutex
	buf     *outBuf
	size    int  // bytes not yet taken by the socket
	busy    bool // someone is writing
	ending  bool // nothing more is taken
	dead    bool // the socket is closed, or as good as
	stalled bool // someone wants to hear when there is room
	written chan struct{}
	wg      sync.WaitGroup // the goroutine that writes to a slow socket
}

// outBuf is a pooled buffer; an idle connection has none.
type outBuf struct{ b []byte }

const keepBuf = 64 << 10 // larger buffers are not kept

// newBuf and freeBuf manage the pool of output buffers of a server.
func (p *pools) newBuf() *outBuf {
	if b, ok := p.bufs.Get().(*outBuf); ok {
		return b
	}
	return &outBuf{b: make([]byte, 0, 2048)}
}

func (p *pools) freeBuf(b *outBuf) {
	if cap(b.b) <= keepBuf {
		b.b = b.b[:0]
		p.bufs.Put(b)
	}
}

// room says how output was taken.
type room uint8

const (
	roomNone  room = iota // not taken: the buffer is full, or the connection ends
	roomTaken             // taken; someone else is to flush
	roomDirty             // taken; the caller is to flush
)

// add appends one encoded packet; when always is false a full buffer refuses it.
// A PUBLISH of QoS 1 or 2 gets its packet identifier, id, and DUP flag.
func (o *output) add(p *pools, b []byte, id uint16, dup, always bool) room {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending || o.dead || !always && o.size >= o.limit {
		return roomNone
	}
	if o.buf == nil {
		o.buf = p.newBuf()
	}
	at := len(o.buf.b)
	o.buf.b = append(o.buf.b, b...)
	if id != 0 {
		packet.SetPublishID(o.buf.b[at:], id, dup)
	}
	o.size += len(b)
	if at > 0 || o.busy {
		return roomTaken
	}
	return roomDirty
}

// full reports whether the buffer has reached its limit, and if so has hear called
// when there is room.
func (o *output) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending || o.dead {
		return true
	}
	if o.size >= o.limit {
		o.stalled = true
		return true
	}
	return false
}

// flush writes what there is, as far as the socket takes it at once.
func (o *output) flush(p *pools) {
	for {
		o.mu.Lock()
		buf := o.buf
		if o.busy || o.dead || buf == nil {
			o.endLocked()
			o.mu.Unlock()
			return
		}
		o.busy, o.buf = true, nil
		o.mu.Unlock()
		n, err := 0, error(nil)
		if o.raw != nil {
			n, err = o.raw.write(buf.b)
		}
		o.mu.Lock()
		o.size -= n
		switch {
		case err != nil:
			o.failLocked()
			o.mu.Unlock()
			return
		case (n < len(buf.b) || o.stalled) && !o.dead:
			o.wg.Add(1)
			o.mu.Unlock()
			go o.drain(p, buf, n)
			return
		}
		o.busy = false
		o.mu.Unlock()
		p.freeBuf(buf)
	}
}

// drain writes to a slow socket until nothing is left; it is the only writer.
func (o *output) drain(p *pools, buf *outBuf, at int) {
	defer o.wg.Done()
	for {
		for at < len(buf.b) {
			o.patience(true)
			n, err := o.nc.Write(buf.b[at:min(len(buf.b), at+keepBuf)])
			at += n
			if !o.took(n, err) {
				return
			}
		}
		o.patience(false)
		p.freeBuf(buf)
		if buf, at = o.next(), 0; buf == nil {
			return
		}
	}
}

// patience says until when the socket may take nothing; the last bytes have one
// deadline, which stays.
func (o *output) patience(limited bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending {
		return
	}
	var until time.Time
	if limited {
		until = time.Now().Add(o.slow)
	}
	_ = o.nc.SetWriteDeadline(until) // an error shows in Write
}

// took counts n bytes as written, and wakes who waits for room.
func (o *output) took(n int, err error) bool {
	o.mu.Lock()
	o.size -= n
	wake := o.stalled && o.size <= o.limit/2
	if wake {
		o.stalled = false
	}
	if err != nil {
		o.failLocked()
	}
	o.mu.Unlock()
	if wake || err != nil {
		o.hear()
	}
	return err == nil
}

// next takes the next buffer to write, or ends the drain.
func (o *output) next() *outBuf {
	for {
		o.mu.Lock()
		if buf := o.buf; buf != nil && !o.dead {
			o.buf = nil
			o.mu.Unlock()
			return buf
		}
		if !o.stalled || o.dead {
			o.busy = false
			o.endLocked()
			o.mu.Unlock()
			return nil
		}
		o.stalled = false
		o.mu.Unlock()
		o.hear()
	}
}

// end appends the last bytes, takes no more, and writes. Written is closed when
// they are out, or never will be.
func (o *output) end(p *pools, last []byte) {
	o.mu.Lock()
	if o.ending {
		o.mu.Unlock()
		return
	}
	if len(last) > 0 && !o.dead {
		if o.buf == nil {
			o.buf = p.newBuf()
		}
		o.buf.b = append(o.buf.b, last...)
		o.size += len(last)
	}
	o.ending = true
	_ = o.nc.SetWriteDeadline(time.Now().Add(endTime)) // an error shows in Write
	o.mu.Unlock()
	o.flush(p)
}

// endLocked closes written if nothing is left to write, and wakes the reader.
func (o *output) endLocked() {
	if !o.dead && (!o.ending || o.busy || o.buf != nil) {
		return
	}
	select {
	case <-o.written:
	default:
		close(o.written)
		_ = o.nc.SetReadDeadline(time.Now()) // else the reader hears of the close
	}
}

func (o *output) failLocked() {
	o.dead, o.busy = true, false
	o.endLocked()
	_ = o.nc.Close() // wakes the reader; its own error says no more
}

// close ends all output and waits for the writer.
func (o *output) close() {
	o.mu.Lock()
	o.dead = true
	o.endLocked()
	o.mu.Unlock()
	_ = o.nc.Close() // closed twice, perhaps
	o.wg.Wait()
}

// rawWriter writes to a socket what it takes without blocking.
type rawWriter struct {
	conn syscall.RawConn
	try  func(fd uintptr) bool
	buf  []byte
	n    int
	err  error
}

// newRawWriter is nil for a connection that is no plain socket.
func newRawWriter(nc net.Conn) *rawWriter {
	conn := rawConn(nc)
	if conn == nil {
		return nil
	}
	w := &rawWriter{conn: conn}
	w.try = func(fd uintptr) bool {
		w.n, w.err = writeNow(fd, w.buf)
		return true
	}
	return w
}

// write is called by one goroutine at a time.
func (w *rawWriter) write(b []byte) (int, error) {
	w.buf = b
	err := w.conn.Write(w.try)
	w.buf = nil
	if err != nil {
		return 0, err
	}
	return w.n, w.err
}
