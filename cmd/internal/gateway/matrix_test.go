package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// The matrix: every way that a message takes from or to a client, with every fate of
// the client's right to it, in both versions, against the wired gateway over sockets.

type right string

const (
	allowed  right = "allow"
	denied   right = "deny"
	online   right = "revoked while online"
	offline  right = "revoked while offline"
	fromHere       = "t/x"  // what the right is about
	control        = "t/ok" // what stays allowed, so that silence can be told from deafness
)

// way is one way that a message takes.
type way struct {
	name string
	run  func(*cell)
	// only5 says why it is not there in 3.1.1.
	only5 string
}

var ways = []way{
	{name: "publish", run: (*cell).publish},
	{name: "will", run: (*cell).will},
	{name: "delayed will", run: (*cell).delayedWill, only5: "3.1.1 has no Will Delay Interval (MQTT 5.0 §3.1.3.2.2)"},
	{name: "retained set", run: (*cell).retainedSet},
	{name: "live", run: (*cell).live},
	{name: "retained delivery", run: (*cell).retainedDelivery},
	{name: "queued replay", run: (*cell).queuedReplay},
	{name: "shared", run: (*cell).shared},
	{name: "alias", run: (*cell).alias, only5: "3.1.1 has no Topic Alias (MQTT 5.0 §3.3.2.3.4)"},
	{name: "overlapping wildcard", run: (*cell).overlapping},
	{name: "rule in", run: (*cell).ruleIn},
	{name: "rule out", run: (*cell).ruleOut},
	{name: "$SYS", run: (*cell).system},
	{name: "API", run: (*cell).api},
}

func TestAccessMatrix(t *testing.T) {
	var impossible []string
	run := 0
	for _, w := range ways {
		for _, r := range []right{allowed, denied, online, offline} {
			for _, v := range []packet.Version{packet.V311, packet.V5} {
				name := fmt.Sprintf("%s/%s/%v", w.name, r, v)
				if w.only5 != "" && v != packet.V5 {
					impossible = append(impossible, name+": "+w.only5)
					continue
				}
				run++
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					w.run(newCell(t, r, v))
				})
			}
		}
	}
	t.Logf("%d combinations run; %d are impossible:\n%s", run, len(impossible), strings.Join(impossible, "\n"))
	if run != 104 || len(impossible) != 8 {
		t.Errorf("%d combinations run and %d impossible, want 104 and 8 of 14 ways, 4 fates and 2 versions", run, len(impossible))
	}
}

// cell is one combination: sam is the client whose right it is about, watch may do
// everything.
type cell struct {
	*house
	right   right
	version packet.Version
	sam     *peer
	watch   *peer
	marks   int
}

const matrixRules = `
rules:
  - {name: in, on: t/x, do: [{publish: heard, payload: "${payload}"}]}
  - {name: out, on: trigger, do: [{publish: t/x, payload: "${payload}", qos: 1}]}
`

// matrixACL is the ACL with sam's right or without.
func matrixACL(sam bool) string {
	acl := `
rules:
  - {allow: readwrite, topics: ["#", "$SYS/#"], users: [watch, max]}
  - {allow: readwrite, topics: ["#"], users: [sam]}
`
	if sam {
		return acl + "  - {allow: read, topics: [\"$SYS/#\"], users: [sam]}\n"
	}
	return acl + "  - {deny: readwrite, topics: [t/x], users: [sam]}\n"
}

func newCell(t *testing.T, r right, v packet.Version) *cell {
	c := &cell{right: r, version: v}
	c.house = newHouse(t, map[string]string{
		"users":           "sam:" + penciled + "\nwatch:" + penciled + "\nmax:" + penciled + "\n",
		"acl.yaml":        matrixACL(r != denied),
		"rules/both.yaml": matrixRules,
	})
	c.watch = c.connect(hello(packet.V5, "watch", false))
	return c
}

// come connects sam, whose session stays.
func (c *cell) come() { c.sam = c.connect(hello(c.version, "sam", true)) }

func (c *cell) revoke() { c.reload(matrixACL(false)) }

// fates runs a way through the fate of the right: try does what the right is about, and
// want says whether it should succeed.
func (c *cell) fates(prepare func(), try func(payload string, want bool)) {
	c.t.Helper()
	c.come()
	if prepare != nil {
		prepare()
	}
	try("first", c.right != denied)
	switch c.right {
	case online:
		c.revoke()
	case offline:
		c.sam.disconnect()
		c.revoke()
		c.come()
	default:
		return
	}
	try("second", false)
}

// mark is a payload that was not there before.
func (c *cell) mark() string {
	c.marks++
	return fmt.Sprintf("mark %d", c.marks)
}

// sends has sam publish, and checks how that is answered.
func (c *cell) sends(p *packet.Publish, want bool) {
	c.t.Helper()
	got := c.sam.publish(p)
	if c.version == packet.V5 && (got == packet.NotAuthorized) == want {
		c.t.Errorf("sam's PUBLISH is answered with %v, allowed should be %v", got, want)
	}
}

// watches has watch publish, who may.
func (c *cell) watches(p *packet.Publish) {
	c.t.Helper()
	if got := c.watch.publish(p); got.Failed() {
		c.t.Errorf("watch's PUBLISH is answered with %v", got)
	}
}

// heard checks whether watch hears a message before a control of sam's.
func (c *cell) heard(topic, payload string, want bool) {
	c.t.Helper()
	m := c.mark()
	c.sends(&packet.Publish{Topic: control, Payload: []byte(m)}, true)
	got := c.watch.until(control, m)
	if slices.Contains(got, topic+" "+payload) != want {
		c.t.Errorf("watch hears %q, %q among them should be %v", got, topic+" "+payload, want)
	}
}

// gets checks what sam has got when a control of watch's comes.
func (c *cell) gets(payload string, want bool) {
	c.t.Helper()
	m := c.mark()
	c.watches(&packet.Publish{Topic: control, Payload: []byte(m)})
	got := c.sam.until(control, m)
	var wanted []string
	if want {
		wanted = []string{fromHere + " " + payload}
	}
	if !slices.Equal(got, wanted) {
		c.t.Errorf("sam gets %q, want %q", got, wanted)
	}
}

func (c *cell) answers(want bool, reasons []packet.Reason) {
	c.t.Helper()
	if reasons[0].Failed() == want {
		c.t.Errorf("sam's SUBSCRIBE is answered with %v, allowed should be %v", reasons, want)
	}
}

// Ways from the client.

func (c *cell) publish() {
	c.fates(func() { c.watch.subscribe("t/#") }, func(payload string, want bool) {
		c.sends(&packet.Publish{Topic: fromHere, Payload: []byte(payload)}, want)
		c.heard(fromHere, payload, want)
	})
}

func (c *cell) alias() {
	known := false
	c.fates(func() { c.watch.subscribe("t/#") }, func(payload string, want bool) {
		p := &packet.Publish{Topic: fromHere, Payload: []byte(payload), Properties: packet.PublishProperties{TopicAlias: 3}}
		if known && c.right == online {
			p.Topic = "" // the alias was made while the right was there
		}
		known = true
		c.sends(p, want)
		c.sends(&packet.Publish{Payload: []byte(payload), Properties: packet.PublishProperties{TopicAlias: 3}}, want)
		c.heard(fromHere, payload, want)
	})
}

func (c *cell) retainedSet() {
	kept := ""
	c.fates(nil, func(payload string, want bool) {
		c.sends(&packet.Publish{Topic: fromHere, Payload: []byte(payload), Retain: true}, want)
		if want {
			kept = payload
		}
		got := ""
		for _, m := range c.g.broker.Retained(fromHere, 1) {
			got = string(m.Payload)
		}
		if got != kept {
			c.t.Errorf("%q is retained, want %q", got, kept)
		}
	})
}

func (c *cell) api() {
	kept := ""
	c.fates(nil, func(payload string, want bool) {
		c.sends(&packet.Publish{Topic: fromHere, Payload: []byte(payload), Retain: true}, want)
		if want {
			kept = payload
		}
		if got := c.topics(fromHere)[fromHere]; got != kept {
			c.t.Errorf("the API shows %q, want %q", got, kept)
		}
	})
}

func (c *cell) ruleIn() {
	c.fates(func() { c.watch.subscribe("heard", control) }, func(payload string, want bool) {
		c.sends(&packet.Publish{Topic: fromHere, Payload: []byte(payload)}, want)
		if !want { // one that the rule hears comes after it
			payload += " by watch"
			c.watches(&packet.Publish{Topic: fromHere, Payload: []byte(payload)})
		}
		if got := c.watch.until("heard", payload); len(got) > 0 {
			c.t.Errorf("the rule heard %q before", got)
		}
	})
}

// withWill is a CONNECT of sam's with a will.
func (c *cell) withWill(delay uint32) *packet.Connect {
	p := hello(c.version, "sam", true)
	p.Will = &packet.Will{Topic: fromHere, Payload: []byte("will"), QoS: 1}
	p.Will.Properties.DelayInterval = delay
	return p
}

// refusesWill checks that a CONNECT with a will is refused.
func (c *cell) refusesWill(delay uint32) {
	c.t.Helper()
	if _, ack := c.knock(c.withWill(delay)); ack.Reason != packet.NotAuthorized {
		c.t.Errorf("a CONNECT with a will is answered with %v, want 0x87", ack.Reason)
	}
}

// wills checks whether watch hears the will, and then a control of its own.
func (c *cell) wills(want bool) {
	c.t.Helper()
	if want {
		c.watch.until(fromHere, "will")
		return
	}
	m := c.mark()
	c.watches(&packet.Publish{Topic: "else", Payload: []byte(m)})
	if got := c.watch.until("else", m); len(got) > 0 {
		c.t.Errorf("watch hears %q", got)
	}
}

// away waits until the server knows that sam is not there.
func (c *cell) away() {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if c.g.broker.Stats().Clients == 1 {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatal("sam does not go")
		}
		c.watch.ping()
	}
}

func (c *cell) will() {
	c.watch.subscribe(fromHere, "else")
	switch c.right {
	case denied:
		c.refusesWill(0)
		c.wills(false)
		return
	case offline: // its last connection ended well, and its next one may have no will
		c.connect(c.withWill(0)).disconnect()
		c.revoke()
		c.refusesWill(0)
		c.wills(false)
		return
	case allowed, online:
	}
	sam := c.connect(c.withWill(0))
	if c.right == online {
		c.revoke()
	}
	_ = sam.Close() // without a word
	c.away()
	c.wills(c.right == allowed)
}

func (c *cell) delayedWill() {
	c.watch.subscribe(fromHere, "else")
	if c.right == denied {
		c.refusesWill(900)
		c.wills(false)
		return
	}
	sam := c.connect(c.withWill(900))
	if c.right == online {
		c.revoke()
	}
	_ = sam.Close() // without a word
	c.away()
	if c.right == offline {
		c.revoke()
	}
	c.connect(hello(c.version, "sam", false)) // a clean start ends the session, and the wait
	c.wills(c.right == allowed)
}

// Ways to the client.

func (c *cell) live() {
	c.fates(func() {
		c.answers(c.right != denied, c.sam.subscribe(fromHere, control))
	}, func(payload string, want bool) {
		c.watches(&packet.Publish{Topic: fromHere, Payload: []byte(payload)})
		c.gets(payload, want)
	})
}

func (c *cell) overlapping() {
	c.fates(func() {
		c.answers(true, c.sam.subscribe("t/#", "t/+", "+/x", control)[:1])
	}, func(payload string, want bool) {
		c.watches(&packet.Publish{Topic: fromHere, Payload: []byte(payload)})
		c.gets(payload, want)
	})
}

func (c *cell) ruleOut() {
	c.fates(func() {
		c.watch.subscribe(fromHere)
		c.answers(c.right != denied, c.sam.subscribe(fromHere, control))
	}, func(payload string, want bool) {
		c.watches(&packet.Publish{Topic: "trigger", Payload: []byte(payload)})
		c.watch.until(fromHere, payload) // the rule has fired
		c.gets(payload, want)
	})
}

func (c *cell) retainedDelivery() {
	c.fates(nil, func(payload string, want bool) {
		c.watches(&packet.Publish{Topic: fromHere, Payload: []byte(payload), Retain: true})
		c.sam.send(&packet.Unsubscribe{ID: 9, Filters: []string{"t/#"}})
		if _, ok := c.sam.next().(*packet.Unsuback); !ok {
			c.t.Error("no UNSUBACK")
		}
		c.answers(true, c.sam.subscribe("t/#"))
		c.gets(payload, want)
	})
}

// queuedReplay is about messages that come while sam is not there.
func (c *cell) queuedReplay() {
	c.come()
	c.answers(true, c.sam.subscribe("t/#"))
	if c.right == online {
		c.revoke()
	}
	c.sam.disconnect()
	c.away()
	c.watches(&packet.Publish{Topic: fromHere, Payload: []byte("queued")})
	c.watches(&packet.Publish{Topic: control, Payload: []byte("queued behind")})
	if c.right == offline {
		c.revoke()
	}
	c.come()
	var want []string
	if c.right == allowed {
		want = []string{fromHere + " queued"}
	}
	if got := c.sam.until(control, "queued behind"); !slices.Equal(got, want) {
		c.t.Errorf("sam gets %q, want %q", got, want)
	}
}

// shared is about a group of sam and max: what sam may not receive max gets, all of it.
func (c *cell) shared() {
	max := c.connect(hello(packet.V5, "max", false))
	max.subscribe("$share/g/"+fromHere, "to/max")
	c.fates(func() {
		c.answers(c.right != denied, c.sam.subscribe("$share/g/"+fromHere, control))
	}, func(payload string, want bool) {
		const n = 4
		for range n {
			c.watches(&packet.Publish{Topic: fromHere, Payload: []byte(payload)})
		}
		m := c.mark()
		c.watches(&packet.Publish{Topic: control, Payload: []byte(m)})
		c.watches(&packet.Publish{Topic: "to/max", Payload: []byte(m)})
		sams, maxs := len(c.sam.until(control, m)), len(max.until("to/max", m))
		if sams+maxs != n || (sams > 0) != want {
			c.t.Errorf("sam gets %d and max %d of %d; that sam gets some should be %v", sams, maxs, n, want)
		}
	})
}

// system is about $SYS, live and retained; nothing but the right to it is different.
func (c *cell) system() {
	const topic = "$SYS/gatehouse/test"
	if err := c.g.broker.Publish(c.t.Context(), message.Message{Topic: topic, Payload: []byte("kept"), Retain: true}); err != nil {
		c.t.Fatal(err)
	}
	c.fates(func() {
		c.answers(true, c.sam.subscribe(control))
		c.answers(c.right != denied, c.sam.subscribe(topic))
	}, func(payload string, want bool) {
		c.inside(topic, payload)
		m := c.mark()
		c.watches(&packet.Publish{Topic: control, Payload: []byte(m)})
		got := c.sam.until(control, m)
		var wanted []string
		if want {
			wanted = []string{topic + " kept", topic + " " + payload}
		}
		if !slices.Equal(got, wanted) {
			c.t.Errorf("sam gets %q, want %q", got, wanted)
		}
		if !want { // asking again does not help
			c.answers(false, c.sam.subscribe(topic))
		}
	})
}
