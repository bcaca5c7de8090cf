package main_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/brokertest"
	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// connect is a client of MQTT 5.0 that has subscribed.
func (g *gatewayProcess) connect(t *testing.T, filters ...string) *brokertest.Client {
	t.Helper()
	nc, err := net.Dial("tcp", g.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	c := brokertest.NewClient(nc)
	if ack, err := c.Connect(&packet.Connect{Version: packet.V5}); err != nil || ack.Reason.Failed() {
		t.Fatalf("it is not connected: %v, %v", ack, err)
	}
	if len(filters) > 0 {
		sub := &packet.Subscribe{ID: 1}
		for _, f := range filters {
			sub.Filters = append(sub.Filters, packet.Filter{Filter: f})
		}
		send(t, c, sub)
		receive[*packet.Suback](t, c)
	}
	return c
}

func send(t *testing.T, c *brokertest.Client, p packet.Packet) {
	t.Helper()
	if err := c.Send(p); err != nil {
		t.Fatal(err)
	}
}

// receive reads a packet, which must be of a kind.
func receive[P packet.Packet](t *testing.T, c *brokertest.Client) P {
	t.Helper()
	got, err := c.Read()
	p, ok := got.(P)
	if err != nil || !ok {
		t.Fatalf("want %T, got %T %+v, %v", p, got, got, err)
	}
	return p
}

// A client of MQTT 5.0 sees why a filter refuses its message, what another one makes of it,
// and what properties the messages of rules have, in YAML and in JavaScript.
func TestRulesAsAClientSeesThem(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/a.yaml": `filters:
  - name: quota
    on: in/#
    reject: text == "too much"
    reason: quota_exceeded
    priority: 10
  - name: form
    on: in/#
    schema: {type: object}
  - {name: quiet, on: in/drop, drop: "true"}
  - {name: elsewhere, on: in/raw, topic: out/clean, set: {f: payload.c * 2}}
  - {name: first, on: in/order, priority: 1, set: {by: "payload.by + ' first'"}}
  - {name: a later one, on: in/order, set: {by: "payload.by + ' later'"}}
rules:
  - name: asks
    on: in/ask
    do:
      - publish: out/yaml
        payload: {n: "${payload.n}"}
        content_type: application/json
        response_topic: answers/${parts[1]}
        correlation_data: "${payload.n}"
        user_properties: {by: "rule ${parts[1]}"}
        expiry: 1m
`,
		"scripts/b.js": `on('in/ask', (msg) => publish('out/js', {n: msg.payload.n}, {contentType: 'application/json', responseTopic: 'answers/ask',
  correlationData: String(msg.payload.n), userProperties: {by: 'rule ask'}, expiry: 60}))`,
	})
	c, listener := g.connect(t), g.connect(t, "out/#", "in/#")
	for n, m := range []struct {
		topic, payload string
		want           packet.Reason
	}{
		{"in/x", "too much", 0x97},
		{"in/x", "no object", 0x99},
		{"in/drop", "{}", 0}, // it is not told
		{"in/raw", `{"c": 21}`, 0},
		{"in/order", `{"by": "me"}`, 0},
		{"in/ask", `{"n": 7}`, 0},
	} {
		send(t, c, &packet.Publish{QoS: message.AtLeastOnce, ID: uint16(n + 1), Topic: m.topic, Payload: []byte(m.payload)})
		if ack := receive[*packet.Ack](t, c); ack.Reason != m.want && (m.want != 0 || ack.Reason.Failed()) {
			t.Errorf("%s %s: the reason is %v, want %v", m.topic, m.payload, ack.Reason, m.want)
		}
	}
	heard := make(map[string]*packet.Publish)
	for len(heard) < 5 {
		p := receive[*packet.Publish](t, listener)
		heard[p.Topic] = p
	}
	for topic, want := range map[string]string{
		"out/clean": `{"c":21,"f":42}`, "in/order": `{"by":"me first later"}`, "in/ask": `{"n": 7}`, "out/yaml": `{"n":7}`, "out/js": `{"n":7}`,
	} {
		if p := heard[topic]; p == nil || string(p.Payload) != want {
			t.Errorf("%s: want %s, got %+v", topic, want, p)
		}
	}
	if t.Failed() {
		return
	}
	yaml, js := heard["out/yaml"].Properties, heard["out/js"].Properties
	if diff := cmp.Diff(js, yaml); diff != "" {
		t.Errorf("what a script publishes is not what a rule in YAML does:\n%s", diff)
	}
	if e := yaml.MessageExpiryInterval; e == nil || *e == 0 || *e > 60 {
		t.Errorf("it expires after %v", e)
	}
	if yaml.ContentType != "application/json" || yaml.ResponseTopic != "answers/ask" || string(yaml.CorrelationData) != "7" || fmt.Sprint(yaml.UserProperties) != "[{by rule ask}]" {
		t.Errorf("the properties are %+v", yaml)
	}
	g.stop(t)
}

// Payloads that are made to hurt are told of in the trace of the rules that want to read
// them, and nobody else notices.
func TestPayloadsThatAreMadeToHurt(t *testing.T) {
	g := startGateway(t, map[string]string{
		"gatehouse.yaml": strings.Replace(testConfig, "broker:\n", "broker:\n  limits: {packet_bytes: 20000000}\n", 1),
		"scripts/a.yaml": `rules:
  - {name: wants, on: in, if: payload.a > 1, do: [{publish: never}]}
  - {name: next, on: next, do: [{publish: out/yaml, payload: "${text}"}]}
`,
		"scripts/b.js": `on('in', { name: 'wants' }, (msg) => { if (msg.payload.a > 1) publish('never', '') })
on('next', { name: 'next' }, (msg) => publish('out/js', msg.text))`,
	})
	c, listener := g.connect(t), g.connect(t, "out/#", "never")
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for n, payload := range []string{
		deep(1_000_000), deep(100_000), `{"a": "` + strings.Repeat("x", 10<<20) + `"}`, "\xff\xfe{}", `{"a": 2`,
	} {
		for _, p := range []packet.Publish{{Topic: "in", Payload: []byte(payload)}, {Topic: "next", Payload: fmt.Append(nil, n)}} {
			p.QoS, p.ID = message.AtLeastOnce, 1
			send(t, c, &p)
			if ack := receive[*packet.Ack](t, c); ack.Reason.Failed() {
				t.Fatalf("payload %d is refused: %v", n, ack.Reason)
			}
		}
		for range 2 {
			if p := receive[*packet.Publish](t, listener); string(p.Payload) != fmt.Sprint(n) {
				t.Errorf("after payload %d: %s %s", n, p.Topic, p.Payload)
			}
		}
		for _, file := range []string{"a.yaml", "b.js"} {
			last := g.ruleOf(t, file, "wants")["trace"].([]any)[0].(map[string]any)
			t.Logf("payload %d, %s: %v: %.80v", n, file, last["outcome"], last["why"])
			if last["outcome"] != "not evaluated" && last["outcome"] != "error" || last["why"] == "" {
				t.Errorf("payload %d, %s: %v", n, file, last)
			}
		}
	}
	g.stop(t)
}

// ruleOf is what the API says of a rule.
func (g *gatewayProcess) ruleOf(t *testing.T, file, name string) map[string]any {
	t.Helper()
	for _, f := range g.api(t, "rules") {
		if f["file"] != file {
			continue
		}
		for _, r := range f["rules"].([]any) {
			if r := r.(map[string]any); r["name"] == name {
				return r
			}
		}
	}
	t.Fatalf("there is no rule %q of %s", name, file)
	return nil
}

// Rules that answer each other, and more of it each time, are suspended and named; the
// others go on.
func TestRulesThatAnswerEachOther(t *testing.T) {
	g := startGateway(t, map[string]string{
		"scripts/storm.yaml": `rules:
  - {name: ping, on: ping, do: [{publish: pong}, {publish: pong}, {publish: pong}]}
  - {name: pong, on: pong, do: [{publish: ping}, {publish: ping}, {publish: ping}]}
`,
		"scripts/calm.yaml": "rules:\n  - {name: calm, on: in, do: [{publish: out, payload: \"${text}\"}]}\n",
	})
	out := subscribe(t, g, "out")
	g.publish(t, "ping", "")
	g.says(t, `"rule is suspended: messages go round through it","part":"rules","file":"storm.yaml","rule":"p`)
	g.publish(t, "in", "goes on")
	out.says(t, "out goes on")
	if suspended := g.ruleCount(t, "storm.yaml", "suspended"); suspended < 1 {
		t.Errorf("%v rules are suspended", suspended)
	}
	g.stop(t)
}
