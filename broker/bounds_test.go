package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// TestAllQueuesHoldNoMoreThanTheirLimit has sessions queue in turns, with sizes that
// differ, and looks at the total after each message.
func TestAllQueuesHoldNoMoreThanTheirLimit(t *testing.T) {
	o := options()
	o.Limits.AllQueues.Count, o.Limits.AllQueues.Bytes = 100, 10_000
	s := brokertest.Start(t, o)
	const sessions = 12
	for i := range sessions {
		c := brokertest.Dial(t, s, v5(fmt.Sprint("c", i), 1000))
		subscribe(t, c, fmt.Sprint("t", i), 1)
		_ = c.Close() // without a word
	}
	eventually(t, "all have left", func() bool { return s.Stats().Clients == 0 })
	for n := range 3000 {
		publish(t, s, message.Message{Topic: fmt.Sprint("t", (n*5+n/7)%sessions), Payload: make([]byte, n%400), QoS: 1})
		if st := s.Stats(); st.Queued > 100 || st.QueuedBytes > 10_000 {
			t.Fatalf("after %d messages %d of %d bytes are queued", n, st.Queued, st.QueuedBytes)
		}
	}
	sum := 0
	for _, c := range s.Clients() {
		sum += c.Queued
	}
	if st := s.Stats(); int64(sum) != st.Queued || sum == 0 {
		t.Errorf("the sessions queue %d, the total says %d", sum, st.Queued)
	}
	for i := range sessions { // they end, and give back what they held
		brokertest.Dial(t, s, v5(fmt.Sprint("c", i), 0))
	}
	if st := s.Stats(); st.Queued != 0 || st.QueuedBytes != 0 {
		t.Errorf("%d messages of %d bytes are still counted", st.Queued, st.QueuedBytes)
	}
}

// TestStrangersDoNotFillTheLog has a client be refused for its long identifier.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	o := options()
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := brokertest.Start(t, o)
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	answer, err := brokertest.NewClient(nc).Connect(v5(strings.Repeat("x", 60_000), 0))
	if err != nil || answer.Reason != packet.ClientIdentifierNotValid {
		t.Fatalf("got %+v, %v", answer, err)
	}
	s.Stop()
	if n := log.Len(); n > 2000 || !strings.Contains(log.String(), "client refused") {
		t.Errorf("the log has %d bytes", n)
	}
}

// TestNobodyIsDroppedForPublishingFast has a client publish faster than its rate.
func TestNobodyIsDroppedForPublishingFast(t *testing.T) {
	o := options()
	o.Limits.PublishRate = 200
	s := brokertest.Start(t, o)
	c := brokertest.Dial(t, s, v5("fast", 0))
	const n = 400
	go func() {
		for i := range n {
			if err := c.Send(&packet.Publish{Topic: "x", QoS: 1, ID: uint16(i + 1)}); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := range n {
		if ack, ok := read(t, c).(*packet.Ack); !ok || ack.ID != uint16(i+1) || ack.Reason.Failed() {
			t.Fatalf("message %d: got %+v", i, ack)
		}
	}
	if s.Stats().Paused == 0 {
		t.Error("the reader did not pause")
	}
}

// TestRefusedClientsAreToldOnceAMinute has clients be refused again and again: the log
// has the first of a minute, by reason, and says how many there were.
func TestRefusedClientsAreToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		var log bytes.Buffer
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		server, err := broker.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		listener := newPipes()
		ended.Go(func() { _ = server.Run(ctx) })
		ended.Go(func() { _ = server.Serve(ctx, listener) })
		refuse := func(p *packet.Connect, want packet.Reason) {
			t.Helper()
			nc, err := listener.dial(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if ack, err := brokertest.NewClient(nc).Connect(p); err != nil || ack.Reason != want {
				t.Fatalf("got %+v, %v", ack, err)
			}
		}
		for range 50 {
			refuse(v5("$bus/mine", 0), packet.ClientIdentifierNotValid)
		}
		deep := v5("a", 0)
		deep.Will = &packet.Will{Topic: strings.Repeat("a/", 200) + "a"}
		refuse(deep, packet.TopicNameInvalid)
		pass(tellTime)
		refuse(v5("$bus/mine", 0), packet.ClientIdentifierNotValid)
		cancel()
		ended.Wait()
		var told []string
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "client refused") {
				told = append(told, line[strings.Index(line, "reason="):])
			}
		}
		if len(told) != 3 || !strings.HasSuffix(told[0], "refusals=1\n") || !strings.HasSuffix(told[1], "refusals=1\n") ||
			!strings.HasSuffix(told[2], "refusals=50\n") {
			t.Errorf("got %q", told)
		}
	})
}

// tellTime is what lies between two tellings.
const tellTime = time.Minute

// TestManyMessagesToMany has a batch of messages go to as many groups as make more
// targets than may be in hand at once: all come, in order, and the targets' memory is
// bounded.
func TestManyMessagesToMany(t *testing.T) {
	o := options()
	const groups, messages = 4_000, 100
	o.Limits.Filters, o.Limits.Output = groups, 64<<20
	s := brokertest.Start(t, o)
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := brokertest.NewClient(nc)
	if _, err := c.Connect(v5("a", 0)); err != nil {
		t.Fatal(err)
	}
	for i := range groups / 100 {
		sub := &packet.Subscribe{ID: 1}
		for j := range 100 {
			sub.Filters = append(sub.Filters, packet.Filter{Filter: fmt.Sprintf("$share/%d/x", i*100+j)})
		}
		send(t, c, sub)
		read(t, c)
	}
	frame, err := packet.Append(nil, &packet.Publish{Topic: "x", Payload: []byte{0}}, packet.V5)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.SetReadDeadline(time.Time{}); err != nil { // which Read has set
		t.Fatal(err)
	}
	wrong := make(chan int, 1)
	go func() {
		in := make([]byte, groups*len(frame))
		for m := range messages {
			if _, err := io.ReadFull(nc, in); err != nil {
				wrong <- m
				return
			}
			for at := len(frame) - 1; at < len(in); at += len(frame) {
				if in[at] != byte(m) {
					wrong <- m
					return
				}
			}
		}
		wrong <- messages
	}()
	batch := make([]message.Message, messages)
	for m := range batch {
		batch[m] = message.Message{Topic: "x", Payload: []byte{byte(m)}}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	publish(t, s, batch...)
	runtime.ReadMemStats(&after)
	if m := <-wrong; m != messages {
		t.Errorf("message %d did not come %d times, in order", m, groups)
	}
	if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 48 {
		t.Errorf("%d MiB were allocated for %d deliveries", mib, groups*messages)
	}
}
