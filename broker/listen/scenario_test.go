package listen_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

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
				return nil, err
			}
			ws.SetReadLimit(-1)
			return &webSocketClient{Conn: websocket.NetConn(context.Background(), ws, websocket.MessageBinary), ws: ws}, nil
		},
	}
}

// webSocketClient goes without a word when it is closed, as a socket does.
type webSocketClient struct {
	net.Conn
	ws *websocket.Conn
}

func (c *webSocketClient) Close() error {
	_ = c.ws.CloseNow() // closed by the server, perhaps
	return nil
}

// Every scenario holds over WebSocket as it does over TCP.
func TestScenariosOverWebSocket(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			brokertest.RunOver(t, file, overWebSocket(), nil)
		})
	}
}
