package modbus

import (
	"slices"
	"time"
)

// span is a run of bits or registers of one table, the table being named by the
// function that reads it.
type span struct {
	fn    Function
	addr  uint16
	count uint16
}

// end is the address behind the span.
func (s span) end() int { return int(s.addr) + int(s.count) }

// covers reports whether s contains all of o.
func (s span) covers(o span) bool {
	return s.fn == o.fn && s.addr <= o.addr && s.end() >= o.end()
}

// hull is the smallest span that covers both, which are of one table.
func (s span) hull(o span) span {
	addr := min(s.addr, o.addr)
	return span{fn: s.fn, addr: addr, count: uint16(max(s.end(), o.end()) - int(addr))}
}

// block is what one request reads, for the points with those indexes.
type block struct {
	span
	points []int
}

// cost is what reading takes on a line.
type cost struct {
	request time.Duration // a further request
	item    time.Duration // a further register
}

// gap is how many bytes it is worth to read for nothing to save a request.
func (c cost) gap() int {
	if c.item <= 0 {
		return 2 * maxReadRegisters
	}
	return int(min(c.request*2/c.item, 2*maxReadRegisters))
}

// plan covers the spans of the points that are due, given by index, with blocks:
// each span lies whole in one block, no block is over the limit of its function, or
// covers what was refused or must not be read (a single span excepted), and spans that
// are close together share a block. The order is by function and address.
func plan(spans []span, due []int, c cost, l *limits, memory *refusals) []block {
	order := slices.Clone(due)
	slices.SortFunc(order, func(a, b int) int { return compareSpans(spans[a], spans[b]) })
	maxGap := c.gap()
	blocks := make([]block, 0, 8)
	for _, i := range order {
		s := spans[i]
		if n := len(blocks); n > 0 {
			last := &blocks[n-1]
			if merged, ok := l.merge(last.span, s, maxGap); ok && (merged == last.span || !memory.bars(merged)) {
				last.span = merged
				last.points = append(last.points, i)
				continue
			}
		}
		blocks = append(blocks, block{span: s, points: []int{i}})
	}
	return blocks
}

func compareSpans(a, b span) int {
	switch {
	case a.fn != b.fn:
		return int(a.fn) - int(b.fn)
	case a.addr != b.addr:
		return int(a.addr) - int(b.addr)
	default:
		return int(a.count) - int(b.count)
	}
}

// merge joins a span to one that begins before it, if the limits and the gap allow.
func (l *limits) merge(s, next span, maxGap int) (span, bool) {
	if s.fn != next.fn {
		return s, false
	}
	whole := max(s.end(), next.end()) - int(s.addr)
	between := int(next.addr) - s.end()
	if whole > l.of(s.fn) || between > 0 && (s.fn.bytes(between) > maxGap || l.hasGap && between > l.gap) {
		return s, false
	}
	hull := s.hull(next)
	return hull, between <= 0 || !l.touches(hull)
}

// halve splits a block with several points in two.
func (b block) halve(spans []span) (first, second block) {
	mid := len(b.points) / 2
	return blockOf(spans, b.points[:mid]), blockOf(spans, b.points[mid:])
}

func blockOf(spans []span, points []int) block {
	b := block{span: spans[points[0]], points: points}
	for _, i := range points[1:] {
		b.span = b.hull(spans[i])
	}
	return b
}

// ambiguous reports whether a request to read bits may look like its answer: both
// have 8 bytes on an RTU line.
func (s span) ambiguous() bool { return s.fn.bits() && s.fn.bytes(int(s.count)) == 3 }

// padded lists the spans that read s and a little more, in the order of their
// length in bytes: first s itself, then with more at its end, then with more before
// it; what is ambiguous comes last. It stops when yield returns false.
func (s span) padded(yield func(span) bool) {
	if !s.ambiguous() && !yield(s) {
		return
	}
	step := 1
	if s.fn.bits() {
		step = 8
	}
	for n := (s.fn.bytes(int(s.count))/s.fn.bytes(step))*step + 1; n <= s.fn.limit(); n += step {
		longer := span{fn: s.fn, addr: s.addr, count: uint16(n)}
		if longer.ambiguous() {
			continue
		}
		if longer.end() <= 1<<16 && !yield(longer) {
			return
		}
		if from := s.end() - n; from >= 0 && !yield(span{fn: s.fn, addr: uint16(from), count: uint16(n)}) {
			return
		}
	}
	if s.ambiguous() {
		yield(s)
	}
}

const (
	// refusalTime is how long a refusal is remembered; then the device is asked
	// again, as it may have been restarted meanwhile.
	refusalTime = 10 * time.Minute
	// settleTime is how long a refusal counts at least: a span that is given again
	// is forgiven only then, so that one that comes and goes costs few requests.
	settleTime = 30 * time.Second
	// muteTime is how long a point is left out that a device does not answer for
	// while it answers for the rest.
	muteTime = time.Minute
	// maxRefusals is how many are remembered; then the oldest goes.
	maxRefusals = 1024
)

// refusals are spans that the device did not give: a span that covers one is not
// worth a request. Only the smallest are kept.
type refusals struct {
	list    []refusal
	version uint64 // counts the changes
	now     func() time.Time
}

type refusal struct {
	span
	since, until time.Time
}

// add remembers a refused span.
func (r *refusals) add(s span, d time.Duration) {
	now := r.now()
	r.version++
	r.list = slices.DeleteFunc(r.list, func(old refusal) bool {
		return old.covers(s) || !now.Before(old.until)
	})
	if len(r.list) >= maxRefusals {
		r.list = slices.Delete(r.list, 0, 1)
	}
	r.list = append(r.list, refusal{span: s, since: now, until: now.Add(d)})
}

// forgive forgets that a span was refused: the device gives it again, as after it
// was started.
func (r *refusals) forgive(s span) {
	if len(r.list) == 0 {
		return
	}
	now, before := r.now(), len(r.list)
	r.list = slices.DeleteFunc(r.list, func(old refusal) bool {
		return old.span == s && now.Sub(old.since) >= settleTime
	})
	if len(r.list) < before {
		r.version++
	}
}

// drop forgets the refused spans that a span is of.
func (r *refusals) drop(s span) {
	r.version++
	r.list = slices.DeleteFunc(r.list, func(old refusal) bool { return old.covers(s) })
}

// expire forgets what was refused long ago.
func (r *refusals) expire() {
	if len(r.list) == 0 {
		return
	}
	now, before := r.now(), len(r.list)
	r.list = slices.DeleteFunc(r.list, func(old refusal) bool { return !now.Before(old.until) })
	if len(r.list) < before {
		r.version++
	}
}

// clear forgets everything.
func (r *refusals) clear() {
	r.list = nil
	r.version++
}

// bars reports whether a span is known to be refused.
func (r *refusals) bars(s span) bool {
	if len(r.list) == 0 {
		return false
	}
	now := r.now()
	return slices.ContainsFunc(r.list, func(old refusal) bool {
		return s.covers(old.span) && now.Before(old.until)
	})
}

// holds reports whether exactly this span is remembered as refused.
func (r *refusals) holds(s span) bool {
	now := r.now()
	return slices.ContainsFunc(r.list, func(old refusal) bool { return old.span == s && now.Before(old.until) })
}
