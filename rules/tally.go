package rules

import (
	"sync"
	"time"
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
	RanMissed       = "missed" // a schedule was due while the machine slept, or its clock was set
)

// TraceEntry is one run of a rule.
type TraceEntry struct {
	At      time.Time
	Topic   string        // of the message; empty for a timer, a start or a schedule
	Trigger string        // Call.Schedule
	Outcome string        // one of the Ran constants
	Took    time.Duration // what the call itself took
	Why     string        // the error, if there was one, or why it was refused
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
