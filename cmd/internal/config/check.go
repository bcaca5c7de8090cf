package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
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
		if msg := l.problem(c.Broker.Users != ""); msg != "" {
			fail(key+".address", "%s", msg)
		} else if seen[l.Address] {
			fail(key+".address", "%q is listed twice", l.Address)
		}
		switch l.Protocol {
		case "mqtt", "ws", "unix":
		case "mqtts", "wss":
			fail(key+".protocol", "%q: TLS is not available in this version; use mqtt, ws or unix", l.Protocol)
		default:
			fail(key+".protocol", "%q is not one of mqtt, ws, unix", l.Protocol)
		}
		seen[l.Address] = true
	}
	if c.Broker.Users != "" && c.Broker.ACL == "" {
		fail("broker.users", "users may do nothing without broker.acl: name a file there, such as one with "+
			"rules: [{allow: readwrite, topics: [\"#\"], all: true}]")
	}
	if !oneOf(c.Broker.CertificateName, "cn", "dns", "email", "uri") {
		fail("broker.certificate_name", "%q is not one of cn, dns, email, uri", c.Broker.CertificateName)
	}
	if len(c.Uplinks) > 0 {
		fail("uplinks", "uplinks are not available in this version: the list must be empty")
	}
	if a := c.Console.Address; a != "" {
		if msg := loopbackProblem(a); msg != "" {
			fail("console.address", "%s", msg)
		}
	}
	if msg := durabilityProblem(c.Store.Durability); msg != "" {
		fail("store.durability", "%s", msg)
	}
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

// problem says what is wrong with where it listens, "" if nothing is. Off loopback a
// client has to come over TLS, and to say who it is.
func (l Listener) problem(users bool) string {
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
	if users && (l.Protocol == "mqtts" || l.Protocol == "wss") {
		return ""
	}
	return fmt.Sprintf("%q is not on loopback: a listener there needs TLS, which is protocol mqtts or wss, and users, "+
		"which are a file that gatehouse passwd makes and broker.users names", l.Address)
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

func durabilityProblem(s string) string {
	if oneOf(s, "commit", "off") {
		return ""
	}
	if d, ok := strings.CutPrefix(s, "interval "); ok {
		if interval, err := time.ParseDuration(d); err == nil && interval > 0 {
			return ""
		}
	}
	return fmt.Sprintf("%q is not one of commit, interval DURATION (such as interval 1s), off", s)
}

func oneOf(s string, words ...string) bool { return slices.Contains(words, s) }
