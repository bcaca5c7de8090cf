package rules

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	// shortestTimer is the least that a timer waits: a script may not turn the lane
	// into a busy loop.
	shortestTimer = time.Millisecond
	// maxTimer bounds what is kept of one timer, in bytes.
	maxTimer = 64 << 10
)

// timer is one standing timer of a unit.
type timer struct {
	unit  *unit // nil while it is parked
	id    string
	due   time.Time
	every time.Duration // 0 is once
	hops  uint8         // of what its run publishes, less one
	seq   uint64        // timers due at once fire in the order they were set
	pos   int           // in the heap

	// Of those that are kept.
	name string
	data []byte
	// resumed says that it may be late: it has stood while no program could take it.
	resumed bool
	// owed is when it is due by the wall clock, in Unix milliseconds, if that was not
	// plausible when the timer was recalled; else 0.
	owed int64
}

// timerQueue is the timers of a lane, the next one first. It belongs to whoever holds
// the lane.
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

// set makes or replaces a timer of u.
func (q *timerQueue) set(u *unit, c TimerChange, now time.Time, hops uint8) *timer {
	if old := u.timers[c.ID]; old != nil {
		q.remove(old)
	}
	after := max(c.After, shortestTimer)
	t := &timer{id: c.ID, due: now.Add(after), hops: hops, name: c.Name, data: c.Data}
	if c.Every {
		t.every = after
	}
	q.add(u, t)
	return t
}

// add has a timer stand for u.
func (q *timerQueue) add(u *unit, t *timer) {
	q.seq++
	t.unit, t.seq = u, q.seq
	if u.timers == nil {
		u.timers = make(map[string]*timer)
	}
	u.timers[t.id] = t
	heap.Push(&q.heap, t)
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
	again.due, again.resumed, again.owed = t.due.Add(t.every), false, 0
	if !again.due.After(now) {
		missed := now.Sub(again.due)/t.every + 1
		again.due = again.due.Add(missed * t.every)
	}
	q.add(t.unit, &again)
}

// late is how long ago the timer was due, if nothing could take it then.
func (t *timer) late(now time.Time) time.Duration {
	if late := now.Sub(t.due); t.resumed && late > tolerance {
		return late
	}
	return 0
}

func sortTimers(all []*timer) {
	slices.SortFunc(all, func(a, b *timer) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.id, b.id)) })
}

// timerRecord is a timer as it is kept.
type timerRecord struct {
	Name string          `json:"name"`
	Data json.RawMessage `json:"data,omitempty"`
	// At is when, by the keeper's timeline, and Due by the wall clock, in Unix
	// milliseconds. Left is how long that was away, in milliseconds: without a timeline it
	// counts again if one of the clocks is not plausible.
	At    int64 `json:"at,omitempty"`
	Due   int64 `json:"due"`
	Left  int64 `json:"left"`
	Every int64 `json:"every,omitempty"` // in milliseconds
	Hops  uint8 `json:"hops,omitempty"`
}

// record is the timer as it is kept.
func (t *timer) record(now time.Time, by calendar) ([]byte, error) {
	left := t.due.Sub(now)
	r := timerRecord{
		Name: t.name, Data: t.data, Due: now.Round(0).Add(left).UnixMilli(), Left: left.Milliseconds(),
		Every: t.every.Milliseconds(), Hops: t.hops,
	}
	if by.line != nil {
		r.At = by.line.Keep(t.due).UnixMilli()
	}
	b, err := json.Marshal(&r)
	if err != nil {
		return nil, fmt.Errorf("timer %q: its data is not JSON: %w", abridged(t.id), err)
	}
	if len(b)+len(t.id) > maxTimer {
		return nil, fmt.Errorf("timer %q: its name and data have %d bytes, more than %d", abridged(t.id), len(b), maxTimer)
	}
	return b, nil
}

// readTimer is the timer of a record, with the time that is left of it.
func readTimer(id string, value []byte, now time.Time, by calendar) (*timer, error) {
	var r timerRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	t := &timer{
		id: id, name: r.Name, data: r.Data, hops: r.Hops, resumed: true,
		every: time.Duration(r.Every) * time.Millisecond,
	}
	steady := by.line != nil && r.At != 0
	if by.trusts(now) && !steady {
		t.resume(r.Due, r.Left, now)
		return t, nil
	}
	t.due = now.Add(time.Duration(r.Left) * time.Millisecond)
	if steady {
		t.due = by.line.Kept(time.UnixMilli(r.At))
	}
	if !by.trusts(now) && plausible(time.UnixMilli(r.Due)) {
		t.owed = r.Due
	}
	return t, nil
}

// resume goes on with the time that is left until due, by a clock that is plausible; all
// of left if it was not when that was reckoned, and never more than that.
func (t *timer) resume(due, left int64, now time.Time) {
	if more := due - now.UnixMilli(); plausible(time.UnixMilli(due)) && (left <= 0 || more < left) {
		left = more
	}
	const most = int64(1<<63-1) / int64(time.Millisecond)
	t.due = now.Add(time.Duration(min(max(left, -most), most)) * time.Millisecond)
}

// resettle reckons anew, when the wall clock has become plausible, the timers that were
// recalled before.
func (q *timerQueue) resettle(now time.Time) {
	for _, t := range q.heap {
		if t.owed != 0 {
			t.resume(t.owed, t.due.Sub(now).Milliseconds(), now)
			t.owed = 0
		}
	}
	heap.Init(&q.heap)
}
