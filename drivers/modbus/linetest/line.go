// Package linetest is a serial line that keeps time, for tests and benchmarks: two
// pseudo terminals, between which each character takes as long as it does on a real
// line. A plain pair of pseudo terminals passes a frame on at once.
//
//	line, err := linetest.New(9600, 11)
//	defer line.Close()
//	// one side opens line.A as its port, the other one line.B
//
// What goes wrong on a line is put in with Tap.
package linetest

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// queued is how many chunks may be under way in one direction; a further one is lost,
// as on a line.
const queued = 256

// Chunk is bytes that go over the line, one after the other.
type Chunk struct {
	Bytes []byte
	// After is how long the line stays silent before them.
	After time.Duration
}

// Tap sees what one side has written before it goes on the line, and says what does: it
// may change, drop, delay and add. Its calls for one direction come one after the other.
type Tap func(fromA bool, written []byte) []Chunk

// Line is a serial line. A and B are the paths of its ends.
type Line struct {
	A, B string

	char   time.Duration
	tap    Tap
	ends   [2]*os.File // masters
	slaves [2]*os.File // held open, so that the masters do not hang up
	done   chan struct{}
	all    sync.WaitGroup
}

// New makes a line on which a character has so many bits, start, parity and stop bits
// among them. Close gives it back.
func New(baud, bits int) (*Line, error) { return NewTapped(baud, bits, nil) }

// NewTapped is New with a tap; nil is none.
func NewTapped(baud, bits int, tap Tap) (*Line, error) {
	l := &Line{char: time.Duration(bits) * time.Second / time.Duration(baud), tap: tap, done: make(chan struct{})}
	if tap == nil {
		l.tap = func(_ bool, written []byte) []Chunk { return []Chunk{{Bytes: written}} }
	}
	for i, path := range []*string{&l.A, &l.B} {
		var err error
		if l.ends[i], l.slaves[i], err = openPair(); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		*path = l.slaves[i].Name()
	}
	l.pass(true, l.ends[0], l.ends[1])
	l.pass(false, l.ends[1], l.ends[0])
	return l, nil
}

// Char is how long a character takes.
func (l *Line) Char() time.Duration { return l.char }

// Close ends the line, and waits for that.
func (l *Line) Close() error {
	close(l.done)
	var all []error
	for _, f := range append(l.ends[:], l.slaves[:]...) {
		if f != nil {
			all = append(all, f.Close())
		}
	}
	l.all.Wait()
	return errors.Join(all...)
}

// pass carries bytes in one direction.
func (l *Line) pass(fromA bool, from, to *os.File) {
	under := make(chan Chunk, queued)
	l.all.Go(func() {
		defer close(under)
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			for _, c := range l.tap(fromA, append([]byte(nil), buf[:n]...)) {
				select {
				case under <- c:
				default:
				}
			}
		}
	})
	l.all.Go(func() {
		var free time.Time // when the line has passed all before
		for c := range under {
			if now := time.Now(); now.After(free) {
				free = now
			}
			free = free.Add(c.After)
			if !l.deliver(to, c.Bytes, free) {
				return
			}
			free = free.Add(time.Duration(len(c.Bytes)) * l.char)
		}
	})
}

// deliver writes each byte when its last bit has gone over the line, or a little later:
// then those that are due come together.
func (l *Line) deliver(to *os.File, b []byte, start time.Time) bool {
	for sent := 0; sent < len(b); {
		wait := time.NewTimer(time.Until(start.Add(time.Duration(sent+1) * l.char)))
		select {
		case <-wait.C:
		case <-l.done:
			wait.Stop()
			return false
		}
		due := min(len(b), max(sent+1, int(time.Since(start)/l.char)))
		if _, err := to.Write(b[sent:due]); err != nil {
			return false
		}
		sent = due
	}
	return true
}

// openPair opens a pseudo terminal that passes bytes as they are.
func openPair() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open a pseudo terminal: %w", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if slave, err = openSlave(fd); err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, slave, nil
}

func openSlave(master int) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("cannot unlock a pseudo terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("cannot name a pseudo terminal: %w", err)
	}
	name := fmt.Sprintf("/dev/pts/%d", n)
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %q: %w", name, err)
	}
	slave := os.NewFile(uintptr(fd), name)
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
		mode.Cflag = mode.Cflag&^unix.CSIZE | unix.CS8 | unix.CREAD | unix.CLOCAL
		mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
		err = unix.IoctlSetTermios(fd, unix.TCSETS, mode)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make %q raw: %w", name, err), slave.Close())
	}
	return slave, nil
}
