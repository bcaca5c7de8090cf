package listen_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/listen"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// dialTLS opens a TLS connection; the error is of the handshake, or of the first
// byte after it, which is where TLS 1.3 tells a client that it is refused.
func dialTLS(t *testing.T, address string, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	tcp, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	if err := tcp.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	nc := tls.Client(tcp, config)
	if err := nc.Handshake(); err != nil {
		return nil, err
	}
	if _, err := nc.Write([]byte(connectV5)); err != nil {
		return nil, err
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(nc, head); err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, nc, int64(head[1])); err != nil {
		return nil, err
	}
	if head[0] != 0x20 {
		t.Fatalf("got % x, not CONNACK", head)
	}
	return nc, nil
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate in %s", text)
	}
	return p
}

func TestTLSVersionsAndSuites(t *testing.T) {
	ca := newAuthority(t, "house")
	pair := ca.issue("gate.example")
	for _, c := range []struct {
		behaviour   string
		min         uint16
		client      uint16
		suites      []uint16
		wantRefused bool
	}{
		{"TLS 1.3", 0, tls.VersionTLS13, nil, false},
		{"TLS 1.2", 0, tls.VersionTLS12, nil, false},
		{"TLS 1.1 is refused", 0, tls.VersionTLS11, nil, true},
		{"TLS 1.2 is refused where 1.3 is the least", tls.VersionTLS13, tls.VersionTLS12, nil, true},
		{"a suite without forward secrecy is refused", 0, tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, true},
		{"a CBC suite is refused", 0, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, true},
		{"ChaCha20 is there for machines without AES", 0, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}, false},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			l, _ := serveWith(t, listen.Options{
				Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &listen.TLS{Certificates: []listen.KeyPair{pair}, MinVersion: c.min},
			}, broker.Limits{})
			config := ca.client("gate.example", listen.KeyPair{})
			config.MinVersion, config.MaxVersion, config.CipherSuites = c.client, c.client, c.suites
			_, err := dialTLS(t, l.Addr().String(), config)
			if (err != nil) != c.wantRefused {
				t.Errorf("got %v", err)
			}
			eventually(t, "it is counted", func() bool {
				s := l.Stats()
				return s.Refused["tls"]+s.Handshakes == 1 && (s.Refused["tls"] == 1) == c.wantRefused
			})
		})
	}
}

func TestServerNameChoosesTheCertificate(t *testing.T) {
	ca := newAuthority(t, "house")
	l, _ := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &listen.TLS{
		Certificates: []listen.KeyPair{ca.issue("first.example"), ca.issue("second.example")},
	}}, broker.Limits{})
	for ask, want := range map[string]string{
		"first.example": "first.example", "second.example": "second.example", "third.example": "first.example", "": "first.example",
	} {
		t.Run(ask, func(t *testing.T) {
			config := ca.client(ask, listen.KeyPair{})
			config.InsecureSkipVerify = true
			nc, err := dialTLS(t, l.Addr().String(), config)
			if err != nil {
				t.Fatal(err)
			}
			if got := nc.ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
				t.Errorf("got the certificate of %q, want %q", got, want)
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	ca, other := newAuthority(t, "house"), newAuthority(t, "stranger")
	pair := ca.issue("gate.example") // serial number 2
	good, revoked, foreign := ca.issue("good"), ca.issue("revoked"), other.issue("foreign")
	crl := ca.revoke(time.Now().Add(time.Hour), 4)
	for _, c := range []struct {
		behaviour string
		tls       listen.TLS
		client    listen.KeyPair
		want      bool
	}{
		{"required and shown", listen.TLS{}, good, true},
		{"required and not shown", listen.TLS{}, listen.KeyPair{}, false},
		{"of another authority", listen.TLS{}, foreign, false},
		{"optional and not shown", listen.TLS{Optional: true}, listen.KeyPair{}, true},
		{"optional and of another authority", listen.TLS{Optional: true}, foreign, false},
		{"on a revocation list", listen.TLS{CRL: crl}, revoked, false},
		{"optional and on a revocation list", listen.TLS{CRL: crl, Optional: true}, revoked, false},
		{"not on the revocation list", listen.TLS{CRL: crl}, good, true},
		{"optional, with a revocation list, and not shown", listen.TLS{CRL: crl, Optional: true}, listen.KeyPair{}, true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(c.behaviour+", "+tls.VersionName(version), func(t *testing.T) {
				o := c.tls
				o.Certificates, o.ClientCA = []listen.KeyPair{pair}, ca.path("ca.pem")
				l, _ := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &o}, broker.Limits{})
				config := ca.client("gate.example", c.client)
				config.MaxVersion = version
				_, err := dialTLS(t, l.Addr().String(), config)
				if (err == nil) != c.want {
					t.Errorf("got %v", err)
				}
				eventually(t, "it is counted", func() bool {
					s := l.Stats()
					return s.Refused["tls"]+s.Handshakes == 1 && (s.Refused["tls"] == 0) == c.want
				})
			})
		}
	}
}

// accepted is the server's end of a connection that sent "x".
func accepted(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return nc
}

func TestPeerCertificatesAreTheVerifiedChain(t *testing.T) {
	ca := newAuthority(t, "house")
	o := &listen.TLS{Certificates: []listen.KeyPair{ca.issue("gate.example")}, ClientCA: ca.path("ca.pem"), Optional: true}
	chainOf := func(t *testing.T, nc net.Conn) []string {
		t.Helper()
		peer, ok := nc.(interface{ PeerCertificates() []*x509.Certificate })
		if !ok {
			t.Fatalf("a %T has no PeerCertificates", nc)
		}
		var names []string
		for _, c := range peer.PeerCertificates() {
			names = append(names, c.Subject.CommonName)
		}
		return names
	}
	for name, c := range map[string]struct {
		pair listen.KeyPair
		want []string
	}{"shown": {ca.issue("sensor"), []string{"sensor", "house"}}, "not shown": {}} {
		t.Run("mqtts, "+name, func(t *testing.T) {
			l, err := listen.Listen(t.Context(), listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts", TLS: o})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			sent := make(chan error, 1)
			go func() {
				_, err := tls.Client(client, ca.client("gate.example", c.pair)).Write([]byte("x"))
				sent <- err
			}()
			if got := chainOf(t, accepted(t, l)); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
		t.Run("wss, "+name, func(t *testing.T) {
			l, err := listen.Listen(t.Context(), listen.Options{Address: "127.0.0.1:0", Protocol: "wss", TLS: o})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			sent := make(chan error, 1)
			go func() {
				ws, err := dialWSS(t, l.Addr().String(), ca.client("gate.example", c.pair))
				if err == nil {
					err = ws.Write(t.Context(), websocket.MessageBinary, []byte("x"))
				}
				sent <- err
			}()
			if got := chainOf(t, accepted(t, l)); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

// dialWSS opens a WebSocket over TLS.
func dialWSS(t *testing.T, address string, config *tls.Config) (*websocket.Conn, error) {
	ws, _, err := websocket.Dial(t.Context(), "wss://"+address+"/mqtt", &websocket.DialOptions{
		Subprotocols: []string{"mqtt"},
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}},
	})
	if err == nil {
		t.Cleanup(func() { _ = ws.CloseNow() })
	}
	return ws, err
}

func TestReload(t *testing.T) {
	ca := newAuthority(t, "house")
	pair, client := ca.issue("gate.example"), ca.issue("client") // serial numbers 2 and 3
	o := &listen.TLS{Certificates: []listen.KeyPair{pair}, ClientCA: ca.path("ca.pem"), CRL: ca.revoke(time.Now().Add(time.Hour), 99)}
	l, _ := serveWith(t, listen.Options{Name: "outer", Address: "127.0.0.1:0", Protocol: "mqtts", TLS: o}, broker.Limits{})
	serial := func() string {
		nc, err := dialTLS(t, l.Addr().String(), ca.client("gate.example", client))
		if err != nil {
			return err.Error()
		}
		return nc.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	reload := func(want bool, says string) {
		t.Helper()
		changed, err := l.Reload()
		if changed != want || (says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("reload: changed %v, error %v", changed, err)
		}
	}
	if got := serial(); got != "2" {
		t.Fatalf("serial number %s", got)
	}
	reload(false, "")
	first := l.Certificates()[0]
	ca.issue("gate.example") // over the files; serial number 4
	reload(true, "")
	if got := serial(); got != "4" {
		t.Errorf("serial number %s after the reload", got)
	}
	if now := l.Certificates()[0]; now.Fingerprint == first.Fingerprint || len(now.Fingerprint) != 95 || now.Names[0] != "gate.example" {
		t.Errorf("got %+v, then %+v", first, now)
	}
	for name, content := range map[string]string{"nothing": "", "no PEM": "hello", "another key": readFile(t, client.Key)} {
		t.Run("a broken key keeps the old one: "+name, func(t *testing.T) {
			good := readFile(t, pair.Key)
			defer writeFile(t, pair.Key, good)
			writeFile(t, pair.Key, content)
			reload(false, `certificates of listener "outer": certificate "`+pair.Certificate+`" with key`)
			if got := serial(); got != "4" {
				t.Errorf("serial number %s", got)
			}
		})
	}
	t.Run("a file that is gone keeps the old one", func(t *testing.T) {
		good := readFile(t, pair.Certificate)
		defer writeFile(t, pair.Certificate, good)
		if err := os.Remove(pair.Certificate); err != nil {
			t.Fatal(err)
		}
		reload(false, "no such file")
		if got := serial(); got != "4" {
			t.Errorf("serial number %s", got)
		}
	})
	t.Run("a revocation list of a stranger keeps the old one", func(t *testing.T) {
		stranger := newAuthority(t, "house") // of the same name
		good := readFile(t, o.CRL)
		defer writeFile(t, o.CRL, good)
		writeFile(t, o.CRL, readFile(t, stranger.revoke(time.Now().Add(time.Hour), 3)))
		reload(false, "not signed by a certificate of the client CA")
		if got := serial(); got != "4" {
			t.Errorf("serial number %s", got)
		}
	})
	ca.revoke(time.Now().Add(-time.Minute), 3)
	reload(true, "")
	if got := serial(); !strings.Contains(got, "bad certificate") {
		t.Errorf("a revoked client is let in: %s", got)
	}
	if l.Overdue().IsZero() {
		t.Error("nobody is told that the revocation list is overdue")
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSelfSigned(t *testing.T) {
	cert, key, err := listen.SelfSigned(listen.LocalNames())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(cert)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		for _, now := range []time.Time{time.Now(), time.Unix(60, 0), time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
				t.Errorf("for %q at %v: %v", name, now, err)
			}
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "elsewhere.example"}); err == nil {
		t.Error("it is for other names too")
	}
}

// crumbs cuts what is written into pieces, each a segment of its own.
type crumbs struct {
	net.Conn
	size int
}

func (c crumbs) Write(p []byte) (int, error) {
	for at := 0; at < len(p); at += c.size {
		if n, err := c.Conn.Write(p[at:min(len(p), at+c.size)]); err != nil {
			return at + n, err
		}
	}
	return len(p), nil
}

func TestTLSRecordsInPieces(t *testing.T) {
	ca := newAuthority(t, "house")
	l, _ := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &listen.TLS{
		Certificates: []listen.KeyPair{ca.issue("gate.example")},
	}}, broker.Limits{})
	for name, size := range map[string]int{"of one byte": 1, "of three bytes": 3, "of 700 bytes": 700, "whole": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			tcp, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer tcp.Close()
			c := brokertest.NewClient(tls.Client(crumbs{tcp, size}, ca.client("gate.example", listen.KeyPair{})))
			if _, err := c.Connect(&packet.Connect{Version: packet.V5, ClientID: name, Clean: true}); err != nil {
				t.Fatal(err)
			}
			filter := packet.Filter{Filter: name, Options: packet.SubscribeOptions{QoS: 1}}
			if err := c.Send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{filter}}); err != nil {
				t.Fatal(err)
			}
			if p, err := c.Read(); err != nil || p.Type() != packet.SUBACK {
				t.Fatalf("got %v, %v", p, err)
			}
			// Sizes around those of a record (16 KiB) and of buffers.
			for _, n := range []int{0, 1, 500, 16<<10 - 30, 16 << 10, 16<<10 + 1, 60_000} {
				if size == 1 && n > 1000 {
					continue // it would take its time
				}
				payload := bytes.Repeat([]byte{'x'}, n)
				if err := c.Send(&packet.Publish{Topic: name, Payload: payload}); err != nil {
					t.Fatal(err)
				}
				p, err := c.Read()
				if pub, ok := p.(*packet.Publish); err != nil || !ok || !bytes.Equal(pub.Payload, payload) {
					t.Fatalf("%d bytes: got %T, %v", n, p, err)
				}
			}
		})
	}
}

func TestTLSGoodbye(t *testing.T) {
	ca := newAuthority(t, "house")
	l, server := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: "mqtts", TLS: &listen.TLS{
		Certificates: []listen.KeyPair{ca.issue("gate.example")},
	}}, broker.Limits{})
	nc, err := dialTLS(t, l.Addr().String(), ca.client("gate.example", listen.KeyPair{}))
	if err != nil {
		t.Fatal(err)
	}
	server.Disconnect("w", 0x98)
	last, err := io.ReadAll(nc) // an end without close_notify is an error
	if err != nil || len(last) < 3 || last[0] != 0xe0 || last[2] != 0x98 {
		t.Errorf("got % x, %v", last, err)
	}
}

func TestSilentClientsHoldUpNobody(t *testing.T) {
	ca := newAuthority(t, "house")
	o := &listen.TLS{Certificates: []listen.KeyPair{ca.issue("gate.example")}}
	for _, protocol := range []string{"mqtts", "wss"} {
		t.Run(protocol, func(t *testing.T) {
			l, server := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: protocol, TLS: o}, broker.Limits{ConnectTime: 500 * time.Millisecond})
			var silent []net.Conn
			for i := range 100 {
				nc, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				if i%2 == 0 { // the first bytes of a TLS record
					if _, err := nc.Write([]byte{0x16, 3, 1}); err != nil {
						t.Fatal(err)
					}
				}
				silent = append(silent, nc)
			}
			if protocol == "mqtts" {
				if _, err := dialTLS(t, l.Addr().String(), ca.client("gate.example", listen.KeyPair{})); err != nil {
					t.Error(err)
				}
			} else if _, err := dialWSS(t, l.Addr().String(), ca.client("gate.example", listen.KeyPair{})); err != nil {
				t.Error(err)
			}
			for _, nc := range silent { // all are closed by their deadline
				if err := nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal("a silent connection stays")
				}
			}
			want := int64(100)
			if protocol == "wss" { // the other has opened its WebSocket, and said no more
				want++
			}
			eventually(t, "they are gone, and counted", func() bool {
				return server.Stats().Connections <= 1 && l.Stats().Refused["silent"] == want
			})
		})
	}
}
