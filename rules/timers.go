package rules

import (
	"container/heap"
	"time"
)

// shortestTimer is the least that a timer waits: a script may not turn the lane
// into a busy loop.
const shortestTimer = time.Millisecond

// timer is one standing timer of a unit.
type timer struct {
	unit  *unit
	id    string
	due   time.Time
	every time.Duration // 0 is once
	hops  uint8         // of what its run publishes, less one
	seq   uint64        // timers due at once fire in the order they were set
	pos   int           // in the heap
}

// timerQueue is the timers of a lane, the next one first. It belongs to the lane's
// goroutine.
type timerQueue struct {
	heap timerHeap
	seq  uint64
}

type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].seq < h[j].seq
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.pos = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}

// set makes, replaces or stops a timer of u. It reports false if u has too many.
func (q *timerQueue) set(u *unit, c TimerChange, now time.Time, hops uint8, limit int) bool {
	old := u.timers[c.ID]
	if old == nil && c.After > 0 && len(u.timers) >= limit {
		return false
	}
	if old != nil {
		q.remove(old)
	}
	if c.After <= 0 {
		return true
	}
	after := max(c.After, shortestTimer)
	q.seq++
	t := &timer{unit: u, id: c.ID, due: now.Add(after), hops: hops, seq: q.seq}
	if c.Every {
		t.every = after
	}
	if u.timers == nil {
		u.timers = make(map[string]*timer)
	}
	u.timers[c.ID] = t
	heap.Push(&q.heap, t)
	return true
}

func (q *timerQueue) remove(t *timer) {
	heap.Remove(&q.heap, t.pos)
	delete(t.unit.timers, t.id)
}

// next is when the next timer is due.
func (q *timerQueue) next() (due time.Time, ok bool) {
	if len(q.heap) == 0 {
		return time.Time{}, false
	}
	return q.heap[0].due, true
}

// popDue takes the timers that are due at now, at most limit of them and all of
// one unit. Those that repeat are set again; what was missed is not made up for.
func (q *timerQueue) popDue(now time.Time, limit int) []*timer {
	var due []*timer
	for len(q.heap) > 0 && len(due) < limit {
		t := q.heap[0]
		if t.due.After(now) || (len(due) > 0 && t.unit != due[0].unit) {
			break
		}
		due = append(due, t)
		q.remove(t)
		if t.every > 0 {
			q.repeat(t, now)
		}
	}
	return due
}

func (q *timerQueue) repeat(t *timer, now time.Time) {
	again := *t
	again.due = t.due.Add(t.every)
	if !again.due.After(now) {
		missed := now.Sub(again.due)/t.every + 1
		again.due = again.due.Add(missed * t.every)
	}
	q.seq++
	again.seq = q.seq
	t.unit.timers[t.id] = &again
	heap.Push(&q.heap, &again)
}

// keepOnly drops the timers of units that are not in force.
func (q *timerQueue) keepOnly(s *ruleSet) {
	in := make(map[*unit]bool, len(s.units))
	for _, u := range s.units {
		in[u] = true
	}
	kept := q.heap[:0]
	for _, t := range q.heap {
		if in[t.unit] {
			t.pos = len(kept)
			kept = append(kept, t)
		}
	}
	clear(q.heap[len(kept):])
	q.heap = kept
	heap.Init(&q.heap)
}
