package main_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// again kills the gateway and starts it anew in its folder, with a data folder there.
func (g *gatewayProcess) again(t *testing.T) {
	t.Helper()
	if err := g.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	g.ended(t)
	g.program = start(t, binary, "run", "--config", filepath.Join(g.dir, "gatehouse.yaml"), "--data", filepath.Join(g.dir, "data"))
	g.says(t, `"gateway is up"`)
	g.mqtt = attribute(t, g.says(t, `"protocol":"mqtt"`), "address")
	g.console = attribute(t, g.says(t, `"msg":"console"`), "url")
}

// retained is the payload of the retained message of a topic.
func (g *gatewayProcess) retained(t *testing.T, topic string) string {
	t.Helper()
	for _, m := range g.api(t, "topics?filter="+url.QueryEscape(topic)) {
		text, _ := m["payload"].(string)
		return text
	}
	return ""
}

// What a rule was told and acknowledged counts after kill -9, once.
func TestRulesAreWholeAfterAKill(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/count.js": `on('count/+', {qos: 1}, msg => {
  const n = (state.get(msg.topic) || 0) + 1
  state.set(msg.topic, n)
  publish('out/' + msg.parts[1], n, {retain: true, qos: 1})
})`,
	})
	g.again(t)
	for range 3 {
		g.publish(t, "count/a", "")
	}
	eventually(t, "three are counted", func() bool { return g.retained(t, "out/a") == "3" })
	g.again(t)
	g.publish(t, "count/a", "")
	g.publish(t, "count/b", "")
	eventually(t, "the count goes on", func() bool { return g.retained(t, "out/a") == "4" && g.retained(t, "out/b") == "1" })
	g.stop(t)
}

// A rule that waits when the gateway is killed goes on afterwards, once.
func TestAWaitGoesOnAfterAKill(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/wait.yaml": `rules:
  - name: count what comes of it
    on: done/+
    qos: 1
    do:
      - set: {count: (vars.count ?? 0) + 1}
      - publish: count
        payload: "${vars.count}"
        qos: 1
        retain: true
  - name: wait
    on: in
    qos: 1
    mode: parallel
    do:
      - publish: begun
        payload: "${text}"
        retain: true
        qos: 1
      - wait: 2s
      - publish: done/${text}
        payload: "${text}"
        retain: true
        qos: 1
`,
	})
	g.again(t)
	g.publish(t, "in", "a")
	eventually(t, "it has begun", func() bool { return g.retained(t, "begun") == "a" })
	g.again(t)
	eventually(t, "it went on", func() bool { return g.retained(t, "done/a") == "a" })
	g.publish(t, "in", "b")
	eventually(t, "the next one is done", func() bool { return g.retained(t, "done/b") == "b" && g.retained(t, "count") == "2" })
	g.again(t)
	g.publish(t, "in", "c")
	eventually(t, "nothing came twice", func() bool { return g.retained(t, "done/c") == "c" && g.retained(t, "count") == "3" })
	g.stop(t)
}

// What a script has debounced when the gateway is killed runs afterwards, once, with what
// it was called with.
func TestADebounceGoesOnAfterAKill(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/calm.js": `on('in', {qos: 1}, debounce('2s', m => {
  const n = (state.get('n') || 0) + 1
  state.set('n', n)
  publish('out', [m.text, n], {retain: true, qos: 1})
}))
on('in', {qos: 1}, m => publish('begun', m.text, {retain: true, qos: 1}))`,
	})
	g.again(t)
	for n, payload := range []string{"a", "b", "c"} {
		g.publish(t, "in", payload)
		eventually(t, "it has begun", func() bool { return g.retained(t, "begun") == payload })
		if n < 2 {
			g.again(t)
		}
		want := fmt.Sprintf(`["%s",%d]`, payload, n+1)
		eventually(t, "it went on", func() bool { return g.retained(t, "out") == want })
	}
	g.stop(t)
}

// What rules remember of what was acknowledged to them, windows and the last call of a burst,
// is there after kill -9: not one message is missing, and none counts twice.
func TestWhatRulesRememberOfWhatWasAcknowledged(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/mean.yaml": `rules:
  - name: mean
    on: in/+
    qos: 1
    windows:
      all: {count: true}
      sum: {sum: payload, last: 500}
      hour: {max: payload, over: 1h}
    if: payload >= 1000
    do: [{publish: yaml/mean, payload: "${windows.all} ${windows.sum} ${windows.hour}", retain: true, qos: 1}]
  - {name: calm, on: calm, qos: 1, debounce: 5s, do: [{publish: yaml/calm, payload: "${payload}", retain: true, qos: 1}]}
`,
		"scripts/mean.js": `const all = window({last: 500})
on('in/+', {qos: 1}, m => {
  all.add(m.payload)
  if (m.payload >= 1000) publish('js/mean', all.count() + ' ' + all.sum(), {retain: true, qos: 1})
})
on('calm', {qos: 1}, debounce('5s', m => publish('js/calm', m.text, {retain: true, qos: 1})))
`,
	})
	g.again(t)
	sum, n := 0, 0
	for round := range 3 {
		for i := range 40 {
			g.publish(t, "in/a", fmt.Sprint(i))
			sum, n = sum+i, n+1
		}
		for i := range 5 {
			g.publish(t, "calm", fmt.Sprint(10*round+i))
		}
		g.again(t) // what the rules have not heard yet waits for them
	}
	g.publish(t, "in/a", "1000")
	yaml, js := fmt.Sprintf("%d %d 1000", n+1, sum+1000), fmt.Sprintf("%d %d", n+1, sum+1000)
	eventually(t, "the windows hold all", func() bool { return g.retained(t, "yaml/mean") != "" && g.retained(t, "js/mean") != "" })
	if got := g.retained(t, "yaml/mean"); got != yaml {
		t.Errorf("the windows in YAML hold %q, want %q", got, yaml)
	}
	if got := g.retained(t, "js/mean"); got != js {
		t.Errorf("the window in JavaScript holds %q, want %q", got, js)
	}
	for _, topic := range []string{"yaml/calm", "js/calm"} {
		eventually(t, "the last of the burst is at "+topic, func() bool { return g.retained(t, topic) == "24" })
	}
	g.stop(t)
}

// A webhook runs its rule for who has the token, and for nobody else.
func TestWebhook(t *testing.T) {
	g := startGateway(t, map[string]string{
		"gatehouse.yaml": testConfig + "rules: {hooks: [{name: garage, token: 0123456789abcdef}, {name: idle, token_file: token}]}\n",
		"token":          "fedcba9876543210\n",
		"scripts/garage.yaml": `rules:
  - name: garage
    hook: garage
    do: [{publish: "out", payload: "${payload.open} by ${topic}", retain: true}]
`,
	})
	post := func(name, token, body string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.console+"/hooks/"+name, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	for _, c := range []struct {
		name, token, body string
		want              int
	}{
		{"garage", "0123456789abcdef", `{"open": true}`, http.StatusNoContent},
		{"garage", "0123456789abcdee", `{"open": false}`, http.StatusUnauthorized},
		{"garage", "", `{"open": false}`, http.StatusUnauthorized},
		{"unknown", "0123456789abcdef", ``, http.StatusUnauthorized},
		{"idle", "fedcba9876543210", ``, http.StatusNotFound},
		{"garage", "0123456789abcdef", strings.Repeat("x", 1<<20+1), http.StatusRequestEntityTooLarge},
	} {
		if got := post(c.name, c.token, c.body); got != c.want {
			t.Errorf("%s with %q: got %d, want %d", c.name, c.token, got, c.want)
		}
	}
	if got := g.retained(t, "out"); got != "true by $hook/garage" {
		t.Errorf("retained is %q", got)
	}
	if strings.Contains(g.output(), "0123456789abcdef") {
		t.Error("the token is in the log")
	}
	g.stop(t)
}
