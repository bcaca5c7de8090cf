package broker

import (
	"net"
	"sync"
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
	fd    int // of a plain socket, or -1
	// conn hears of room, with no lock held, when it had asked for it, and of the
	// end of all output.
	conn *conn

	mu      sync.Mutex
	buf     *outBuf
	aliases *aliases      // nil for a client that takes none
	size    int           // bytes not yet taken by the socket
	packets int           // added and not counted yet
	busy    bool          // someone is writing
	ending  bool          // nothing more is taken
	dead    bool          // the socket is closed, or as good as
	stalled bool          // someone wants to hear when there is room
	closing chan struct{} // made by who waits for a flush to end, in order to close
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
	if o.aliases == nil {
		o.buf.b = append(o.buf.b, b...)
	} else {
		o.buf.b = o.aliases.append(o.buf.b, b)
	}
	if id != 0 {
		packet.SetPublishID(o.buf.b[at:], id, dup)
	}
	o.size += len(o.buf.b) - at
	o.packets++
	if at > 0 || o.busy {
		return roomTaken
	}
	return roomDirty
}

// full reports whether nothing more should be added, because the buffer has
// reached its limit or because the connection ends.
func (o *output) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending || o.dead || o.waitsLocked()
}

// waits reports whether the buffer has reached its limit, and if so has the
// connection hear when there is room.
func (o *output) waits() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.ending && !o.dead && o.waitsLocked()
}

func (o *output) waitsLocked() bool {
	if o.size < o.limit {
		return false
	}
	o.stalled = true
	return true
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
		if o.fd >= 0 {
			n, err = writeNow(o.fd, buf.b)
		}
		o.mu.Lock()
		o.countLocked(n)
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
		o.freeLocked()
		o.mu.Unlock()
		p.freeBuf(buf)
	}
}

// freeLocked says that nobody writes any more.
func (o *output) freeLocked() {
	o.busy = false
	if o.closing != nil {
		close(o.closing)
		o.closing = nil
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
	o.countLocked(n)
	wake := o.stalled && o.size <= o.limit/2
	if wake {
		o.stalled = false
	}
	if err != nil {
		o.failLocked()
	}
	o.mu.Unlock()
	if wake || err != nil {
		o.conn.hasRoom()
	}
	return err == nil
}

// countLocked counts n bytes as written, and the packets that were added.
func (o *output) countLocked(n int) {
	o.size -= n
	p := &o.conn.srv.pools
	p.bytesOut.Add(int64(n))
	p.packetsOut.Add(int64(o.packets))
	o.packets = 0
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
			o.freeLocked()
			o.endLocked()
			o.mu.Unlock()
			return nil
		}
		o.stalled = false
		o.mu.Unlock()
		o.conn.hasRoom()
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
		o.packets++
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
		_ = o.nc.SetReadDeadline(time.Now()) // wakes a reader that waits; before written, which close waits for to set a later one
		close(o.written)
		o.conn.wake()
	}
}

func (o *output) failLocked() {
	o.dead = true
	o.freeLocked()
	o.endLocked() // and wakes the reader; a close may block, so it is not for here
}

// over reports whether nothing more can be sent.
func (o *output) over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending || o.dead
}

// close ends all output, waits for whoever writes, and closes the socket.
func (o *output) close() {
	o.mu.Lock()
	o.dead = true
	o.endLocked()
	var flushing chan struct{}
	if o.busy {
		flushing = make(chan struct{})
		o.closing = flushing
		_ = o.nc.SetWriteDeadline(time.Now()) // ends a drain; a flush does not block
	}
	o.mu.Unlock()
	if flushing != nil {
		<-flushing
	}
	o.wg.Wait()
	_ = o.nc.Close() // closed twice, perhaps
}
