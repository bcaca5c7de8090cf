package history

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/topic"
)

// What may wait in memory to be written.
const (
	flushBytes = 64 << 10 // then it is written at once
	maxPending = 1 << 20  // while the store fails; the oldest go first
)

// stopTime is how long the last points may take to be written.
const stopTime = 5 * time.Second

// History hears numbers and keeps them. Its methods may be called by any goroutine.
type History struct {
	opt  Options
	full chan struct{} // there is much to write

	mu      sync.Mutex
	series  map[string]*series
	bytes   int64   // of all chunks, written or not
	pending []whole // complete chunks that are not written, by number
	waiting int     // their bytes
	sealed  uint64  // the last number given to one
	stats   Stats
	clock   trust
}

// whole is a complete chunk.
type whole struct {
	number uint64
	series string
	first  int64
	data   []byte
}

// Stats counts since the start.
type Stats struct {
	Series  int   // there are now
	Bytes   int64 // of all chunks now
	Points  int64 // kept
	Unkept  int64 // numbers beyond the limit of series, or while the clock was not plausible
	Damaged int64 // chunks that could not be read
	Lost    int64 // chunks that the store did not take
}

// New checks the options. It starts nothing.
func New(o Options) (*History, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	return &History{opt: o, full: make(chan struct{}, 1), series: make(map[string]*series)}, nil
}

// Run finds what is in the store, then hears bus until ctx ends, and writes what
// waits. An error is that of the store's start or of the bus.
func (h *History) Run(ctx context.Context, bus message.Bus) error {
	if err := errors.Join(h.load(ctx), h.clock.recall(ctx, h.opt.Store)); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("cannot read the history: %w", err)
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait.Go(func() { h.flushes(ctx) })
	if len(h.opt.Topics) == 0 {
		<-ctx.Done()
		return nil
	}
	return bus.Subscribe(ctx, message.Subscription{Name: "history", Filters: h.opt.Topics}, func(_ context.Context, batch []message.Message) error {
		h.hear(batch)
		return nil
	})
}

// Stats returns the counters.
func (h *History) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Series, s.Bytes = len(h.series), h.bytes
	return s
}

// load learns which chunks there are, not what is in them.
func (h *History) load(ctx context.Context) error {
	for r := (store.Range{Bucket: bucket, Limit: 1000, NoValues: true}); ; {
		records, err := h.opt.Store.Records(ctx, r)
		if err != nil || len(records) == 0 {
			return err
		}
		h.mu.Lock()
		for i := range records {
			name, first, ok := splitKey(records[i].Key)
			if !ok {
				continue // of a later version
			}
			s := h.series[name]
			if s == nil {
				s = &series{}
				h.series[name] = s
			}
			s.refs = append(s.refs, ref{first: first, size: int32(records[i].Size)})
			h.bytes += int64(records[i].Size)
		}
		h.mu.Unlock()
		r.After = records[len(records)-1].Key
	}
}

// Keep adds a number of a series, which is a topic or TOPIC#FIELD, that someone knows
// without hearing it. One that is over an hour ahead of the clock is not kept; one whose topic is heard is passed over, or it would be there
// twice. It may be called by any goroutine, at any time.
func (h *History) Keep(name string, at time.Time, value float64) {
	heard, _, _ := strings.Cut(name, "#")
	for _, f := range h.opt.Topics {
		if topic.Match(f, heard) {
			return
		}
	}
	now, plausible := h.opt.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !plausible || at.UnixMilli() < 0 || at.After(now.Add(time.Hour)) || !h.add(name, at.UnixMilli(), value) {
		h.stats.Unkept++
	}
	h.hurry()
}

func (h *History) hear(batch []message.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, plausible := h.opt.Now()
	if plausible {
		h.clock.believes(now, time.Now()) // before it may leap
	}
	for i := range batch {
		m := &batch[i]
		numbers(m.Payload, func(field string, value float64) {
			name := m.Topic
			if field != "" {
				name += "#" + field
			}
			if !plausible || m.At.UnixMilli() < 0 || !h.add(name, m.At.UnixMilli(), value) {
				h.stats.Unkept++
			}
		})
	}
	h.hurry()
}

// hurry has what waits written at once if it is much. h.mu is held.
func (h *History) hurry() {
	if h.waiting >= flushBytes {
		select {
		case h.full <- struct{}{}:
		default:
		}
	}
}

// add takes in a point; it is false when there are too many series.
func (h *History) add(name string, ms int64, value float64) bool {
	s := h.series[name]
	if s == nil {
		if len(h.series) >= h.opt.Series {
			return false
		}
		s = &series{}
		h.series[name] = s
	}
	if !s.takes(ms) {
		h.seal(name, s)
	}
	if s.open.n == 0 {
		ms = s.free(ms)
	}
	s.open.add(ms, value)
	s.dirty = true
	h.stats.Points++
	return true
}

func (h *History) seal(name string, s *series) {
	saved := int64(s.saved)
	first, data := s.seal()
	h.bytes += int64(len(data)) - saved
	h.sealed++
	h.pending = append(h.pending, whole{number: h.sealed, series: name, first: first, data: data})
	h.waiting += len(data)
	for h.waiting > maxPending {
		h.waiting -= len(h.pending[0].data)
		h.forget(h.pending[0].series, h.pending[0].first)
		h.pending = h.pending[1:]
		h.stats.Lost++
	}
}

// forget takes a chunk out of the index.
func (h *History) forget(name string, first int64) {
	s := h.series[name]
	if s == nil {
		return
	}
	if i, ok := s.find(first); ok {
		h.bytes -= int64(s.refs[i].size)
		s.refs = append(s.refs[:i], s.refs[i+1:]...)
	}
}

// flushes writes now and then, and once more at the end.
func (h *History) flushes(ctx context.Context) {
	tick := time.NewTicker(FlushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
			defer cancel()
			h.flush(last)
			return
		case <-tick.C:
		case <-h.full:
		}
		h.flush(ctx)
	}
}

// flush writes what waits, and removes what is too old or too much: first, and by
// itself, since a full store takes that. What could not be written waits for the next
// time.
func (h *History) flush(ctx context.Context) {
	h.mu.Lock()
	changes, removals, opened := h.changes()
	upTo := h.sealed
	h.mu.Unlock()
	if len(removals) > 0 {
		_ = h.opt.Store.Apply(removals) // what is left is found at the next start
	}
	if len(changes) == 0 {
		return
	}
	if err := h.opt.Store.Apply(changes).Wait(ctx); err != nil {
		if !errors.Is(err, context.Canceled) {
			h.opt.Log.Warn("history cannot be written", "changes", len(changes), "again", FlushEvery, "err", err)
		}
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.pending) > 0 && h.pending[0].number <= upTo {
		h.waiting -= len(h.pending[0].data)
		h.pending = h.pending[1:]
	}
	for _, o := range opened {
		if s := h.series[o.series]; s != nil && s.open.n > 0 && s.open.first == o.first {
			h.bytes += int64(len(o.data)) - int64(s.saved)
			s.saved, s.dirty = int32(len(o.data)), s.open.n > o.n
		}
	}
}

// opened is a chunk that is written before it is complete.
type opened struct {
	series string
	first  int64
	n      int
	data   []byte
}

// changes are what is to be written and what is to be removed.
func (h *History) changes() (changes, removals []store.Change, written []opened) {
	more := int64(0) // than is counted
	for name, s := range h.series {
		if s.open.n > 0 && s.dirty {
			o := opened{series: name, first: s.open.first, n: s.open.n, data: s.open.append(nil)}
			written = append(written, o)
			more += int64(len(o.data)) - int64(s.saved)
		}
	}
	remove := func(series string, first int64) {
		removals = append(removals, store.Change{Op: store.Delete, Bucket: bucket, Key: key(series, first)})
		h.pending = slices.DeleteFunc(h.pending, func(w whole) bool {
			gone := w.series == series && w.first == first
			if gone {
				h.waiting -= len(w.data)
			}
			return gone
		})
	}
	if now, plausible := h.opt.Now(); plausible && h.clock.believes(now, time.Now()) {
		h.expire(now.Add(-h.opt.Age).UnixMilli(), remove)
		h.unsay(now.Add(leap).UnixMilli(), remove)
	}
	h.shrink(h.opt.Bytes-more, remove)
	put := func(series string, first int64, data []byte) {
		changes = append(changes, store.Change{Op: store.Put, Bucket: bucket, Key: key(series, first), Value: data})
	}
	for _, w := range h.pending {
		put(w.series, w.first, w.data)
	}
	for _, o := range written {
		if s := h.series[o.series]; s != nil && s.open.n > 0 && s.open.first == o.first { // it has not expired
			put(o.series, o.first, o.data)
		}
	}
	if len(changes) > 0 && !h.clock.wall.IsZero() {
		changes = append(changes, h.clock.record())
	}
	return changes, removals, written
}

// expire forgets the chunks all of whose points are from before a time, as far as the
// next chunk tells, and the series that have none left.
func (h *History) expire(before int64, remove func(string, int64)) {
	for name, s := range h.series {
		for len(s.refs) > 0 {
			next := s.open.first
			if len(s.refs) > 1 {
				next = s.refs[1].first
			} else if s.open.n == 0 {
				next = s.refs[0].first + chunkSpan.Milliseconds()
			}
			if next >= before {
				break
			}
			remove(name, s.refs[0].first)
			h.forget(name, s.refs[0].first)
		}
		if len(s.refs) == 0 && s.open.n > 0 && s.open.last < before {
			remove(name, s.open.first)
			h.bytes -= int64(s.saved)
			s.open = chunk{}
		}
		if len(s.refs) == 0 && s.open.n == 0 {
			delete(h.series, name)
		}
	}
}

// unsay forgets the chunks from after a time: of a clock that was wrong.
func (h *History) unsay(after int64, remove func(string, int64)) {
	for name, s := range h.series {
		for n := len(s.refs); n > 0 && s.refs[n-1].first > after; n = len(s.refs) {
			remove(name, s.refs[n-1].first)
			h.forget(name, s.refs[n-1].first)
		}
		if s.open.n > 0 && s.open.first > after {
			remove(name, s.open.first)
			h.bytes -= int64(s.saved)
			s.open, s.saved, s.dirty = chunk{}, 0, false
		}
		if len(s.refs) == 0 && s.open.n == 0 {
			delete(h.series, name)
		}
	}
}

// shrink forgets the oldest complete chunks of all until the rest is within a limit.
func (h *History) shrink(limit int64, remove func(string, int64)) {
	for h.bytes > limit {
		oldest, at := "", int64(math.MaxInt64)
		for name, s := range h.series {
			if len(s.refs) > 0 && s.refs[0].first < at {
				oldest, at = name, s.refs[0].first
			}
		}
		if oldest == "" {
			return
		}
		remove(oldest, at)
		h.forget(oldest, at)
	}
}
