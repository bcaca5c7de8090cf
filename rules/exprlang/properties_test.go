package exprlang_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/rules"
	"github.com/gatehouse/gatehouse/rules/exprlang"
	"github.com/gatehouse/gatehouse/rules/trial"
)

const propertiesFile = `rules:
  - name: at once
    on: ask/+
    do:
      - publish: question
        payload: "${payload.id}"
        content_type: text/${payload.kind}
        response_topic: answers/${parts[1]}
        correlation_data: "${payload.id}"
        user_properties: {room: "${parts[1]}", by: a rule}
        expiry: 10m
      - publish: plain
  - name: after a wait
    on: later/+
    do:
      - wait: 1m
      - publish: question
        content_type: text/plain
        expiry: 1d
      - publish: plain
`

// What rules publish has the properties that they say, and no others.
func TestPropertiesOfMessages(t *testing.T) {
	opt := trial.Options{
		Engine: rules.Options{Languages: []rules.Language{exprlang.New()}},
		Folder: fstest.MapFS{"t.yaml": {Data: []byte(propertiesFile)}},
	}
	err := trial.Run(t.Context(), opt, func(ctx context.Context, w *trial.World) error {
		start := w.Now()
		for range 3 { // what is made in memory of the one before has nothing of it
			for _, m := range []message.Message{
				{Topic: "ask/hall", Payload: []byte(`{"id": 7, "kind": "plain"}`)},
				{Topic: "later/hall"},
			} {
				if _, err := w.Publish(ctx, m); err != nil {
					return err
				}
			}
			if err := w.Advance(ctx, time.Minute); err != nil {
				return err
			}
			msgs, take := w.Unseen("#")
			take(len(msgs))
			want := []message.Message{
				{
					Topic: "question", Payload: []byte("7"), ContentType: "text/plain", ResponseTopic: "answers/hall", CorrelationData: []byte("7"),
					UserProperties: []message.Property{{Key: "room", Value: "hall"}, {Key: "by", Value: "a rule"}},
					Expires:        start.Add(10 * time.Minute), Origin: "rule/at once", Hops: 1, At: start,
				},
				{Topic: "plain", Origin: "rule/at once", Hops: 1, At: start},
				{Topic: "question", ContentType: "text/plain", Expires: w.Now().Add(24 * time.Hour), Origin: "rule/after a wait", Hops: 1, At: w.Now()},
				{Topic: "plain", Origin: "rule/after a wait", Hops: 1, At: w.Now()},
			}
			for i := range msgs {
				msgs[i].At, msgs[i].Expires = msgs[i].At.Round(0), msgs[i].Expires.Round(0)
				msgs[i].Order = 0 // the bus's, whatever it is
			}
			if diff := cmp.Diff(want, msgs); diff != "" {
				t.Error(diff)
			}
			start = w.Now()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A property that cannot be in a packet is an error of the run, which publishes nothing.
func TestPropertiesThatCannotBe(t *testing.T) {
	for step, want := range map[string]string{
		`content_type: "${payload.a}"`:                  `the content type "a\x00b" is no text that a packet may have`,
		`user_properties: {k: "${payload.long}"}`:       "the user property k has 70000 bytes, 65535 are the most",
		`response_topic: "${payload.wild}"`:             `the response topic "a/#" is not valid`,
		`response_topic: "${payload.empty}"`:            "the response topic is empty",
		`correlation_data: "${payload.nothing}"`:        "payload.nothing is absent",
		`user_properties: {k: "x${payload.nothing}"}`:   "payload.nothing is absent",
		`content_type: "${payload.nothing.of.nothing}"`: "is absent",
	} {
		opt := trial.Options{
			Engine: rules.Options{Languages: []rules.Language{exprlang.New()}},
			Folder: fstest.MapFS{"t.yaml": {Data: []byte("rules:\n  - name: r\n    on: in\n    do:\n      - publish: out\n        " + step + "\n")}},
		}
		err := trial.Run(t.Context(), opt, func(ctx context.Context, w *trial.World) error {
			text := `{"a": "a\u0000b", "wild": "a/#", "empty": "", "long": "` + strings.Repeat("x", 70_000) + `"}`
			if _, err := w.Publish(ctx, message.Message{Topic: "in", Payload: []byte(text)}); err != nil {
				return err
			}
			if msgs, _ := w.Unseen("#"); len(msgs) > 0 {
				t.Errorf("%s: it publishes %v", step, msgs)
			}
			if got := w.Status()[0].Rules[0].Trace[0]; !strings.Contains(got.Why, want) {
				t.Errorf("%s: want %q, got %s: %q", step, want, got.Outcome, got.Why)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
}

func TestRefusedProperties(t *testing.T) {
	for step, want := range map[string]string{
		"expiry: 10":                        `"10" has no unit`,
		"expiry: 0s":                        "expiry",
		"expiry: 400d":                      "is longer than",
		"response_topic: a/#":               "",
		"user_properties: [a]":              `"user_properties"`,
		`user_properties: {"a\0": x}`:       "the name of a user property",
		"content_type: ${payload.}":         "unexpected end of expression",
		"contenttype: x":                    `unknown key "contenttype"`,
		"user_properties: {a: {b: c}}":      "",
		"correlation_data: [1]":             "",
		"content_type: {a: b}":              "",
		"expiry: [1]":                       "",
		"user_properties: " + many(51, "x"): "at most 50 user properties",
	} {
		source := "rules:\n  - name: r\n    on: in\n    do:\n      - publish: out\n        " + step + "\n"
		_, err := exprlang.New().Compile(t.Context(), rules.Source{Name: "t.yaml", Text: []byte(source)})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "t.yaml:6:") {
			t.Errorf("%s: want %q, got %v", step, want, err)
		}
	}
}

// many is a mapping of n keys.
func many(n int, value string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat("k", i+1) + ": " + value + ", ")
	}
	return "{" + strings.TrimSuffix(b.String(), ", ") + "}"
}
