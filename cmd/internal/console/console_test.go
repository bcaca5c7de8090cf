package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/topic"
	"github.com/gatehouse/gatehouse/cmd/internal/console"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type house struct{}

func (house) Clients() []console.Client {
	return []console.Client{{ID: "sensor", Connected: true, Version: "5.0", Subscriptions: 2}}
}

func (house) Topics(filter string, limit int) ([]console.Topic, error) {
	if !topic.ValidFilter(filter) {
		return nil, errors.New("not a topic filter")
	}
	var found []console.Topic
	for _, name := range []string{"devices/light/客厅", "home/hall/door", "home/hall/light"} {
		if topic.Match(filter, name) && len(found) < limit {
			found = append(found, console.Topic{Topic: name, Payload: "true"})
		}
	}
	return found, nil
}

func (house) Rules() []console.RuleFile {
	return []console.RuleFile{{File: "door.yaml", Language: "expr", Rules: []console.Rule{{Name: "light", Fired: 3}}}}
}
func (house) Devices() []console.Device { return nil }
func (house) Plugins() []console.Plugin { return nil }

// serve runs a console and returns its address.
func serve(t *testing.T, ready func() error) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "gatehouse_test 7\n") })
	c, err := console.New(console.Options{Listener: ln, Source: house{}, Metrics: metrics, Ready: ready, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not end")
		}
	})
	return ln.Addr().String()
}

func get(t *testing.T, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestWhatItAnswers(t *testing.T) {
	address := serve(t, func() error { return nil })
	for path, tt := range map[string]struct {
		status int
		says   string
	}{
		"/":                                   {200, "<title>Gatehouse</title>"},
		"/web/console.js":                     {200, "api/v1/"},
		"/healthz":                            {200, "ok"},
		"/readyz":                             {200, "ok"},
		"/metrics":                            {200, "gatehouse_test 7"},
		"/openapi.json":                       {200, `"/api/v1/devices"`},
		"/openapi.yaml":                       {200, "/api/v1/devices:"},
		"/api/v1/clients":                     {200, `"id":"sensor"`},
		"/api/v1/topics":                      {200, "devices/light/客厅"},
		"/api/v1/topics?filter=home/%2B/door": {200, "home/hall/door"},
		"/api/v1/topics?filter=nowhere":       {200, "[]"},
		"/api/v1/topics?filter=a%23":          {422, "not a topic filter"},
		"/api/v1/topics?limit=0":              {422, "limit"},
		"/api/v1/rules":                       {200, `"fired":3`},
		"/api/v1/devices":                     {200, "[]"},
		"/api/v1/plugins":                     {200, "[]"},
		"/api/v1/nothing":                     {404, ""},
	} {
		t.Run(path, func(t *testing.T) {
			status, text := get(t, "http://"+address+path, "")
			if status != tt.status || !strings.Contains(text, tt.says) {
				t.Errorf("got %d %s\nwant %d %s", status, text, tt.status, tt.says)
			}
		})
	}
}

// The page's links are relative to "/", so it is served nowhere else, and its policy
// lets everything in that it refers to.
func TestThePageAndItsLinks(t *testing.T) {
	address := serve(t, func() error { return nil })
	for _, path := range []string{"/", "/web", "/web/", "/web/index.html"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || resp.Request.URL.Path != "/" {
			t.Errorf("%s is at %s: %s, %v", path, resp.Request.URL.Path, resp.Status, err)
		}
		if policy := resp.Header.Get("Content-Security-Policy"); strings.Contains(string(text), `"data:`) && !strings.Contains(policy, "img-src 'self' data:") {
			t.Errorf("the policy %q keeps the icon out", policy)
		}
		for _, link := range regexp.MustCompile(`(?:href|src)="([^":]+)"`).FindAllStringSubmatch(string(text), -1) {
			to, err := resp.Request.URL.Parse(link[1])
			if err != nil {
				t.Fatal(err)
			}
			if status, _ := get(t, to.String(), ""); status != 200 {
				t.Errorf("the link %s of %s gives %d", to, path, status)
			}
		}
	}
}

func TestOpenAPIDescribesEveryList(t *testing.T) {
	address := serve(t, func() error { return nil })
	_, text := get(t, "http://"+address+"/openapi.json", "")
	var api struct {
		OpenAPI string                    `json:"openapi"`
		Info    struct{ Version string }  `json:"info"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(text), &api); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(api.OpenAPI, "3.1") || api.Info.Version != "1.2.3" {
		t.Errorf("OpenAPI %q, version %q", api.OpenAPI, api.Info.Version)
	}
	for _, name := range []string{"clients", "topics", "rules", "devices", "plugins"} {
		if _, ok := api.Paths["/api/v1/"+name]["get"]; !ok {
			t.Errorf("no GET /api/v1/%s in %v", name, api.Paths)
		}
	}
}

func TestReadinessSaysWhyNot(t *testing.T) {
	address := serve(t, func() error { return errors.New("starting or stopping") })
	if status, text := get(t, "http://"+address+"/readyz", ""); status != 503 || !strings.Contains(text, "starting") {
		t.Errorf("got %d %q", status, text)
	}
	if status, _ := get(t, "http://"+address+"/healthz", ""); status != 200 {
		t.Errorf("healthz gives %d", status)
	}
}

func TestAnotherHostNameIsRefused(t *testing.T) {
	address := serve(t, func() error { return nil })
	_, port, _ := net.SplitHostPort(address)
	for host, want := range map[string]int{
		"localhost:" + port: 200, "127.0.0.1": 200, "[::1]:" + port: 200, "[::1]": 200,
		"evil.example": 403, "evil.example:" + port: 403, "localhost.evil.example": 403, "192.168.1.5": 403,
	} {
		if status, _ := get(t, "http://"+address+"/api/v1/topics", host); status != want {
			t.Errorf("Host %q gives %d, want %d", host, status, want)
		}
	}
}

// What a page of the web has a browser post is refused before anything is done.
func TestAnotherOriginIsRefused(t *testing.T) {
	address := serve(t, func() error { return nil })
	for _, c := range []struct {
		method, path, site string
		refused            bool
	}{
		{http.MethodPost, "/api/v1/devices/plc/read", "cross-site", true},
		{http.MethodPost, "/api/v1/devices/plc/read", "same-origin", false},
		{http.MethodPost, "/api/v1/devices/plc/read", "", false}, // no browser
		{http.MethodPost, "/hooks/bell", "cross-site", false},    // it has a token
		{http.MethodGet, "/api/v1/topics", "cross-site", false},  // which the page cannot see
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+address+c.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if c.site != "" {
			r.Header.Set("Sec-Fetch-Site", c.site)
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		if refused := got.StatusCode == http.StatusForbidden; refused != c.refused {
			t.Errorf("%s %s from %q gives %d", c.method, c.path, c.site, got.StatusCode)
		}
	}
}

func TestOptionsAreRequired(t *testing.T) {
	if _, err := console.New(console.Options{}); err == nil {
		t.Error("a console of nothing was made")
	}
}
