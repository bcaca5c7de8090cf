package ledger_test

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/brokertest/ledger"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// liar passes on what a real broker sends to a subscriber, but for its messages, of
// which it makes others.
func liar(t *testing.T, s *brokertest.Server, lie func(*packet.Publish) []*packet.Publish) net.Conn {
	t.Helper()
	server := dial(t, s)
	client, inside := net.Pipe()
	done := make(chan struct{}, 2)
	go func() { // what the client says
		defer func() { done <- struct{}{} }()
		b := make([]byte, 4096)
		for {
			n, err := inside.Read(b)
			if err != nil {
				_ = server.Close()
				return
			}
			if _, err := server.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	go func() {
		defer func() { done <- struct{}{}; _ = inside.Close() }()
		for r := bufio.NewReader(server); ; {
			p, err := packet.Read(r, packet.V5, 0)
			if err != nil {
				return
			}
			packets := []packet.Packet{p}
			if p, ok := p.(*packet.Publish); ok {
				packets = nil
				for _, p := range lie(p) {
					packets = append(packets, p)
				}
			}
			for _, p := range packets {
				b, err := packet.Append(nil, p, packet.V5)
				if err != nil {
					t.Error(err)
				}
				if _, err := inside.Write(b); err != nil {
					return
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
		<-done
		<-done
	})
	return client
}

func dial(t *testing.T, s *brokertest.Server) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() }) // closed before, perhaps
	return nc
}

func start(t *testing.T) *brokertest.Server {
	return brokertest.Start(t, broker.Options{Store: mem.New(), Authorizer: brokertest.Everyone(), StatusEvery: -1})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantTold has c take what comes until the ledger tells what is wanted, nothing for an
// empty want: the answer of a PINGREQ may overtake messages of a queue.
func wantTold(t *testing.T, l *ledger.Ledger, want string, c *ledger.Client) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := c.Ping()
		must(t, err)
		got := strings.Join(append(l.Broken(), l.Missing()...), "\n")
		if (got == "") == (want == "") && strings.Contains(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// TestLedgerFindsLies has messages of a real broker come otherwise than it sent them.
func TestLedgerFindsLies(t *testing.T) {
	var kept *packet.Publish
	is := func(p *packet.Publish, number int) bool { return ledger.Number(p.Payload) == number }
	other := func(p *packet.Publish, id uint16) *packet.Publish {
		n := *p
		n.ID = id
		return &n
	}
	for name, c := range map[string]struct {
		qos  message.QoS
		lie  func(*packet.Publish) []*packet.Publish
		want string // of what is broken; empty for nothing
	}{
		"none": {2, func(p *packet.Publish) []*packet.Publish { return []*packet.Publish{p} }, ""},
		"one is lost": {1, func(p *packet.Publish) []*packet.Publish {
			if is(p, 2) {
				return nil
			}
			return []*packet.Publish{p}
		}, `lost: "s" did not get message 2`},
		"one of QoS 2 is doubled": {2, func(p *packet.Publish) []*packet.Publish {
			if is(p, 2) {
				return []*packet.Publish{p, other(p, p.ID+1000)}
			}
			return []*packet.Publish{p}
		}, `doubled: "s" got message 2`},
		"one of QoS 2 comes again, as it may": {2, func(p *packet.Publish) []*packet.Publish {
			if is(p, 2) {
				return []*packet.Publish{p, p}
			}
			return []*packet.Publish{p}
		}, ""},
		"one of QoS 1 is doubled, as it may": {1, func(p *packet.Publish) []*packet.Publish {
			if is(p, 2) {
				return []*packet.Publish{p, p}
			}
			return []*packet.Publish{p}
		}, ""},
		"one of QoS 0 is doubled": {0, func(p *packet.Publish) []*packet.Publish { return []*packet.Publish{p, p} }, `doubled: "s" got message 1`},
		"two change places": {1, func(p *packet.Publish) []*packet.Publish {
			if is(p, 2) {
				kept = p
				return nil
			}
			if is(p, 3) {
				return []*packet.Publish{p, kept}
			}
			return []*packet.Publish{p}
		}, `reordered: "s" got message 2`},
		"one comes from nowhere": {1, func(p *packet.Publish) []*packet.Publish {
			n := *p
			n.Payload = []byte("77")
			return []*packet.Publish{&n}
		}, `never sent`},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := start(t), ledger.New()
			sub, pub := l.Client("s", packet.V5), l.Client("p", packet.V5)
			sub.Withhold = true // the broker does not know all identifiers
			must(t, sub.Connect(liar(t, s, c.lie)))
			must(t, sub.Subscribe("x/#", 2))
			must(t, pub.Connect(dial(t, s)))
			for range 4 {
				must(t, pub.Publish("x/y", c.qos, false, 10))
			}
			must(t, pub.Settle())
			_, err := pub.Ping() // what the broker has taken is sent
			must(t, err)
			wantTold(t, l, c.want, sub)
			if c.qos > 0 && l.Acknowledged() != 4 {
				t.Errorf("%d are acknowledged", l.Acknowledged())
			}
		})
	}
}

func TestLedgerKnowsSessions(t *testing.T) {
	s, l := start(t), ledger.New()
	c, p := l.Client("c", packet.V311), l.Client("p", packet.V5)
	must(t, p.Connect(dial(t, s)))
	must(t, c.Connect(dial(t, s)))
	must(t, c.Subscribe("x", 1))
	c.Lose()
	must(t, p.Publish("x", 1, false, 0))
	must(t, p.Settle())
	must(t, c.Connect(dial(t, s)))
	wantTold(t, l, "", c)
	must(t, c.Unsubscribe("x"))
	must(t, p.Publish("x", 1, false, 0))
	must(t, p.Settle())
	wantTold(t, l, "", c)
	c.Lose()
	must(t, c.Connect(dial(t, start(t)))) // of another broker, which knows nothing
	if got := strings.Join(l.Broken(), "\n"); !strings.Contains(got, `lost: the session of "c"`) {
		t.Errorf("got %q", got)
	}
}

func TestLedgerKnowsRetained(t *testing.T) {
	s, l := start(t), ledger.New()
	p := l.Client("p", packet.V5)
	must(t, p.Connect(dial(t, s)))
	must(t, p.Publish("a", 1, true, 0)) // 1
	must(t, p.Publish("a", 1, true, 0)) // 2
	must(t, p.Publish("b", 1, true, 0)) // 3
	must(t, p.Clear("b", 1))            // 4
	must(t, p.Publish("c", 1, false, 0))
	must(t, p.Settle())
	for _, c := range []struct {
		found map[string]int
		want  string
	}{
		{map[string]int{"a": 2}, ""},
		{map[string]int{"a": 1}, `lost: topic "a" has message 1 retained, number 2`},
		{map[string]int{}, `lost: topic "a" has nothing retained`},
		{map[string]int{"a": 2, "b": 3}, `lost: topic "b" has message 3`},
		{map[string]int{"a": 2, "c": 5}, `topic "c" has message 5 retained, which was never sent so`},
	} {
		got := strings.Join(l.Retained(c.found), "\n")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v: got %q, want %q", c.found, got, c.want)
		}
	}
}
