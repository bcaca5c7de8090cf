package listen

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 wants it, and no secret is in it
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

const (
	mqttPath    = "/mqtt"
	subprotocol = "mqtt" // MQTT 5.0 §6.0, [MQTT-6.0.0-4], [MQTT3-6.0.0-4]
	// headerLimit bounds the request that opens a WebSocket.
	headerLimit = 16 << 10
	// requestBuffer is what it is read by: most are shorter.
	requestBuffer = 1 << 10
	// keySalt makes the answer of the key (RFC 6455 §1.3).
	keySalt = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// denied is why a request opens no WebSocket, and the status that it is answered by.
type denied struct {
	status int
	why    string
}

// Error implements error.
func (d *denied) Error() string { return d.why }

// upgrade reads the request that opens a WebSocket on nc, and answers it (RFC 6455
// §4.2) unless it is [denied].
func (f *front) upgrade(nc net.Conn, remote net.Addr) (*frames, error) {
	source := &limited{from: nc, left: headerLimit}
	br := bufio.NewReaderSize(source, requestBuffer)
	request, err := http.ReadRequest(br)
	switch {
	case err != nil && source.failed != nil:
		return nil, source.failed // nobody is there to be answered
	case err != nil && source.left == 0:
		return nil, &denied{http.StatusRequestHeaderFieldsTooLarge, "the request has no end"}
	case err != nil:
		return nil, &denied{http.StatusBadRequest, "the request is not HTTP"}
	}
	if err := f.judge(request, remote); err != nil {
		return nil, err
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey(request.Header.Get("Sec-WebSocket-Key")) + "\r\nSec-WebSocket-Protocol: " + subprotocol + "\r\n\r\n"
	if _, err := io.WriteString(nc, answer); err != nil {
		return nil, err
	}
	early, err := br.Peek(br.Buffered())
	return &frames{Conn: nc, early: bytes.Clone(early)}, err
}

// limited reads so many bytes, and knows why it has read no more.
type limited struct {
	from   io.Reader
	left   int
	failed error
}

// Read implements [io.Reader].
func (l *limited) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n, err := l.from.Read(p[:min(len(p), l.left)])
	l.left -= n
	l.failed = err
	return n, err
}

// judge says what is wrong with a request, as a [denied].
func (f *front) judge(r *http.Request, remote net.Addr) error {
	switch {
	case r.URL.Path != mqttPath || r.Method != http.MethodGet:
		return &denied{http.StatusNotFound, "MQTT is at " + mqttPath}
	case r.Host == "":
		return &denied{http.StatusBadRequest, "the request names no host"}
	case !f.originAllowed(r, remote):
		return &denied{http.StatusForbidden, "origin not allowed"}
	case !offers(r.Header, "Sec-WebSocket-Protocol", subprotocol): // [MQTT-6.0.0-3], [MQTT3-6.0.0-3]
		return &denied{http.StatusBadRequest, "subprotocol mqtt expected"}
	case !r.ProtoAtLeast(1, 1), !offers(r.Header, "Connection", "upgrade"), !offers(r.Header, "Upgrade", "websocket"):
		return &denied{http.StatusUpgradeRequired, "a WebSocket expected"}
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return &denied{http.StatusUpgradeRequired, "a WebSocket of version 13 expected"}
	case r.ContentLength != 0: // a body would be taken for frames
		return &denied{http.StatusBadRequest, "a request without a body expected"}
	}
	keys := r.Header.Values("Sec-WebSocket-Key")
	if len(keys) != 1 {
		return &denied{http.StatusBadRequest, "one Sec-WebSocket-Key expected"}
	}
	if key, err := base64.StdEncoding.DecodeString(keys[0]); err != nil || len(key) != 16 {
		return &denied{http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes in Base64"}
	}
	return f.sameOrigin(r)
}

// answer says no, and that nothing more is answered.
func (d *denied) answer(w io.Writer) error {
	extra := ""
	if d.status == http.StatusUpgradeRequired {
		extra = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	}
	_, err := fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nConnection: close\r\n%sContent-Type: text/plain; charset=utf-8\r\n"+
		"X-Content-Type-Options: nosniff\r\nContent-Length: %d\r\n\r\n%s\n",
		d.status, http.StatusText(d.status), extra, len(d.why)+1, d.why)
	return err
}

// acceptKey shows that the request was understood (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + keySalt)) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// offers reports whether a list in the header has a token.
func offers(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for offered := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(offered), token) {
				return true
			}
		}
	}
	return false
}

// originAllowed keeps a web page from reaching a loopback listener by a name of its
// own that resolves to 127.0.0.1.
func (f *front) originAllowed(r *http.Request, remote net.Addr) bool {
	if r.Header.Get("Origin") == "" || len(f.options.Origins) > 0 {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	tcp, ok := remote.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}

// sameOrigin refuses a web page that is neither of the host it asks nor configured
// (RFC 6455 §10.2). Clients that are no browsers say nothing of an origin.
func (f *front) sameOrigin(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	from, err := url.Parse(origin)
	if err == nil && strings.EqualFold(from.Host, r.Host) {
		return nil
	}
	for _, pattern := range f.options.Origins {
		if err != nil {
			break
		}
		name := from.Host
		if strings.Contains(pattern, "://") {
			name = from.Scheme + "://" + from.Host
		}
		if matches, _ := path.Match(strings.ToLower(pattern), strings.ToLower(name)); matches { // Options.check has tried it
			return nil
		}
	}
	return &denied{http.StatusForbidden, "origin not allowed"}
}
