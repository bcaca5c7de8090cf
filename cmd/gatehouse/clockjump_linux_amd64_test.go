package main_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// turn is what happens to the clock, and to the gateway meanwhile.
type turn struct {
	wrong time.Duration // by which the clock is, from now on
	how   change
}

type change string

const (
	jumps  change = "it runs, and sees its clock jump"
	starts change = "it was ended, and starts"
	killed change = "it was killed, and starts: what history has not written is gone"
)

const (
	soon = 6    // in seconds: what is over, or due, before the test ends
	late = 3600 // what is not
)

// TestClockJumps has the wall clock of the running program jump, between two starts and
// below it. In each turn it is left messages, sessions, wills and waits, short ones and
// long ones: nothing short comes early or stays, nothing long goes, nothing storms.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const years = 50 * 365 * 24 * time.Hour
	in1970 := time.Minute - time.Duration(time.Now().Unix())*time.Second
	for name, turns := range map[string][]turn{
		"1970 until NTP sets it":       {{in1970, starts}, {0, jumps}, {0, killed}},
		"1970 at every other start":    {{0, starts}, {in1970, starts}, {in1970, killed}, {0, jumps}, {0, starts}},
		"50 years ahead, and back":     {{0, starts}, {years, jumps}, {years, starts}, {0, jumps}, {0, killed}},
		"50 years ahead while off":     {{0, starts}, {years, starts}, {0, starts}},
		"an hour back, and ahead":      {{0, starts}, {-time.Hour, jumps}, {-time.Hour, killed}, {0, jumps}, {0, starts}},
		"an hour back while it is off": {{0, starts}, {-time.Hour, starts}, {0, jumps}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newClockHouse(t)
			for _, turn := range turns {
				h.take(turn)
			}
			h.check()
		})
	}
}

// clockHouse is a gateway and what it was left.
type clockHouse struct {
	t     *testing.T
	dir   string
	g     *program
	clock *wallClock
	turns []turn
	began time.Time
	heard *listener
	// past and open are the turns that history has to know, and of which this run has
	// to tell it.
	past, open []int

	mu   sync.Mutex
	came map[string]time.Time // by topic and payload, when it came first
	all  map[string]int       // how often
	left map[string]time.Time // when it was left
}

const clockRules = `
rules:
  - {name: soon, on: in/+, mode: parallel, max: 10, do: [{wait: 6s}, {publish: rule/soon, payload: "${payload}", qos: 1}]}
  - {name: late, on: in/+, mode: parallel, max: 10, do: [{wait: 1h}, {publish: rule/late, payload: "${payload}", qos: 1}]}
  - {name: every, every: 1s, do: [{publish: tick/every, payload: x}]}
  - {name: minutes, cron: "* * * * *", do: [{publish: tick/cron, payload: x}]}
  - {name: silence, silent: {on: beat/+, for: 1h}, do: [{publish: rule/late, payload: silent}]}
`

const clockScript = `
on('in/+', { qos: 1 }, m => {
  after('6s', 'soon', m.text, { id: m.text })
  after('1h', 'late', m.text, { id: m.text })
})
timer('soon', n => publish('js/soon', n, { qos: 1 }))
timer('late', n => publish('js/late', n, { qos: 1 }))
on('in/+', { qos: 1 }, debounce('6s', m => publish('calm/soon', m.text, { qos: 1 }), { name: 'soon', key: m => m.text }))
on('in/+', { qos: 1 }, debounce('1h', m => publish('calm/late', m.text, { qos: 1 }), { name: 'late', key: m => m.text }))
every('1s', () => publish('tick/jsevery', 'x'))
every('1h', () => publish('js/late', 'every'))
cron('* * * * *', () => publish('tick/jscron', 'x'))
`

func newClockHouse(t *testing.T) *clockHouse {
	h := &clockHouse{t: t, dir: t.TempDir(), came: make(map[string]time.Time), all: make(map[string]int), left: make(map[string]time.Time)}
	writeFile(t, filepath.Join(h.dir, "g.yaml"), `
broker: {listeners: []}
console: {address: "127.0.0.1:0"}
history: {topics: [history/+]}
log: {format: json}
`)
	writeFile(t, filepath.Join(h.dir, "scripts/rules.yaml"), clockRules)
	writeFile(t, filepath.Join(h.dir, "scripts/rules.js"), clockScript)
	return h
}

// take has the clock jump, and leaves the gateway what it has to look after.
func (h *clockHouse) take(at turn) {
	h.t.Helper()
	if at.how != jumps {
		h.stop(at.how)
		h.g, h.clock = startAt(h.t, at.wrong, binary, "run", "--config", filepath.Join(h.dir, "g.yaml"), "--data", filepath.Join(h.dir, "data"))
		h.g.says(h.t, `"gateway is up"`)
		if h.began.IsZero() {
			h.began = time.Now()
			away, _ := h.connect("away", late, nil)
			h.subscribe(away, "queue/+")
			_ = away.Close() // it comes back at the end
		}
		h.heard = h.listen()
	} else if err := h.clock.set(at.wrong); err != nil {
		h.t.Fatal(err)
	}
	h.turns = append(h.turns, at)
	n := len(h.turns)
	h.note("will", n)
	for _, will := range []int{soon, late} {
		c, _ := h.connect(fmt.Sprintf("will%d-%d", will, n), late, &packet.Will{
			Topic: fmt.Sprintf("will/%s", word(will)), Payload: fmt.Append(nil, n), QoS: 1,
			Properties: packet.WillProperties{DelayInterval: uint32(will)},
		})
		_ = c.Close()
	}
	brief, _ := h.connect(fmt.Sprint("brief", n), soon, nil)
	_ = brief.Close()
	c, _ := h.connect("pub", 0, nil)
	defer c.Close()
	h.note("rule", n)
	h.note("js", n)
	h.note("calm", n)
	h.note("delayed", n)
	h.publish(c, "in/x", n, 0, false)
	h.publish(c, fmt.Sprint("history/", n), n, 0, false) // a series that says no more
	if year := time.Now().Add(at.wrong).Year(); year > 2000 && year < 2050 {
		h.open = append(h.open, n)
	}
	for _, expiry := range []uint32{soon, late} {
		h.publish(c, fmt.Sprintf("retained/%d/%s", n, word(int(expiry))), n, expiry, true)
		h.publish(c, "queue/"+word(int(expiry)), n, expiry, false)
		h.publish(c, fmt.Sprintf("$delayed/%d/delayed/%s", expiry, word(int(expiry))), n, 0, false)
	}
	h.publish(c, "beat/x", n, 0, false)
	h.survives(n)
}

func word(seconds int) string {
	if seconds == soon {
		return "soon"
	}
	return "late"
}

// note notes when something was left that is due soon.
func (h *clockHouse) note(what string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left[fmt.Sprintf("%s/soon %d", what, n)] = time.Now()
}

// stop ends the gateway.
func (h *clockHouse) stop(so change) {
	h.t.Helper()
	if h.g == nil {
		return
	}
	how := syscall.SIGTERM
	if so == killed {
		how = syscall.SIGKILL
		h.open = nil
	}
	h.past, h.open = append(h.past, h.open...), nil
	if err := h.g.cmd.Process.Signal(how); err != nil {
		h.t.Fatal(err)
	}
	h.g.ended(h.t)
	<-h.heard.done
	if strings.Contains(h.g.output(), "DATA RACE") {
		h.t.Error("data race")
	}
}

func (h *clockHouse) connect(id string, expiry uint32, will *packet.Will) (c *brokertest.Client, present bool) {
	h.t.Helper()
	nc, err := net.Dial("unix", filepath.Join(h.dir, "data", "gatehouse.sock"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = nc.Close() }) // closed before, perhaps
	c = brokertest.NewClient(nc)
	ack, err := c.Connect(&packet.Connect{
		Version: packet.V5, ClientID: id, Will: will, Properties: packet.ConnectProperties{SessionExpiryInterval: expiry},
	})
	if err != nil || ack.Reason.Failed() {
		h.t.Fatalf("client %q is not connected: %v, %v", id, ack, err)
	}
	return c, ack.SessionPresent
}

func (h *clockHouse) subscribe(c *brokertest.Client, filters ...string) {
	h.t.Helper()
	sub := &packet.Subscribe{ID: 1}
	for _, f := range filters {
		sub.Filters = append(sub.Filters, packet.Filter{Filter: f, Options: packet.SubscribeOptions{QoS: message.AtLeastOnce}})
	}
	if err := c.Send(sub); err != nil {
		h.t.Fatal(err)
	}
}

// publish publishes at QoS 1, and waits until it is acknowledged.
func (h *clockHouse) publish(c *brokertest.Client, topic string, n int, expiry uint32, retain bool) {
	h.t.Helper()
	p := &packet.Publish{QoS: message.AtLeastOnce, ID: 1, Topic: topic, Payload: fmt.Append(nil, n), Retain: retain}
	if expiry > 0 {
		p.Properties.MessageExpiryInterval = &expiry
	}
	if err := c.Send(p); err != nil {
		h.t.Fatal(err)
	}
	if ack, err := c.Read(); err != nil || ack.(*packet.Ack).Reason.Failed() {
		h.t.Fatalf("publish on %s: %v, %v", topic, ack, err)
	}
}

// listener hears what is due, as long as the gateway runs.
type listener struct{ done chan struct{} }

func (h *clockHouse) listen() *listener {
	h.t.Helper()
	c, _ := h.connect("listener", late, nil)
	h.subscribe(c, "will/+", "delayed/+", "rule/+", "js/+", "calm/+", "tick/+")
	l := &listener{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for {
			p, err := c.ReadPatiently()
			if err != nil {
				return
			}
			if p, ok := p.(*packet.Publish); ok {
				h.hear(c, p)
			}
		}
	}()
	return l
}

func (h *clockHouse) hear(c *brokertest.Client, p *packet.Publish) {
	if p.QoS > 0 {
		_ = c.Send(&packet.Ack{Kind: packet.PUBACK, ID: p.ID}) // an error shows in the next read
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	what := p.Topic + " " + string(p.Payload)
	if h.all[what]++; h.all[what] == 1 {
		h.came[what] = time.Now()
	}
}

// retained is what is retained, and how long still, in seconds.
func (h *clockHouse) retained() map[string]uint32 {
	h.t.Helper()
	c, _ := h.connect("reader", 0, nil)
	defer c.Close()
	h.subscribe(c, "retained/#")
	return h.read(c, "retained/end", message.AtMostOnce)
}

// read reads what comes before the end, which it publishes.
func (h *clockHouse) read(c *brokertest.Client, end string, qos message.QoS) map[string]uint32 {
	h.t.Helper()
	if err := c.Send(&packet.Publish{Topic: end, Payload: []byte("x"), QoS: qos, ID: uint16(qos)}); err != nil {
		h.t.Fatal(err)
	}
	all := make(map[string]uint32)
	for {
		read, err := c.Read()
		if err != nil {
			h.t.Fatal(err)
		}
		p, ok := read.(*packet.Publish)
		switch {
		case !ok:
			continue
		case p.Topic == end:
			return all
		case p.QoS > 0:
			if err := c.Send(&packet.Ack{Kind: packet.PUBACK, ID: p.ID}); err != nil {
				h.t.Fatal(err)
			}
		}
		if p.Properties.MessageExpiryInterval != nil {
			all[p.Topic+" "+string(p.Payload)] = *p.Properties.MessageExpiryInterval
		}
	}
}

// survives finds what is long there after the clock has jumped.
func (h *clockHouse) survives(upTo int) {
	h.t.Helper()
	retained := h.retained()
	for n := 1; n <= upTo; n++ {
		h.longLived(retained, fmt.Sprintf("retained/%d/late %d", n, n))
	}
}

// longLived says that something has about the time left that it has.
func (h *clockHouse) longLived(all map[string]uint32, what string) {
	h.t.Helper()
	const busy = 600 // what the machine may make of a few seconds
	if left := all[what]; left > late || left < late-busy {
		h.t.Errorf("turn %d: %q expires in %d s, of %d", len(h.turns), what, left, late)
	}
}

// check waits until all that is short must be over, and looks at everything.
func (h *clockHouse) check() {
	h.t.Helper()
	last := time.Now()
	eventually(h.t, "what is due has come", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for what := range h.left {
			if _, ok := h.came[what]; !ok {
				return false
			}
		}
		return time.Since(last) > (soon+1)*time.Second
	})
	h.punctual()
	h.sessions()
	h.survives(len(h.turns))
	h.remembers()
	h.stop(starts)
}

// punctual looks at what came: nothing early, twice, or long after, and no storm.
func (h *clockHouse) punctual() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for what, when := range h.came {
		left, due := h.left[what]
		switch {
		case strings.HasPrefix(what, "tick/"):
		case !due:
			h.t.Errorf("%q came", what)
		case when.Sub(left) < soon*time.Second:
			h.t.Errorf("%q came after %v", what, when.Sub(left))
		}
	}
	ran := time.Since(h.began)
	for what, most := range map[string]int{
		"tick/every x":   int(ran/time.Second) + len(h.turns) + 1,
		"tick/cron x":    int(ran/time.Minute) + len(h.turns) + 1,
		"tick/jsevery x": int(ran/time.Second) + len(h.turns) + 1,
		"tick/jscron x":  int(ran/time.Minute) + len(h.turns) + 1,
	} {
		if n := h.all[what]; n > most || n == 0 && strings.HasSuffix(what, "every x") {
			h.t.Errorf("%q came %d times in %v", what, n, ran)
		}
	}
}

// sessions looks at the sessions, and at what waits in one of them.
func (h *clockHouse) sessions() {
	h.t.Helper()
	for n := range h.turns {
		for id, there := range map[string]bool{
			fmt.Sprintf("will%d-%d", late, n+1): true, fmt.Sprintf("will%d-%d", soon, n+1): true, fmt.Sprint("brief", n+1): false,
		} {
			c, present := h.connect(id, 0, nil)
			if _ = c.Close(); present != there {
				h.t.Errorf("session %q is there: %t", id, present)
			}
		}
	}
	away, present := h.connect("away", 0, nil)
	defer away.Close()
	if !present {
		h.t.Error("the session with the queue is gone")
		return
	}
	queue := h.read(away, "queue/end", message.AtLeastOnce) // behind what waits
	for n := range h.turns {
		h.longLived(queue, fmt.Sprint("queue/late ", n+1))
		delete(queue, fmt.Sprint("queue/late ", n+1))
	}
	for what, left := range queue {
		h.t.Errorf("%q waited, and expires in %d s", what, left)
	}
	for what, left := range h.retained() {
		if strings.Contains(what, "soon") {
			h.t.Errorf("%q is retained, and expires in %d s", what, left)
		}
	}
}

// remembers looks for what history has of the times when the clock could be right.
func (h *clockHouse) remembers() {
	h.t.Helper()
	g := &gatewayProcess{program: h.g, console: attribute(h.t, h.g.says(h.t, `"msg":"console"`), "url")}
	for _, n := range append(h.past, h.open...) {
		if points := g.api(h.t, fmt.Sprintf("history?series=history/%d&from=2020-01-01T00:00:00Z", n)); len(points) != 1 {
			h.t.Errorf("history has forgotten turn %d: %v", n, points)
		}
	}
}
