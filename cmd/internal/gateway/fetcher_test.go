package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/rules"
)

func TestFetcher(t *testing.T) {
	var other string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Method", r.Method)
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte(r.Header.Get("X-In") + ":" + string(body)))
		case "/away":
			http.Redirect(w, r, other, http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/long":
			_, _ = w.Write(make([]byte, 1<<20+1))
		case "/hang":
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	here, _ := url.Parse(server.URL)
	other = "http://localhost:" + here.Port() + "/echo"
	open := newFetcher(&config.HTTP{Hosts: []string{here.Host}, Private: []string{"127.0.0.1"}})
	for _, c := range []struct {
		name    string
		fetcher rules.Fetcher
		request rules.Request
		want    string // of the error
	}{
		{"another host", open, rules.Request{URL: other}, `host "localhost" is not among rules.http.hosts`},
		{"another port", open, rules.Request{URL: "http://127.0.0.1:1/"}, "is not among"},
		{"a redirect to another host", open, rules.Request{URL: server.URL + "/away"}, "is not among"},
		{"a redirect to a file", open, rules.Request{URL: server.URL + "/file"}, "no http or https URL"},
		{"redirects without end", open, rules.Request{URL: server.URL + "/loop"}, "more than 5 redirects"},
		{"another scheme", open, rules.Request{URL: "file:///etc/passwd"}, "no http or https URL"},
		{"no URL", open, rules.Request{URL: "http://[::1"}, "missing ']'"},
		{"no method", open, rules.Request{URL: server.URL, Method: "A B"}, "invalid method"},
		{"a header of two lines", open, rules.Request{URL: server.URL, Header: map[string]string{"X": "a\r\nY: b"}}, "invalid header"},
		{"a reply that is too long", open, rules.Request{URL: server.URL + "/long"}, "more than 1048576 bytes"},
		{
			"an address that is not granted", newFetcher(&config.HTTP{Hosts: []string{"*"}}),
			rules.Request{URL: server.URL + "/echo"},
			"127.0.0.1 is not an address of the Internet and not among rules.http.private",
		},
		{
			"a name of such an address", newFetcher(&config.HTTP{Hosts: []string{"localhost"}, Private: []string{"192.168.0.0/16"}}),
			rules.Request{URL: other},
			"is not an address of the Internet",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			reply, err := c.fetcher.Fetch(t.Context(), &c.request)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v, want %q in the error", reply, err, c.want)
			}
		})
	}
	reply, err := open.Fetch(t.Context(), &rules.Request{
		URL: server.URL + "/echo", Method: http.MethodPut, Header: map[string]string{"X-In": "a"}, Body: []byte("b"),
	})
	if err != nil || reply.Status != http.StatusTeapot || string(reply.Body) != "a:b" || reply.Header["x-method"] != "PUT" {
		t.Errorf("got %+v, %v", reply, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := open.Fetch(ctx, &rules.Request{URL: server.URL + "/hang"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that hangs: got %v", err)
	}
	if newFetcher(&config.HTTP{}) != nil {
		t.Error("without hosts there is a fetcher")
	}
}

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		pattern, host, port string
		want                bool
	}{
		{"api.example.com", "api.example.com", "443", true},
		{"API.example.com", "api.example.com", "80", true},
		{"api.example.com", "evil-api.example.com", "443", false},
		{"*.example.com", "api.example.com", "443", true},
		{"*.example.com", "example.com", "443", false},
		{"*.example.com", "evilexample.com", "443", false},
		{"api.example.com:8443", "api.example.com", "443", false},
		{"api.example.com:8443", "api.example.com", "8443", true},
		{"[2001:db8::1]:80", "2001:db8::1", "80", true},
		{"[2001:db8::1]", "2001:db8::1", "80", true},
		{"*", "anything", "1", true},
		{"*:443", "anything", "80", false},
	} {
		if got := matchesHost(c.pattern, c.host, c.port); got != c.want {
			t.Errorf("%s matches %s port %s: %v", c.pattern, c.host, c.port, got)
		}
	}
}

func TestAddressesOfTheInternet(t *testing.T) {
	for text, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true, "127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false,
		"192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "224.0.0.1": false,
		"255.255.255.255": false, "::1": false, "::": false, "fe80::1": false, "fd00::1": false, "64:ff9b::7f00:1": false,
		"2002:7f00:1::": false, "ff02::1": false,
	} {
		if got := ofTheInternet(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	f := &fetcher{}
	if err := f.control("tcp", net.JoinHostPort("::ffff:127.0.0.1", "80"), nil); !errors.Is(err, rules.ErrForbidden) {
		t.Errorf("an IPv4 address in IPv6: %v", err)
	}
}

// What fails comes into the log: it is not to tell a key that stands in the URL.
func TestErrorsOfRequestsTellNoURL(t *testing.T) {
	f := newFetcher(&config.HTTP{Hosts: []string{"*"}})
	_, err := f.Fetch(t.Context(), &rules.Request{URL: "http://127.0.0.1:1/path?key=sesame"})
	if !errors.Is(err, rules.ErrForbidden) || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got %v", err)
	}
}
