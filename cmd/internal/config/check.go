package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// check judges what the types cannot say.
func (c *Config) check() error {
	var errs []error
	fail := func(key, format string, args ...any) {
		errs = append(errs, c.errorf(key, format, args...))
	}
	seen := make(map[string]bool)
	for i, l := range c.Broker.Listeners {
		key := fmt.Sprintf("broker.listeners[%d]", i)
		if msg := c.problem(&l); msg != "" {
			fail(key+".address", "%s", msg)
		} else if seen[l.Address] && !strings.HasSuffix(l.Address, ":0") { // each gets a port of its own
			fail(key+".address", "%q is listed twice", l.Address)
		}
		l.check(func(below, format string, args ...any) { fail(key+"."+below, format, args...) })
		seen[l.Address] = true
	}
	c.Broker.checkFeatures(fail)
	if c.Broker.Users != "" && c.Broker.ACL == "" {
		fail("broker.users", "users may do nothing without broker.acl: name a file there, such as one with "+
			"rules: [{allow: readwrite, topics: [\"#\"], all: true}]")
	}
	if !oneOf(c.Broker.CertificateName, "cn", "dns", "email", "uri") {
		fail("broker.certificate_name", "%q is not one of cn, dns, email, uri", c.Broker.CertificateName)
	}
	c.Broker.Limits.check(func(below, format string, args ...any) { fail("broker.limits."+below, format, args...) })
	if len(c.Uplinks) > 0 {
		fail("uplinks", "uplinks are not available in this version: the list must be empty")
	}
	if a := c.Console.Address; a != "" {
		if msg := loopbackProblem(a); msg != "" {
			fail("console.address", "%s", msg)
		}
	}
	c.Store.check(func(below, format string, args ...any) { fail("store."+below, format, args...) })
	c.History.check(func(below, format string, args ...any) { fail("history."+below, format, args...) })
	c.Discovery.check(func(below, format string, args ...any) { fail("discovery."+below, format, args...) })
	c.Rules.check(func(below, format string, args ...any) { fail("rules."+below, format, args...) })
	if !oneOf(c.Log.Level, "debug", "info", "warn", "error") {
		fail("log.level", "%q is not one of debug, info, warn, error", c.Log.Level)
	}
	if !oneOf(c.Log.Format, "text", "json") {
		fail("log.format", "%q is not one of text, json", c.Log.Format)
	}
	for _, f := range []struct{ key, folder string }{
		{"rules.folder", c.Rules.Folder}, {"devices.folder", c.Devices.Folder}, {"plugins.folder", c.Plugins.Folder},
	} {
		if f.folder == "" {
			fail(f.key, "the path of a folder is needed")
		}
	}
	return errors.Join(errs...)
}

// OffLoopback says why a listener may not be open on an address that is not on
// loopback, "" if it may: a client there has to come over TLS, and to say who it is.
func (c *Config) OffLoopback(l *Listener, address string) string {
	certified := l.TLS.ClientCA != "" && l.TLS.ClientCertificate != "optional" && c.Broker.ACL != ""
	if l.OverTLS() && (c.Broker.Users != "" || certified) {
		return ""
	}
	return fmt.Sprintf("%q is not on loopback: a listener there needs TLS, which is protocol mqtts or wss, and users, "+
		"which are a file that gatehouse passwd makes and broker.users names, or have certificates that tls.client_ca verifies "+
		"and an ACL in broker.acl", address)
}

// loopbackProblem says what is wrong with an address that has to be on loopback, "" if
// nothing is.
func loopbackProblem(address string) string {
	if msg := addressProblem(address); msg != "" || onLoopback(address) {
		return msg
	}
	return fmt.Sprintf("%q is not on loopback, and what listens there has neither TLS nor users; "+
		"use 127.0.0.1 or [::1] and reach it through a tunnel", address)
}

func addressProblem(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Sprintf("%q is not HOST:PORT, such as 127.0.0.1:1883", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || (n == 0 && port != "0") {
		return fmt.Sprintf("port %q is not a number from 0 to 65535", port)
	}
	return ""
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

func oneOf(s string, words ...string) bool { return slices.Contains(words, s) }
