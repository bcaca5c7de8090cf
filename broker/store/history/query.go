package history

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse/gatehouse/broker/store"
)

// MaxPoints is the most that one query returns.
const MaxPoints = 10_000

// Query asks for a part of a series.
type Query struct {
	Series string    // a topic, or "TOPIC#FIELD"
	From   time.Time // the zero time is the beginning
	To     time.Time // before that; the zero time is the end
	Limit  int       // 1 to MaxPoints; 0 is MaxPoints
}

// Summary is what a series was during a step of time.
type Summary struct {
	At             time.Time // when the step began
	Count          int
	Min, Max, Mean float64
}

// Info is one series.
type Info struct {
	Name  string
	Since time.Time // of the oldest point
	Bytes int64     // of its complete chunks
}

// Series lists what there is, by name.
func (h *History) Series() []Info {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]Info, 0, len(h.series))
	for name, s := range h.series {
		info := Info{Name: name, Since: time.UnixMilli(s.open.first)}
		for _, r := range s.refs {
			info.Bytes += int64(r.size)
		}
		if len(s.refs) > 0 && (s.open.n == 0 || s.refs[0].first < s.open.first) {
			info.Since = time.UnixMilli(s.refs[0].first)
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Points returns the first points of what is asked for, oldest first. A series that is
// not there has none.
func (h *History) Points(ctx context.Context, q Query) ([]Point, error) {
	limit, err := q.limit()
	if err != nil {
		return nil, err
	}
	var points []Point
	err = h.each(ctx, &q, func(ms int64, value float64) bool {
		points = append(points, Point{At: time.UnixMilli(ms), Value: value})
		return len(points) < limit
	})
	slices.SortStableFunc(points, func(a, b Point) int { return a.At.Compare(b.At) }) // the clock may have been set back
	return points, err
}

// Summaries returns what a series was in steps of time, which begin at multiples of
// step since the Unix epoch, oldest first; steps without points are left out. Limit
// counts summaries.
func (h *History) Summaries(ctx context.Context, q Query, step time.Duration) ([]Summary, error) {
	limit, err := q.limit()
	if err != nil {
		return nil, err
	}
	if step < time.Second {
		return nil, fmt.Errorf("a step of %v is less than a second", step)
	}
	var all []Summary
	index := make(map[int64]int)
	err = h.each(ctx, &q, func(ms int64, value float64) bool {
		at := ms - ms%step.Milliseconds()
		i, ok := index[at]
		if !ok {
			if len(all) == limit {
				return false
			}
			i = len(all)
			index[at] = i
			all = append(all, Summary{At: time.UnixMilli(at), Min: math.Inf(1), Max: math.Inf(-1)})
		}
		s := &all[i]
		s.Count++
		s.Min, s.Max = min(s.Min, value), max(s.Max, value)
		s.Mean += (value - s.Mean) / float64(s.Count)
		return true
	})
	slices.SortFunc(all, func(a, b Summary) int { return a.At.Compare(b.At) })
	return all, err
}

func (q *Query) limit() (int, error) {
	if q.Limit < 0 || q.Limit > MaxPoints {
		return 0, fmt.Errorf("a limit of %d is not 1 to %d", q.Limit, MaxPoints)
	}
	return cmp.Or(q.Limit, MaxPoints), nil
}

func (q *Query) bounds() (from, to int64) {
	from, to = 0, math.MaxInt64
	if !q.From.IsZero() {
		from = max(0, q.From.UnixMilli())
	}
	if !q.To.IsZero() {
		to = q.To.UnixMilli()
	}
	return from, to
}

// pageChunks is how many chunks are read from the store at once.
const pageChunks = 64

// each calls f with the points that are asked for, chunk by chunk, until it has
// enough. A chunk that cannot be read is counted and passed over.
func (h *History) each(ctx context.Context, q *Query, f func(ms int64, value float64) bool) error {
	from, to := q.bounds()
	after, inMemory := h.find(q.Series, from)
	enough := false
	show := func(data []byte) {
		err := readChunk(data, func(ms int64, value float64) {
			if ms >= from && ms < to && !enough {
				enough = !f(ms, value)
			}
		})
		if err != nil {
			h.damaged(q.Series, err)
		}
	}
	for r := (store.Range{Bucket: bucket, After: after, Limit: pageChunks}); !enough; {
		records, err := h.opt.Store.Records(ctx, r)
		if err != nil {
			return fmt.Errorf("cannot read the history of %q: %w", q.Series, err)
		}
		beyond := len(records) < pageChunks
		for i := range records {
			name, first, ok := splitKey(records[i].Key)
			if beyond = beyond || ok && (name != q.Series || first >= to); !ok || name != q.Series || first >= to {
				continue // of a later version, or what comes after
			}
			if _, newer := inMemory[first]; !newer && !enough {
				show(records[i].Value)
			}
		}
		if beyond {
			break
		}
		r.After = records[len(records)-1].Key
	}
	for _, first := range slices.Sorted(maps.Keys(inMemory)) {
		if first < to && !enough {
			show(inMemory[first])
		}
	}
	return nil
}

// find returns the key after which the chunks are that may hold points from a time
// on, and the chunks in memory, which the store has not or only in part.
func (h *History) find(name string, from int64) (after string, inMemory map[int64][]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	inMemory = make(map[int64][]byte)
	after = name + "\x00"
	s := h.series[name]
	if s == nil {
		return after, inMemory
	}
	if i, found := s.find(from); found || i > 0 {
		if !found {
			i-- // the last that begins before
		}
		if i > 0 {
			after = key(name, s.refs[i-1].first)
		}
	}
	for _, w := range h.pending {
		if w.series == name {
			inMemory[w.first] = w.data
		}
	}
	if s.open.n > 0 {
		inMemory[s.open.first] = s.open.append(nil)
	}
	return after, inMemory
}

func (h *History) damaged(series string, err error) {
	h.mu.Lock()
	h.stats.Damaged++
	n := h.stats.Damaged
	h.mu.Unlock()
	if n%100 == 1 {
		h.opt.Log.Warn("history cannot be read", "series", series, "chunks", n, "err", err)
	}
}
