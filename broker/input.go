package broker

import (
	"io"
	"slices"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// How much is read at once: from a socket that is known to have something, and
// from a connection that has to be waited for, which holds the memory meanwhile.
const (
	readSize = 16 << 10
	waitSize = 4 << 10
	// helloSize is what a client that is not connected yet may hold.
	helloSize = 512
	// maxReads is how often one connection is read while others of its loop wait.
	maxReads = 4
)

// step says how a connection goes on.
type step uint8

const (
	stepRead step = iota // there may be more to read
	stepWait             // nothing to read, or no room for answers: it is woken
	stepAway             // what comes next may take its time: not on a loop
	stepEnd              // it is over
)

// buffer is what a batch reads into; the messages of the batch share its memory.
func (b *batch) buffer() []byte {
	if b.buf == nil {
		b.buf = make([]byte, readSize)
	}
	return b.buf
}

// take reads the packets that a chunk of bytes completes, and runs the batch. What
// it leaves waits in part; the chunk may be written again.
func (c *conn) take(chunk []byte) step {
	if len(c.part) > 0 {
		c.part = append(c.part, chunk...)
		chunk = c.part
	}
	b := c.batch
	if !b.gathers {
		b.now = time.Now()
	}
	c.heard.Store(int64(b.now.Sub(c.srv.made)))
	for {
		p, n, err := packet.Next(chunk, c.version, c.srv.opts.Limits.Packet, &b.scratch)
		switch {
		case err != nil:
			c.failed(err)
			return stepEnd
		case n == 0:
			b.run()
			c.keep(chunk)
			return stepRead
		case !c.away && c.slow(p):
			b.run()
			c.keep(chunk)
			c.more = true
			return stepAway
		}
		chunk = chunk[n:]
		if reason, more := c.handle(p); !more {
			b.run()
			if reason.Failed() {
				c.shut(reason)
			}
			return stepEnd
		}
		if b.full() || c.pace.spent {
			b.run()
			if c.stalled() {
				c.keep(chunk)
				c.more = true
				return stepWait
			}
		}
	}
}

// keep holds what could not be read yet. No message may share the memory of part
// any more.
func (c *conn) keep(rest []byte) {
	switch {
	case len(rest) == 0:
		c.part = nil
	case len(c.part) > 0 && cap(c.part) <= 2*len(rest)+helloSize: // rest is its end
		c.part = c.part[:copy(c.part, rest)]
	default:
		c.part = slices.Clone(rest)
	}
}

// slow reports whether what a packet asks for may take its time, so that other
// connections should not have to wait for it.
func (c *conn) slow(p packet.Packet) bool {
	switch p := p.(type) {
	case *packet.Publish:
		if p.Topic == "" {
			return c.srv.intercepts(c.aliases[p.Properties.TopicAlias])
		}
		return c.srv.intercepts(p.Topic)
	case *packet.Subscribe, *packet.Unsubscribe, *packet.Auth:
		return true
	default:
		return false
	}
}

// readAll reads a socket until it has nothing more.
func (c *conn) readAll() step {
	if c.poll != nil && !c.away { // it may have to write in order to read
		return stepAway
	}
	if c.more { // part may hold whole packets
		c.more = false
		if next := c.take(nil); next != stepRead {
			return next
		}
	}
	for turns := 0; ; turns++ {
		if c.out.over() { // ended is set before the last words are in, and whoever ends must not be overtaken
			return stepEnd
		}
		if turns == maxReads && !c.away {
			return stepRead
		}
		if c.stalled() {
			return stepWait
		}
		buf := c.batch.buffer()
		n, ready, err := c.readNow(buf)
		c.srv.pools.bytesIn.Add(int64(n))
		switch {
		case !ready:
			return stepWait
		case err == nil && n == 0:
			err = io.EOF
			fallthrough
		case err != nil:
			c.failed(err)
			return stepEnd
		}
		if next := c.take(buf[:n]); next != stepRead {
			return next
		}
		if n < len(buf) && !c.half.Load() && c.poll == nil { // a socket says so when more comes
			return stepWait
		}
	}
}

// readNow reads what there is without waiting.
func (c *conn) readNow(buf []byte) (n int, ready bool, err error) {
	if c.poll != nil {
		return c.poll.ReadNow(buf)
	}
	return readNow(c.fd, buf)
}

// listen reads a connection that is no plain socket until it ends.
func (c *conn) listen() {
	next := stepRead
	if c.more {
		c.more = false
		next = c.take(nil)
	}
	for {
		switch next {
		case stepEnd:
			return
		case stepWait:
			if !c.unhindered() {
				return
			}
			c.more = false
			next = c.take(nil)
			continue
		case stepRead, stepAway:
		}
		if c.out.over() || c.stalled() && !c.unhindered() {
			return
		}
		chunk, err := c.read()
		if len(chunk) > 0 {
			next = c.take(chunk)
		}
		if err != nil && next == stepRead {
			c.failed(err)
			return
		}
	}
}

// read waits for input without a batch and, if the connection can wait without one,
// without a buffer.
func (c *conn) read() (chunk []byte, err error) {
	c.batch.free()
	c.batch = nil
	late, ok := c.nc.(waiter)
	if !ok {
		if c.wait == nil {
			c.wait = make([]byte, waitSize)
		}
		n, err := c.nc.Read(c.wait)
		c.batch = c.srv.newBatch(c.srv.ctx, c)
		return c.wait[:n], err
	}
	err = late.Wait()
	c.batch = c.srv.newBatch(c.srv.ctx, c)
	if err != nil {
		return nil, err
	}
	buf := c.batch.buffer()
	n, err := c.nc.Read(buf)
	return buf[:n], err
}

// stalled reports whether the client does not read what it is sent, the store is
// behind, or the client publishes too fast, so that nothing more is read from it. It
// is woken when that is over.
func (c *conn) stalled() bool {
	if !c.out.waits() && c.pending.Load() < maxPending && !c.paused() {
		if c.hindered.Load() {
			c.hindered.Store(false)
			c.hear() // it may have said much that nobody listened to
		}
		return false
	}
	c.hindered.Store(true) // before a second look: from here on it is woken
	if c.out.waits() || c.pending.Load() >= maxPending || c.pace.spent {
		return true
	}
	c.hindered.Store(false)
	return false
}

// unhindered waits while the connection is stalled.
func (c *conn) unhindered() bool {
	for c.stalled() {
		select {
		case <-c.room:
		case <-c.out.written:
			return false
		}
	}
	return true
}
