package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// listener is a subscriber on the bus that keeps what it hears.
type listener struct {
	mu      sync.Mutex
	heard   []message.Message
	batches int
	fail    int // so many batches are refused first
	end     context.CancelFunc
	ended   chan error
}

// listen subscribes on the bus, and returns when the filters stand.
func listen(t *testing.T, s *brokertest.Server, sub message.Subscription) *listener {
	t.Helper()
	l := &listener{ended: make(chan error, 1)}
	return l.start(t, s, sub)
}

func (l *listener) start(t *testing.T, s *brokertest.Server, sub message.Subscription) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l.end = cancel
	ready := make(chan struct{})
	sub.Ready = func() { close(ready) }
	go func() { l.ended <- s.Subscribe(ctx, sub, l.take) }()
	select {
	case <-ready:
	case err := <-l.ended:
		t.Fatalf("not subscribed: %v", err)
	}
	return l
}

func (l *listener) take(_ context.Context, batch []message.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail > 0 {
		l.fail--
		return errors.New("not now")
	}
	l.batches++
	l.heard = append(l.heard, batch...)
	return nil
}

// stop ends the subscription.
func (l *listener) stop(t *testing.T) {
	t.Helper()
	l.end()
	if err := <-l.ended; err != nil {
		t.Errorf("subscribe: %v", err)
	}
}

// payloads waits until n messages were heard.
func (l *listener) payloads(t *testing.T, n int) []string {
	t.Helper()
	var got []string
	eventually(t, fmt.Sprint(n, " messages are heard"), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		got = nil
		for _, m := range l.heard {
			got = append(got, string(m.Payload))
		}
		return len(got) >= n
	})
	return got
}

func TestBusCarriesMessagesWhole(t *testing.T) {
	s := brokertest.Start(t, options())
	l := listen(t, s, message.Subscription{Name: "rules", Filters: []string{"home/#", "home/+/door"}, QoS: 1})
	defer l.stop(t)
	sent := message.Message{
		Topic: "home/hall/door", Payload: []byte("open"), QoS: 2, Retain: true, UTF8: true, ContentType: "text/plain",
		ResponseTopic: "answer", CorrelationData: []byte{1}, UserProperties: []message.Property{{Key: "a", Value: "b"}},
		Origin: "device/door", Hops: 3,
	}
	publish(t, s, sent)
	publish(t, s, message.Message{Topic: "home/x", Origin: "rules"}) // its own
	publish(t, s, message.Message{Topic: "home/last", Payload: []byte("last")})
	l.payloads(t, 2)
	got := l.heard[0]
	if got.Retain || got.QoS != 1 || got.At.IsZero() || got.Hops != 3 || got.Origin != "device/door" || got.ContentType != "text/plain" {
		t.Errorf("got %+v", got)
	}
	if last := string(l.heard[1].Payload); last != "last" {
		t.Errorf("heard %q", last)
	}
}

// TestBusMessagesStayAsTheyCame has handlers that keep all that they heard, with the places
// of the queues and the memory of what was read used again in between.
func TestBusMessagesStayAsTheyCame(t *testing.T) {
	s := brokertest.Start(t, options())
	all := []*listener{
		listen(t, s, message.Subscription{Name: "a", Filters: []string{"in/#"}}),
		listen(t, s, message.Subscription{Name: "b", Filters: []string{"#", "in/+"}, QoS: 2}),
		listen(t, s, message.Subscription{Name: "c", Filters: []string{"in/+"}, QoS: 1, Durable: true}),
	}
	c := brokertest.Dial(t, s, &packet.Connect{Version: packet.V5, ClientID: "x", Clean: true})
	const rounds, each = 40, 30
	for r := range rounds {
		for i := range each {
			m := &packet.Publish{Topic: fmt.Sprint("in/", r, "-", i), Payload: fmt.Append(nil, r, "-", i), Retain: i%7 == 0}
			if i%4 > 0 {
				m.Properties.UserProperties = []message.Property{{Key: "n", Value: fmt.Sprint(i)}}
			}
			if i%5 == 0 {
				m.QoS, m.ID = 1, uint16(i+1)
			}
			if err := c.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		for i := 0; i < each; i += 5 { // the acknowledgements
			if _, err := c.ReadPatiently(); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range all {
			l.payloads(t, (r+1)*each)
		}
	}
	eventually(t, "nothing is counted as queued", func() bool {
		at := s.Stats()
		return at.Queued == 0 && at.QueuedBytes == 0 && at.QueuedInMemory == 0
	})
	for k, l := range all {
		if l.payloads(t, rounds*each); len(l.heard) != rounds*each {
			t.Errorf("subscriber %d heard %d messages", k, len(l.heard))
		}
		for n, m := range l.heard {
			r, i := n/each, n%each
			properties := ""
			if i%4 > 0 {
				properties = fmt.Sprint(i)
			}
			got := ""
			for _, p := range m.UserProperties {
				got += p.Value
			}
			if text := fmt.Sprint(r, "-", i); m.Topic != "in/"+text || string(m.Payload) != text || got != properties || m.Origin != "client/x" {
				t.Fatalf("subscriber %d: message %d is %+v", k, n, m)
			}
		}
		l.stop(t)
	}
}

func TestBusKeepsOrderAcrossQoS(t *testing.T) {
	s := brokertest.Start(t, options())
	l := listen(t, s, message.Subscription{Name: "rules", Filters: []string{"x"}, QoS: 2})
	defer l.stop(t)
	var want []string
	for i := range 3000 {
		m := numbered("x", i, message.QoS(i%3))
		publish(t, s, m)
		want = append(want, string(m.Payload))
	}
	if got := l.payloads(t, len(want)); !slices.Equal(got, want) {
		t.Error("out of order")
	}
}

func TestBusReplaysRetainedOnce(t *testing.T) {
	s := brokertest.Start(t, options())
	publish(t, s, message.Message{Topic: "a/b", Payload: []byte("kept"), Retain: true},
		message.Message{Topic: "later", Payload: []byte("later"), Retain: true})
	l := listen(t, s, message.Subscription{Name: "rules", Filters: []string{"a/#", "+/b"}, Retained: true})
	defer l.stop(t)
	if got := l.payloads(t, 1); !l.heard[0].Retain || len(got) != 1 {
		t.Errorf("got %+v", l.heard)
	}
	if err := s.Resubscribe(t.Context(), "rules", []string{"a/#", "later"}); err != nil {
		t.Fatal(err)
	}
	publish(t, s, message.Message{Topic: "x/b", Payload: []byte("not heard")}, message.Message{Topic: "a/c", Payload: []byte("heard")})
	if got := l.payloads(t, 3); !slices.Equal(got, []string{"kept", "later", "heard"}) {
		t.Errorf("got %v", got)
	}
}

func TestBusDurableKeepsItsPlace(t *testing.T) {
	o := options()
	s := brokertest.Start(t, o)
	sub := message.Subscription{Name: "uplink/cloud", Filters: []string{"x"}, QoS: 1, Durable: true}
	l := listen(t, s, sub)
	publish(t, s, numbered("x", 1, 1))
	l.payloads(t, 1)
	l.stop(t)
	publish(t, s, numbered("x", 2, 1), numbered("x", 3, 0), numbered("x", 4, 2))
	s.Stop()
	s = brokertest.Start(t, o)
	publish(t, s, numbered("x", 5, 1))
	if infos := s.Clients(); len(infos) != 0 {
		t.Errorf("clients: %+v", infos)
	}
	l.fail = 2 // and it is patient
	l.start(t, s, sub)
	defer l.stop(t)
	if got := l.payloads(t, 4); !slices.Equal(got, []string{"000001", "000002", "000004", "000005"}) {
		t.Errorf("got %v", got)
	}
}

func TestBusDurableHearsWhatWaitedThoughNothingNewComes(t *testing.T) {
	o := options()
	s := brokertest.Start(t, o)
	sub := message.Subscription{Name: "uplink/cloud", Filters: []string{"x"}, QoS: 1, Durable: true}
	listen(t, s, sub).stop(t)
	publish(t, s, numbered("x", 1, 1))
	s.Stop()
	s = brokertest.Start(t, o)
	l := listen(t, s, sub)
	defer l.stop(t)
	if got := l.payloads(t, 1); !slices.Equal(got, []string{"000001"}) {
		t.Errorf("got %v", got)
	}
}

func TestBusSubscriberThatFailsHasLostIt(t *testing.T) {
	s := brokertest.Start(t, options())
	l := &listener{ended: make(chan error, 1), fail: 1}
	l.start(t, s, message.Subscription{Name: "rules", Filters: []string{"x"}})
	defer l.stop(t)
	publish(t, s, numbered("x", 1, 1))
	eventually(t, "it is counted", func() bool { return s.Stats().Dropped["handler"] == 1 })
	publish(t, s, numbered("x", 2, 1))
	if got := l.payloads(t, 1); !slices.Equal(got, []string{"000002"}) {
		t.Errorf("got %v", got)
	}
}

func TestBusQueueIsBounded(t *testing.T) {
	o := options()
	o.Limits.QueueMessages = 10
	s := brokertest.Start(t, o)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	var heard []string
	go func() {
		sub := message.Subscription{Name: "slow", Filters: []string{"x"}, Ready: func() { close(ready) }}
		ended <- s.Subscribe(ctx, sub, func(_ context.Context, batch []message.Message) error {
			once.Do(func() { close(entered); <-release })
			for _, m := range batch {
				heard = append(heard, string(m.Payload))
			}
			if heard[len(heard)-1] == "000099" {
				cancel()
			}
			return nil
		})
	}()
	<-ready
	publish(t, s, numbered("x", 0, 1))
	<-entered
	for i := range 99 {
		publish(t, s, numbered("x", i+1, 0))
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(heard) != 11 || heard[1] != "000090" {
		t.Errorf("heard %v", heard)
	}
	if n := s.Stats().Dropped["queue"]; n < 89 {
		t.Errorf("%d dropped", n)
	}
}

func TestBusRefuses(t *testing.T) {
	s := brokertest.Start(t, options())
	l := listen(t, s, message.Subscription{Name: "rules"})
	defer l.stop(t)
	nothing := func(context.Context, []message.Message) error { return nil }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"a topic with a wildcard":    {s.Publish(t.Context(), message.Message{Topic: "a/#"}), "Topic Name"},
		"a QoS that is none":         {s.Publish(t.Context(), message.Message{Topic: "a", QoS: 3}), "QoS 3"},
		"a name in use":              {s.Subscribe(t.Context(), message.Subscription{Name: "rules"}, nothing), "in use"},
		"no name":                    {s.Subscribe(t.Context(), message.Subscription{}, nothing), "1 to 200 bytes"},
		"a filter that is none":      {s.Subscribe(t.Context(), message.Subscription{Name: "x", Filters: []string{"a#"}}, nothing), `"a#"`},
		"to resubscribe a stranger":  {s.Resubscribe(t.Context(), "stranger", nil), "nobody"},
		"to resubscribe to nonsense": {s.Resubscribe(t.Context(), "rules", []string{""}), "not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.err == nil || !strings.Contains(strings.ToLower(c.err.Error()), strings.ToLower(c.want)) {
				t.Errorf("got %v, want %q in it", c.err, c.want)
			}
		})
	}
}

func TestBusEndsWithTheBroker(t *testing.T) {
	s := brokertest.Start(t, options())
	l := listen(t, s, message.Subscription{Name: "rules", Filters: []string{"x"}})
	s.Stop()
	if err := <-l.ended; !errors.Is(err, broker.ErrClosed) {
		t.Errorf("got %v", err)
	}
	l.end()
}

// One context may end a subscriber and the broker: then both have ended as asked,
// whichever of the two is seen first.
func TestBusEndsByTheContextOfTheBroker(t *testing.T) {
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		server, err := broker.New(options())
		if err != nil {
			t.Fatal(err)
		}
		hello := func() error { return server.Publish(t.Context(), message.Message{Topic: "x"}) }
		ended := make(chan error, 2)
		go func() { ended <- server.Run(ctx) }()
		go func() {
			heard := message.Subscription{Name: "rules", Filters: []string{"x"}, Ready: func() { go func() { _ = hello() }() }}
			ended <- server.Subscribe(ctx, heard, func(context.Context, []message.Message) error {
				cancel()
				for hello() == nil { // until the broker ends too
					runtime.Gosched()
				}
				return nil
			})
		}()
		if a, b := <-ended, <-ended; a != nil || b != nil {
			t.Fatalf("got %v and %v", a, b)
		}
	}
}

func TestMessageOfTooManyRulesIsDropped(t *testing.T) {
	s := brokertest.Start(t, options())
	l := listen(t, s, message.Subscription{Name: "l", Filters: []string{"x"}})
	defer l.stop(t)
	publish(t, s, message.Message{Topic: "x", Payload: []byte("9"), Hops: 9}, message.Message{Topic: "x", Payload: []byte("8"), Hops: 8})
	if got := l.payloads(t, 1); !slices.Equal(got, []string{"8"}) {
		t.Errorf("got %v", got)
	}
	if n := s.Stats().Dropped["hops"]; n != 1 {
		t.Errorf("%d counted", n)
	}
}

// rules is an interceptor that goes by the topic.
type rules struct {
	mu    sync.Mutex
	sizes []int
}

func (r *rules) Intercept(_ context.Context, batch []message.Message) []message.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sizes = append(r.sizes, len(batch))
	verdicts := make([]message.Verdict, len(batch))
	for i, m := range batch {
		switch m.Topic {
		case "drop":
			verdicts[i].Action = message.Drop
		case "reject":
			verdicts[i] = message.Verdict{Action: message.Reject, Reason: byte(packet.PayloadFormatInvalid)}
		case "redirect", "escape":
			to := m
			to.Topic, to.Payload, to.QoS = map[string]string{"redirect": "to", "escape": "$SYS/broker/version"}[m.Topic], []byte("new"), 0
			verdicts[i] = message.Verdict{Action: message.Replace, Message: &to}
		case "nonsense":
			verdicts[i] = message.Verdict{Action: message.Replace, Message: &message.Message{Topic: "a/#"}}
		}
	}
	return verdicts
}

func TestInterceptor(t *testing.T) {
	o := options()
	o.Interceptor = &rules{}
	s := brokertest.Start(t, o)
	c := brokertest.Dial(t, s, v5("a", 100))
	subscribe(t, c, "#", 2)
	for _, step := range []struct {
		topic  string
		qos    message.QoS
		reason packet.Reason
		heard  string
	}{
		{"pass", 1, packet.Success, "pass old"},
		{"drop", 1, packet.Success, ""},
		{"reject", 1, packet.PayloadFormatInvalid, ""},
		{"reject", 2, packet.PayloadFormatInvalid, ""},
		{"redirect", 1, packet.Success, "to new"},
		{"redirect", 2, packet.Success, "to new"},
		{"escape", 1, packet.NotAuthorized, ""},
		{"nonsense", 1, packet.TopicNameInvalid, ""},
	} {
		t.Run(fmt.Sprint(step.topic, " at QoS ", step.qos), func(t *testing.T) {
			send(t, c, &packet.Publish{Topic: step.topic, Payload: []byte("old"), QoS: step.qos, ID: 7})
			wanted := 1
			if step.heard != "" {
				wanted++
			}
			for range wanted {
				switch p := read(t, c).(type) {
				case *packet.Publish:
					if got := p.Topic + " " + string(p.Payload); got != step.heard {
						t.Errorf("heard %q", got)
					}
					if p.QoS > 0 {
						send(t, c, &packet.Ack{Kind: packet.PUBACK, ID: p.ID})
					}
				case *packet.Ack:
					if p.Reason != step.reason || p.ID != 7 {
						t.Errorf("got %+v", p)
					}
					if p.Kind == packet.PUBREC && !p.Reason.Failed() {
						send(t, c, &packet.Ack{Kind: packet.PUBREL, ID: 7})
						wanted++
						read(t, c)
					}
				default:
					t.Errorf("got %T", p)
				}
			}
		})
	}
	stats := s.Stats()
	if stats.InterceptDrops != 1 || stats.InterceptRejects != 2 || stats.Dropped["invalid"] != 1 || stats.Dropped["not-authorized"] != 1 {
		t.Errorf("got %+v", stats)
	}
	if err := s.Publish(t.Context(), message.Message{Topic: "reject"}); !errors.Is(err, packet.PayloadFormatInvalid) {
		t.Errorf("on the bus: got %v", err)
	}
	if err := s.Publish(t.Context(), message.Message{Topic: "drop"}); err != nil {
		t.Errorf("on the bus: got %v", err)
	}
}

func TestInterceptorSeesOneReadAsABatch(t *testing.T) {
	r := &rules{}
	o := options()
	o.Interceptor = r
	s := brokertest.Start(t, o)
	msgs := make([]message.Message, 300)
	for i := range msgs {
		msgs[i] = numbered("x", i, 0)
	}
	publish(t, s, msgs...)
	if want := []int{256, 44}; !slices.Equal(r.sizes, want) {
		t.Errorf("got %v, want %v", r.sizes, want)
	}
}

func TestPublishSaysWhichMessageIsRefused(t *testing.T) {
	o := options()
	o.Interceptor = &rules{}
	s := brokertest.Start(t, o)
	l := listen(t, s, message.Subscription{Name: "all", Filters: []string{"#"}})
	defer l.stop(t)
	for bad, reason := range map[string]packet.Reason{"reject": packet.PayloadFormatInvalid, "not/+/valid": packet.TopicNameInvalid} {
		err := s.Publish(t.Context(),
			message.Message{Topic: "many/rules", Hops: message.MaxHops + 1}, numbered("before", 1, 0),
			message.Message{Topic: bad}, numbered("after", 2, 0))
		var refused *message.RefusedError
		if !errors.As(err, &refused) || refused.Index != 2 || refused.Topic != bad || !errors.Is(err, reason) {
			t.Errorf("%s: got %v", bad, err)
		}
	}
	publish(t, s, numbered("last", 3, 0))
	if got := l.payloads(t, 3); !slices.Equal(got, []string{"000001", "000001", "000003"}) {
		t.Errorf("heard %v", got)
	}
}

// gate is an interceptor that keeps what it sees until it is opened.
type gate struct{ open chan struct{} }

func (g gate) Intercept(context.Context, []message.Message) []message.Verdict {
	<-g.open
	return nil
}

func TestSlowInterceptorDoesNotHoldUpOutput(t *testing.T) {
	o := options()
	g := gate{open: make(chan struct{})}
	o.Interceptor = g
	s := brokertest.Start(t, o)
	release := sync.OnceFunc(func() { close(g.open) })
	defer release()
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := brokertest.NewClient(nc)
	if _, err := c.Connect(v5("a", 0)); err != nil {
		t.Fatal(err)
	}
	subscribe(t, c, "$SYS/x", 0)
	together := []byte{0xc0, 0} // PINGREQ
	together, err = packet.Append(together, &packet.Publish{Topic: "x"}, packet.V5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(together); err != nil {
		t.Fatal(err)
	}
	if p := read(t, c); p.Type() != packet.PINGRESP {
		t.Errorf("got %T", p)
	}
	publish(t, s, message.Message{Topic: "$SYS/x"}) // of someone else
	if p := read(t, c); p.Type() != packet.PUBLISH {
		t.Errorf("got %T", p)
	}
}
