package broker

import (
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

// A machine without a clock starts in 1970 and learns the time later: what an earlier
// run has left comes when it is due by then, whatever came meanwhile.
func TestDelayedMessagesWhenTheClockIsSet(t *testing.T) {
	start := time.Now()
	clock := store.Resume(start, start.Add(time.Hour), start.Add(time.Hour)) // it went back
	value, err := (&delayed{due: start.Add(3 * time.Hour), msg: &message.Message{Topic: "left", Expires: start.Add(4 * time.Hour)}}).encode(store.Clock{})
	if err != nil {
		t.Fatal(err)
	}
	left, err := decodeDelayed("0000000000000001", value, clock)
	if err != nil {
		t.Fatal(err)
	}
	fresh := &delayed{due: start.Add(24 * time.Hour), msg: &message.Message{Topic: "fresh"}}
	q := &delays{wake: make(chan struct{}, 1), clock: clock}
	if l := (&DelayLimits{Messages: 10, Bytes: 1 << 20}); !q.add(left, l) || !q.add(fresh, l) {
		t.Fatal("they are not taken")
	}
	for range 2 {
		if d, wait := q.next(start.Add(time.Second)); d != nil || wait <= 0 || wait > time.Minute {
			t.Fatalf("before it is set: got %v, asked again in %v", d, wait)
		}
	}
	q.settle(time.Hour) // it is set, and says that this was the time that it was off
	if d, wait := q.next(start.Add(59 * time.Minute)); d != nil || wait != time.Minute {
		t.Errorf("then: got %v, asked again in %v", d, wait)
	}
	if d, _ := q.next(start.Add(time.Hour)); d != left || !d.msg.Expires.Equal(start.Add(2*time.Hour)) {
		t.Errorf("when it is due: got %v", d)
	}
	if d, wait := q.next(start.Add(time.Hour)); d != nil || wait != 23*time.Hour {
		t.Errorf("then: got %v, asked again in %v", d, wait)
	}
	if n, size := q.held(); n != 1 || size != int64(fresh.msg.Size()) {
		t.Errorf("%d wait, of %d bytes", n, size)
	}
}
