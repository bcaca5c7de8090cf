package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/store"
)

func put(key, value string) store.Change {
	return store.Change{Op: store.Put, Bucket: "b", Key: key, Value: []byte(value)}
}

func del(key string) store.Change { return store.Change{Op: store.Delete, Bucket: "b", Key: key} }

// recordsOf are the keys and values of the bucket that the tests use.
func recordsOf(t *testing.T, s store.Store) string {
	t.Helper()
	all, err := s.Records(t.Context(), store.Range{Bucket: "b", Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, r := range all {
		words = append(words, r.Key+"="+string(r.Value))
	}
	return strings.Join(words, " ")
}

// Nobody hears of what is committed before the store has the records.
func TestCommitIsHeardWhenItIsSafe(t *testing.T) {
	s, slow := startSlow(t)
	live := brokertest.Dial(t, s, v5("live", 0))
	subscribe(t, live, "#", 2)
	slow.hold()
	done := make(chan error, 1)
	go func() {
		done <- s.Commit(t.Context(), []store.Change{put("k", "1")}, numbered("x", 0, 0), numbered("x", 1, 1), numbered("x", 2, 2))
	}()
	eventually(t, "it is applied", func() bool { return len(slow.ops()) > 0 })
	publish(t, s, message.Message{Topic: "first"}) // one without records does not wait for them
	if p := readPublish(t, live); p.Topic != "first" {
		t.Errorf("heard %q before the store had the records", p.Topic)
	}
	slow.release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"000000", "000001", "000002"} {
		if p := readPublish(t, live); string(p.Payload) != want {
			t.Errorf("heard %s, want %s", p.Payload, want)
		}
	}
	if got := recordsOf(t, slow); got != "k=1" {
		t.Errorf("the store has %q", got)
	}
}

// A message that is refused takes nothing with it.
func TestCommitGoesOnPastWhatIsRefused(t *testing.T) {
	o := options()
	o.Interceptor = &rules{}
	s := brokertest.Start(t, o)
	live := brokertest.Dial(t, s, v5("live", 0))
	subscribe(t, live, "#", 0)
	err := s.Commit(t.Context(), []store.Change{put("k", "1")}, message.Message{Topic: "a/+"}, message.Message{Topic: "reject"}, message.Message{Topic: "drop"}, message.Message{Topic: "last"})
	if got := err.Error(); strings.Count(got, "cannot publish") != 2 || !strings.Contains(got, `"a/+"`) || !strings.Contains(got, `"reject"`) {
		t.Errorf("Commit returned %v", err)
	}
	if p := readPublish(t, live); p.Topic != "last" {
		t.Errorf("heard %q", p.Topic)
	}
	if got := recordsOf(t, o.Store); got != "k=1" {
		t.Errorf("the store has %q", got)
	}
}

// A full store keeps nothing of it, but forgets.
func TestCommitToAFullStore(t *testing.T) {
	s, full, _ := startFull(t, func(*broker.Limits) {})
	live := brokertest.Dial(t, s, v5("live", 0))
	subscribe(t, live, "#", 0)
	if err := s.Commit(t.Context(), []store.Change{put("k", "1")}); err != nil {
		t.Fatal(err)
	}
	full.full.Store(true)
	err := s.Commit(t.Context(), []store.Change{put("new", "2"), del("k")}, message.Message{Topic: "lost"})
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("Commit returned %v", err)
	}
	eventually(t, "what was deleted is gone", func() bool { return recordsOf(t, full) == "" })
	if err := s.Commit(t.Context(), []store.Change{del("k")}, message.Message{Topic: "heard"}); err != nil {
		t.Errorf("Commit of a deletion returned %v", err)
	}
	if p := readPublish(t, live); p.Topic != "heard" {
		t.Errorf("heard %q", p.Topic)
	}
}

// Keep does not wait, and what it keeps comes after what was kept before.
func TestKeepDoesNotWait(t *testing.T) {
	s, slow := startSlow(t)
	slow.hold()
	first, err := s.Keep(t.Context(), []store.Change{put("k", "1")})
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Keep(t.Context(), []store.Change{put("k", "2")})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.Done():
		t.Error("it is safe already")
	default:
	}
	slow.release()
	if err := errors.Join(first.Wait(t.Context()), second.Wait(t.Context())); err != nil {
		t.Error(err)
	}
	if got := recordsOf(t, slow); got != "k=2" {
		t.Errorf("the store has %q", got)
	}
}

// What a handler of a durable subscription commits acknowledges its batch in the same
// change: after a crash that comes in between neither is there, or both are.
func TestCommitAcknowledgesTheBatch(t *testing.T) {
	s, slow := startSlow(t)
	var counted []int
	ready, handled := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.Subscribe(ctx, message.Subscription{Name: "l", Filters: []string{"in"}, QoS: 1, Durable: true, Ready: func() { close(ready) }},
			func(ctx context.Context, batch []message.Message) error {
				before := len(slow.changes())
				err := s.Commit(ctx, []store.Change{put("n", fmt.Sprint(len(batch)))})
				for _, c := range slow.changes()[before:] {
					if c.Op == store.Dequeue {
						counted = append(counted, len(batch))
					}
				}
				close(handled)
				return err
			})
	}()
	<-ready
	publish(t, s, numbered("in", 0, 1))
	<-handled
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(counted) != 1 {
		t.Errorf("acknowledged with the commit: %v", counted)
	}
	n := 0
	for _, c := range slow.changes() {
		if c.Op == store.Dequeue {
			n++
		}
	}
	if n != 1 {
		t.Errorf("acknowledged %d times", n)
	}
}
