package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// subscribeAll has a client in a bubble hear everything.
func subscribeAll(t *testing.T, c *bubbleClient, qos message.QoS) {
	t.Helper()
	send(t, c.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "#", Options: packet.SubscribeOptions{QoS: qos}}}})
	c.received()
}

// publishes takes the PUBLISH packets that have come.
func publishes(c *bubbleClient) (got []*packet.Publish) {
	packets, _ := c.received()
	for _, p := range packets {
		if p, ok := p.(*packet.Publish); ok {
			got = append(got, p)
		}
	}
	return got
}

func TestDelayedMessages(t *testing.T) {
	inBubble(t, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("a", 0))
		subscribeAll(t, c, 1)
		minute := uint32(60)
		for _, p := range []*packet.Publish{
			{Topic: "$delayed/20/x", Payload: []byte("third")},
			{Topic: "$delayed/10/x", Payload: []byte("first"), QoS: 1, ID: 1, Properties: packet.PublishProperties{
				MessageExpiryInterval: &minute, ContentType: "text/plain",
			}},
			{Topic: "$delayed/10/x", Payload: []byte("second"), Retain: true},
		} {
			send(t, c.Client, p)
		}
		if got := publishes(c); len(got) > 0 {
			t.Fatalf("too early: %v", got)
		}
		if stats := server.Stats(); stats.Delayed != 3 || stats.Retained != 0 {
			t.Errorf("%d delayed, %d retained", stats.Delayed, stats.Retained)
		}
		pass(9 * time.Second)
		if got := publishes(c); len(got) > 0 {
			t.Fatalf("too early: %v", got)
		}
		pass(time.Second)
		got := publishes(c)
		if len(got) != 2 || string(got[0].Payload) != "first" || string(got[1].Payload) != "second" {
			t.Fatalf("got %v", got)
		}
		if left := got[0].Properties.MessageExpiryInterval; left == nil || *left != 60 || got[0].Topic != "x" || got[0].Properties.ContentType != "text/plain" {
			t.Errorf("got %+v", got[0])
		}
		pass(10 * time.Second)
		if got := publishes(c); len(got) != 1 || string(got[0].Payload) != "third" {
			t.Errorf("got %v", got)
		}
		if stats := server.Stats(); stats.Delayed != 0 || stats.DelayedBytes != 0 || stats.Retained != 1 {
			t.Errorf("%d delayed of %d bytes, %d retained", stats.Delayed, stats.DelayedBytes, stats.Retained)
		}
	})
}

func TestDelayedMessagesFromInside(t *testing.T) {
	o := options()
	o.Limits.Delayed.Bytes = 400
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("a", 0))
		subscribeAll(t, c, 1)
		large := message.Message{Topic: "$delayed/3600/x", Payload: make([]byte, 300), QoS: 1}
		if err := server.Publish(t.Context(), large); err != nil {
			t.Fatal(err)
		}
		var refused *message.RefusedError
		if err := server.Publish(t.Context(), large); !errors.As(err, &refused) || !errors.Is(err, packet.QuotaExceeded) {
			t.Errorf("got %v", err)
		}
		if err := server.Publish(t.Context(), message.Message{Topic: "$delayed/soon/x"}); !errors.Is(err, packet.TopicNameInvalid) {
			t.Errorf("got %v", err)
		}
		pass(time.Hour)
		if got := publishes(c); len(got) != 1 {
			t.Errorf("got %v", got)
		}
	})
}

func TestDelayedMessagesOutliveTheBroker(t *testing.T) {
	o := options()
	held := mem.New()
	o.Store = held
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("a", 0))
		send(t, c.Client, &packet.Publish{Topic: "$delayed/100/x", Payload: []byte("one"), QoS: 1, ID: 1, Properties: packet.PublishProperties{
			UserProperties: []message.Property{{Key: "k", Value: "v"}}, CorrelationData: []byte{1}, ResponseTopic: "r", UTF8: true,
		}})
		send(t, c.Client, &packet.Publish{Topic: "$delayed/100/x", Payload: []byte("two"), QoS: 2, ID: 2})
		send(t, c.Client, &packet.Publish{Topic: "$delayed/100/x", Payload: []byte("three")})
		if packets, _ := c.received(); len(packets) != 2 {
			t.Fatalf("got %v", packets)
		}
		pass(10 * time.Second)
	})
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("b", 0))
		subscribeAll(t, c, 2)
		if n := server.Stats().Delayed; n != 3 {
			t.Fatalf("%d are delayed", n)
		}
		pass(200 * time.Second)
		got := publishes(c)
		if len(got) != 3 || string(got[0].Payload) != "one" || string(got[1].Payload) != "two" || got[1].QoS != 2 || string(got[2].Payload) != "three" {
			t.Fatalf("got %v", got)
		}
		props := got[0].Properties
		if !props.UTF8 || props.ResponseTopic != "r" || string(props.CorrelationData) != "\x01" || len(props.UserProperties) != 1 {
			t.Errorf("got %+v", props)
		}
	})
	left, err := held.Records(t.Context(), store.Range{Bucket: "broker/delayed", Limit: 9})
	if err != nil || len(left) != 0 {
		t.Errorf("left in the store: %+v, %v", left, err)
	}
}

// withdrawn is an authorizer that may take its word back.
type withdrawn struct {
	broker.Authorizer
	denied chan struct{}
}

func (w withdrawn) Allow(ctx context.Context, who broker.Identity, action broker.Action, topic string) error {
	select {
	case <-w.denied:
		if action == broker.ActPublish && topic == "x" && who.ClientID == "a" {
			return packet.NotAuthorized
		}
	default:
	}
	return w.Authorizer.Allow(ctx, who, action, topic)
}

func TestDelayedMessagesAreAuthorizedAgain(t *testing.T) {
	o := options()
	denied := make(chan struct{})
	o.Authorizer = withdrawn{brokertest.Everyone(), denied}
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("a", 0))
		send(t, c.Client, &packet.Publish{Topic: "$delayed/10/x", QoS: 1, ID: 1})
		c.received()
		close(denied)
		b := dial(v5("b", 0))
		subscribeAll(t, b, 1)
		pass(20 * time.Second)
		if got := publishes(b); len(got) != 0 {
			t.Errorf("got %v", got)
		}
		if stats := server.Stats(); stats.Dropped["not-authorized"] != 1 || stats.Delayed != 0 {
			t.Errorf("got %+v", stats)
		}
	})
}

func TestRetainedMessagesExpire(t *testing.T) {
	o := options()
	o.Topics.RetainedExpiry = []broker.RetainedExpiry{
		{Filter: "#", After: time.Hour}, {Filter: "short/+", After: 2 * time.Minute},
	}
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("a", 0))
		subscribeAll(t, c, 0)
		half := time.Now().Add(30 * time.Minute)
		for _, m := range []message.Message{
			{Topic: "long", Payload: []byte("1"), Retain: true},
			{Topic: "short/x", Payload: []byte("2"), Retain: true},
			{Topic: "own", Payload: []byte("3"), Retain: true, Expires: half},
		} {
			if err := server.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if got := publishes(c); len(got) != 3 || got[0].Properties.MessageExpiryInterval != nil {
			t.Errorf("live: got %v", got)
		}
		pass(90 * time.Second)
		left := func(id string) map[string]uint32 {
			b := dial(v5(id, 0))
			all := &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "#"}}}
			send(t, b.Client, all)
			found := make(map[string]uint32)
			for _, p := range publishes(b) {
				found[p.Topic] = *p.Properties.MessageExpiryInterval
			}
			return found
		}
		if got := left("b"); got["long"] != 3510 || got["short/x"] != 30 || got["own"] != 1710 {
			t.Errorf("got %v", got)
		}
		pass(30 * time.Second)
		if got := left("c"); len(got) != 2 {
			t.Errorf("got %v", got)
		}
		pass(time.Hour)
		if n := server.Stats().Retained; n != 0 {
			t.Errorf("%d are retained still", n)
		}
	})
}

func TestDelayedMessagesThatAreDamaged(t *testing.T) {
	o := options()
	held := mem.New()
	o.Store = held
	for key, value := range map[string]string{
		"0000000000000001": "", "0000000000000002": "\xff\xff\xff\xff{}", "0000000000000003": "\x00\x00\x00\x02{}",
		"0000000000000004": "\x00\x00\x00\x02{}\xc0\x00", "0000000000000005": "\x00\x00\x00\x01{", "x": "\x00\x00\x00\x02{}",
	} {
		held.Apply([]store.Change{{Op: store.Put, Bucket: "broker/delayed", Key: key, Value: []byte(value)}})
	}
	held.Apply([]store.Change{{Op: store.Put, Bucket: "of/others", Key: "x", Value: []byte("y")}})
	s := brokertest.Start(t, o)
	if stats := s.Stats(); stats.Delayed != 0 || stats.Dropped["store"] != 6 {
		t.Errorf("%d delayed, %d dropped", stats.Delayed, stats.Dropped["store"])
	}
}

func TestWillThatIsDelayed(t *testing.T) {
	inBubble(t, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		m := dial(v5("m", 0))
		subscribeAll(t, m, 1)
		p := v5("a", 0)
		p.Will = &packet.Will{Topic: "$delayed/60/will", Payload: []byte("gone"), QoS: 1}
		_ = dial(p).Close()
		pass(59 * time.Second)
		if got := publishes(m); len(got) != 0 {
			t.Errorf("too early: %v", got)
		}
		pass(time.Second)
		if got := publishes(m); len(got) != 1 || got[0].Topic != "will" {
			t.Errorf("got %v", got)
		}
	})
}

// A message that is refused because the store has no room is not delivered later, when
// its publisher has sent it again; one of QoS 0, which nobody is told of, is.
func TestDelayedMessagesThatTheStoreRefuses(t *testing.T) {
	full := &slowStore{Store: mem.New(), err: store.ErrFull}
	o := options()
	o.Store = full
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		c := dial(v5("a", 0))
		subscribeAll(t, c, 2)
		for qos := range message.QoS(3) {
			p := &packet.Publish{Topic: "$delayed/10/x", Payload: fmt.Append(nil, qos), QoS: qos}
			if qos > 0 {
				p.ID = uint16(qos)
			}
			send(t, c.Client, p)
		}
		packets, _ := c.received()
		for _, p := range packets {
			if a, ok := p.(*packet.Ack); !ok || a.Reason != packet.QuotaExceeded {
				t.Errorf("got %+v, want 0x97", p)
			}
		}
		if n := server.Stats().Delayed; len(packets) != 2 || n != 1 {
			t.Errorf("%d answers, %d are delayed", len(packets), n)
		}
		pass(20 * time.Second)
		if got := publishes(c); len(got) != 1 || string(got[0].Payload) != "0" {
			t.Errorf("got %v", got)
		}
	})
}

// One that the store has, and whose delivery it has no room for when it is due, waits
// until there is: nobody loses it, and nobody gets it twice.
func TestDelayedMessagesThatAreDueToAFullStore(t *testing.T) {
	full := &fullStore{Store: mem.New()}
	o := options()
	o.Store = full
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		away := dial(v5("away", 1000))
		subscribeAll(t, away, 1)
		_ = away.Close() // without a word
		live := dial(v5("live", 0))
		subscribeAll(t, live, 1)
		bus := listenInBubble(t, server)
		for qos := range message.QoS(3) {
			if err := server.Publish(t.Context(), message.Message{Topic: "$delayed/10/x", QoS: qos, Payload: fmt.Append(nil, qos)}); err != nil {
				t.Fatal(err)
			}
		}
		full.full.Store(true)
		pass(time.Minute)
		// That of QoS 0 asks nothing of the store.
		if got := publishes(live); len(got) != 1 || len(bus()) != 1 || server.Stats().Delayed != 2 {
			t.Errorf("while it is full: %v, %q", got, bus())
		}
		full.full.Store(false)
		pass(time.Minute)
		if got := publishes(live); len(got) != 2 || len(bus()) != 3 || server.Stats().Delayed != 0 {
			t.Errorf("then: %v, %q", got, bus())
		}
		if got := publishes(dial(v5("away", 1000))); len(got) != 2 {
			t.Errorf("who was away gets %v", got)
		}
		if n := server.Stats().Dropped["store"]; n != 0 {
			t.Errorf("%d are counted as dropped", n)
		}
	})
}

// listenInBubble has a subscriber on the bus hear everything; what it has heard is
// returned.
func listenInBubble(t *testing.T, server *broker.Server) (heard func() []string) {
	t.Helper()
	var all []string
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		_ = server.Subscribe(ctx, message.Subscription{Name: "bus", Filters: []string{"#"}, QoS: 2},
			func(_ context.Context, batch []message.Message) error {
				for i := range batch {
					all = append(all, string(batch[i].Payload))
				}
				return nil
			})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	pass(0)
	return func() []string { pass(0); return all }
}

// mangler makes of every message one that cannot be written.
type mangler struct{}

func (mangler) Intercept(_ context.Context, batch []message.Message) []message.Verdict {
	verdicts := make([]message.Verdict, len(batch))
	for i := range batch {
		m := batch[i]
		m.Topic, m.ContentType = "$delayed/10/x", "\xff"
		verdicts[i] = message.Verdict{Action: message.Replace, Message: &m}
	}
	return verdicts
}

func TestDelayedMessagesThatCannotBeWritten(t *testing.T) {
	o := options()
	o.Interceptor = mangler{}
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, _ func(*packet.Connect) *bubbleClient) {
		var refused *message.RefusedError
		if err := server.Publish(t.Context(), message.Message{Topic: "y", QoS: 1}); !errors.As(err, &refused) {
			t.Errorf("got %v, want a refusal", err)
		}
		if st := server.Stats(); st.Delayed != 0 || st.Dropped["invalid"] != 1 {
			t.Errorf("%d are delayed, %d dropped", st.Delayed, st.Dropped["invalid"])
		}
	})
}
