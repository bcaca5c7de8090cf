package rules

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// Counters say what became of the runs of one rule since its file's version came
// into force.
type Counters struct {
	Heard        uint64 // messages that the rule's filters matched, and times that it was due
	Fired        uint64
	NotEvaluated uint64 // see ErrNotEvaluated
	Errors       uint64
	Published    uint64 // messages that the bus accepted
	Dropped      uint64 // Before: messages dropped
	Rejected     uint64 // Before: messages refused, by the rule or because it failed
	Replaced     uint64 // Before: messages changed or redirected
	Looped       uint64 // messages not published because of message.MaxHops
	Refused      uint64 // runs that did nothing although the condition held: Outcome.Refused
	Shadowed     uint64 // runs whose messages and requests were told, not made
	Suspended    uint64 // times that the rule was suspended, because its messages looped
}

// What a run came to; see [TraceEntry].
const (
	RanNotFired     = "not fired"
	RanFired        = "fired"
	RanDropped      = "dropped"
	RanRejected     = "rejected"
	RanReplaced     = "replaced"
	RanNotEvaluated = "not evaluated"
	RanFailed       = "error"
	RanRefused      = "refused" // see Outcome.Refused
	RanMissed       = "missed"  // it was due while the gateway was off, asleep or without a clock
	RanShadow       = "shadow"  // it would have fired: see Rule.Shadow
)

// TraceEntry is one run of a rule.
type TraceEntry struct {
	At      time.Time
	Topic   string        // of the message; empty for a timer, a start or a schedule
	Trigger string        // the schedule, "timer" or "reply"; empty for a message
	Outcome string        // one of the Ran constants
	Took    time.Duration // what the call itself took
	Why     string        // the error, if there was one, or why it was refused
	Facts   []Fact        // what it looked at and did, of some runs: at most ten a second
}

// traceLength is how many runs of a rule are remembered.
const traceLength = 20

// tally is what is told about one rule. Its methods may be called by any goroutine.
type tally struct {
	mu       sync.Mutex
	counters Counters
	lastErr  string
	lastAt   time.Time // of lastErr
	logged   time.Time // when an error was last in the log
	silent   uint64    // errors since then
	talked   time.Time // when the period of lines began
	lines    uint64    // in it
	ring     []TraceEntry
	next     int // in ring, once it is full

	explained atomic.Int64 // when facts were last asked for, in Unix milliseconds
	until     time.Time    // suspended; of whoever holds the lane
	loops     int          // messages that went through too many rules, since loopsFrom
	deep      int          // and those that it heard after half as many
	loopsFrom time.Time
}

// wantsFacts reports, once in so long, that a run is to be explained; if that is below
// 0, of each run.
func (t *tally) wantsFacts(now time.Time, every time.Duration) bool {
	ms := now.UnixMilli()
	last := t.explained.Load()
	return every < 0 || (ms >= last+every.Milliseconds() || ms < last) && t.explained.CompareAndSwap(last, ms)
}

// A rule is suspended for a minute when, within a second, so many of its messages went
// through too many rules, or it heard so many that went through half as many: rules that
// answer each other with more than one message flood the lane before any goes so far.
const (
	mostLoops  = 20
	mostDeep   = 1_000
	deep       = message.MaxHops / 2
	loopPeriod = time.Second
	suspension = time.Minute
)

// suspended reports whether the rule hears nothing now.
func (t *tally) suspended(now time.Time) bool {
	return !t.until.IsZero() && now.Before(t.until)
}

// round counts a message that goes round, of which so many are too many, and reports
// that the rule is suspended from now on.
func (t *tally) round(n *int, most int, now time.Time) bool {
	if now.Sub(t.loopsFrom) >= loopPeriod || now.Before(t.loopsFrom) {
		t.loops, t.deep, t.loopsFrom = 0, 0, now
	}
	*n++
	if *n < most || t.suspended(now) {
		return false
	}
	*n, t.until = 0, now.Add(suspension)
	t.count(func(c *Counters) { c.Suspended++ })
	return true
}

// ran notes one run.
func (t *tally) ran(entry TraceEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.counters
	c.Heard++
	switch entry.Outcome {
	case RanFired:
		c.Fired++
	case RanShadow:
		c.Fired, c.Shadowed = c.Fired+1, c.Shadowed+1
	case RanDropped:
		c.Fired, c.Dropped = c.Fired+1, c.Dropped+1
	case RanRejected:
		c.Fired, c.Rejected = c.Fired+1, c.Rejected+1
	case RanReplaced:
		c.Fired, c.Replaced = c.Fired+1, c.Replaced+1
	case RanNotEvaluated:
		c.NotEvaluated++
	case RanFailed:
		c.Errors++
	case RanRefused:
		c.Refused++
	}
	if entry.Why != "" && entry.Outcome != RanRefused {
		t.lastErr, t.lastAt = entry.Why, entry.At
	}
	if len(t.ring) < traceLength {
		t.ring = append(t.ring, entry)
		return
	}
	t.ring[t.next] = entry
	t.next = (t.next + 1) % traceLength
}

// failed notes an error that is not a run's: a message that the bus refused.
func (t *tally) failed(at time.Time, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counters.Errors++
	t.lastErr, t.lastAt = why, at
}

// count changes the counters.
func (t *tally) count(change func(*Counters)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.counters)
}

// mayLog reports whether an error is to be logged now, once a period, and how many
// were not since the last time.
func (t *tally) mayLog(now time.Time, period time.Duration) (silent uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.logged.IsZero() && now.Sub(t.logged) < period {
		t.silent++
		return 0, false
	}
	silent, t.silent, t.logged = t.silent, 0, now
	return silent, true
}

// mayTalk reports whether the rule may log a line now, and how many lines were left
// out in the period before.
func (t *tally) mayTalk(now time.Time, period time.Duration) (silent uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.talked.IsZero() || now.Sub(t.talked) >= period {
		if t.lines > linesAPeriod {
			silent = t.lines - linesAPeriod
		}
		t.talked, t.lines = now, 0
	}
	t.lines++
	return silent, t.lines <= linesAPeriod
}

// view copies what is told: the trace newest first.
func (t *tally) view() (Counters, string, time.Time, []TraceEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	trace := make([]TraceEntry, 0, len(t.ring))
	for i := range t.ring {
		trace = append(trace, t.ring[(t.next+len(t.ring)-1-i)%len(t.ring)])
	}
	return t.counters, t.lastErr, t.lastAt, trace
}
