package listen_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/listen"
)

const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// proxyHeader is a header of version 2 with what follows its length.
func proxyHeader(command, family byte, body ...[]byte) []byte {
	all := bytes.Join(body, nil)
	head := append([]byte(proxySignature), command, family)
	return append(binary.BigEndian.AppendUint16(head, uint16(len(all))), all...)
}

var (
	tcp4 = []byte{192, 0, 2, 7, 192, 0, 2, 1, 0x30, 0x39, 0x07, 0x5b} // 192.0.2.7:12345 to 192.0.2.1:1883
	tcp6 = append(append(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice()...), 0x30, 0x39, 0x07, 0x5b)
	// A TLV of type "authority" and one of a type that is not known.
	tlvs = append([]byte{0x02, 0, 4, 'h', 'o', 's', 't', 0xe0}, append([]byte{0x13, 0x88}, make([]byte, 5000)...)...)
)

// throughProxy sends a header and a byte to a listener, and returns the remote
// address of the connection that Accept gives, and the first error of reading it.
func throughProxy(t *testing.T, l net.Listener, header []byte) (string, error) {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write(append(header, "x"...)); err != nil {
		t.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, early := nc.RemoteAddr().(listen.PendingAddr); !early {
		t.Errorf("before the header the address is %v", nc.RemoteAddr())
	}
	if err := nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	n, err := nc.Read(b)
	if err == nil && string(b[:n]) != "x" {
		t.Errorf("got %q behind the header", b[:n])
	}
	return strings.Replace(nc.RemoteAddr().String(), client.LocalAddr().String(), "its own", 1), err
}

func TestProxyProtocol(t *testing.T) {
	l, err := listen.Listen(t.Context(), listen.Options{
		Address: "127.0.0.1:0", Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for behaviour, c := range map[string]struct {
		header []byte
		want   string
	}{
		"IPv4":                                {proxyHeader(0x21, 0x11, tcp4), "192.0.2.7:12345"},
		"IPv6":                                {proxyHeader(0x21, 0x21, tcp6), "[2001:db8::7]:12345"},
		"TLVs are skipped":                    {proxyHeader(0x21, 0x11, tcp4, tlvs), "192.0.2.7:12345"},
		"an IPv4 address written as IPv6":     {proxyHeader(0x21, 0x21, netip.MustParseAddr("::ffff:192.0.2.7").AsSlice(), make([]byte, 16), tcp4[8:]), "192.0.2.7:12345"},
		"LOCAL is the proxy itself":           {proxyHeader(0x20, 0x00), "its own"},
		"LOCAL with addresses that are void":  {proxyHeader(0x20, 0x11, tcp4), "its own"},
		"LOCAL with a family nobody knows":    {proxyHeader(0x20, 0xff, tcp4), "its own"},
		"an unspecified family":               {proxyHeader(0x21, 0x00, []byte("whatever")), "0.0.0.0:0"},
		"a Unix socket in front of the proxy": {proxyHeader(0x21, 0x31, make([]byte, 216)), "its own"},
	} {
		t.Run(behaviour, func(t *testing.T) {
			if got, err := throughProxy(t, l, c.header); err != nil || got != c.want {
				t.Errorf("got %s, %v; want %s", got, err, c.want)
			}
		})
	}
	malformed := 0
	for behaviour, c := range map[string]struct {
		header []byte
		says   string
	}{
		"no header":                 {[]byte(connectV5 + "\xc0\x00"), "does not begin with its signature"},
		"version 1":                 {[]byte("PROXY TCP4 192.0.2.7 192.0.2.1 12345 1883\r\n"), "does not begin with its signature"},
		"another version":           {proxyHeader(0x11, 0x11, tcp4), "0x11"},
		"another command":           {proxyHeader(0x22, 0x11, tcp4), "0x22"},
		"a datagram":                {proxyHeader(0x21, 0x12, tcp4), "0x12"},
		"too few bytes of IPv4":     {proxyHeader(0x21, 0x11, tcp4[:11]), "11 bytes of addresses, 12"},
		"too few bytes of IPv6":     {proxyHeader(0x21, 0x21, tcp6[:35]), "35 bytes of addresses, 36"},
		"IPv4 addresses for IPv6":   {proxyHeader(0x21, 0x21, tcp4), "12 bytes of addresses, 36"},
		"nothing where IPv4 is due": {proxyHeader(0x21, 0x11), "0 bytes of addresses, 12"},
	} {
		malformed++
		t.Run(behaviour, func(t *testing.T) {
			if got, err := throughProxy(t, l, c.header); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	if got := l.Stats().Refused["proxy"]; got != int64(malformed) {
		t.Errorf("%d malformed headers were counted, want %d", got, malformed)
	}
}

func TestProxyHeaderThatStops(t *testing.T) {
	l, err := listen.Listen(t.Context(), listen.Options{
		Address: "127.0.0.1:0", Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	whole := proxyHeader(0x21, 0x11, tcp4, tlvs)
	for _, n := range []int{0, 1, 12, 15, 16, 20, 28, 30, len(whole) - 1} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Write(whole[:n]); err != nil {
			t.Fatal(err)
		}
		_ = client.Close()
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(nc); err == nil && n > 0 || len(got) > 0 {
			t.Errorf("after %d bytes: got %q, %v", n, got, err)
		}
		_ = nc.Close()
	}
}

func TestProxyIsTrustedByItsNetwork(t *testing.T) {
	l, server := serveWith(t, listen.Options{
		Address: "127.0.0.1:0", Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}, broker.Limits{})
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, _ = client.Write(append(proxyHeader(0x21, 0x11, tcp4), connectV5...)) // it may be closed already
	if err := client.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(client); len(got) > 0 {
		t.Errorf("got % x", got)
	}
	if s := l.Stats(); s.Refused["proxy-source"] != 1 || s.Accepted != 1 || server.Stats().Accepted != 0 {
		t.Errorf("got %+v, %+v", s, server.Stats())
	}
}

// TestClientBehindProxy has the broker learn who the client is: it is not let in as
// somebody of this machine though the proxy is, and is counted by its own address.
func TestClientBehindProxy(t *testing.T) {
	l, server := serveWith(t, listen.Options{
		Address: "127.0.0.1:0", Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, broker.Limits{ConnectionsPerAddress: 1})
	connect := func(header []byte) (net.Conn, []byte) {
		t.Helper()
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		if _, err := nc.Write(append(header, connectV5...)); err != nil {
			t.Fatal(err)
		}
		if err := nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 4)
		n, _ := io.ReadFull(nc, head)
		return nc, head[:n]
	}
	if _, got := connect(proxyHeader(0x20, 0)); len(got) < 4 || got[3] != 0 {
		t.Errorf("the proxy itself: got % x", got)
	}
	if c := server.Clients(); len(c) != 1 || !strings.HasPrefix(c[0].Remote, "127.0.0.1:") {
		t.Errorf("got %+v", c)
	}
	if _, got := connect(proxyHeader(0x21, 0x11, tcp4)); len(got) < 4 || got[3] != 0x87 {
		t.Errorf("an anonymous client of another machine: got % x", got)
	}
	// One of 192.0.2.7 that has said its header and no CONNECT, then another.
	first, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	eventually(t, "the refused one is gone", func() bool { return server.Stats().Connections == 2 })
	if _, err := first.Write(append(proxyHeader(0x21, 0x11, tcp4), 0x10)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second of the address is refused", func() bool {
		_, got := connect(proxyHeader(0x21, 0x11, tcp4))
		return len(got) == 0
	})
	if n := l.Stats().Refused["address"]; n == 0 {
		t.Errorf("got %+v", l.Stats())
	}
}

func TestTLSBehindProxy(t *testing.T) {
	ca := newAuthority(t, "house")
	for _, protocol := range []string{"mqtts", "wss", "ws"} {
		t.Run(protocol, func(t *testing.T) {
			o := listen.Options{Address: "127.0.0.1:0", Protocol: protocol, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
			if protocol != "ws" {
				o.TLS = &listen.TLS{Certificates: []listen.KeyPair{ca.issue("gate.example")}}
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
			if _, err := tcp.Write(proxyHeader(0x21, 0x21, tcp6, tlvs)); err != nil {
				t.Fatal(err)
			}
			client := net.Conn(tcp)
			if o.TLS != nil {
				client = tls.Client(tcp, ca.client("gate.example", listen.KeyPair{}))
			}
			sent := make(chan error, 1)
			go func() {
				text := "x"
				if protocol != "mqtts" {
					text = "GET /mqtt HTTP/1.1\r\nHost: gate.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
						"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n" +
						"\x82\x81\x00\x00\x00\x00x" // a binary frame of one byte
				}
				_, err := client.Write([]byte(text))
				sent <- err
			}()
			if got := accepted(t, l).RemoteAddr().String(); got != "[2001:db8::7]:12345" {
				t.Errorf("got %s", got)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("it does not come to be that %s", what)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, seed := range [][]byte{
		proxyHeader(0x21, 0x11, tcp4), proxyHeader(0x21, 0x21, tcp6, tlvs), proxyHeader(0x20, 0), proxyHeader(0x21, 0x31, make([]byte, 216)),
		[]byte(connectV5), []byte(proxySignature), nil,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		address, err := listen.ReadProxyHeader(r)
		if err != nil {
			return
		}
		read := len(b) - r.Len()
		if want := 16 + int(binary.BigEndian.Uint16(b[14:])); read != want {
			t.Errorf("%d bytes were read of a header of %d", read, want)
		}
		if address != nil && !address.AddrPort().IsValid() {
			t.Errorf("address %v", address)
		}
	})
}
