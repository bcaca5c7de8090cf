package config

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"strings"
	"time"
)

// Rules is the rules engine.
type Rules struct {
	// Folder holds *.yaml rules and *.js and *.ts scripts; default "scripts". A
	// relative path counts from the folder of the configuration file. A folder that is
	// missing is an empty one, watched until it appears.
	Folder string `yaml:"folder"`
	// Place is where the gateway is, for rules that go by the sun; default unknown.
	Place Place `yaml:"place"`
	// Timezone is that of the rules' times of the day, such as Europe/Berlin; default
	// the machine's.
	Timezone string `yaml:"timezone"`
	// HTTP is what rules may reach by HTTP requests; default nothing.
	HTTP HTTP `yaml:"http"`
	// Hooks are webhooks that run rules; default none.
	Hooks []Hook `yaml:"hooks"`
}

// Place is a place on earth.
type Place struct {
	// Latitude is in degrees north, -90 to 90; default 0.
	Latitude float64 `yaml:"latitude"`
	// Longitude is in degrees east, -180 to 180; default 0. Both 0 is unknown.
	Longitude float64 `yaml:"longitude"`
}

// HTTP is what rules may reach by HTTP requests.
type HTTP struct {
	// Hosts are names or addresses, each with :PORT behind it if not any port is
	// meant: api.example.com, *.example.com, 192.0.2.7:8080; "*" is all. Default none.
	Hosts []string `yaml:"hosts"`
	// Private are addresses, or networks such as 192.168.1.0/24, that may be reached
	// although they are loopback, link-local, private or otherwise not of the Internet;
	// default none. A host must be among Hosts nevertheless.
	Private []string `yaml:"private"`
}

// Hook is a webhook: a POST to /hooks/NAME of the console with its token runs the rules
// that name it.
type Hook struct {
	// Name is what rules name it by: letters, digits, - and _.
	Name string `yaml:"name"`
	// Token is the secret that a request has to show, 16 characters or more.
	Token string `yaml:"token"`
	// TokenFile is a file that holds it instead.
	TokenFile string `yaml:"token_file"`
}

// Secret is the token, from its file if there is one.
func (h *Hook) Secret() (string, error) {
	if h.TokenFile == "" {
		return h.Token, nil
	}
	text, err := os.ReadFile(h.TokenFile)
	if err != nil {
		return "", fmt.Errorf("the token of webhook %q cannot be read: %w", h.Name, err)
	}
	secret := strings.TrimSpace(string(text))
	if len(secret) < ShortestToken {
		return "", fmt.Errorf("the token of webhook %q in %q has %d characters, at least %d are needed: make one with \"openssl rand -hex 16\"", h.Name, h.TokenFile, len(secret), ShortestToken)
	}
	return secret, nil
}

// Grants are the networks of Private, which were checked.
func (h *HTTP) Grants() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range h.Private {
		if p, err := parseNetwork(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

func parseNetwork(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

// ShortestToken is how many characters a token has at least.
const ShortestToken = 16

func (r *Rules) check(fail func(below, format string, args ...any)) {
	if p := r.Place; !(math.Abs(p.Latitude) <= 90) {
		fail("place.latitude", "%v is not between -90 and 90", p.Latitude)
	} else if !(math.Abs(p.Longitude) <= 180) {
		fail("place.longitude", "%v is not between -180 and 180", p.Longitude)
	}
	if _, err := time.LoadLocation(r.Timezone); err != nil {
		fail("timezone", "%q is not a time zone that this machine knows, such as Europe/Berlin", r.Timezone)
	}
	for i, host := range r.HTTP.Hosts {
		if host == "" || strings.ContainsAny(host, "/ \t@") || strings.Contains(strings.TrimPrefix(host, "*"), "*") {
			fail(fmt.Sprintf("http.hosts[%d]", i), "%q is no host such as api.example.com, *.example.com or 192.0.2.7:8080", host)
		}
	}
	for i, text := range r.HTTP.Private {
		if _, err := parseNetwork(text); err != nil {
			fail(fmt.Sprintf("http.private[%d]", i), "%q is neither an address nor a network such as 192.168.1.0/24", text)
		}
	}
	names := make(map[string]bool, len(r.Hooks))
	for i := range r.Hooks {
		h, key := &r.Hooks[i], fmt.Sprintf("hooks[%d]", i)
		switch {
		case !isHookName(h.Name):
			fail(key+".name", "%q is no name of letters, digits, - and _", h.Name)
		case names[h.Name]:
			fail(key+".name", "%q is listed twice", h.Name)
		case h.Token != "" && h.TokenFile != "":
			fail(key+".token", "the token is here and in a file: one of them")
		case h.TokenFile == "" && len(h.Token) < ShortestToken:
			fail(key+".token", "a token has %d characters at least: make one with \"openssl rand -hex 16\"", ShortestToken)
		}
		names[h.Name] = true
	}
}

func isHookName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}
