package drivers

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tapQueue is how many pieces of traffic wait for who watches; further ones are lost.
const tapQueue = 256

// Taps are those who watch a wire; a driver may keep them in one. The zero value is
// nobody. Its methods may be called by any goroutine.
type Taps struct {
	some atomic.Bool

	mu     sync.Mutex // guards what follows
	taps   []*tap
	closed bool
}

// tap sees what goes over a wire.
type tap struct {
	traffic chan Traffic // closed when the tap is off the wire
	lost    int          // pieces since the last one; guarded by Taps.mu
}

// Any reports whether somebody watches: else nothing need be told.
func (t *Taps) Any() bool { return t.some.Load() }

// Tell tells of bytes that went over the wire, of which it keeps a copy. It does not wait.
func (t *Taps) Tell(at time.Time, sent bool, b []byte) {
	if !t.Any() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.taps {
		select {
		case one.traffic <- Traffic{At: at, Sent: sent, Data: slices.Clone(b), Lost: one.lost}:
			one.lost = 0
		default:
			one.lost++
		}
	}
}

// Tap returns what is told from now on, as [Wired].Tap does. After Close the channel is
// closed.
func (t *Taps) Tap() (traffic <-chan Traffic, stop func()) {
	one := &tap{traffic: make(chan Traffic, tapQueue)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		close(one.traffic)
		return one.traffic, func() {}
	}
	t.taps = append(t.taps, one)
	t.some.Store(true)
	return one.traffic, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if i := slices.Index(t.taps, one); i >= 0 {
			t.taps = slices.Delete(t.taps, i, i+1)
			t.some.Store(len(t.taps) > 0)
			close(one.traffic)
		}
	}
}

// Close takes everybody off the wire: it is gone.
func (t *Taps) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.some.Store(false)
	for _, one := range t.taps {
		close(one.traffic)
	}
	t.taps = nil
}
