package listen_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/listen"
)

// overWebSocket reaches a broker by MQTT over WebSocket.
func overWebSocket() brokertest.Transport {
	return brokertest.Transport{
		Listen: func(t testing.TB) net.Listener {
			t.Helper()
			l, err := listen.Listen(context.Background(), listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
			if err != nil {
				t.Fatal(err)
			}
			return l
		},
		Dial: func(address string) (net.Conn, error) {
			ws, _, err := websocket.Dial(context.Background(), "ws://"+address+"/mqtt", &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
			if err != nil {
				return notOpened{}, nil
			}
			ws.SetReadLimit(-1)
			return &webSocketClient{Conn: websocket.NetConn(context.Background(), ws, websocket.MessageBinary), ws: ws}, nil
		},
	}
}

// notOpened is a WebSocket that the server closed before it was one. A socket that is
// closed so early takes what is written too.
type notOpened struct{ net.Conn }

func (notOpened) Read([]byte) (int, error)         { return 0, io.EOF }
func (notOpened) Write(p []byte) (int, error)      { return len(p), nil }
func (notOpened) SetReadDeadline(time.Time) error  { return nil }
func (notOpened) SetWriteDeadline(time.Time) error { return nil }
func (notOpened) SetDeadline(time.Time) error      { return nil }
func (notOpened) Close() error                     { return nil }

// webSocketClient goes without a word when it is closed, as a socket does.
type webSocketClient struct {
	net.Conn
	ws *websocket.Conn
}

func (c *webSocketClient) Close() error {
	_ = c.ws.CloseNow() // closed by the server, perhaps
	return nil
}

// overTLS reaches a broker by MQTT over TLS.
func overTLS(ca *authority, pair listen.KeyPair) brokertest.Transport {
	return brokertest.Transport{
		Listen: func(t testing.TB) net.Listener {
			t.Helper()
			l, err := listen.Listen(context.Background(), listen.Options{
				Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &listen.TLS{Certificates: []listen.KeyPair{pair}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return l
		},
		Dial: func(address string) (net.Conn, error) {
			return tls.Dial("tcp", address, ca.client("gate.example", listen.KeyPair{}))
		},
	}
}

// Every scenario holds over WebSocket as it does over TCP.
func TestScenariosOverWebSocket(t *testing.T) { runScenarios(t, "*", overWebSocket()) }

// And over TLS: the packets, the exchanges of each QoS, and what else begins like these.
func TestScenariosOverTLS(t *testing.T) {
	ca := newAuthority(t, "scenarios")
	runScenarios(t, "[pq]*", overTLS(ca, ca.issue("gate.example")))
}

func runScenarios(t *testing.T, pattern string, over brokertest.Transport) {
	t.Helper()
	files, err := filepath.Glob("../testdata/" + pattern + ".txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			brokertest.RunOver(t, file, over, nil)
		})
	}
}
