package brokertest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// row is one line of a table of packets.
type row struct {
	line    int
	first   bool // the bytes are the first that the client sends
	version packet.Version
	name    string
	bytes   []byte
	outcome string
}

// table runs a table of packets: each row in each of its versions on a connection
// of its own, and after each a client that hears all topics looks whether the
// broker still serves, and whether what was refused has reached anybody.
func (s *scenario) table(file, text string) {
	var rows []row
	for n, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if strings.HasPrefix(line, "* ") {
			if err := s.step(line); err != nil {
				s.t.Fatalf("%s, line %d of the table: %v", file, n+1, err)
			}
			continue
		}
		r, err := rowsOf(line)
		if err != nil {
			s.t.Fatalf("%s, line %d of the table: %s\n%v", file, n+1, line, err)
		}
		for i := range r {
			r[i].line = n + 1
		}
		rows = append(rows, r...)
	}
	s.start()
	watch := s.dial(s.t, packet.V5)
	if err := watch.greet("watch"); err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(watch.Send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "#"}}}), watch.expect([]string{"suback", "1", "0x00"})); err != nil {
		s.t.Fatal(err)
	}
	for i := range rows {
		r := &rows[i]
		s.t.Run(fmt.Sprintf("%s/%s", r.name, r.version), func(t *testing.T) {
			refused, err := r.run(s.dial(t, r.version))
			if err = errors.Join(err, watch.stillServed(refused)); err != nil {
				t.Errorf("%s, line %d of the table: % x\n%v", file, r.line, r.bytes[:min(64, len(r.bytes))], err)
			}
		})
	}
}

// rowsOf reads "[first] VERSIONS | NAME | BYTES | OUTCOME".
func rowsOf(line string) ([]row, error) {
	parts := strings.Split(line, " | ")
	if len(parts) != 4 {
		return nil, fmt.Errorf("there are %d parts in it, not 4", len(parts))
	}
	b, err := bytesOf(strings.Fields(parts[2]))
	if err != nil {
		return nil, err
	}
	r := row{name: strings.TrimSpace(parts[1]), bytes: b, outcome: strings.TrimSpace(parts[3])}
	var rows []row
	for _, word := range strings.Fields(parts[0]) {
		switch v, known := versionNames[word]; {
		case word == "first":
			r.first = true
		case !known:
			return nil, fmt.Errorf("cannot make sense of %q", word)
		default:
			r.version = v
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return nil, errors.New("it names no version")
	}
	return rows, nil
}

func (s *scenario) dial(t *testing.T, v packet.Version) *Client {
	t.Helper()
	nc, err := s.over.Dial(s.server.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() }) // closed by the server, perhaps
	c := NewClient(nc)
	c.version = v
	return c
}

func (c *Client) greet(id string) error {
	ack, err := c.Connect(&packet.Connect{Version: c.version, ClientID: id, Clean: true})
	if err == nil && ack.Reason.Failed() {
		err = ack.Reason
	}
	return err
}

// run sends the bytes and compares what comes of it. Refused says that they are to
// reach nobody.
func (r *row) run(c *Client) (refused bool, err error) {
	if !r.first {
		if err := c.greet("x"); err != nil {
			return false, err
		}
	}
	_, _ = c.nc.Write(r.bytes) // the server may close before all is written: what it answers is what counts
	if r.outcome == "waits" {  // for the rest of the packet, which never comes
		return true, c.nc.Close()
	}
	steps := strings.Split(r.outcome, "; ")
	if strings.HasPrefix(r.outcome, "0x") { // a reason code: 3.x clients are not told
		steps = []string{"closed"}
		if r.version == packet.V5 {
			steps = []string{"disconnect " + r.outcome, "closed"}
		}
	}
	for _, step := range steps {
		switch step {
		case "ok":
		case "closed":
			return true, c.expectClosed()
		default:
			if words, err := split(step); err != nil {
				return false, err
			} else if err := c.expect(words); err != nil {
				return false, err
			}
		}
	}
	return false, c.expect([]string{"nothing"})
}

// stillServed looks whether the client's connection lives, after what it was sent;
// that should be nothing if what was published was refused.
func (c *Client) stillServed(nothing bool) error {
	if err := c.Send(&packet.Pingreq{}); err != nil {
		return fmt.Errorf("the broker does not serve another client any more: %w", err)
	}
	for {
		p, err := c.Read()
		if err != nil {
			return fmt.Errorf("the broker does not serve another client any more: %w", err)
		}
		if p.Type() == packet.PINGRESP {
			return nil
		}
		if nothing {
			return fmt.Errorf("another client got %q", render(p))
		}
	}
}
