package brokertest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker/packet"
)

// Client is the client's end of a connection, packet by packet. It is used by one
// goroutine at a time, but that Send and Read may be called by two.
type Client struct {
	nc      net.Conn
	r       *bufio.Reader
	version packet.Version
	gone    bool
	began   time.Time // of its scenario
}

// NewClient makes a client that speaks 5.0, or what the CONNECT that it sends says.
func NewClient(nc net.Conn) *Client {
	return &Client{nc: nc, r: bufio.NewReader(nc), version: packet.V5}
}

// Dial opens a connection to a server and connects; it fails the test if it cannot.
func Dial(t testing.TB, s *Server, p *packet.Connect) *Client {
	t.Helper()
	nc, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() }) // closed before, perhaps
	c := NewClient(nc)
	ack, err := c.Connect(p)
	if err != nil || ack.Reason.Failed() {
		t.Fatalf("client %q is not connected: %v, %v", p.ClientID, ack, err)
	}
	return c
}

// Connect sends CONNECT and reads its answer.
func (c *Client) Connect(p *packet.Connect) (*packet.Connack, error) {
	if err := c.Send(p); err != nil {
		return nil, err
	}
	answer, err := c.Read()
	if err != nil {
		return nil, err
	}
	ack, ok := answer.(*packet.Connack)
	if !ok {
		return nil, fmt.Errorf("expected CONNACK, got %q", render(answer))
	}
	return ack, nil
}

// Close closes the socket without a word.
func (c *Client) Close() error { return c.nc.Close() }

// Send sends one packet.
func (c *Client) Send(p packet.Packet) error {
	if connect, ok := p.(*packet.Connect); ok {
		c.version = connect.Version
	}
	b, err := packet.Append(nil, p, c.version)
	if err != nil {
		return err
	}
	_, err = c.nc.Write(b)
	return err
}

// Write sends bytes, whole packets or not.
func (c *Client) Write(b []byte) error {
	_, err := c.nc.Write(b)
	return err
}

// ReadPatiently reads one packet, however long it takes.
func (c *Client) ReadPatiently() (packet.Packet, error) {
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return packet.Read(c.r, c.version, 0)
}

// Read reads one packet, for at most a minute.
func (c *Client) Read() (packet.Packet, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	return packet.Read(c.r, c.version, 0)
}

func (c *Client) expect(words []string) error {
	switch strings.Join(words, " ") {
	case "":
		return errors.New("what is expected is missing")
	case "closed":
		return c.expectClosed()
	case "nothing":
		if err := c.Send(&packet.Pingreq{}); err != nil {
			return err
		}
		words = []string{"pong"}
	}
	p, err := c.Read()
	if err != nil {
		return fmt.Errorf("expected %q: %w", words, err)
	}
	got := render(p)
	if i := slices.Index(words, "no-why"); i >= 0 {
		words = slices.Delete(slices.Clone(words), i, i+1)
		if slices.ContainsFunc(got, func(w string) bool { return strings.HasPrefix(w, "why=") }) {
			return fmt.Errorf("expected no reason string, got %q", got)
		}
	}
	if !agree(c.elapsing(words, got), got) {
		return fmt.Errorf("expected %q, got %q", words, got)
	}
	return nil
}

// elapsing replaces an expectation "expiry~N" by what was got, if that is N, or less
// by no more than the seconds that the scenario has run.
func (c *Client) elapsing(words, got []string) []string {
	i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "expiry~") })
	if i < 0 {
		return words
	}
	most, err := strconv.ParseInt(words[i][len("expiry~"):], 10, 64)
	for _, w := range got {
		text, ok := strings.CutPrefix(w, "expiry=")
		left, bad := strconv.ParseInt(text, 10, 64)
		if elapsed := int64(time.Since(c.began)/time.Second) + 1; ok && err == nil && bad == nil && left <= most && left >= most-elapsed {
			words = slices.Clone(words)
			words[i] = w
		}
	}
	return words
}

func (c *Client) expectClosed() error {
	p, err := c.Read()
	var late net.Error
	switch {
	case err == nil:
		return fmt.Errorf("expected the end, got %q", render(p))
	case errors.As(err, &late) && late.Timeout():
		return errors.New("the socket is still open")
	case errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset"):
		c.gone = true
		return c.nc.Close()
	default:
		return err
	}
}
