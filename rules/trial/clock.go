package trial

import (
	"container/heap"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/rules"
)

// Clock is a rules.Clock that stands still until it is moved. Its methods may be
// called by any goroutine.
type Clock struct {
	mu      sync.Mutex
	mono    time.Duration // since before the clock was made
	wall    time.Time     // without a monotonic reading
	waiting waiters
	seq     uint64
}

var _ rules.Clock = (*Clock)(nil)

// bootTime is the monotonic reading of a new clock, since none may be zero.
const bootTime = time.Hour

// NewClock returns a clock whose wall clock says start, with its zone. Start is between
// the years 1885 and 2157.
func NewClock(start time.Time) (*Clock, error) {
	if err := checkMoments(); err != nil {
		return nil, err
	}
	c := &Clock{mono: bootTime}
	return c, c.Set(start)
}

// Now is the time, with both readings.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return momentOf(c.wall, c.mono)
}

// Set sets the wall clock, as NTP would: nobody who waits is concerned. The error says
// that there is no such time.
func (c *Clock) Set(wall time.Time) error {
	if !inRange(wall) {
		return fmt.Errorf("cannot set the clock to %s: the years are 1885 to 2157", wall.Format(time.RFC3339))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = wall.Round(0)
	return nil
}

// After delivers the time once, when the clock was moved by d.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &waiter{due: c.mono + max(d, 0), seq: c.seq, ch: make(chan time.Time, 1)}
	c.seq++
	if d <= 0 {
		w.ch <- momentOf(c.wall, c.mono)
		return w.ch
	}
	heap.Push(&c.waiting, w)
	return w.ch
}

// errTooFar is what moving a clock beyond what it can show gives.
var errTooFar = errors.New("the clock cannot show that time: the years are 1885 to 2157")

// step moves the clock to the next time that somebody waits for, but by no more than
// most, and wakes those who wait for it. It returns by how much it moved.
func (c *Clock) step(most time.Duration) (moved time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	moved = most
	if len(c.waiting) > 0 {
		moved = min(most, max(0, c.waiting[0].due-c.mono))
	}
	wall := c.wall.Add(moved)
	if !inRange(wall) {
		return 0, errTooFar
	}
	c.mono, c.wall = c.mono+moved, wall
	for len(c.waiting) > 0 && c.waiting[0].due <= c.mono {
		w := heap.Pop(&c.waiting).(*waiter)
		w.ch <- momentOf(c.wall, c.mono)
	}
	return moved, nil
}

// skip moves the clock past everybody who waits, who are forgotten: they have ended.
func (c *Clock) skip(d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := c.wall.Add(d)
	if !inRange(wall) {
		return errTooFar
	}
	c.mono, c.wall, c.waiting = c.mono+d, wall, nil
	return nil
}

// waiter is one call of After.
type waiter struct {
	due time.Duration
	seq uint64 // those due at once are woken in the order in which they came
	ch  chan time.Time
}

type waiters []*waiter

func (w waiters) Len() int      { return len(w) }
func (w waiters) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w waiters) Less(i, j int) bool {
	return w[i].due < w[j].due || w[i].due == w[j].due && w[i].seq < w[j].seq
}
func (w *waiters) Push(x any) { *w = append(*w, x.(*waiter)) }
func (w *waiters) Pop() any {
	old := *w
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	return last
}
