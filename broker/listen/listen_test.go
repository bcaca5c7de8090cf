package listen_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/broker/listen"
	"github.com/gatehouse/gatehouse/broker/store/mem"
)

// noContext is for a child process, which has no test.
var noContext = context.Background()

func TestMain(m *testing.M) {
	if os.Getenv("LISTEN_TEST_CHILD") != "" {
		os.Exit(passedMain())
	}
	goleak.VerifyTestMain(m)
}

const patience = time.Minute

// serve runs a broker for anonymous clients on a listener, and returns where it
// listens.
func serve(t *testing.T, o listen.Options) (string, *broker.Server) {
	t.Helper()
	l, server := serveWith(t, o, broker.Limits{})
	return l.Addr().String(), server
}

func serveWith(t *testing.T, o listen.Options, limits broker.Limits) (*listen.Listener, *broker.Server) {
	t.Helper()
	l, err := listen.Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if limits.ConnectTime == 0 {
		limits.ConnectTime = patience // a busy machine may need more than the default
	}
	server, err := broker.New(broker.Options{Store: mem.New(), Authorizer: auth.Anonymous(), Limits: limits, StatusEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := server.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	ended.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		ended.Wait()
	})
	return l, server
}

func TestListenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    listen.Options
		want string
	}{
		"a protocol that is not there": {listen.Options{Address: "127.0.0.1:0", Protocol: "coap"}, `protocol "coap" is none of mqtt, mqtts, ws, wss, unix`},
		"TLS without a certificate":    {listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts"}, "protocol mqtts needs a certificate"},
		"TLS with no certificate":      {listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &listen.TLS{}}, "TLS needs a certificate"},
		"a certificate without TLS":    {listen.Options{Address: "127.0.0.1:0", TLS: &listen.TLS{}}, "protocol mqtt has no TLS"},
		"a socket nobody passed":       {listen.Options{Address: "systemd:mqtt"}, "no service manager passed sockets"},
		"an address that is none":      {listen.Options{Address: "nowhere"}, `cannot listen on "nowhere"`},
		"a ws address that is none":    {listen.Options{Address: "nowhere", Protocol: "ws"}, `cannot listen on "nowhere"`},
		"a file that is no socket":     {listen.Options{Address: file, Protocol: "unix"}, "not a socket"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := listen.Listen(t.Context(), c.o)
			if err == nil {
				_ = l.Close() // it should not be there
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestListenerNamesItsConnections(t *testing.T) {
	for _, c := range []struct{ protocol, address, network string }{
		{"mqtt", "127.0.0.1:0", "tcp"},
		{"unix", filepath.Join(t.TempDir(), "s"), "unix"},
	} {
		t.Run(c.protocol, func(t *testing.T) {
			l, err := listen.Listen(t.Context(), listen.Options{Name: "inner", Address: c.address, Protocol: c.protocol})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			client, err := net.Dial(c.network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			named, ok := server.(interface{ Listener() string })
			if !ok || named.Listener() != "inner" {
				t.Errorf("the connection is a %T", server)
			}
		})
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.sock")
	t.Run("takes over what a killed process left", func(t *testing.T) {
		old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		old.SetUnlinkOnClose(false)
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := listen.Listen(t.Context(), listen.Options{Address: path, Protocol: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v, %v", info.Mode(), err)
		}
		t.Run("but not what somebody listens on", func(t *testing.T) {
			if _, err := listen.Listen(t.Context(), listen.Options{Address: path, Protocol: "unix"}); err == nil {
				t.Error("a second listener took it")
			}
		})
	})
}

// dial opens a WebSocket.
func dial(t *testing.T, address string, o *websocket.DialOptions) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return websocket.Dial(ctx, "ws://"+address+"/mqtt", o)
}

// connectV5 is CONNECT of MQTT 5.0, client identifier "w"; the CONNACK begins with
// 0x20.
const connectV5 = "\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01w"

// Packets are in binary frames, and cut anywhere [MQTT-6.0.0-2] [MQTT3-6.0.0-2]; the
// subprotocol is "mqtt" [MQTT-6.0.0-4] [MQTT3-6.0.0-4].
func TestWebSocketSpeaksMQTT(t *testing.T) {
	address, server := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
	ws, _, err := dial(t, address, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if got := ws.Subprotocol(); got != "mqtt" {
		t.Errorf("the subprotocol is %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// A packet may be cut anywhere.
	for _, part := range []string{connectV5[:5], connectV5[5:] + "\xc0\x00"} {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	nc := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	head := make([]byte, 4)
	if _, err := io.ReadFull(nc, head); err != nil || head[0] != 0x20 || head[3] != 0 {
		t.Fatalf("got % x, %v", head, err)
	}
	rest := make([]byte, int(head[1])-2+2)
	if _, err := io.ReadFull(nc, rest); err != nil || rest[len(rest)-2] != 0xd0 {
		t.Fatalf("got % x, %v", rest, err)
	}
	if clients := server.Clients(); len(clients) != 1 || !strings.HasPrefix(clients[0].Remote, "127.0.0.1:") || clients[0].Listener != "127.0.0.1:0" {
		t.Errorf("got %+v", clients)
	}
	t.Run("and says goodbye", func(t *testing.T) {
		server.Disconnect("w", 0x98)
		last, err := io.ReadAll(nc)
		if err != nil || len(last) < 3 || last[0] != 0xe0 || last[2] != 0x98 {
			t.Errorf("got % x, %v", last, err)
		}
	})
}

// Text frames [MQTT-6.0.0-1] [MQTT3-6.0.0-1] and clients that do not offer "mqtt"
// [MQTT-6.0.0-3] [MQTT3-6.0.0-3] are refused.
func TestWebSocketRefuses(t *testing.T) {
	address, _ := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
	for name, c := range map[string]struct {
		o      websocket.DialOptions
		status int
	}{
		"another subprotocol": {websocket.DialOptions{Subprotocols: []string{"chat"}}, http.StatusBadRequest},
		"a page of another host": {websocket.DialOptions{
			Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{"Origin": {"http://evil.example"}},
		}, http.StatusForbidden},
		"a page whose name was bent to this machine": {websocket.DialOptions{
			Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{"Origin": {"http://evil.example"}}, Host: "evil.example",
		}, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			ws, resp, err := dial(t, address, &c.o)
			if err == nil {
				_ = ws.CloseNow() // it should not be there
			}
			if err == nil || resp == nil || resp.StatusCode != c.status {
				t.Errorf("got %v, %v", resp, err)
			}
		})
	}
	t.Run("text", func(t *testing.T) {
		ws, _, err := dial(t, address, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := ws.Write(ctx, websocket.MessageText, []byte(connectV5)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := ws.Read(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got % x, %v", b, err)
		}
	})
}

func TestWebSocketListenerEndsHTTP(t *testing.T) {
	address, _ := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
	const request = "GET / HTTP/1.1\r\nHost: localhost\r\n"
	for name, c := range map[string]struct{ first, then string }{
		"that is idle":                    {request + "\r\n", ""},
		"that keeps asking":               {request + "\r\n", request + "\r\n"},
		"whose body does not come":        {request + "Content-Length: 9\r\n\r\n", ""},
		"whose body comes byte by byte":   {request + "Content-Length: 999\r\n\r\n", "x"},
		"whose header comes byte by byte": {request, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_, err = nc.Write([]byte(c.first))
			for began := time.Now(); err == nil; {
				if time.Since(began) > patience {
					t.Fatal("it is still open")
				}
				if err = nc.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				if _, err = io.Copy(io.Discard, nc); err == nil {
					return // the end
				}
				if errors.Is(err, os.ErrDeadlineExceeded) {
					_, err = nc.Write([]byte(c.then))
				}
			}
		})
	}
}

func TestWebSocketAllowsConfiguredOrigins(t *testing.T) {
	address, _ := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws", Origins: []string{"panel.example"}})
	ws, _, err := dial(t, address, &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{"Origin": {"http://panel.example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

// command is one of mosquitto's clients.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed (package mosquitto-clients): %v", name, err)
	}
	return exec.CommandContext(t.Context(), path, args...)
}

func TestMosquittoClients(t *testing.T) {
	address, server := serve(t, listen.Options{Address: "127.0.0.1:0"})
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			topic := "home/" + version
			common := []string{"-h", host, "-p", port, "-V", version, "-q", "2", "-t", topic}
			if out, err := command(t, "mosquitto_pub", append(common, "-r", "-m", "kept")...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			sub := command(t, "mosquitto_sub", append(common, "-C", "3", "-W", "10", "-v", "-i", "sub-"+version)...)
			var out strings.Builder
			sub.Stdout, sub.Stderr = &out, &out
			if err := sub.Start(); err != nil {
				t.Fatal(err)
			}
			awaitSubscription(t, server, "sub-"+version)
			pub := command(t, "mosquitto_pub", append(common, "-l")...)
			pub.Stdin = strings.NewReader("one\ntwo\n")
			if out, err := pub.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if err := sub.Wait(); err != nil {
				t.Errorf("mosquitto_sub: %v", err)
			}
			if want := topic + " kept\n" + topic + " one\n" + topic + " two\n"; out.String() != want {
				t.Errorf("got %q, want %q", out.String(), want)
			}
		})
	}
}

func TestMosquittoOverUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	_, server := serve(t, listen.Options{Address: path, Protocol: "unix"})
	out, err := command(t, "mosquitto_pub", "--unix", path, "-t", "x", "-m", "1", "-q", "1", "-r").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if kept := server.Retained("x", 1); len(kept) != 1 || string(kept[0].Payload) != "1" {
		t.Errorf("got %+v", kept)
	}
}

func awaitSubscription(t *testing.T, server *broker.Server, client string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		for _, c := range server.Clients() {
			if c.ClientID == client && c.Subscriptions > 0 {
				return
			}
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("client %q does not subscribe", client)
		}
	}
}
