package modbus_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/drivers/modbus"
)

// crowd is a server with 16 places.
type crowd struct {
	t    *testing.T
	ln   *exhausted
	log  strings.Builder
	stop func()
}

func newCrowd(t *testing.T) *crowd {
	c := &crowd{t: t, ln: &exhausted{clients: make(chan net.Conn)}}
	c.stop = modbus.ServeSimulator(c.ln, slog.New(slog.NewTextHandler(&c.log, nil)))
	return c
}

// come is a client that connects.
func (c *crowd) come() net.Conn {
	near, far := net.Pipe()
	c.ln.clients <- near
	synctest.Wait()
	return far
}

// ask has a client send a request; the server of these tests does not answer.
func (c *crowd) ask(client net.Conn) {
	c.t.Helper()
	if _, err := client.Write(modbus.AppendADU(nil, 1, 1, []byte{3, 0, 0, 0, 1})); err != nil {
		c.t.Error(err)
	}
	synctest.Wait()
}

// served reports whether a client is still connected.
func (c *crowd) served(client net.Conn) bool {
	_ = client.SetReadDeadline(time.Now())
	_, err := client.Read(make([]byte, 1))
	return !errors.Is(err, io.EOF)
}

func TestSilentClientsGiveWayWhenAllPlacesAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t)
		var clients []net.Conn
		for range 16 {
			clients = append(clients, c.come())
			later(time.Second)
		}
		c.ask(clients[0]) // at 16 s
		later(2 * time.Second)
		for i, want := range []int{1, 2, 3, 4, 5, 6, 7, 8} { // who are silent for 17 to 10 s
			c.ask(c.come())
			if c.served(clients[want]) {
				t.Errorf("newcomer %d: client %d, who is silent longest, keeps his place", i, want)
			}
		}
		if c.served(c.come()) {
			t.Error("a newcomer has the place of somebody who was heard a moment ago")
		}
		for _, i := range []int{0, 9, 15} {
			if !c.served(clients[i]) {
				t.Errorf("client %d, who is silent for less than 10 s, lost his place", i)
			}
		}
		if n := strings.Count(c.log.String(), "too many clients"); n != 1 {
			t.Errorf("it is told %d times in a minute:\n%s", n, c.log.String())
		}
		later(time.Minute)
		c.come()
		if !strings.Contains(c.log.String(), "refused=1 gave_way=8") {
			t.Errorf("what came of it is not told:\n%s", c.log.String())
		}
		c.stop()
	})
}
