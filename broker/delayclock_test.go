package broker

import (
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
)

// A machine without a clock starts in 1970 and learns the time later: what an earlier
// run has left comes when it is due by then, whatever came meanwhile.
func TestDelayedMessagesWhenTheClockIsSet(t *testing.T) {
	start := time.Now() // with a monotonic reading, which the clock's setting does not change
	in1970 := func(d time.Duration) time.Time { return time.Unix(0, 0).Add(d) }
	q := &delays{wake: make(chan struct{}, 1)}
	l := &DelayLimits{Messages: 10, Bytes: 1 << 20}
	left := &delayed{due: start.Round(0).Add(time.Hour), msg: &message.Message{Topic: "left"}, loaded: true}
	fresh := &delayed{due: in1970(24 * time.Hour), msg: &message.Message{Topic: "fresh"}}
	if !q.add(left, l) || !q.add(fresh, l) {
		t.Fatal("they are not taken")
	}
	for range 2 {
		if d, wait := q.next(in1970(time.Second)); d != nil || wait <= 0 || wait > time.Minute {
			t.Fatalf("in 1970: got %v, asked again in %v", d, wait)
		}
	}
	fresh.due = start.Add(24 * time.Hour) // as the monotonic clock has it
	if d, _ := q.next(start.Add(time.Hour)); d != left {
		t.Errorf("when the clock is right: got %v", d)
	}
	if d, wait := q.next(start.Add(time.Hour)); d != nil || wait != 23*time.Hour {
		t.Errorf("then: got %v, asked again in %v", d, wait)
	}
	if n, size := q.held(); n != 1 || size != int64(fresh.msg.Size()) {
		t.Errorf("%d wait, of %d bytes", n, size)
	}
}
