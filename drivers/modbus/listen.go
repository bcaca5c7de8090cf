package modbus

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse/gatehouse/drivers"
)

// handshakeTime is how long a client may take to shake hands.
const handshakeTime = 10 * time.Second

// listenFile is where foreign clients are served.
type listenFile struct {
	// Address is the address and port to listen on: "127.0.0.1:1502".
	Address string `yaml:"address"`
	// Frames are tcp (the default), rtu or ascii: those of a line in a TCP stream.
	Frames string `yaml:"frames"`
	// TLS is how the server shows itself, and what it asks of clients.
	TLS *serveTLSFile `yaml:"tls"`
	// AllowClearText is for an address that is not on loopback, without TLS.
	AllowClearText bool `yaml:"allow_clear_text"`
	// Clients is how many are served at a time, 1 to 1000; 16 if absent.
	Clients *scalar `yaml:"clients"`
}

// UnmarshalYAML takes an address alone as one without other keys, as a simulator has it.
func (f *listenFile) UnmarshalYAML(node ast.Node) error {
	if text, ok := node.(*ast.StringNode); ok {
		f.Address = text.Value
		return nil
	}
	type plain listenFile
	return yaml.NewDecoder(bytes.NewReader(nil), yaml.Strict()).DecodeFromNode(node, (*plain)(f))
}

// serveTLSFile is Modbus/TCP Security, the server's side. All are needed but roles.
type serveTLSFile struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// CA is a PEM file of the certificates that clients' are verified by.
	CA string `yaml:"ca"`
	// Roles say what the roles in clients' certificates may do: read or write. Absent,
	// every client that is verified may write; "" is a certificate without a role.
	Roles map[string]string `yaml:"roles"`
}

// listening is where foreign clients are served, checked.
type listening struct {
	address string
	mode    mode // nil is Modbus TCP
	tls     *TLSConfig
	roles   map[string]string // nil is that all may write
	clients int
}

// check reads where to listen. The error is a *drivers.ConfigError.
func (f *listenFile) check(cfg drivers.Config) (l listening, err error) {
	if _, port, err := net.SplitHostPort(f.Address); err != nil || !isPort(port) {
		return l, cfg.Errorf("$.listen", "an address to listen on is needed, such as 127.0.0.1:1502")
	}
	l = listening{address: f.Address, clients: maxClients}
	switch f.Frames {
	case "", "tcp":
	case modeRTU:
		l.mode = rtuMode{}
	case modeASCII:
		l.mode = asciiMode{}
	default:
		return l, cfg.Errorf("$.listen.frames", "frames must be tcp, rtu or ascii")
	}
	if f.Clients != nil {
		n, err := f.Clients.whole("clients", 1, 1000)
		if err != nil {
			return l, cfg.Errorf("$.listen.clients", "%v", err)
		}
		l.clients = int(n)
	}
	if f.TLS != nil {
		return l, f.TLS.check(cfg, &l)
	}
	if !onLoopback(f.Address) && !f.AllowClearText {
		return l, cfg.Errorf("$.listen.address", "%q is not on loopback, and Modbus TCP asks nobody who he is: give it tls, or allow_clear_text: true", f.Address)
	}
	return l, nil
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// onLoopback reports whether only this machine reaches an address.
func onLoopback(address string) bool {
	host := hostOf(address)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (f *serveTLSFile) check(cfg drivers.Config, l *listening) error {
	for _, need := range []struct{ key, value string }{{"certificate", f.Certificate}, {"key", f.Key}, {"ca", f.CA}} {
		if need.value == "" {
			return cfg.Errorf("$.listen.tls", "Modbus over TLS needs the certificates of both sides: %s is missing", need.key)
		}
	}
	l.tls = &TLSConfig{CA: beside(cfg, f.CA), Certificate: beside(cfg, f.Certificate), Key: beside(cfg, f.Key)}
	if key, err := l.tls.check(); err != nil {
		return cfg.Errorf("$.listen.tls."+key, "%v", err)
	}
	for _, role := range slices.Sorted(maps.Keys(f.Roles)) {
		if may := f.Roles[role]; may != "read" && may != "write" {
			return cfg.Errorf("$.listen.tls.roles", "role %q may read or write, not %q", role, may)
		}
	}
	l.roles = f.Roles
	return nil
}

// listen begins to listen.
func (l listening) listen(ctx context.Context) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", l.address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", l.address, err)
	}
	if l.tls == nil {
		return ln, nil
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.tls.server() }, // they may have been renewed
	}
	return tls.NewListener(ln, config), nil
}

// server is the server's side, of files read just now.
func (c TLSConfig) server() (*tls.Config, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	pair, err := c.pair()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, Certificates: pair}, nil
}

// client shakes hands with a client and says who it is and whether it may only read.
func (l listening) client(ctx context.Context, c net.Conn) (who string, readOnly bool, err error) {
	who = c.RemoteAddr().String()
	secure, ok := c.(*tls.Conn)
	if !ok {
		return who, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		return who, false, fmt.Errorf("cannot shake hands: %w", err)
	}
	role := peerRole(secure.ConnectionState())
	who += fmt.Sprintf(" %q role %q", secure.ConnectionState().PeerCertificates[0].Subject.CommonName, role)
	may, known := l.roles[role]
	if l.roles != nil && !known {
		return who, true, fmt.Errorf("role %q is none of %s", role, strings.Join(slices.Sorted(maps.Keys(l.roles)), ", "))
	}
	return who, may == "read", nil
}

// errNoPlace says that a file has neither listen nor serial.
var errNoPlace = errors.New("a Modbus server needs exactly one of listen and serial")
