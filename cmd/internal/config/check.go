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
		if msg := l.problem(); msg != "" {
			fail(key+".address", "%s", msg)
		} else if seen[l.Address] && !strings.HasSuffix(l.Address, ":0") { // each gets a port of its own
			fail(key+".address", "%q is listed twice", l.Address)
		}
		l.check(func(below, format string, args ...any) { fail(key+"."+below, format, args...) })
		seen[l.Address] = true
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

// loopbackProblem says what is wrong with an address, "" if nothing is. Off loopback
// there would be no users, and nothing listens in clear text there.
func loopbackProblem(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Sprintf("%q is not HOST:PORT, such as 127.0.0.1:1883", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || (n == 0 && port != "0") {
		return fmt.Sprintf("port %q is not a number from 0 to 65535", port)
	}
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || (err == nil && ip.IsLoopback()) {
		return ""
	}
	return OffLoopback(address)
}

// OffLoopback says that nothing may listen on an address.
func OffLoopback(address string) string {
	return fmt.Sprintf("%q is not on loopback: there a listener needs TLS and users, and this version has no users; "+
		"use 127.0.0.1 or [::1] and reach it through a tunnel", address)
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
