package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// brokenStore fails to fetch as often as it is told.
type brokenStore struct {
	store.Store
	fails atomic.Int64
}

func (s *brokenStore) Fetch(ctx context.Context, session string, from uint64, limit int) ([]store.Queued, error) {
	if s.fails.Add(-1) >= 0 {
		return nil, errors.New("the disk is sulking")
	}
	return s.Store.Fetch(ctx, session, from, limit)
}

// absentee makes a session with messages waiting for it, all in the store.
func absentee(t *testing.T, s *brokertest.Server, id string, n int) {
	t.Helper()
	c := brokertest.Dial(t, s, v5(id, 1000))
	subscribe(t, c, id, 1)
	_ = c.Close() // without a word
	eventually(t, "it has left", func() bool {
		for _, info := range s.Clients() {
			if info.ClientID == id && info.Connected {
				return false
			}
		}
		return true
	})
	for i := range n {
		publish(t, s, numbered(id, i, 1))
	}
}

// A store that fails to fetch is asked again, though nothing is heard of the client.
func TestFetchIsTriedAgain(t *testing.T) {
	o := options()
	broken := &brokenStore{Store: mem.New()}
	o.Store = broken
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("a", 1000))
		subscribeAll(t, c, 1)
		_ = c.Close()
		c.received()
		for i := range 3 {
			if err := server.Publish(t.Context(), numbered("x", i, 1)); err != nil {
				t.Fatal(err)
			}
		}
		broken.fails.Store(9)
		back := dial(v5("a", 1000))
		if got := publishes(back); len(got) != 0 {
			t.Fatalf("got %v of a store that fails", got)
		}
		pass(time.Minute)
		if got := publishes(back); len(got) != 3 {
			t.Errorf("got %d messages when the store is well again, want 3", len(got))
		}
	})
}

// A disk that takes its time holds up nobody else: many clients wait for it, and
// others, of the same loops, are served.
func TestFetchHoldsUpNobodyElse(t *testing.T) {
	const waiting = 10
	o := options()
	slow := &slowFetches{Store: mem.New(), let: make(chan struct{})}
	o.Store = slow
	s := brokertest.Start(t, o)
	for i := range waiting {
		absentee(t, s, fmt.Sprint("w", i), 3)
	}
	var back []*brokertest.Client
	for i := range waiting {
		back = append(back, brokertest.Dial(t, s, v5(fmt.Sprint("w", i), 1000)))
	}
	for _, c := range back {
		send(t, c, &packet.Pingreq{})
		if p, ok := read(t, c).(*packet.Pingresp); !ok {
			t.Errorf("got %+v, want PINGRESP", p)
		}
	}
	other := brokertest.Dial(t, s, v5("other", 0))
	subscribe(t, other, "x", 1)
	publish(t, s, numbered("x", 1, 1))
	readPublish(t, other)
	close(slow.let)
	for _, c := range back {
		for n := range 3 {
			if got := readPublish(t, c); string(got.Payload) != fmt.Sprintf("%06d", n) {
				t.Errorf("got %s, want message %d", got.Payload, n)
			}
		}
	}
	if most := slow.most.Load(); most > 4 || most < 1 {
		t.Errorf("%d fetches at once", most)
	}
}

// slowFetches does not fetch until it is let.
type slowFetches struct {
	store.Store
	let       chan struct{}
	now, most atomic.Int64
}

func (s *slowFetches) Fetch(ctx context.Context, session string, from uint64, limit int) ([]store.Queued, error) {
	now := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	select {
	case <-s.let:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Store.Fetch(ctx, session, from, limit)
}

// A server stops though its disk does not answer.
func TestStopDoesNotWaitForAFetch(t *testing.T) {
	o := options()
	slow := &slowFetches{Store: mem.New(), let: make(chan struct{})}
	o.Store = slow
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	s := brokertest.Start(t, o)
	absentee(t, s, "a", 1)
	brokertest.Dial(t, s, v5("a", 1000))
	eventually(t, "it is fetched", func() bool { return slow.now.Load() == 1 })
	s.Stop()
	if told := log.String(); told != "" {
		t.Errorf("the log says %s", told)
	}
}

// After a restart a queue that is longer than what is fetched at once is sorted as a
// whole, and none is forgotten because one of a higher class is in flight.
func TestPrioritiesOfALongQueueOutliveTheBroker(t *testing.T) {
	const n = 3000
	o := options()
	o.Topics.Priorities = []broker.Priority{{Filter: "+/urgent", Class: 2}}
	s := brokertest.Start(t, o)
	c := brokertest.Dial(t, s, v5("a", 1000))
	subscribe(t, c, "#", 1)
	_ = c.Close() // without a word
	eventually(t, "it has left", func() bool { return s.Stats().Clients == 0 })
	for i := range n {
		topic := "x/plain"
		if i%100 == 99 {
			topic = "x/urgent"
		}
		publish(t, s, numbered(topic, i, 1))
	}
	hello := v5("a", 1000)
	hello.Properties.ReceiveMaximum = 1
	c = brokertest.Dial(t, s, hello)
	if p, ok := read(t, c).(*packet.Publish); !ok || p.Topic != "x/urgent" {
		t.Fatalf("got %+v first", p)
	}
	s.Stop()
	s = brokertest.Start(t, o)
	c = brokertest.Dial(t, s, v5("a", 1000))
	last := map[string]string{}
	for i := range n {
		p := readPublish(t, c)
		if urgent := p.Topic == "x/urgent"; urgent != (i < n/100) || string(p.Payload) <= last[p.Topic] {
			t.Fatalf("message %d is %s to %s, after %s", i, p.Payload, p.Topic, last[p.Topic])
		}
		last[p.Topic] = string(p.Payload)
	}
}

// What a SUBSCRIBE asked for is not dropped because too much comes meanwhile; the
// oldest of that is.
func TestAskedMessagesAreNotDropped(t *testing.T) {
	const retained, live = 50, 100
	for _, expiry := range []uint32{0, 1000} {
		t.Run(fmt.Sprint("expiry ", expiry), func(t *testing.T) {
			o := options()
			o.Limits.QueueMessages = 10
			s := brokertest.Start(t, o)
			for i := range retained {
				m := numbered(fmt.Sprint("x/", i), i, 1)
				m.Retain = true
				publish(t, s, m)
			}
			hello := v5("a", expiry)
			hello.Properties.ReceiveMaximum = 1
			c := brokertest.Dial(t, s, hello)
			subscribe(t, c, "x/#", 1)
			for i := range live {
				publish(t, s, numbered("x/live", i, 1))
			}
			for i := range retained + o.Limits.QueueMessages {
				p := readPublish(t, c)
				if p.Retain != (i < retained) {
					t.Fatalf("message %d is %s to %s, RETAIN %v", i, p.Payload, p.Topic, p.Retain)
				}
				if want := fmt.Sprintf("%06d", live-10+i-retained); i >= retained && string(p.Payload) != want {
					t.Errorf("got %s, want %s", p.Payload, want)
				}
			}
			if st := s.Stats(); st.Dropped["queue"] != live-10 || st.Queued != 0 {
				t.Errorf("%d dropped, %d queued", st.Dropped["queue"], st.Queued)
			}
		})
	}
}

// What is in memory of queues that the store has is bounded for each and for all, and
// all comes though there is no room for more than a message of each.
func TestWindowsAreBounded(t *testing.T) {
	const sessions, each = 20, 200
	o := options()
	o.Limits.Window, o.Limits.AllWindows = 4<<10, 16<<10
	s := brokertest.Start(t, o)
	for i := range sessions {
		absentee(t, s, fmt.Sprint("w", i), 0)
		for n := range each {
			publish(t, s, message.Message{Topic: fmt.Sprint("w", i), Payload: append(make([]byte, 500), byte(n)), QoS: 1})
		}
	}
	if st := s.Stats(); st.QueuedInMemory != 0 || st.Queued != sessions*each {
		t.Errorf("%d bytes are in memory and %d messages queued, and nobody is there", st.QueuedInMemory, st.Queued)
	}
	var wg sync.WaitGroup
	clients := make([]*brokertest.Client, sessions)
	for i := range clients {
		hello := v5(fmt.Sprint("w", i), 1000)
		hello.Properties.ReceiveMaximum = 2
		clients[i] = brokertest.Dial(t, s, hello)
	}
	for _, c := range clients {
		wg.Go(func() {
			for n := range each {
				p, err := c.Read()
				pub, ok := p.(*packet.Publish)
				if err != nil || !ok || pub.Payload[500] != byte(n) {
					t.Errorf("message %d: got %+v, %v", n, p, err)
					return
				}
				if st := s.Stats(); st.QueuedInMemory > 16<<10+sessions*600 {
					t.Errorf("%d bytes are in memory", st.QueuedInMemory)
				}
				if err := c.Send(&packet.Ack{Kind: packet.PUBACK, ID: pub.ID}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "all is done", func() bool {
		st := s.Stats()
		return st.Queued == 0 && st.QueuedBytes == 0 && st.QueuedInMemory == 0 && st.InFlight == 0
	})
}
