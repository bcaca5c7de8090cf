package listen_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/listen"
)

// The first bytes of frames.
const (
	more          = 0x00 // a continuation, and not the last
	last          = 0x80
	text          = 0x01
	binaryMessage = 0x02
)

// framed is a frame of a client, by its first byte: opcode, and whether it is final.
func framed(first byte, payload string) string {
	var b []byte
	switch n := len(payload); {
	case n < 126:
		b = []byte{first, 0x80 | byte(n)}
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(n))
	default:
		b = binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, uint64(n))
	}
	mask := []byte{0x12, 0xa4, 0x7f, 0x01}
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

const openRequest = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"

// openRaw opens a WebSocket, with what follows the request at once, and returns its
// bytes.
func openRaw(t *testing.T, address, follows string) (net.Conn, *bufio.Reader) {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(nc, openRequest+follows); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(nc)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The answer of RFC 6455 §1.3 to this key.
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("got %+v", answer)
	}
	return nc, r
}

// heardFrame reads a short frame of the server.
func heardFrame(t *testing.T, r io.Reader) (first byte, payload string) {
	t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, head[1])
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return head[0], string(b)
}

// What is wrong with a frame is answered by its code, and is the end (RFC 6455 §5, §7).
func TestWebSocketEnds(t *testing.T) {
	address, server := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
	for name, c := range map[string]struct{ sent, said string }{
		"no mask":                         {"\x82\x01x", "\x03\xea"},
		"a reserved bit":                  {framed(0xc2, "x"), "\x03\xea"},
		"text":                            {framed(last|text, "x"), "\x03\xeb"},
		"an opcode of data":               {framed(0x83, "x"), "\x03\xea"},
		"an opcode of control":            {framed(0x8b, "x"), "\x03\xea"},
		"a continuation of nothing":       {framed(last, "x"), "\x03\xea"},
		"a message within another":        {framed(binaryMessage, connectV5[:3]) + framed(last|binaryMessage, "x"), "\x03\xea"},
		"a ping in fragments":             {framed(0x09, "x"), "\x03\xea"},
		"a ping of 126 bytes":             {framed(0x89, strings.Repeat("x", 126)), "\x03\xea"},
		"a length with a sign":            {"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00abcd", "\x03\xea"},
		"two bytes for a length of one":   {"\x82\xfe\x00\x7dabcd", "\x03\xea"},
		"eight bytes for a length of two": {"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xffabcd", "\x03\xea"},
		"a message of more than 256 MiB":  {"\x82\xff\x00\x00\x00\x00\x10\x00\x00\x01abcd", "\x03\xf1"},
		"fragments of more than 256 MiB":  {framed(binaryMessage, connectV5[:3]) + "\x00\xff\x00\x00\x00\x00\x0f\xff\xff\xfeabcd", "\x03\xf1"},
		"the end":                         {framed(0x88, "\x03\xe8bye"), "\x03\xe8"},
		"the end, without a code":         {framed(0x88, ""), ""},
		"the end, by a code of its own":   {framed(0x88, "\x0b\xb8"), "\x0b\xb8"},
		"half a code":                     {framed(0x88, "\x03"), "\x03\xea"},
		"a code that is not sent":         {framed(0x88, "\x03\xed"), "\x03\xea"},
		"a code below all":                {framed(0x88, "\x03\xe7"), "\x03\xea"},
		"a code above all":                {framed(0x88, "\x13\x88"), "\x03\xea"},
		"a reason that is not UTF-8":      {framed(0x88, "\x03\xe8\xff"), "\x03\xef"},
	} {
		t.Run(name, func(t *testing.T) {
			nc, r := openRaw(t, address, "")
			if _, err := io.WriteString(nc, c.sent); err != nil {
				t.Fatal(err)
			}
			if first, said := heardFrame(t, r); first != 0x88 || said != c.said {
				t.Errorf("got %#x, % x, want 0x88, % x", first, said, c.said)
			}
			if rest, err := io.ReadAll(r); len(rest) > 0 || errors.Is(err, net.ErrClosed) {
				t.Errorf("and then % x, %v", rest, err)
			}
		})
	}
	eventually(t, "all are gone", func() bool { return server.Stats().Connections == 0 })
}

// A message may come in fragments, and control frames between them, all cut anywhere
// (RFC 6455 §5.4).
func TestWebSocketFragments(t *testing.T) {
	address, _ := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
	sent := framed(binaryMessage, connectV5[:3]) + framed(0x89, "one") + framed(more, connectV5[3:9]) + framed(more, "") +
		framed(0x8a, "nobody asked") + framed(0x89, "") + framed(last, connectV5[9:])
	for name, size := range map[string]int{"with the request": 0, "byte by byte": 1, "in sevens": 7, "whole": len(sent)} {
		t.Run(name, func(t *testing.T) {
			follows := ""
			if size == 0 {
				follows = sent
			}
			nc, r := openRaw(t, address, follows)
			for part := range slices.Chunk([]byte(sent), max(size, 1)) {
				if size == 0 {
					break
				}
				if _, err := nc.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range []string{"one", ""} {
				if first, said := heardFrame(t, r); first != 0x8a || said != want {
					t.Errorf("got %#x, %q, want the pong of %q", first, said, want)
				}
			}
			if first, said := heardFrame(t, r); first != 0x82 || said[0] != 0x20 || said[3] != 0 {
				t.Errorf("got %#x, % x, want CONNACK", first, said)
			}
			if _, err := io.WriteString(nc, framed(0x88, "\x03\xe9")); err != nil {
				t.Fatal(err)
			}
			if first, said := heardFrame(t, r); first != 0x88 || said != "\x03\xe9" {
				t.Errorf("got %#x, % x, want the end", first, said)
			}
		})
	}
}

// Whoever says goodbye closes the WebSocket too: MQTT's DISCONNECT is followed by a
// Close frame, and nothing is sent after it.
func TestWebSocketClosesAfterDisconnect(t *testing.T) {
	address, _ := serve(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"})
	nc, r := openRaw(t, address, framed(last|binaryMessage, connectV5+"\xe0\x00"))
	if first, said := heardFrame(t, r); first != 0x82 || said[0] != 0x20 {
		t.Errorf("got %#x, % x, want CONNACK", first, said)
	}
	if first, said := heardFrame(t, r); first != 0x88 || said != "\x03\xe8" {
		t.Errorf("got %#x, % x, want the end", first, said)
	}
	if _, err := io.WriteString(nc, framed(0x88, "\x03\xe8")); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("got % x, %v", rest, err)
	}
}

// Requests that open nothing (RFC 6455 §4.2.1).
func TestWebSocketRequests(t *testing.T) {
	l, _ := serveWith(t, listen.Options{Address: "127.0.0.1:0", Protocol: "ws"}, broker.Limits{})
	for name, c := range map[string]struct {
		old, new string
		status   int
	}{
		"no HTTP":            {"GET /mqtt HTTP/1.1", "HELO", http.StatusBadRequest},
		"HTTP 1.0":           {"HTTP/1.1", "HTTP/1.0", http.StatusUpgradeRequired},
		"HTTP 2":             {"GET /mqtt HTTP/1.1", "PRI * HTTP/2.0", http.StatusNotFound},
		"POST":               {"GET", "POST", http.StatusNotFound},
		"another path":       {"/mqtt", "/", http.StatusNotFound},
		"no host":            {"Host: localhost\r\n", "", http.StatusBadRequest},
		"no upgrade":         {"Upgrade: websocket\r\n", "", http.StatusUpgradeRequired},
		"an older version":   {"Version: 13", "Version: 8", http.StatusUpgradeRequired},
		"no version":         {"Sec-WebSocket-Version: 13\r\n", "", http.StatusUpgradeRequired},
		"no key":             {"Sec-WebSocket-Key: ", "X: ", http.StatusBadRequest},
		"a short key":        {"dGhlIHNhbXBsZSBub25jZQ==", "dGhl", http.StatusBadRequest},
		"a key that is none": {"dGhlIHNhbXBsZSBub25jZQ==", "%", http.StatusBadRequest},
		"two keys":           {"Host", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost", http.StatusBadRequest},
		"a body":             {"Host", "Content-Length: 3\r\nHost", http.StatusBadRequest},
		"no end":             {"Host", "X: " + strings.Repeat("x", 16<<10) + "\r\nHost", http.StatusRequestHeaderFieldsTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(nc, strings.Replace(openRequest, c.old, c.new, 1)); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(nc)
			answer, err := http.ReadResponse(r, nil)
			if err != nil || answer.StatusCode != c.status {
				t.Fatalf("got %+v, %v, want status %d", answer, err, c.status)
			}
			if why, err := io.ReadAll(answer.Body); err != nil || len(why) == 0 {
				t.Errorf("got %q, %v", why, err)
			}
			if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
				t.Errorf("and then %q, %v", rest, err)
			}
		})
	}
}

// conversation is a connection on which everything was said before.
type conversation struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *conversation) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *conversation) Write(p []byte) (int, error) { return c.out.Write(p) }

// FuzzFrames has frames come in one piece and byte by byte: the payload, the answers
// and the end are the same.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		framed(last|binaryMessage, connectV5), framed(binaryMessage, "a") + framed(0x89, "ping") + framed(last, "b") + framed(0x88, "\x03\xe8"),
		framed(last|binaryMessage, strings.Repeat("x", 300)), framed(last|binaryMessage, strings.Repeat("x", 70_000)), framed(last|text, "x"), "\x82\x01x",
		"\x82\xff\x00\x00\x00\x00\x10\x00\x00\x01abcd", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		read := func(in io.Reader) (payload, answers []byte, err error) {
			c := &conversation{in: in}
			payload, err = io.ReadAll(listen.Frames(c))
			return payload, c.out.Bytes(), err
		}
		payload, answers, err := read(bytes.NewReader(b))
		if len(payload) > len(b) {
			t.Errorf("%d bytes of payload in %d", len(payload), len(b))
		}
		again, answersAgain, errAgain := read(iotest.OneByteReader(bytes.NewReader(b)))
		if !bytes.Equal(payload, again) || !bytes.Equal(answers, answersAgain) || (err == nil) != (errAgain == nil) {
			t.Errorf("in one: % x, % x, %v; byte by byte: % x, % x, %v", payload, answers, err, again, answersAgain, errAgain)
		}
	})
}
