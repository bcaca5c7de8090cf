package broker_test

import (
	"encoding/json"
	"slices"
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

// sysTopics are those of mosquitto(8), without that of its bridges and the time of
// its build.
var sysTopics = []string{
	"bytes/received", "bytes/sent", "clients/connected", "clients/active", "clients/expired", "clients/disconnected",
	"clients/inactive", "clients/maximum", "clients/total", "heap/current size", "heap/maximum size",
	"load/connections/1min", "load/connections/5min", "load/connections/15min", "load/bytes/received/1min",
	"load/bytes/sent/5min", "load/messages/received/15min", "load/messages/sent/1min", "load/publish/dropped/1min",
	"load/publish/received/1min", "load/publish/sent/1min", "load/sockets/1min", "messages/received", "messages/sent",
	"publish/messages/dropped", "publish/messages/received", "publish/messages/sent", "publish/bytes/received",
	"publish/bytes/sent", "retained messages/count", "store/messages/count", "messages/stored", "store/messages/bytes",
	"subscriptions/count", "shared_subscriptions/count", "uptime", "version",
	"dropped/queue", "dropped/slow", "dropped/expired", "dropped/delayed",
}

func TestStatusTopics(t *testing.T) {
	o := options()
	o.StatusEvery = 10 * time.Second
	inBubbleWith(t, o, func(t *testing.T, server *broker.Server, dial func(*packet.Connect) *bubbleClient) {
		away := dial(v5("away", 3600))
		send(t, away.Client, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "$share/g/x", Options: packet.SubscribeOptions{QoS: 1}}}})
		away.received()
		_ = away.Close()
		synctest.Wait()
		c := dial(v5("a", 0))
		send(t, c.Client, &packet.Publish{Topic: "x", Payload: []byte("12345"), QoS: 1, ID: 1})
		send(t, c.Client, &packet.Pingreq{})
		c.received()
		pass(10 * time.Second)
		value := make(map[string]string)
		for _, m := range server.Retained("$SYS/#", 1000) {
			value[strings.TrimPrefix(m.Topic, "$SYS/broker/")] = string(m.Payload)
		}
		for _, name := range sysTopics {
			if value[name] == "" {
				t.Errorf("%s is missing", name)
			}
		}
		for name, want := range map[string]string{
			"clients/connected": "1", "clients/disconnected": "1", "clients/total": "2", "clients/maximum": "1",
			"messages/received": "5", "messages/sent": "5", "publish/messages/received": "1", "publish/bytes/received": "6",
			"publish/messages/sent": "0", "shared_subscriptions/count": "1", "subscriptions/count": "1", "uptime": "10 seconds",
		} {
			if value[name] != want {
				t.Errorf("%s is %q, want %q", name, value[name], want)
			}
		}
		// Two connects, then ten seconds: 12 a minute, of which 1 - e^(-1/6) counts.
		if got := value["load/connections/1min"]; got != "1.84" {
			t.Errorf("load of connections is %s", got)
		}
		// What does not change is not published again.
		send(t, c.Client, &packet.Subscribe{ID: 2, Filters: []packet.Filter{{Filter: "$SYS/#", Options: packet.SubscribeOptions{RetainHandling: packet.NoRetained}}}})
		pass(10 * time.Second)
		got := publishes(c)
		changed := func(name string) bool {
			return slices.ContainsFunc(got, func(p *packet.Publish) bool { return p.Topic == "$SYS/broker/"+name })
		}
		if !changed("uptime") || !changed("messages/received") || changed("version") || changed("clients/connected") || changed("dropped/slow") {
			t.Errorf("got %d topics again", len(got))
		}
	})
}

// heard collects events.
type heard struct {
	mu  sync.Mutex
	got []string
}

func (h *heard) note(what string, e broker.ClientEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, what+" "+e.ClientID+" "+e.Reason)
}

func (h *heard) Connected(e broker.ClientEvent)    { h.note("connected", e) }
func (h *heard) Disconnected(e broker.ClientEvent) { h.note("disconnected", e) }
func (h *heard) Subscribed(e broker.ClientEvent)   { h.note("subscribed "+e.Filters[0].Filter, e) }
func (h *heard) Unsubscribed(e broker.ClientEvent) { h.note("unsubscribed "+e.Filters[0].Filter, e) }

func TestClientEvents(t *testing.T) {
	o := options()
	events := &heard{}
	o.Events, o.ClientEvents = events, true
	s := brokertest.Start(t, o)
	m := brokertest.Dial(t, s, v5("m", 0))
	subscribe(t, m, "$SYS/broker/clients/+/+", 0)
	next := func(what, id string) (e broker.ClientEvent) {
		t.Helper()
		p := readPublish(t, m)
		if p.Topic != "$SYS/broker/clients/"+id+"/"+what || p.Retain {
			t.Fatalf("got %s", p.Topic)
		}
		if err := json.Unmarshal(p.Payload, &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	next("subscribed", "m")
	p := v5("a/b+", 0)
	p.KeepAlive, p.Username, p.HasUsername = 60, "ann", true
	c := brokertest.Dial(t, s, p)
	if e := next("connected", "a%2Fb%2B"); e.ClientID != "a/b+" || e.Username != "ann" || e.KeepAlive != 60 || e.Version != "5.0" || e.Remote == "" || e.At.IsZero() {
		t.Errorf("got %+v", e)
	}
	subscribe(t, c, "x/+", 2)
	if e := next("subscribed", "a%2Fb%2B"); len(e.Filters) != 1 || e.Filters[0] != (broker.ClientFilter{Filter: "x/+", QoS: 2}) {
		t.Errorf("got %+v", e)
	}
	send(t, c, &packet.Unsubscribe{ID: 2, Filters: []string{"nothing"}})
	read(t, c)
	send(t, c, &packet.Unsubscribe{ID: 2, Filters: []string{"x/+", "nothing"}})
	read(t, c)
	if e := next("unsubscribed", "a%2Fb%2B"); len(e.Filters) != 1 || e.Filters[0].Filter != "x/+" {
		t.Errorf("got %+v", e)
	}
	again := brokertest.Dial(t, s, v5("a/b+", 0))
	if e := next("disconnected", "a%2Fb%2B"); e.Reason != "Session taken over" || e.Code != 0x8e {
		t.Errorf("got %+v", e)
	}
	next("connected", "a%2Fb%2B")
	send(t, again, &packet.Disconnect{})
	if e := next("disconnected", "a%2Fb%2B"); e.Reason != "Normal disconnection" || e.Code != 0 {
		t.Errorf("got %+v", e)
	}
	lost := brokertest.Dial(t, s, v5("l", 0))
	next("connected", "l")
	_ = lost.Close()
	if e := next("disconnected", "l"); e.Reason != "connection lost" {
		t.Errorf("got %+v", e)
	}
	if n := s.Stats().Retained; n != 0 {
		t.Errorf("%d events are retained", n)
	}
	events.mu.Lock()
	defer events.mu.Unlock()
	want := []string{
		"connected m ", "subscribed $SYS/broker/clients/+/+ m ", "connected a/b+ ", "subscribed x/+ a/b+ ",
		"unsubscribed x/+ a/b+ ", "disconnected a/b+ Session taken over", "connected a/b+ ",
		"disconnected a/b+ Normal disconnection", "connected l ", "disconnected l connection lost",
	}
	if !slices.Equal(events.got, want) {
		t.Errorf("got %q", events.got)
	}
}

func TestEventsAreOffByDefault(t *testing.T) {
	s := brokertest.Start(t, options())
	m := brokertest.Dial(t, s, v5("m", 0))
	subscribe(t, m, "$SYS/#", 0)
	brokertest.Dial(t, s, v5("a", 0))
	publish(t, s, message.Message{Topic: "$SYS/end"})
	if p := readPublish(t, m); p.Topic != "$SYS/end" {
		t.Errorf("got %s", p.Topic)
	}
}
