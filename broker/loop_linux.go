package broker

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// loop reads many sockets from one goroutine. It waits in the runtime's poller for
// an epoll instance of its own, which the sockets of connected clients are in; the
// answers to all that had come are written together. A connection that asks for
// what may take its time leaves for a goroutine of its own meanwhile.
type loop struct {
	srv    *Server
	file   *os.File // the epoll instance
	fd     int
	events [64]syscall.EpollEvent
	turns  []*conn // of this round
	hungry []*conn // have more to read than their turn let them
	batch  *batch
	more   bool      // there may be events that poll had no room for
	ended  time.Time // of the last round

	mu    sync.Mutex
	slots []slotOf // by descriptor
}

// slotOf is whose a descriptor is now; an event of an older generation is stale.
type slotOf struct {
	conn       *conn
	generation int32
}

const epollET = 1 << 31 // syscall.EPOLLET is negative

func newLoop(srv *Server) (*loop, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll instance: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that the runtime polls it
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("cannot poll an epoll instance: %w", err)
	}
	l := &loop{srv: srv, file: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	return l, nil
}

// add takes a socket in. Its connection's turn is taken; it is false when the
// kernel does not have it.
func (l *loop) add(c *conn) bool {
	l.mu.Lock()
	if c.fd >= len(l.slots) {
		l.slots = append(l.slots, make([]slotOf, c.fd+1-len(l.slots))...)
	}
	slot := &l.slots[c.fd]
	slot.conn = c
	slot.generation++
	generation := slot.generation
	l.mu.Unlock()
	event := syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | epollET, Fd: int32(c.fd), Pad: generation,
	}
	if err := syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_ADD, c.fd, &event); err != nil {
		l.srv.log.Error("socket cannot be polled", "remote", c.who.Remote, "err", err)
		return false
	}
	return true
}

// remove forgets a connection that is about to close its socket.
func (l *loop) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.fd < len(l.slots) && l.slots[c.fd].conn == c {
		l.slots[c.fd].conn = nil
	}
}

// run serves until the loop is closed.
func (l *loop) run() {
	raw, err := l.file.SyscallConn()
	if err != nil {
		l.srv.log.Error("loop ended", "err", err)
		return
	}
	l.renew()
	_ = raw.Read(func(uintptr) bool { // ends with an error when the file is closed
		for l.poll() {
			if busy := l.round(); busy {
				yield()
			} else if len(l.hungry) == 0 && !l.more {
				return false // what comes from now on wakes the poller
			}
		}
		return false
	})
}

func (l *loop) close() { _ = l.file.Close() }

// renew gives the loop a batch.
func (l *loop) renew() {
	l.batch = l.srv.newBatch(l.srv.ctx, nil)
	l.batch.gathers = true
}

// poll finds whose turn it is.
func (l *loop) poll() bool {
	n, err := epollNow(l.fd, l.events[:])
	if err != nil {
		l.srv.log.Error("poll failed", "err", err)
		return false
	}
	l.more = n == len(l.events)
	l.turns = append(l.turns[:0], l.hungry...)
	l.hungry = l.hungry[:0]
	if n == 0 {
		return len(l.turns) > 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.events[:n] {
		e := &l.events[i]
		slot := &l.slots[e.Fd]
		if slot.conn == nil || slot.generation != e.Pad {
			continue
		}
		if e.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
			slot.conn.half.Store(true)
		}
		if slot.conn.takeTurn() {
			l.turns = append(l.turns, slot.conn)
		}
	}
	return true
}

// soon is how fast rounds follow each other while there is much to do, if each is about
// one connection alone. Then the loop lets whoever else wants the processor have it
// between them: those are the clients, or what hears them, and the next round has more
// for each receiver, which is written together. A processor that nobody wants comes
// back at once. Otherwise the loop does not look twice, but waits at once: most often
// there is nothing yet.
const soon = 100 * time.Microsecond

// round gives each its turn, and writes what they have for whom. It reports whether
// there is much to do.
func (l *loop) round() (busy bool) {
	l.batch.now = time.Now()
	for i, c := range l.turns {
		l.turns[i] = nil
		l.turn(c)
	}
	l.batch.flush()
	was := l.ended
	l.ended = time.Now()
	return len(l.turns) > 1 || l.ended.Sub(was) < soon
}

func (l *loop) turn(c *conn) {
	for {
		b := l.batch
		b.c, c.batch = c, b
		next := c.look()
		b.c, c.batch = nil, nil
		if b.spoiled {
			b.free()
			l.renew()
		}
		switch next {
		case stepEnd:
			go c.finish()
			return
		case stepAway:
			go c.run()
			return
		case stepRead:
			l.hungry = append(l.hungry, c)
			return
		case stepWait:
			if c.rest() {
				return
			}
		}
	}
}

// epollNow says what has happened, without waiting.
func epollNow(fd int, events []syscall.EpollEvent) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// yield lets other threads that wait for this processor go first.
func yield() { _, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
