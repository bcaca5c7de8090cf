package listen_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/listen"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// encode puts packets of 5.0 behind each other.
func encode(t *testing.T, packets ...packet.Packet) []byte {
	t.Helper()
	var b []byte
	for _, p := range packets {
		var err error
		if b, err = packet.Append(b, p, packet.V5); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestWebSocketFramesAreNotPackets(t *testing.T) {
	address, server := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
	stream := encode(
		t, &packet.Connect{Version: packet.V5, ClientID: "w", Clean: true},
		&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "x"}}},
		&packet.Publish{Topic: "x", Payload: bytes.Repeat([]byte{'p'}, 70_000)},
		&packet.Publish{Topic: "x", Payload: []byte("last")},
		&packet.Pingreq{},
	)
	for name, size := range map[string]int{"all packets in one frame": len(stream), "frames of 4096 bytes": 4096, "frames of 7 bytes, and empty ones": 7} {
		t.Run(name, func(t *testing.T) {
			ws, _, err := dial(t, address, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			sent := make(chan error, 1)
			go func() {
				for at := 0; at < len(stream); at += size {
					if err := ws.Write(ctx, websocket.MessageBinary, stream[at:min(len(stream), at+size)]); err != nil {
						sent <- err
						return
					}
					if size == 7 && at < 700 {
						if err := ws.Write(ctx, websocket.MessageBinary, nil); err != nil {
							sent <- err
							return
						}
					}
				}
				sent <- nil
			}()
			nc := websocket.NetConn(ctx, ws, websocket.MessageBinary)
			ws.SetReadLimit(-1)
			var got []byte
			for b := make([]byte, 4096); !bytes.HasSuffix(got, []byte{0xd0, 0x00}); {
				n, err := nc.Read(b)
				if err != nil {
					t.Fatalf("%v after %d bytes", err, len(got))
				}
				got = append(got, b[:n]...)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if !bytes.Contains(got, bytes.Repeat([]byte{'p'}, 70_000)) || !bytes.Contains(got, []byte("last\xd0\x00")) {
				t.Errorf("got %d bytes that are not the messages", len(got))
			}
		})
	}
	eventually(t, "all have left", func() bool { return server.Stats().Connections == 0 })
}

func TestWebSocketPing(t *testing.T) {
	address, _ := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
	ws, _, err := dial(t, address, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx = ws.CloseRead(ctx) // pongs come by a reader
	if err := ws.Ping(ctx); err != nil {
		t.Error(err)
	}
}

// TestWebSocketHasNoCompression has a client offer it: a message of some bytes that
// unpacks to gigabytes is then no message at all.
func TestWebSocketHasNoCompression(t *testing.T) {
	address, server := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
	ws, response, err := dial(t, address, &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if got := response.Header.Get("Sec-WebSocket-Extensions"); got != "" {
		t.Errorf("extensions %q", got)
	}
	// A frame that says that it is compressed.
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	request := "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
	if _, err := io.WriteString(nc, request+"\xc2\x84\x00\x00\x00\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	if err := nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(nc); err != nil || bytes.Contains(answer, []byte("deflate")) {
		t.Errorf("got %q, %v", answer, err)
	}
	_ = ws.CloseNow()
	eventually(t, "both are gone", func() bool { return server.Stats().Connections == 0 })
}

func TestWebSocketCountsWhatItRefuses(t *testing.T) {
	l, _ := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"}, broker.Limits{})
	for _, c := range []struct {
		path   string
		header http.Header
		status int
	}{
		{"/", nil, http.StatusNotFound},
		{"/mqtt", nil, http.StatusBadRequest}, // no subprotocol
		{"/mqtt", http.Header{"Sec-Websocket-Protocol": {"mqtt"}}, http.StatusUpgradeRequired},
		{"/mqtt", http.Header{"Sec-Websocket-Protocol": {"mqtt"}, "Origin": {"http://evil.example"}}, http.StatusUpgradeRequired},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = c.header
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("%s %v: status %d, want %d", c.path, c.header, response.StatusCode, c.status)
		}
	}
	if got := l.Stats().Refused["http"]; got != 4 {
		t.Errorf("%d were counted", got)
	}
}

// A WebSocket that is not open yet is a connection of its address as any other, and has
// until the CONNECT deadline for all that comes before.
func TestWebSocketOpeningsAreBounded(t *testing.T) {
	l, server := serveWith(t, listen.Options{
		Address: "127.0.0.1:0", Protocol: "ws", Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, broker.Limits{ConnectionsPerAddress: 2, ConnectTime: time.Second})
	header := string(proxyHeader(0x21, 0x11, tcp4))
	var conns []net.Conn
	for _, said := range []string{"GET /mqtt HTTP/1.1\r\n", openRequest, openRequest} {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(nc, header+said); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, nc)
	}
	for _, nc := range conns { // one of them at once, the others at the deadline
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("it is still open")
		}
	}
	eventually(t, "all are gone", func() bool { return server.Stats().Connections == 0 })
	if refused := l.Stats().Refused; refused["address"] != 1 || refused["silent"] != 2 {
		t.Errorf("got %v", refused)
	}
}
