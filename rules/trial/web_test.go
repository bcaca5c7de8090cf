package trial_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/trial"
)

// caller is a language whose only rule asks for the URL that a message or a webhook
// brings, and publishes what comes back.
type caller struct{}

func (caller) Name() string         { return "caller" }
func (caller) Extensions() []string { return []string{".call"} }
func (caller) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (caller) Compile(context.Context, rules.Source) (rules.Program, error) { return call{}, nil }

// call is its program.
type call struct{}

func (call) Rules() []rules.Rule {
	return []rules.Rule{{Name: "call", Line: 1, Filters: []string{"in"}, Hooks: []string{"door"}}}
}
func (call) Handles(string) bool                         { return true }
func (call) Save(bool, func(string, []byte) error) error { return nil }
func (call) Close() error                                { return nil }

func (p call) Run(_ context.Context, calls []rules.Call) []rules.Outcome {
	outs := make([]rules.Outcome, len(calls))
	for i := range calls {
		outs[i] = p.one(&calls[i])
	}
	return outs
}

func (call) one(c *rules.Call) rules.Outcome {
	switch c.Trigger {
	case rules.OnMessage:
		return rules.Outcome{Fired: true, Requests: []rules.Request{{
			ID: "r", Name: "r", Data: json.RawMessage("{}"), URL: string(c.Message.Payload), Body: []byte("hi"), Method: "POST", Retries: 2,
		}}}
	case rules.OnReply:
		text := fmt.Sprintf("%d %s%s", c.Reply.Status, c.Reply.Body, c.Reply.Err)
		return rules.Outcome{Fired: true, For: 1, Publish: []message.Message{{Topic: "out", Payload: []byte(text)}}}
	default:
		return rules.Outcome{}
	}
}

func TestRequestsAndWebhooks(t *testing.T) {
	for name, c := range map[string]struct{ steps, fails string }{
		"a reply": {steps: `
      - {reply: "http://lamp/*", status: 201, body: {ok: true}}
      - {publish: in, payload: "http://lamp/on"}
      - {expect: out, payload: '201 {"ok":true}'}
      - {expect request: "http://lamp/on", method: POST, body: hi}
      - {expect request: "http://lamp/on", count: 0}`},
		"the last reply counts": {steps: `
      - {reply: "http://lamp/on", body: a}
      - {reply: "http://lamp/on", body: b}
      - {hook: door, payload: "http://lamp/on"}
      - {expect: out, payload: "200 b"}`},
		"none is an error": {steps: `
      - {publish: in, payload: "http://lamp/on"}
      - {expect: out, payload: "0 not allowed: the test has no reply for POST http://lamp/on"}
      - {expect request: "http://lamp/on"}`},
		"it is tried again, in virtual time": {steps: `
      - {reply: "http://lamp/on", body: late}
      - {reply: "http://lamp/on", error: "no route", times: 1}
      - {reply: "http://lamp/on", status: 503, times: 1}
      - {publish: in, payload: "http://lamp/on"}
      - expect none: out
      - advance: 1s
      - expect none: out
      - advance: 2s
      - {expect: out, payload: "200 late"}
      - {expect request: "http://lamp/*", count: 3}`},
		"it is made again after a power cut": {steps: `
      - {reply: "http://lamp/on", body: late}
      - {reply: "http://lamp/on", status: 503, times: 1}
      - {publish: in, payload: "http://lamp/on"}
      - restart: true
      - {expect: out, payload: "200 late"}`},
		"another body":   {steps: "\n      - {publish: in, payload: \"http://a\"}\n      - {expect request: \"http://a\", body: ho}", fails: "the body is another one"},
		"another method": {steps: "\n      - {publish: in, payload: \"http://a\"}\n      - {expect request: \"http://a\", method: GET}", fails: "the method is POST, not GET"},
		"no request":     {steps: "\n      - {expect request: \"http://a\"}", fails: "0 requests were made, not 1"},
		"no such hook":   {steps: "\n      - hook: window", fails: "no rule has such a webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := trial.Parse("a.test.yaml", []byte("tests:\n  - name: t\n    steps:"+c.steps))
			if err != nil {
				t.Fatal(err)
			}
			o := trial.Options{Folder: folder("a.call", ""), Engine: rules.Options{Languages: []rules.Language{caller{}}}}
			got := ""
			if failure := f.Run(t.Context(), o, &f.Tests[0]).Failure; failure != nil {
				got = failure.Error() + "\n" + failure.Text
			}
			if (got == "") != (c.fails == "") || !strings.Contains(got, c.fails) {
				t.Errorf("it is %q", got)
			}
		})
	}
}
