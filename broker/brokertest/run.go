package brokertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// patience is how long a step may take.
const patience = time.Minute

// Run runs the scenario in a txtar file over TCP, on a store that newStore makes,
// nil for one in memory. The file holds a comment and one file called script, or
// packets.
func Run(t *testing.T, file string, newStore func(t *testing.T) store.Store) {
	t.Helper()
	RunOver(t, file, TCP(), newStore)
}

// RunOver is [Run] over another transport.
func RunOver(t *testing.T, file string, over Transport, newStore func(t *testing.T) store.Store) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	start := func(t *testing.T) *scenario {
		s := &scenario{
			t: t, over: over, version: packet.V5, clients: make(map[string]*Client), began: time.Now(),
			opts: broker.Options{Authorizer: Everyone(), StatusEvery: -1, Store: mem.New()},
		}
		if newStore != nil {
			s.opts.Store = newStore(t)
		}
		t.Cleanup(s.end)
		return s
	}
	if specification, table, ok := strings.Cut(string(data), "-- packets --\n"); ok {
		specified(t, file, specification)
		start(t).table(file, table)
		return
	}
	specification, script, ok := strings.Cut(string(data), "-- script --\n")
	if !ok {
		t.Fatalf("%s: there is neither a file script nor a file packets in it", file)
	}
	specified(t, file, specification)
	versions, rest := versionsOf(script)
	if len(versions) == 0 {
		start(t).script(file, script)
		return
	}
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			s := start(t)
			s.version = versionNames[v]
			s.script(file, rest)
		})
	}
}

func specified(t *testing.T, file, specification string) {
	t.Helper()
	if strings.TrimSpace(specification) == "" {
		t.Fatalf("%s: the comment that is the specification is missing", file)
	}
}

// versionNames are the versions as scenarios call them.
var versionNames = map[string]packet.Version{"v3": packet.V31, "v4": packet.V311, "v5": packet.V5}

// versionsOf are those that the first line of a script, "* versions v4 v5", asks
// for; the rest keeps its line numbers.
func versionsOf(script string) (versions []string, rest string) {
	first, rest, _ := strings.Cut(script, "\n")
	list, ok := strings.CutPrefix(first, "* versions ")
	if !ok {
		return nil, script
	}
	return strings.Fields(list), "\n" + rest
}

// scenario is one script as it runs.
type scenario struct {
	t       *testing.T
	over    Transport
	version packet.Version // of a CONNECT that does not say
	opts    broker.Options
	began   time.Time
	from    net.IP // where clients seem to come from; nil is where they do
	server  *Server
	clients map[string]*Client
}

func (s *scenario) script(file, text string) {
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if version, step, ok := strings.Cut(line, ": "); ok && versionNames[version] != 0 {
			if line = step; versionNames[version] != s.version {
				continue
			}
		}
		if line == "" || line[0] == '#' {
			continue
		}
		if err := s.step(line); err != nil {
			s.t.Fatalf("%s, line %d of the script: %s\n%v", file, n+1, line, err)
		}
	}
}

func (s *scenario) step(line string) error {
	words, err := split(line)
	if err != nil {
		return err
	}
	who := words[0]
	if who == "*" {
		return s.control(words[1:])
	}
	s.start()
	name, sends := strings.CutSuffix(who, ">")
	if sends {
		return s.send(name, words[1:])
	}
	name, expects := strings.CutSuffix(who, "<")
	if !expects {
		return fmt.Errorf("cannot make sense of %q", who)
	}
	c := s.clients[name]
	if c == nil {
		return fmt.Errorf("client %q is not connected", name)
	}
	return c.expect(words[1:])
}

func (s *scenario) start() {
	if s.server == nil {
		l := s.over.Listen(s.t)
		if s.from != nil {
			l = movedListener{Listener: l, from: s.from}
		}
		s.server = StartOn(s.t, s.opts, l)
	}
}

// end stops what runs.
func (s *scenario) end() {
	for _, name := range slices.Sorted(maps.Keys(s.clients)) {
		_ = s.clients[name].nc.Close() // closed by the server, perhaps
	}
	if s.server != nil {
		s.server.Stop()
	}
}

func (s *scenario) control(words []string) error {
	r := &reader{words: words[1:]}
	switch words[0] {
	case "server":
		return s.options(r)
	case "restart":
		s.start()
		s.server.Stop()
		s.server = nil
		for _, c := range s.clients {
			c.gone = true
			_ = c.nc.Close() // closed by the server already
		}
		s.start()
	case "stop":
		s.start()
		s.server.Stop()
		s.server = nil
	case "pub":
		s.start()
		p := r.publish()
		m := message.Message{Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Origin: "test"}
		if err := errors.Join(r.done(), s.server.Publish(s.t.Context(), m)); err != nil {
			return err
		}
	case "kick":
		if id := r.next(); !s.server.Disconnect(id, packet.Reason(r.positional(8))) {
			return fmt.Errorf("client %q was not connected", id)
		}
	case "stats":
		return s.stats(words[1:])
	default:
		return fmt.Errorf("cannot make sense of %q", words[0])
	}
	return r.done()
}

// stats waits for the counters to be as they should.
func (s *scenario) stats(expected []string) error {
	deadline := time.Now().Add(patience)
	for {
		stats := s.server.Stats()
		got := map[string]int64{
			"sessions": int64(stats.Sessions), "clients": int64(stats.Clients), "subscriptions": int64(stats.Subscriptions),
			"retained": int64(stats.Retained), "retained-bytes": stats.RetainedBytes, "refused": stats.Refused, "published": stats.Published,
			"shared": int64(stats.Shared), "delayed": int64(stats.Delayed), "expired": stats.Expired, "in-flight": stats.InFlight,
			"queued": stats.Queued, "queued-bytes": stats.QueuedBytes, "connections": int64(stats.Connections),
		}
		for reason, n := range stats.Dropped {
			got["dropped-"+reason] = n
		}
		wrong := slices.DeleteFunc(slices.Clone(expected), func(w string) bool {
			key, value, _ := strings.Cut(w, "=")
			if least, isLeast := strings.CutSuffix(key, ">"); isLeast { // "retained>=60"
				n, err := strconv.ParseInt(value, 10, 64)
				return err == nil && got[least] >= n
			}
			n, known := got[key]
			return known && strconv.FormatInt(n, 10) == value
		})
		if len(wrong) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the counters are %v", got)
		}
		pause(s.t.Context(), 5*time.Millisecond)
	}
}

// pause waits a little before something is looked at again.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *scenario) send(name string, words []string) error {
	c := s.clients[name]
	if len(words) == 0 {
		return errors.New("what is to be sent is missing")
	}
	if words[0] == "connect" && (c == nil || c.gone) || c == nil {
		nc, err := s.over.Dial(s.server.Address())
		if err != nil {
			return err
		}
		c = NewClient(nc)
		c.began = s.began
		s.clients[name] = c
	}
	switch words[0] {
	case "close":
		c.gone = true
		return c.nc.Close()
	case "raw":
		if v, ok := map[string]packet.Version{"v3": packet.V31, "v4": packet.V311}[words[1]]; ok {
			c.version = v
			words = words[1:]
		}
		b, err := bytesOf(words[1:])
		if err != nil {
			return err
		}
		_, err = c.nc.Write(b)
		return err
	}
	p, err := parse(words, s.version)
	if err != nil {
		return err
	}
	return c.Send(p)
}
