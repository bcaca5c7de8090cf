package broker_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// inBubble runs a broker on pipes, in a time of its own.
func inBubble(t *testing.T, test func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient)) {
	t.Helper()
	inBubbleWith(t, options(), test)
}

func inBubbleWith(t *testing.T, o broker.Options, test func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server, err := broker.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var ended sync.WaitGroup
		listener := newPipes()
		ended.Go(func() {
			if err := server.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		ended.Go(func() {
			if err := server.Serve(ctx, listener); err != nil {
				t.Error(err)
			}
		})
		dial := func(p *packet.Connect) *bubbleClient {
			t.Helper()
			nc, err := listener.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c := &bubbleClient{Client: brokertest.NewClient(nc)}
			ack, err := c.Connect(p)
			if err != nil || ack.Reason.Failed() {
				t.Fatalf("not connected: %v, %v", ack, err)
			}
			c.present = ack.SessionPresent
			ended.Go(c.collect)
			return c
		}
		test(t, server, dial)
		cancel()
		ended.Wait()
	})
}

// bubbleClient collects what it is sent, which on a pipe must be read for the
// server to go on.
type bubbleClient struct {
	*brokertest.Client
	present bool
	mu      sync.Mutex
	got     []packet.Packet
	ended   bool
}

func (c *bubbleClient) collect() {
	for {
		p, err := c.ReadPatiently()
		c.mu.Lock()
		if err != nil {
			c.ended = true
			c.mu.Unlock()
			_ = c.Close() // the server has closed it
			return
		}
		c.got = append(c.got, p)
		c.mu.Unlock()
	}
}

// received takes what has come, when all is quiet.
func (c *bubbleClient) received() (packets []packet.Packet, ended bool) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	packets, c.got = c.got, nil
	return packets, c.ended
}

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestKeepAlive(t *testing.T) {
	inBubble(t, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		p := v5("a", 0)
		p.KeepAlive = 60
		c := dial(p)
		pass(89 * time.Second)
		if _, ended := c.received(); ended {
			t.Fatal("ended before 1.5 times the keep alive")
		}
		send(t, c.Client, &packet.Pingreq{})
		pass(89 * time.Second)
		if _, ended := c.received(); ended {
			t.Fatal("ended though it has pinged")
		}
		pass(time.Second)
		packets, ended := c.received()
		if !ended || len(packets) != 1 || packets[0].(*packet.Disconnect).Reason != packet.KeepAliveTimeout {
			t.Errorf("ended %v, packets %v", ended, packets)
		}
		if n := server.Stats().Clients; n != 0 {
			t.Errorf("%d clients", n)
		}
	})
}

func TestKeepAliveDoesNotCountWhileNobodyListens(t *testing.T) {
	slow := &slowStore{Store: mem.New()}
	o := options()
	o.Store = slow
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		p := v5("a", 100)
		p.KeepAlive = 60
		c := dial(p)
		send(t, c.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "x", Options: packet.SubscribeOptions{QoS: 1}}}})
		c.received()
		slow.hold()
		var sends sync.WaitGroup
		sends.Go(func() {
			for i := range 100 { // each a batch of its own
				if err := c.Send(&packet.Publish{Topic: "x", QoS: 1, ID: uint16(i + 1)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
		pass(200 * time.Second) // the store hangs
		slow.release()
		sends.Wait()
		if _, ended := c.received(); ended {
			t.Fatal("ended though nobody listened")
		}
		pass(90 * time.Second)
		if _, ended := c.received(); !ended {
			t.Error("not ended")
		}
	})
}

func TestKeepAliveOfZeroIsForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("a", 0))
		pass(50 * time.Hour)
		if _, ended := c.received(); ended {
			t.Error("ended")
		}
	})
}

func TestConnectDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := broker.New(options())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		listener := newPipes()
		var ended sync.WaitGroup
		ended.Go(func() { _ = server.Run(ctx) })
		ended.Go(func() { _ = server.Serve(ctx, listener) })
		nc, err := listener.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := nc.Write([]byte{0x10, 0x20, 0}); err != nil { // and then nothing
			t.Fatal(err)
		}
		if _, err := io.ReadAll(nc); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("cut off after %v", took)
		}
		cancel()
		ended.Wait()
	})
}

func TestSessionExpiry(t *testing.T) {
	inBubble(t, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		for _, c := range []struct {
			expiry uint32
			away   time.Duration
			there  bool
		}{
			{3600, time.Hour - time.Second, true},
			{3600, time.Hour + time.Second, false},
			{0xFFFFFFFF, 50 * time.Hour, true},
		} {
			p := v5("a", c.expiry)
			p.Clean = true
			_ = dial(p).Close()
			pass(c.away)
			p.Clean = false
			again := dial(p)
			if again.present != c.there {
				t.Errorf("expiry %d s, away %v: session present %v", c.expiry, c.away, again.present)
			}
			_ = again.Close()
		}
	})
}

func TestWillDelay(t *testing.T) {
	inBubble(t, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		monitor := dial(v5("monitor", 0))
		send(t, monitor.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "will"}}})
		monitor.received()
		leave := func(delay, expiry uint32) {
			p := v5("a", expiry)
			p.Clean = true
			hour := uint32(3600)
			p.Will = &packet.Will{Topic: "will", Payload: []byte("gone")}
			p.Will.Properties.DelayInterval = delay
			p.Will.Properties.MessageExpiryInterval = &hour
			_ = dial(p).Close()
		}
		for _, c := range []struct {
			delay, expiry uint32
			after         time.Duration
		}{
			{600, 7200, 600 * time.Second},
			{7200, 600, 600 * time.Second}, // the end of the session comes first
		} {
			leave(c.delay, c.expiry)
			pass(c.after - time.Second)
			if packets, _ := monitor.received(); len(packets) > 0 {
				t.Errorf("too early: %v", packets)
			}
			pass(2 * time.Second)
			packets, _ := monitor.received()
			if len(packets) != 1 {
				t.Fatalf("got %v", packets)
			}
			will := packets[0].(*packet.Publish)
			if left := will.Properties.MessageExpiryInterval; left == nil || *left != 3600 {
				t.Errorf("the will expires in %v", left)
			}
		}
		leave(600, 7200)
		pass(300 * time.Second)
		back := dial(v5("a", 7200))
		pass(7200 * time.Second)
		if packets, _ := monitor.received(); !back.present || len(packets) > 0 {
			t.Errorf("session present %v, packets %v", back.present, packets)
		}
	})
}

func TestMessageExpiryInQueueAndRetained(t *testing.T) {
	inBubble(t, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		a := dial(v5("a", 0xFFFFFFFF))
		send(t, a.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "x", Options: packet.SubscribeOptions{QoS: 1}}}})
		a.received()
		_ = a.Close()
		synctest.Wait()
		for _, life := range []time.Duration{time.Minute, time.Hour} {
			m := message.Message{Topic: "x", Payload: []byte(life.String()), QoS: 1, Retain: life == time.Minute, Expires: time.Now().Add(life)}
			if err := server.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		pass(2*time.Minute + 30*time.Second)
		if stats := server.Stats(); stats.Retained != 0 {
			t.Errorf("%d retained messages outlive their expiry", stats.Retained)
		}
		back := dial(v5("a", 0xFFFFFFFF))
		packets, _ := back.received()
		if len(packets) != 1 {
			t.Fatalf("got %v", packets)
		}
		got := packets[0].(*packet.Publish)
		if left := *got.Properties.MessageExpiryInterval; string(got.Payload) != "1h0m0s" || left != 57*60+30 {
			t.Errorf("got %s, which expires in %d s", got.Payload, left)
		}
	})
}

func TestStopDoesNotWaitForSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := broker.New(options())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		listener := newPipes()
		var ended sync.WaitGroup
		ended.Go(func() { _ = server.Run(ctx) })
		ended.Go(func() { _ = server.Serve(ctx, listener) })
		nc, err := listener.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := brokertest.NewClient(nc)
		if _, err := c.Connect(v5("a", 0)); err != nil {
			t.Fatal(err)
		}
		subscribe(t, c, "x", 0)
		for range 15 {
			if err := server.Publish(t.Context(), message.Message{Topic: "x", Payload: make([]byte, 64<<10)}); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		cancel()
		var reads sync.WaitGroup
		reads.Go(func() { // it takes a little, again and again
			_ = nc.SetReadDeadline(time.Time{}) // a pipe takes every deadline
			for buf := make([]byte, 32<<10); err == nil; <-time.After(400 * time.Millisecond) {
				_, err = io.ReadFull(nc, buf)
			}
			_ = nc.Close() // the server has closed it
		})
		ended.Wait()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		reads.Wait()
	})
}

func TestWillDelayOutlivesACrash(t *testing.T) {
	before, after := mem.New(), mem.New()
	o := options()
	o.Store = before
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		p := v5("a", 7200)
		p.Will = &packet.Will{Topic: "will", Payload: []byte("gone"), Retain: true}
		p.Will.Properties.DelayInterval = 600
		dial(p)
		snap, err := before.Load(t.Context())
		if err != nil || len(snap.Sessions) != 1 {
			t.Fatalf("got %+v, %v", snap, err)
		}
		after.Apply([]store.Change{{Op: store.PutSession, Session: "a", Record: &snap.Sessions[0].SessionRecord}})
	})
	o.Store = after // as it was when the connection stood
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		pass(599 * time.Second)
		if n := server.Stats().Retained; n != 0 {
			t.Error("the will is published too early")
		}
		pass(2 * time.Second)
		if n := server.Stats().Retained; n != 1 {
			t.Error("the will is not published")
		}
	})
}

func TestExpiryOfWhatWasSent(t *testing.T) {
	inBubble(t, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		p := v5("a", 0xFFFFFFFF)
		p.Properties.ReceiveMaximum = 2
		a := dial(p)
		send(t, a.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "x", Options: packet.SubscribeOptions{QoS: 2}}}})
		a.received()
		for i, qos := range []message.QoS{2, 1, 2, 1} {
			m := numbered("x", i, qos)
			m.Expires = time.Now().Add(time.Minute)
			if err := server.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if got := publishes(a); len(got) != 2 {
			t.Fatalf("sent: %v", got)
		}
		_ = a.Close()
		pass(time.Hour)
		back := dial(p)
		got := publishes(back)
		if len(got) != 2 || !got[0].Dup || !got[1].Dup || string(got[0].Payload) != "000000" || string(got[1].Payload) != "000001" {
			t.Errorf("sent again: %v", got)
		}
		for _, p := range got {
			kind := packet.PUBACK
			if p.QoS == 2 {
				kind = packet.PUBREC
			}
			send(t, back.Client, &packet.Ack{Kind: kind, ID: p.ID})
		}
		send(t, back.Client, &packet.Ack{Kind: packet.PUBCOMP, ID: got[0].ID})
		if late := publishes(back); len(late) != 0 {
			t.Errorf("sent though expired: %v", late)
		}
		if n := server.Stats().Dropped["expired"]; n != 2 {
			t.Errorf("%d have expired", n)
		}
	})
}

// What is dropped is told once a minute, by why.
func TestDropsAreTold(t *testing.T) {
	o := options()
	o.Limits.QueueMessages = 2
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("a", 100))
		subscribeAll(t, c, 1)
		_ = c.Close()
		c.received()
		for i := range 7 {
			if err := server.Publish(t.Context(), numbered("x", i, 1)); err != nil {
				t.Fatal(err)
			}
		}
		pass(3*time.Minute + time.Second)
	})
	if told := log.String(); strings.Count(told, "messages were dropped") != 1 || !strings.Contains(told, "queue=5") {
		t.Errorf("the log says\n%s", told)
	}
}
