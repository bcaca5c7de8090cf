package listen_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/listen"
)

// polled is what a broker does with a late connection that it lets wait by no
// goroutine.
type polled interface {
	net.Conn
	Wait() error
	Descriptor() int
	ReadNow(p []byte) (n int, ready bool, err error)
}

// A connection that is polled reads all that comes, however it is cut, and holds
// nothing when that has been read.
func TestIdleConnectionsHoldNothing(t *testing.T) {
	if !listen.TLSKnown() {
		t.Fatal("crypto/tls keeps its input elsewhere: see lend.go")
	}
	ca := newAuthority(t, "house")
	pair := ca.issue("gate.example")
	for _, protocol := range []string{"mqtts", "ws", "wss"} {
		t.Run(protocol, func(t *testing.T) {
			o := listen.Options{Address: "127.0.0.1:0", Protocol: protocol}
			if protocol != "ws" {
				o.TLS = &listen.TLS{Certificates: []listen.KeyPair{pair}}
			}
			l, err := listen.Listen(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			tcp, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer tcp.Close()
			// Records and frames that arrive in pieces.
			client := net.Conn(crumbs{tcp, 1000})
			if o.TLS != nil {
				client = tls.Client(client, ca.client("gate.example", listen.KeyPair{}))
			}
			payload := strings.Repeat("0123456789abcdef", 3000)
			next := make(chan bool)
			sent := make(chan error, 1)
			go func() {
				text := payload
				if protocol != "mqtts" {
					text = openRequest + framed(last|binaryMessage, payload)
				}
				_, err := io.WriteString(client, text)
				<-next
				if err == nil && protocol == "mqtts" {
					_, err = io.WriteString(client, "again")
				} else if err == nil {
					_, err = io.WriteString(client, framed(last|binaryMessage, "again"))
				}
				sent <- err
			}()
			nc, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			c := nc.(polled) //nolint:forcetypeassert // the test is of that
			var got bytes.Buffer
			read := func(upTo int) {
				for buf := make([]byte, 4096); got.Len() < upTo; {
					if err := c.Wait(); err != nil {
						t.Fatal(err)
					}
					for {
						n, ready, err := c.ReadNow(buf)
						if err != nil {
							t.Fatal(err)
						}
						if !ready {
							break
						}
						got.Write(buf[:n])
					}
				}
			}
			read(len(payload))
			if o.TLS != nil && listen.TLSHeld(nc) != 0 {
				t.Errorf("it holds %d bytes", listen.TLSHeld(nc))
			}
			next <- true
			read(len(payload) + 5)
			if got.String() != payload+"again" {
				t.Errorf("got %d bytes that are not what was sent", got.Len())
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if c.Descriptor() < 0 {
				t.Error("there is nothing to poll")
			}
			_ = tcp.Close()
			if err := c.Wait(); err != nil {
				t.Fatal(err)
			}
			if n, ready, err := c.ReadNow(make([]byte, 1)); n != 0 || !ready || err == nil {
				t.Errorf("at the end: got %d, %v, %v", n, ready, err)
			}
		})
	}
}
