package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Listener is one address that clients connect to.
type Listener struct {
	// Address is HOST:PORT, the path of a Unix socket, or systemd:NAME for a socket
	// that systemd passes.
	Address string `yaml:"address"`
	// Protocol is mqtt (default), mqtts (TLS), ws (MQTT over WebSocket, path /mqtt),
	// wss (the same over TLS) or unix.
	Protocol string `yaml:"protocol"`
	// TLS is for mqtts and wss.
	TLS TLS `yaml:"tls"`
	// Origins are the hosts of web pages that may connect to ws and wss besides those
	// of the same host, such as "panel.example" or "*.example".
	Origins []string `yaml:"origins"`
	// ProxyProtocol says that connections begin with a PROXY protocol header of
	// version 2; default false.
	ProxyProtocol bool `yaml:"proxy_protocol"`
	// TrustedProxies are the networks, such as 10.0.0.0/8, whose connections are
	// taken if ProxyProtocol is true; all others are refused.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// Mode is the mode of a Unix socket's file, in octal; default "0600".
	Mode Mode `yaml:"mode"`
}

// Mode is the mode of a file in octal.
type Mode string

// UnmarshalYAML implements [yaml.NodeUnmarshaler]. It takes what is written: to YAML
// 0660 is the number 432, whose digits are another mode.
func (m *Mode) UnmarshalYAML(node ast.Node) error {
	*m = Mode(node.GetToken().Value)
	return nil
}

// TLS is how a listener shows itself, and what it asks of clients. Relative paths
// count from the folder of the configuration file.
type TLS struct {
	// Certificates are chosen among by the server name that a client asks for (SNI),
	// and the first is for all others. None means a self-signed one, made on the
	// first start and kept in the data folder.
	Certificates []KeyPair `yaml:"certificates"`
	// ClientCA is a PEM file of the certificates that clients' are verified by; none
	// asks clients for no certificate.
	ClientCA string `yaml:"client_ca"`
	// ClientCertificate is required (default) or optional, with ClientCA.
	ClientCertificate string `yaml:"client_certificate"`
	// CRL is a PEM or DER file of revocation lists that ClientCA has signed.
	CRL string `yaml:"crl"`
	// MinVersion is "1.2" (default) or "1.3".
	MinVersion string `yaml:"min_version"`
}

// KeyPair is a certificate with its chain, and its key, as PEM files.
type KeyPair struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// OverTLS reports whether the listener has TLS.
func (l *Listener) OverTLS() bool { return l.Protocol == "mqtts" || l.Protocol == "wss" }

// paths are those that may be relative.
func (t *TLS) paths() []*string {
	paths := []*string{&t.ClientCA, &t.CRL}
	for i := range t.Certificates {
		paths = append(paths, &t.Certificates[i].Certificate, &t.Certificates[i].Key)
	}
	return paths
}

// problem says what is wrong with the address of a listener, "" if nothing is.
func (c *Config) problem(l *Listener) string {
	if name, ok := strings.CutPrefix(l.Address, "systemd:"); ok {
		if name == "" || strings.ContainsAny(name, ": ") {
			return fmt.Sprintf("%q is not systemd:NAME, where NAME is a FileDescriptorName= of the .socket unit", l.Address)
		}
		return ""
	}
	if l.Protocol == "unix" {
		if l.Address == "" {
			return "the path of the socket is needed"
		}
		if len(l.Address) > 100 {
			return fmt.Sprintf("a Unix socket's path has at most 100 bytes, this one has %d", len(l.Address))
		}
		return ""
	}
	if msg := addressProblem(l.Address); msg != "" || onLoopback(l.Address) {
		return msg
	}
	return c.OffLoopback(l, l.Address)
}

// check judges everything but the address.
func (l *Listener) check(fail func(key, format string, args ...any)) {
	if !oneOf(l.Protocol, "mqtt", "mqtts", "ws", "wss", "unix") {
		fail("protocol", "%q is not one of mqtt, mqtts, ws, wss, unix", l.Protocol)
		return
	}
	switch {
	case l.OverTLS():
		l.TLS.check(func(key, format string, args ...any) { fail("tls."+key, format, args...) })
	case !reflect.DeepEqual(l.TLS, TLS{}):
		fail("tls", "protocol %s has no TLS: use mqtts or wss", l.Protocol)
	}
	if len(l.Origins) > 0 && l.Protocol != "ws" && l.Protocol != "wss" {
		fail("origins", "protocol %s has no origins: they are for ws and wss", l.Protocol)
	}
	l.checkProxies(fail)
	if l.Mode != "" && l.Protocol != "unix" {
		fail("mode", "protocol %s has no mode: it is for unix", l.Protocol)
	} else if _, err := l.FileMode(); err != nil {
		fail("mode", "%v", err)
	}
}

func (l *Listener) checkProxies(fail func(key, format string, args ...any)) {
	switch {
	case l.ProxyProtocol && l.Protocol == "unix":
		fail("proxy_protocol", "a Unix socket has no PROXY protocol")
	case l.ProxyProtocol && len(l.TrustedProxies) == 0:
		fail("proxy_protocol", "whom to believe is needed: list the networks of the proxies in trusted_proxies, such as [10.0.0.0/8]")
	case !l.ProxyProtocol && len(l.TrustedProxies) > 0:
		fail("trusted_proxies", "without proxy_protocol: true it means nothing")
	}
	for i, text := range l.TrustedProxies {
		if _, err := parsePrefix(text); err != nil {
			fail(fmt.Sprintf("trusted_proxies[%d]", i), "%v", err)
		}
	}
}

// Proxies are the networks of TrustedProxies; call it after a check.
func (l *Listener) Proxies() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range l.TrustedProxies {
		if p, err := parsePrefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// parsePrefix reads a network, or one address.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, bad := netip.ParseAddr(text); bad == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil || p.Addr().Is4In6() { // addresses of IPv4 are compared as such
		return netip.Prefix{}, fmt.Errorf("%q is neither a network such as 10.0.0.0/8 nor an address", text)
	}
	return p.Masked(), nil
}

// FileMode is Mode as a number, 0 when it is not said.
func (l *Listener) FileMode() (uint32, error) {
	if l.Mode == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(l.Mode), 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return 0, fmt.Errorf(`%q is not a mode from "0001" to "0777", such as "0660"`, l.Mode)
	}
	return uint32(n), nil
}

func (t *TLS) check(fail func(key, format string, args ...any)) {
	for i, pair := range t.Certificates {
		key := fmt.Sprintf("certificates[%d]", i)
		if pair.Certificate == "" {
			fail(key, "the file of the certificate is needed: certificate")
		}
		if pair.Key == "" {
			fail(key, "the file of the certificate's key is needed: key")
		}
	}
	if t.ClientCertificate != "" && !oneOf(t.ClientCertificate, "required", "optional") {
		fail("client_certificate", "%q is not one of required, optional", t.ClientCertificate)
	}
	for _, f := range []struct{ key, value string }{{"client_certificate", t.ClientCertificate}, {"crl", t.CRL}} {
		if f.value != "" && t.ClientCA == "" {
			fail(f.key, "without client_ca it means nothing")
		}
	}
	if t.MinVersion != "" && !oneOf(t.MinVersion, "1.2", "1.3") {
		fail("min_version", `%q is not one of "1.2", "1.3"`, t.MinVersion)
	}
}
