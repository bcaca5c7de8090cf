package listen_test

import (
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/listen"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// heap is what is in use after all that can be freed was.
func heap() uint64 {
	var m runtime.MemStats
	for range 3 { // finalizers and pools take their turns
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// transport opens a connection through which MQTT flows.
type transport struct {
	protocol string
	dial     func(t *testing.T, address string) io.ReadWriteCloser
}

func transports(ca *authority) []transport {
	return []transport{
		{"mqtt", func(t *testing.T, address string) io.ReadWriteCloser {
			nc, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			return nc
		}},
		{"mqtts", func(t *testing.T, address string) io.ReadWriteCloser {
			nc, err := tls.Dial("tcp", address, ca.client("gate.example", listen.KeyPair{}))
			if err != nil {
				t.Fatal(err)
			}
			return nc
		}},
		{"ws", func(t *testing.T, address string) io.ReadWriteCloser {
			ws, _, err := dial(t, address, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
			if err != nil {
				t.Fatal(err)
			}
			return websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
		}},
		{"wss", func(t *testing.T, address string) io.ReadWriteCloser {
			ws, err := dialWSS(t, address, ca.client("gate.example", listen.KeyPair{}))
			if err != nil {
				t.Fatal(err)
			}
			return websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
		}},
	}
}

// TestMemoryGrowsWithWhatCame has clients announce the largest packet that there is,
// and send little of it.
func TestMemoryGrowsWithWhatCame(t *testing.T) {
	ca := newAuthority(t, "house")
	pair := ca.issue("gate.example")
	const n, announced, most = 50, "\xff\xff\xff\x60", 160 << 10 // both ends are in this process
	for _, tr := range transports(ca) {
		t.Run(tr.protocol, func(t *testing.T) {
			o := listen.Options{Address: "127.0.0.1:0", Protocol: tr.protocol}
			if strings.HasSuffix(tr.protocol, "s") && tr.protocol != "ws" {
				o.TLS = &listen.TLS{Certificates: []listen.KeyPair{pair}}
			}
			l, server := serveWith(t, o, broker.Limits{
				Packet: packet.MaxSize - 5, ConnectPacket: packet.MaxSize, ConnectTime: time.Minute,
			})
			before := heap()
			for i := range n {
				c := tr.dial(t, l.Addr().String())
				defer c.Close()
				start := []byte{0x10} // a CONNECT
				if i%2 == 0 {         // a PUBLISH of a client that is connected
					connect(t, c, fmt.Sprint("client ", i))
					start = []byte{0x30}
				}
				start = append(start, announced...)
				if _, err := c.Write(append(start, "\x00\x04MQTT"...)); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all are there", func() bool { return server.Stats().Connections == n && server.Stats().Clients == n/2 })
			if grown := int64(heap()) - int64(before); grown > n*most {
				t.Errorf("%d bytes a connection, want at most %d", grown/n, most)
			}
		})
	}
}

// connect has a client connected.
func connect(t *testing.T, c io.ReadWriter, id string) {
	t.Helper()
	b, err := packet.Append(nil, &packet.Connect{Version: packet.V311, ClientID: id, Clean: true}, packet.V311)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(c, answer); err != nil || answer[3] != 0 {
		t.Fatalf("got % x, %v", answer, err)
	}
}

// malformed are beginnings of connections that are no CONNECT of a client.
func malformed(t testing.TB) [][]byte {
	var all [][]byte
	for _, text := range []string{
		"00", "f0 00", "c0 00", "30 05 00 01 78 68 69", "10", "10 ff ff ff ff 01", "10 00", "10 ff ff ff 7f", "11 00",
		"10 0c 00 04 4d 51 54 54 04 02 00 00 00",                         // shorter than it says
		"10 0c 00 04 4d 51 54 54 06 02 00 00 00 00",                      // a version that is not there
		"10 0c 00 04 4d 51 54 55 04 02 00 00 00 00",                      // a protocol that is not MQTT
		"10 0c 00 04 4d 51 54 54 04 03 00 00 00 00",                      // a reserved flag
		"10 0c 00 04 4d 51 54 54 04 42 00 00 00 00",                      // a password without a user name, and none there
		"10 0c 00 04 4d 51 54 54 04 1e 00 00 00 00",                      // a will of QoS 3
		"10 0c 00 04 4d 51 54 54 04 02 00 00 ff ff",                      // a client identifier of 65,535 bytes
		"10 0d 00 04 4d 51 54 54 05 02 00 00 ff ff 00 00",                // properties without end
		"10 0e 00 04 4d 51 54 54 04 02 00 00 00 02 c3 28",                // not UTF-8
		"10 13 00 04 4d 51 54 54 05 02 00 00 05 26 00 00 00 00 00 00 00", // bytes that are too many
		"16 03 01 02 00 01 00 01 fc 03 03",                               // TLS
		"47 45 54 20 2f 20 48 54 54 50 2f 31 2e 31 0d 0a 0d 0a",          // HTTP
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// TestMalformedConnectsLeaveNothing floods the broker with malformed beginnings and
// looks for what they left.
func TestMalformedConnectsLeaveNothing(t *testing.T) {
	n := 100_000
	if raceDetector || testing.Short() {
		n = 5_000
	}
	l, server := serveWith(t, listen.Options{Address: "127.0.0.1:0"}, broker.Limits{ConnectTime: time.Minute})
	starts := malformed(t)
	flood := func(n int) {
		var wg sync.WaitGroup
		for part := range 8 {
			wg.Go(func() {
				// Addresses of their own, because the ports of one would not do.
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, 0, byte(part))}}
				for i := part; i < n; i += 8 {
					if err := spoil(t.Context().Done(), &dialer, l.Addr().String(), starts[i%len(starts)]); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		eventually(t, "all are gone", func() bool { return server.Stats().Connections == 0 })
	}
	flood(2000) // pools fill
	was, goroutines, descriptors := heap(), runtime.NumGoroutine(), openFiles(t)
	flood(n)
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "no descriptor is left", func() bool { return openFiles(t) <= descriptors })
	grown := int64(heap()) - int64(was)
	t.Logf("%d connections, heap grown by %d bytes", n, grown)
	if grown > 1<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if s := server.Stats(); s.Refused != int64(n+2000) || s.Sessions != 0 || s.Clients != 0 {
		t.Errorf("got %+v", s)
	}
}

// spoil sends a beginning, and waits for the server to close if that is all it has
// to do; else it leaves.
func spoil(done <-chan struct{}, dialer *net.Dialer, address string, start []byte) error {
	nc, err := dialer.Dial("tcp", address)
	if err != nil {
		return err
	}
	tcp := nc.(*net.TCPConn)
	defer tcp.Close()
	if err := tcp.SetLinger(0); err != nil { // no port stays behind
		return err
	}
	if _, err := tcp.Write(start); err != nil {
		return err
	}
	if len(start)%2 == 0 { // and the others just leave
		if err := tcp.CloseWrite(); err != nil {
			return err
		}
		if err := tcp.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, tcp) // a reset is as good as an end
	}
	select {
	case <-done:
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestUnixSocketMode(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "s")
	l, err := listen.Listen(t.Context(), listen.Options{Address: path, Protocol: "unix", Mode: 0o660})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}
