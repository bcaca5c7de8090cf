package broker_test

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// differences are what mosquitto and we do differently, and why ours is right. Each
// hides itself from what both have observed, or, without a hide, scripts steer clear of
// it; anything else that differs fails.
var differences = []struct {
	what, reason, statement string
	hide                    func(*observed)
}{
	{
		what:      "one copy of a message whose topic several subscriptions of a client match",
		reason:    "mosquitto sends one a subscription; we send one, at the highest QoS, with all subscription identifiers, equal ones too (§3.3.4)",
		statement: "MQTT 5.0 §3.3.4: the Server MUST deliver respecting the maximum QoS [MQTT-3.3.4-2]; further copies are a MAY",
		hide:      func(o *observed) { o.eachMessage(mergeCopies) },
	},
	{
		what:      "identifiers and RETAIN of a message that several subscriptions of a 5.0 client match while it is away",
		reason:    "mosquitto queues those of its copies that are not of QoS 0; we queue one for all",
		statement: "MQTT 5.0 §3.3.4: if one copy is sent, it MUST have the identifiers of all matching subscriptions [MQTT-3.3.4-4]",
		hide: func(o *observed) {
			for id, all := range o.Heard {
				for i := range all {
					if h := &all[i]; o.version == packet.V5 && o.overlap[id+h.Payload] == overlapAway {
						h.IDs, h.Retain = nil, false
					}
				}
			}
		},
	},
	{
		what:      "QoS of a message that several subscriptions of a 3.1.1 client match",
		reason:    "mosquitto 2.0.11 sends one copy at the QoS of whichever subscription it finds first",
		statement: "MQTT 3.1.1 §3.3.5: the Server MUST deliver respecting the maximum QoS of all the matching subscriptions [MQTT-3.3.5-1]",
		hide: func(o *observed) {
			for id, all := range o.Heard {
				if o.version == packet.V5 {
					break
				}
				o.Heard[id] = slices.DeleteFunc(all, func(h hearing) bool { return o.overlap[id+h.Payload] == overlapAway })
				for i, h := range o.Heard[id] {
					if o.overlap[id+h.Payload] == overlapHere {
						o.Heard[id][i].QoS = 0
					}
				}
			}
		},
	},
	{
		what:      "order between topics, QoS levels of a topic, and publishers",
		reason:    "retained messages have none; mosquitto routes a QoS 2 message at its PUBREL, we at its PUBLISH",
		statement: "MQTT 5.0 §4.6: the order is that of each topic and each QoS [MQTT-4.6.0-5]; §4.3.3: onward delivery may begin at either",
		hide: func(o *observed) {
			o.eachMessage(func(all []hearing) []hearing {
				slices.SortStableFunc(all, func(a, b hearing) int {
					if a.Topic != b.Topic {
						return strings.Compare(a.Topic, b.Topic)
					}
					return strings.Compare(flow(a.Payload), flow(b.Payload))
				})
				return all
			})
		},
	},
	{
		what:      "which member of a shared subscription gets a message",
		reason:    "both go round, from different beginnings; we prefer members that are connected",
		statement: "MQTT 5.0 §4.8.2: the Server is free to choose",
		hide:      hideMember,
	},
	{
		what:      "the will of a connection that another takes over, session and all",
		reason:    "mosquitto 2.0.11 publishes it only if the session ends; ours is the will of a network connection that closed without DISCONNECT",
		statement: "MQTT 5.0 §3.1.4, [MQTT-3.1.4-3] and its note: a will whose delay is 0 is sent at a takeover; 3.1.1 [MQTT-3.1.2-8]",
		hide:      func(o *observed) { o.eachMessage(o.without(o.takenWills)) },
	},
	{
		what:      "a client's own will, when its connection is taken over and its session ends",
		reason:    "mosquitto still sends it to the connection that it is closing",
		statement: "MQTT 5.0 [MQTT-3.1.2-8]: the will is published after the network connection was closed",
		hide: func(o *observed) {
			o.Heard[o.client] = o.without(map[string]bool{o.ownWill: true})(o.Heard[o.client])
		},
	},
	{
		what:      "no local and retain as published of a filter that is subscribed to again",
		reason:    "mosquitto 2.0.11 takes the new QoS and identifier, and leaves those two as they were",
		statement: "MQTT 5.0 §3.8.4: the Server MUST replace the existing Subscription with a new one [MQTT-3.8.4-3]",
	},
	{
		what:      "UNSUBACK for a filter with a first level beginning with $ that no client has subscribed to yet",
		reason:    "mosquitto 2.0.11 answers with the reason code that happens to be in its memory; newPeer subscribes to such a level first",
		statement: "MQTT 5.0 §3.11.3: 0x11, No matching Topic Filter is being used by the Client",
	},
	{
		what:      "own retained messages at a subscription with no local",
		reason:    "mosquitto 2.0.11 sends them",
		statement: "MQTT 5.0 §3.8.3.1: messages MUST NOT be forwarded to the ClientID that published them [MQTT-3.8.3-3]",
		hide: func(o *observed) {
			if o.noLocal {
				o.eachMessage(func(all []hearing) []hearing {
					return slices.DeleteFunc(all, func(h hearing) bool { return h.Retain && strings.HasSuffix(h.Payload, " "+o.client) })
				})
			}
		},
	},
	{
		what:      "DISCONNECT 0x8E to a connection that another takes over",
		reason:    "mosquitto 2.0.11 closes without a word if the session ends",
		statement: "MQTT 5.0 §3.1.4: the Server sends DISCONNECT with 0x8E to the existing Client [MQTT-3.1.4-3]",
		hide: func(o *observed) {
			o.Answers = slices.DeleteFunc(o.Answers, func(a string) bool { return a == "DISCONNECT "+packet.SessionTakenOver.Error() })
		},
	},
	{
		what:      "retained messages at a shared subscription of 3.1.1",
		reason:    "mosquitto 2.0.11 sends them to 3.1.1 clients",
		statement: "MQTT 5.0 §4.8.2: no retained messages are sent at first subscription to a shared one; 3.1.1 has none",
		hide: func(o *observed) {
			if o.sharing {
				o.eachMessage(func(all []hearing) []hearing {
					return slices.DeleteFunc(all, func(h hearing) bool { return h.Retain })
				})
			}
		},
	},
	{
		what:      "PUBACK and PUBREC with 0x10, no matching subscribers",
		reason:    "mosquitto counts the retained store among the subscribers",
		statement: "MQTT 5.0 §3.4.2.1: 0x10 MAY be used instead of 0x00",
		hide: func(o *observed) {
			for i := range o.Answers {
				o.Answers[i] = strings.ReplaceAll(o.Answers[i], packet.NoMatchingSubscribers.Error(), packet.Success.Error())
			}
		},
	},
}

// hearing is one message as a client got it.
type hearing struct {
	Topic, Payload string
	QoS            message.QoS
	Retain, Dup    bool
	IDs            []uint32
	Properties     string
}

// observed is what one step showed at one broker.
type observed struct {
	Answers []string             // to the client that acts
	Heard   map[string][]hearing // by client
	Shared  []hearing            // by either, once hideMember has gathered it

	open       map[string]bool // payloads that may wait for the member that a broker chose
	takenWills map[string]bool
	client     string             // who acts
	ownWill    string             // of the client, if its session ended in a takeover
	noLocal    bool               // the step subscribed with no local
	sharing    bool               // the step made a shared subscription
	overlap    map[string]overlap // by client and payload
	version    packet.Version
}

// overlap says that several subscriptions of a client match a message, and whether
// the client was away, so that the QoS decides if it is kept.
type overlap uint8

const (
	overlapHere overlap = iota + 1
	overlapAway
)

func (o *observed) eachMessage(f func([]hearing) []hearing) {
	for id, all := range o.Heard {
		o.Heard[id] = f(all)
	}
	o.Shared = f(o.Shared)
}

func (o *observed) without(payloads map[string]bool) func([]hearing) []hearing {
	return func(all []hearing) []hearing {
		return slices.DeleteFunc(all, func(h hearing) bool { return payloads[h.Payload] })
	}
}

// flow is the QoS that a message was published with and by whom, as payloads of
// scripts say.
func flow(payload string) string {
	_, rest, _ := strings.Cut(payload, " ")
	return rest
}

func mergeCopies(all []hearing) []hearing {
	var merged []hearing
	for _, h := range all {
		h.IDs = slices.Compact(slices.Sorted(slices.Values(h.IDs)))
		at := slices.IndexFunc(merged, func(m hearing) bool { return m.Payload == h.Payload && m.Topic == h.Topic })
		if at < 0 {
			merged = append(merged, h)
			continue
		}
		m := &merged[at]
		m.QoS, m.Retain = max(m.QoS, h.QoS), m.Retain || h.Retain
		m.IDs = slices.Compact(slices.Sorted(slices.Values(append(m.IDs, h.IDs...))))
	}
	return merged
}

// hideMember looks at messages of topics that are shared as heard by either client,
// and not at those that a member that is away may have been chosen for.
func hideMember(o *observed) {
	o.eachMessage(o.without(o.open))
	ordered := true
	for _, id := range []string{"a", "b"} {
		from := len(o.Shared)
		o.Heard[id] = slices.DeleteFunc(o.Heard[id], func(h hearing) bool {
			shared := strings.HasPrefix(h.Topic, "s/")
			if shared {
				h.QoS, h.IDs = 0, nil // those of the member
				o.Shared = append(o.Shared, h)
			}
			return shared
		})
		ordered = ordered && inOrder(o.Shared[from:])
	}
	o.Shared = mergeCopies(o.Shared)
	if ordered { // by each member; which of them is first depends on who was chosen
		slices.SortStableFunc(o.Shared, func(a, b hearing) int { return number(a.Payload) - number(b.Payload) })
	}
}

// inOrder reports whether a client heard what was published in one way as it was
// published.
func inOrder(all []hearing) bool {
	last := make(map[string]int)
	for _, h := range all {
		n, way := number(h.Payload), flow(h.Payload)
		if n < last[way] {
			return false
		}
		last[way] = n
	}
	return true
}

// number is that of a message, as payloads of scripts begin with it.
func number(payload string) int {
	text, _, _ := strings.Cut(payload, " ")
	n, _ := strconv.Atoi(text) // none is 0
	return n
}

// peer is a broker under comparison, seen by its clients.
type peer struct {
	name, address string
	version       packet.Version
	clients       map[string]*brokertest.Client // those connected
	observer      *brokertest.Client            // hears wills
	wills         map[string]bool               // payloads the observer has heard
	now           *observed
	// waits reports whether something is on its way to somebody who is there: what
	// waited for a client is fetched while its PINGREQ is answered. Nil is never.
	waits func() bool
}

// waits looks into our broker.
func waits(server *brokertest.Server) func() bool {
	return func() bool {
		return slices.ContainsFunc(server.Clients(), func(c broker.ClientInfo) bool { return c.Connected && c.Queued+c.InFlight > 0 })
	}
}

// startMosquitto runs Debian's mosquitto on a port of loopback.
func startMosquitto(t *testing.T) (address string) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			t.Fatalf("mosquitto is needed (package mosquitto): %v", err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	_ = l.Close() // mosquitto cannot take port 0
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	lines := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nsys_interval 0\nlog_dest stderr\nlog_type error\n"
	if os.Getuid() == 0 {
		lines += "user root\n"
	}
	if err := os.WriteFile(config, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", config)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	eventually(t, "mosquitto listens", func() bool {
		nc, err := net.Dial("tcp", address)
		if err == nil {
			_ = nc.Close()
		}
		return err == nil
	})
	return address
}

// examples sets how many examples rapid tries.
func examples(t *testing.T, few, many int) {
	t.Helper()
	for name, value := range map[string]string{"rapid.checks": strconv.Itoa(rounds(few, many)), "rapid.nofailfile": "true"} {
		before := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, before) })
	}
}

// Two clients do random things at mosquitto and at ours; what they hear is the same,
// but for the [differences].
func TestSameAsMosquitto(t *testing.T) {
	theirs := startMosquitto(t)
	server := brokertest.Start(t, options())
	ours := server.Address()
	for _, version := range []packet.Version{packet.V311, packet.V5} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			examples(t, 200, 5_000)
			rapid.Check(t, func(t *rapid.T) {
				s := newScript(t, version)
				peers := []*peer{newPeer(t, "mosquitto", theirs, version), newPeer(t, "ours", ours, version)}
				peers[1].waits = waits(server)
				defer func() {
					for _, p := range peers {
						p.leave(t)
					}
				}()
				for range rapid.IntRange(1, 25).Draw(t, "steps") {
					act := s.step()
					var seen [2]*observed
					for i, p := range peers {
						seen[i] = p.do(t, s, act)
					}
					if diff := cmp.Diff(seen[0], seen[1], cmpopts.IgnoreUnexported(observed{}), cmpopts.EquateEmpty()); diff != "" {
						t.Fatalf("after\n  %s\n-mosquitto +ours:\n%s", strings.Join(s.told, "\n  "), diff)
					}
				}
			})
		})
	}
}

func newPeer(t *rapid.T, name, address string, version packet.Version) *peer {
	p := &peer{name: name, address: address, version: version, clients: make(map[string]*brokertest.Client), wills: make(map[string]bool)}
	p.observer = p.dial(t, &packet.Connect{Version: version, ClientID: "observer", Clean: true})
	p.now = &observed{Heard: make(map[string][]hearing)}
	p.send(t, p.observer, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "w/+"}, {Filter: "$odd"}}}) // see differences
	p.drain(t, "observer", p.observer)
	return p
}

func (p *peer) dial(t *rapid.T, connect *packet.Connect) *brokertest.Client {
	nc, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	c := brokertest.NewClient(nc)
	ack, err := c.Connect(connect)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	if p.now != nil {
		p.now.Answers = append(p.now.Answers, fmt.Sprintf("CONNACK %v present=%v", ack.Reason, ack.SessionPresent))
	}
	return c
}

// leave takes all that a script has left from a broker.
func (p *peer) leave(t *rapid.T) {
	for _, id := range []string{"a", "b"} {
		if c := p.clients[id]; c != nil {
			_ = c.Close()
		}
		c := p.dial(t, &packet.Connect{Version: p.version, ClientID: id, Clean: true})
		for i, topic := range topics {
			p.send(t, c, &packet.Publish{Topic: topic, Retain: true, QoS: 1, ID: uint16(i + 1)})
		}
		p.drain(t, id, c)
		p.bye(t, id, c, &packet.Disconnect{})
	}
	_ = p.observer.Close()
}

func (p *peer) send(t *rapid.T, c *brokertest.Client, one packet.Packet) {
	if err := c.Send(one); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}

// bye disconnects, and waits for the broker to close.
func (p *peer) bye(t *rapid.T, id string, c *brokertest.Client, with *packet.Disconnect) {
	p.send(t, c, with)
	for {
		one, err := c.Read()
		if err != nil {
			break
		}
		p.take(t, id, c, one)
	}
	_ = c.Close()
	delete(p.clients, id)
}

// do has a client act, and observes what comes of it.
func (p *peer) do(t *rapid.T, s *script, act *action) *observed {
	p.now = &observed{
		Heard: map[string][]hearing{"a": nil, "b": nil}, open: s.open, takenWills: s.takenWills,
		client: act.client, ownWill: act.ownWill, sharing: act.sharing, noLocal: act.noLocal, overlap: s.overlap, version: s.version,
	}
	c := p.clients[act.client]
	switch {
	case act.connect != nil:
		if c != nil {
			defer func() { _ = c.Close() }()
		}
		p.clients[act.client] = p.dial(t, act.connect)
		if c != nil {
			p.ended(t, act.client, c)
		}
	case act.bye != nil:
		p.bye(t, act.client, c, act.bye)
	case act.lost:
		_ = c.Close()
		delete(p.clients, act.client)
	default:
		for _, one := range act.packets {
			p.send(t, c, one)
		}
	}
	if act.will != "" {
		for !p.wills[act.will] {
			one, err := p.observer.Read()
			if err != nil {
				t.Fatalf("%s: will %q does not come: %v, after\n  %s", p.name, act.will, err, strings.Join(s.told, "\n  "))
			}
			p.take(t, "observer", p.observer, one)
		}
	}
	p.settle(t, act.client)
	for _, d := range differences {
		if d.hide != nil {
			d.hide(p.now)
		}
	}
	return p.now
}

// ended reads what a connection that was taken over is told.
func (p *peer) ended(t *rapid.T, id string, c *brokertest.Client) {
	for {
		one, err := c.Read()
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			t.Fatalf("%s does not close a connection that was taken over", p.name)
		case err != nil:
			p.now.Answers = append(p.now.Answers, "closed")
			return
		}
		if pub, ok := one.(*packet.Publish); !ok || pub.QoS == 0 { // else it comes again
			p.take(t, id, nil, one)
		}
	}
}

// settle has all clients acknowledge what comes, until nothing comes any more. The
// one that has acted is first: when it has its answer, all has gone where it goes.
func (p *peer) settle(t *rapid.T, first string) {
	deadline := time.Now().Add(patience)
	for n := 0; n < 50 || p.waits != nil && time.Now().Before(deadline); n++ {
		quiet := p.waits == nil || !p.waits()
		for _, id := range []string{first, "a", "b", "observer"} {
			c := p.clients[id]
			if id == "observer" {
				c = p.observer
			}
			if c != nil {
				quiet = !p.drain(t, id, c) && quiet
			}
		}
		if quiet {
			return
		}
	}
	t.Fatalf("%s does not come to rest", p.name)
}

// drain reads up to the answer of a PINGREQ, and reports whether there was more.
func (p *peer) drain(t *rapid.T, id string, c *brokertest.Client) (more bool) {
	p.send(t, c, &packet.Pingreq{})
	for {
		one, err := c.Read()
		if err != nil {
			t.Fatalf("%s: client %q: %v", p.name, id, err)
		}
		if _, ok := one.(*packet.Pingresp); ok {
			return more
		}
		more = true
		p.take(t, id, c, one)
	}
}

// take notes a packet, and answers it.
func (p *peer) take(t *rapid.T, id string, c *brokertest.Client, one packet.Packet) {
	answer := func(kind packet.Type, id uint16) {
		if c != nil {
			_ = c.Send(&packet.Ack{Kind: kind, ID: id}) // it has left, perhaps
		}
	}
	note := func(format string, args ...any) {
		if id != "observer" {
			p.now.Answers = append(p.now.Answers, fmt.Sprintf(format, args...))
		}
	}
	switch one := one.(type) {
	case *packet.Publish:
		switch one.QoS {
		case 1:
			answer(packet.PUBACK, one.ID)
		case 2:
			answer(packet.PUBREC, one.ID)
		default:
		}
		if id == "observer" {
			p.wills[string(one.Payload)] = true
			return
		}
		p.now.Heard[id] = append(p.now.Heard[id], hearing{
			Topic: one.Topic, Payload: string(one.Payload), QoS: one.QoS, Retain: one.Retain, Dup: one.Dup,
			IDs: one.Properties.SubscriptionIDs, Properties: propertiesOf(&one.Properties),
		})
	case *packet.Ack:
		switch one.Kind {
		case packet.PUBREC:
			note("PUBREC %d %v", one.ID, one.Reason)
			answer(packet.PUBREL, one.ID)
		case packet.PUBREL:
			answer(packet.PUBCOMP, one.ID)
		default:
			note("%v %d %v", one.Kind, one.ID, one.Reason)
		}
	case *packet.Suback:
		note("SUBACK %v", one.Reasons)
	case *packet.Unsuback:
		note("UNSUBACK %v", one.Reasons)
	case *packet.Disconnect:
		note("DISCONNECT %v", one.Reason)
	default:
		t.Fatalf("%s: client %q got %+v", p.name, id, one)
	}
}

// propertiesOf shows what a message carries through; an expiry has begun to run.
func propertiesOf(p *packet.PublishProperties) string {
	expires := "never"
	if p.MessageExpiryInterval != nil {
		expires = fmt.Sprint("in ", (time.Duration(*p.MessageExpiryInterval)*time.Second + 30*time.Second).Truncate(time.Minute))
	}
	return fmt.Sprintf("%v %q %q %q %v expires %s", p.UTF8, p.ContentType, p.ResponseTopic, p.CorrelationData, p.UserProperties, expires)
}
