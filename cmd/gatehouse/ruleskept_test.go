package main_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// What rules remember is in the store: sums, edges, what is once, variables, and a condition
// that must hold for so long, of which only the rest is waited for.
func TestWhatRulesRememberOutlivesAStop(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/a.yaml": `rules:
  - name: adds
    on: in/add
    windows: {all: {sum: payload}}
    do: [{publish: out/sum, payload: "${windows.all}", retain: true}]
  - name: hot
    on: in/temp
    value: payload
    above: 60
    do: [{set: {hot: (vars.hot ?? 0) + 1}}, {publish: out/hot, payload: "${vars.hot}", retain: true}]
  - name: greets
    on: in/once
    once: true
    do: [{publish: out/once, payload: "${text}", retain: true}]
  - name: holds
    on: in/hold
    if: payload
    for: 3s
    do: [{publish: out/held, payload: "${payload}", retain: true}]
  - name: heard
    on: in/+
    do: [{publish: "heard/${parts[1]}", payload: "${text}", retain: true}]
`,
	})
	g.again(t)
	tell := func(topic, payload string) {
		t.Helper()
		g.publish(t, "in/"+topic, payload)
		eventually(t, topic+" is heard", func() bool { return g.retained(t, "heard/"+topic) == payload })
	}
	is := func(topic, want string) {
		t.Helper()
		eventually(t, topic+" is "+want, func() bool { return g.retained(t, "out/"+topic) == want })
	}
	tell("add", "20")
	tell("temp", "61")
	tell("once", "first")
	tell("hold", "true")
	is("sum", "20")
	is("hot", "1")
	is("once", "first")
	g.stop(t)
	g.again(t)
	tell("add", "1")
	tell("temp", "62") // it was above before
	tell("once", "second")
	is("sum", "21")
	is("held", "true")
	tell("temp", "50")
	tell("temp", "63")
	is("hot", "2")
	is("once", "first")
	g.stop(t)
}

// Rules reach the hosts that the configuration names, and no others; a rule in shadow
// reaches none, and says what it would have done.
func TestWhatRulesReach(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Path)
		mu.Unlock()
		_, _ = w.Write([]byte(`{"wind": 7}`))
	}))
	defer server.Close()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	const scripts = `rules:
  - name: asks
    on: in
    do: [{http: {url: "URL/yaml", as: weather}, on_error: continue}, {publish: out/yaml, payload: "${weather.status} ${weather.body.wind ?? 'none'}"}]
  - name: looks on
    on: in
    shadow: true
    do: [{http: {url: "URL/shadow"}}, {publish: out/shadow}]
`
	files := map[string]string{
		"scripts/a.yaml": strings.ReplaceAll(scripts, "URL", server.URL),
		"scripts/b.js":   strings.ReplaceAll("on('in', async () => { let r; try { r = (await http('URL/js')).payload.wind } catch (e) { r = 'none' } publish('out/js', r) })", "URL", server.URL),
	}
	for _, granted := range []bool{false, true} {
		files["gatehouse.yaml"] = testConfig
		want := []string{"out/yaml 0 none", "out/js none"}
		if granted {
			files["gatehouse.yaml"] += "rules: {http: {hosts: [\"" + at.Host + "\"], private: [127.0.0.1]}}\n"
			want = []string{"out/yaml 200 7", "out/js 7"}
		}
		g := startGateway(t, files)
		out := subscribe(t, g, "out/#")
		g.publish(t, "in", "")
		for _, line := range want {
			out.says(t, line)
		}
		if trace := g.ruleOf(t, "a.yaml", "looks on")["trace"].([]any); trace[0].(map[string]any)["outcome"] != "shadow" {
			t.Errorf("the rule in shadow: %v", trace)
		}
		if strings.Contains(out.output(), "out/shadow") {
			t.Error("what a rule in shadow does is seen")
		}
		g.stop(t)
		mu.Lock()
		if got := strings.Join(asked, " "); granted != strings.Contains(got, "/yaml") || granted != strings.Contains(got, "/js") || strings.Contains(got, "shadow") {
			t.Errorf("granted: %v, and asked is %q", granted, got)
		}
		mu.Unlock()
	}
}
