package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/rules"
)

// Bounds of the HTTP requests of rules, beside those of the engine.
const (
	mostReply        = 1 << 20 // bytes of a body
	mostReplyHeaders = 64 << 10
	mostRedirects    = 5
	idleRequestConns = 4
)

// fetcher makes HTTP requests for rules, to the hosts that the configuration names. An
// address is judged when it is dialed, so that neither a name that resolves to another
// one nor a redirect reaches what is not allowed.
type fetcher struct {
	hosts  []string
	grants []netip.Prefix
	client http.Client
}

// newFetcher is nil if nothing may be reached.
func newFetcher(c *config.HTTP) rules.Fetcher {
	if len(c.Hosts) == 0 {
		return nil
	}
	f := &fetcher{hosts: c.Hosts, grants: c.Grants()}
	dialer := &net.Dialer{Control: f.control}
	f.client.Transport = &http.Transport{
		DialContext: dialer.DialContext, MaxIdleConns: idleRequestConns, IdleConnTimeout: 0, DisableKeepAlives: true,
		MaxResponseHeaderBytes: mostReplyHeaders,
	}
	f.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > mostRedirects {
			return fmt.Errorf("more than %d redirects", mostRedirects)
		}
		return f.allowed(r.URL)
	}
	return f
}

// Fetch makes a request. What is not allowed gives an error that wraps
// rules.ErrForbidden.
func (f *fetcher) Fetch(ctx context.Context, asked *rules.Request) (*rules.Reply, error) {
	u, err := url.Parse(asked.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, rules.ErrForbidden)
	}
	if err := f.allowed(u); err != nil {
		return nil, err
	}
	method := asked.Method
	if method == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(asked.Body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, rules.ErrForbidden)
	}
	r.Header.Set("User-Agent", "gatehouse")
	for name, value := range asked.Header {
		r.Header.Set(name, value)
	}
	resp, err := f.client.Do(r)
	if err != nil {
		if of, ok := errors.AsType[*url.Error](err); ok { // it tells the whole URL, in which keys may stand
			err = of.Err
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read as far as it is wanted
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostReply+1))
	if err != nil {
		return nil, err
	}
	if len(body) > mostReply {
		return nil, fmt.Errorf("the reply has more than %d bytes: %w", mostReply, rules.ErrForbidden)
	}
	reply := &rules.Reply{Status: resp.StatusCode, Body: body, Header: make(map[string]string, len(resp.Header))}
	for name := range resp.Header {
		reply.Header[strings.ToLower(name)] = resp.Header.Get(name)
	}
	return reply, nil
}

// allowed judges a URL by its scheme and host.
func (f *fetcher) allowed(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is no http or https URL: %w", u.Scheme+"://"+u.Host, rules.ErrForbidden)
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if !slices.ContainsFunc(f.hosts, func(pattern string) bool { return matchesHost(pattern, host, port) }) {
		return fmt.Errorf("host %q is not among rules.http.hosts of the configuration: %w", host, rules.ErrForbidden)
	}
	return nil
}

func matchesHost(pattern, host, port string) bool {
	pattern = strings.ToLower(pattern)
	name, wanted, err := net.SplitHostPort(pattern)
	if err != nil {
		name, wanted = strings.Trim(pattern, "[]"), port
	}
	if wanted != port {
		return false
	}
	if suffix, ok := strings.CutPrefix(name, "*"); ok {
		return strings.HasSuffix(host, suffix)
	}
	return name == host
}

// control judges an address when it is dialed.
func (f *fetcher) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%q: %w", address, errors.Join(err, rules.ErrForbidden))
	}
	ip := at.Addr().Unmap()
	if ofTheInternet(ip) || slices.ContainsFunc(f.grants, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return nil
	}
	return fmt.Errorf("%s is not an address of the Internet and not among rules.http.private of the configuration: %w", ip, rules.ErrForbidden)
}

// notOfTheInternet are the networks that are not reached from everywhere (RFC 6890),
// beside those that netip knows by a method.
var notOfTheInternet = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"),
}

func ofTheInternet(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
		return false
	}
	return !slices.ContainsFunc(notOfTheInternet, func(p netip.Prefix) bool { return p.Contains(ip) })
}
