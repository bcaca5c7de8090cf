package modbus

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// wary says that a stale answer may be under way until then, which could be taken for that
// of the request: it was not sent.
type wary struct{ until time.Time }

// Error implements error.
func (w wary) Error() string {
	return fmt.Sprintf("the line is wary for another %v", time.Until(w.until).Round(time.Millisecond))
}

// patiently does what may find the line wary, and again when it no longer is.
func patiently(ctx context.Context, do func() error) error {
	for {
		err := do()
		var w wary
		if !errors.As(err, &w) {
			return err
		}
		if err := pause(ctx, max(time.Millisecond, time.Until(w.until))); err != nil {
			return err
		}
	}
}

// acks are the answers to writes that may come late or once more on a line. What answers
// a write shows where it went, and perhaps what was written, but not which of two equal
// writes it answers; an exception shows its function only.
type acks map[ack]pending

// ack is what an answer to a write shows.
type ack struct {
	unit  uint8
	shown string
}

// pending is until when such an answer may come. Due is that the write got none yet.
type pending struct {
	until time.Time
	due   bool
}

// ackOf is the answer that grants a write.
func ackOf(r request) ack {
	switch {
	case r.whole():
		return ack{r.unit, string([]byte{byte(r.fn)})}
	case r.gives():
		return ack{r.unit, string([]byte{byte(r.fn), byte(r.fn.bytes(int(r.count)))})}
	}
	var pdu [maxPDU + 8]byte
	return ack{r.unit, string(r.appendPDU(pdu[:0])[:r.answerLen()])}
}

// refusalOf is the answer that refuses it.
func refusalOf(r request) ack { return ack{r.unit, string([]byte{byte(r.fn) | exceptionBit})} }

// until is when no stale answer can be taken for that of a write. On a line without
// trouble only an answer that is due counts.
func (a acks) until(r request, troubled bool) (t time.Time) {
	for _, k := range [2]ack{ackOf(r), refusalOf(r)} {
		if p := a[k]; (p.due || troubled) && p.until.After(t) {
			t = p.until
		}
	}
	return t
}

// note remembers a write that was sent: its answer came, or refused it, or is due.
func (a acks) note(r request, now, until time.Time, err error) {
	if len(a) >= pruneAbove {
		for k, p := range a {
			if now.After(p.until) {
				delete(a, k)
			}
		}
	}
	came := err == nil || isRefusal(err)
	if err == nil || !came {
		a[ackOf(r)] = pending{until, !came}
	}
	if err != nil {
		a[refusalOf(r)] = pending{until, !came}
	}
}

// doubtful reports whether a write is one whose answer may be mistaken, and until when a
// stale one may come.
func (b *bus) doubtful(j *job, c condition) (until time.Time, ok bool) {
	if !b.rtu || !j.req.fn.writes() || j.req.unit == broadcast {
		return time.Time{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.acks.until(j.req, c.troubled), true
}
