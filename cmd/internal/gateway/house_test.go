package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
)

// penciled is a hash of the password "pencil" that costs little.
const penciled = "$7$101$8iNJ3TsevjNxmIb8$uoCMBYft/zHL52Zmgy2QYw3PO5/KMHWsBjicwhYlMVXPcACSVoNQD03iKqdL1XjV8hEjjFkwSUrqXN3F7FKlXA=="

// house is a gateway that runs, with users, an ACL and rules in files of a folder.
type house struct {
	t       *testing.T
	g       *Gateway
	cfg     *config.Config
	dir     string
	mqtt    string // HOST:PORT
	console string // URL
	stop    func()
}

// addresses is a log that remembers where is listened.
type addresses struct {
	mu   sync.Mutex
	told map[string]string
}

func (a *addresses) Enabled(context.Context, slog.Level) bool { return true }
func (a *addresses) WithAttrs([]slog.Attr) slog.Handler       { return a }
func (a *addresses) WithGroup(string) slog.Handler            { return a }
func (a *addresses) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(attr slog.Attr) bool {
		if r.Message == "listening" && attr.Key == "address" && strings.HasPrefix(attr.Value.String(), "127.") || r.Message == "console" {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.told[r.Message] = attr.Value.String()
		}
		return true
	})
	return nil
}

// newHouse runs a gateway with the files, which stops with the test.
func newHouse(t *testing.T, files map[string]string) *house {
	t.Helper()
	dir, err := os.MkdirTemp("", "house") // short: a socket's path has at most 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // nothing depends on it
	h := &house{t: t, dir: dir, cfg: config.Default()}
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	b := &h.cfg.Broker
	b.Listeners = []config.Listener{{Address: "127.0.0.1:0", Protocol: "mqtt"}}
	b.Users, b.ACL = filepath.Join(dir, "users"), filepath.Join(dir, "acl.yaml")
	h.cfg.Console.Address = "127.0.0.1:0"
	h.cfg.Rules.Folder, h.cfg.Devices.Folder, h.cfg.Plugins.Folder = filepath.Join(dir, "rules"), filepath.Join(dir, "devices"), filepath.Join(dir, "plugins")
	h.start()
	return h
}

// start runs the gateway until the test ends or stop is called, and waits until it is up.
func (h *house) start() {
	t := h.t
	t.Helper()
	told := &addresses{told: make(map[string]string)}
	up := make(chan struct{})
	var err error
	h.g, err = New(h.cfg, Options{Data: filepath.Join(h.dir, "data"), Log: slog.New(told), Worker: []string{"/bin/false"}, Up: func() { close(up) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.g.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	t.Cleanup(h.stop)
	select {
	case <-up:
	case <-time.After(20 * time.Second):
		t.Fatal("the gateway does not come up")
	}
	told.mu.Lock()
	defer told.mu.Unlock()
	h.mqtt, h.console = told.told["listening"], told.told["console"]
}

// reload replaces the ACL file and has it read, as SIGHUP does.
func (h *house) reload(acl string) {
	h.t.Helper()
	write(h.t, h.cfg.Broker.ACL, acl)
	next := *h.cfg
	if err := h.g.Reload(h.t.Context(), &next); err != nil {
		h.t.Fatal(err)
	}
}

// topics are those that the API shows for a filter, with their payloads.
func (h *house) topics(filter string) map[string]string {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.console+"/api/v1/topics?filter="+filter, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var list []struct{ Topic, Payload string }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		h.t.Fatal(err)
	}
	shown := make(map[string]string)
	for _, entry := range list {
		shown[entry.Topic] = entry.Payload
	}
	return shown
}

// peer is a client at a socket.
type peer struct {
	*brokertest.Client
	t     *testing.T
	id    uint16
	early []*packet.Publish // that came before an acknowledgement
}

// knock sends CONNECT of a user whose password is "pencil", and returns the answer.
func (h *house) knock(p *packet.Connect) (*peer, *packet.Connack) {
	h.t.Helper()
	nc, err := net.Dial("tcp", h.mqtt)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = nc.Close() }) // closed before, perhaps
	c := &peer{Client: brokertest.NewClient(nc), t: h.t}
	p.HasUsername = p.Username != ""
	if p.HasPassword = p.HasUsername; p.HasPassword && p.Password == nil {
		p.Password = []byte("pencil")
	}
	ack, err := c.Connect(p)
	if err != nil {
		h.t.Fatal(err)
	}
	return c, ack
}

// connect is a connection that is not refused.
func (h *house) connect(p *packet.Connect) *peer {
	h.t.Helper()
	c, ack := h.knock(p)
	if ack.Reason.Failed() {
		h.t.Fatalf("%q is refused: %v", p.Username, ack.Reason)
	}
	return c
}

// hello is a CONNECT; a session that stays outlives its connection.
func hello(v packet.Version, user string, stays bool) *packet.Connect {
	p := &packet.Connect{Version: v, ClientID: user + "'s", Username: user, Clean: !stays}
	if stays && v == packet.V5 {
		p.Properties.SessionExpiryInterval = 1000
	}
	return p
}

func (c *peer) send(p packet.Packet) {
	c.t.Helper()
	if err := c.Send(p); err != nil {
		c.t.Fatal(err)
	}
}

func (c *peer) next() packet.Packet {
	c.t.Helper()
	p, err := c.Read()
	if err != nil {
		c.t.Fatalf("nothing came: %v", err)
	}
	return p
}

// publish publishes with QoS 1 and returns how it is acknowledged.
func (c *peer) publish(p *packet.Publish) packet.Reason {
	c.t.Helper()
	c.id++
	p.QoS, p.ID = 1, c.id
	c.send(p)
	for {
		switch ack := c.next().(type) {
		case *packet.Ack:
			if ack.Kind == packet.PUBACK && ack.ID == c.id {
				return ack.Reason
			}
		case *packet.Publish:
			c.early = append(c.early, ack)
		}
	}
}

// ping asks the server for an answer, and keeps what comes before it.
func (c *peer) ping() {
	c.t.Helper()
	c.send(&packet.Pingreq{})
	for {
		switch p := c.next().(type) {
		case *packet.Pingresp:
			return
		case *packet.Publish:
			c.early = append(c.early, p)
		}
	}
}

// message is the next message.
func (c *peer) message() *packet.Publish {
	c.t.Helper()
	if len(c.early) > 0 {
		p := c.early[0]
		c.early = c.early[1:]
		return p
	}
	for {
		if p, ok := c.next().(*packet.Publish); ok {
			return p
		}
	}
}

func (c *peer) take(p *packet.Publish) {
	c.t.Helper()
	if p.QoS > 0 {
		c.send(&packet.Ack{Kind: packet.PUBACK, ID: p.ID})
	}
}

// subscribe subscribes with QoS 1 and returns the answers.
func (c *peer) subscribe(filters ...string) []packet.Reason {
	c.t.Helper()
	c.id++
	s := &packet.Subscribe{ID: c.id}
	for _, f := range filters {
		s.Filters = append(s.Filters, packet.Filter{Filter: f, Options: packet.SubscribeOptions{QoS: 1}})
	}
	c.send(s)
	for {
		switch p := c.next().(type) {
		case *packet.Suback:
			return p.Reasons
		case *packet.Publish: // retained, while the subscription is on its way to the disk
			c.early = append(c.early, p)
		default:
			c.t.Fatalf("no SUBACK for %q", filters)
		}
	}
}

// until takes messages up to the one with that topic and payload, and returns those
// before it as "topic payload".
func (c *peer) until(topic, payload string) []string {
	c.t.Helper()
	var before []string
	for {
		p := c.message()
		c.take(p)
		if p.Topic == topic && string(p.Payload) == payload {
			return before
		}
		before = append(before, p.Topic+" "+string(p.Payload))
	}
}

// disconnect leaves, and waits until the server has let go.
func (c *peer) disconnect() {
	c.t.Helper()
	c.send(&packet.Disconnect{})
	c.gone()
}

// gone waits for the end of the connection.
func (c *peer) gone() {
	c.t.Helper()
	for {
		if _, err := c.Read(); err != nil {
			return
		}
	}
}

// inside publishes from inside the gateway.
func (h *house) inside(topic, payload string) {
	h.t.Helper()
	if err := h.g.broker.Publish(h.t.Context(), message.Message{Topic: topic, Payload: []byte(payload), QoS: 1}); err != nil {
		h.t.Fatal(fmt.Errorf("cannot publish %q: %w", topic, err))
	}
}
